//! What the types of a pipeline file cannot say.

use super::load::Problem;
use super::positions::Positions;
use super::types::Pipeline;

/// All that makes no sense in it.
pub(super) fn check(_pipeline: &Pipeline, _positions: &Positions) -> Vec<Problem> {
    Vec::new()
}
