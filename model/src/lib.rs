//! What training and serving share, so that they cannot drift: schema, features, network, version and store.

pub mod bundle;
pub mod catalogue;
pub mod columns;
pub mod context;
pub mod error;
pub mod features;
pub mod item_ids;
pub mod network;
pub mod profiles;
pub mod schema;
pub mod store;
pub mod strings;
pub mod text;
pub mod threads;
pub mod version;
pub mod weights;

pub use candle_core::Device;
