//! How good a model is: held-out requests ranked by it, by the same network trained on each task alone, and by named
//! baselines, with the same candidates and the same rule for ties.

pub mod baselines;
pub mod bootstrap;
pub mod cases;
mod error;
pub mod events;
pub mod metrics;
pub mod report;
pub(crate) mod rows;
pub mod scorer;
pub mod table;
pub mod typos;

pub use baselines::Baselines;
pub use cases::{CHUNK, Candidates, Case, Cases, Split};
pub use error::EvaluateError;
pub use events::{Arrivals, Events};
pub use report::{Evaluation, TaskEvaluation};
pub use scorer::{Kind, Ranking, Ranks, Scorer, System, SystemRanks};
