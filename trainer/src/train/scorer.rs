//! A trained network as one of the systems that an evaluation compares.

use unimodel_model::bundle::Oracle;
use unimodel_model::error::ModelError;
use unimodel_model::features::{EncodedContext, Encoder};
use unimodel_model::network::Network;

use crate::evaluate::{Case, EvaluateError, Scorer};

/// One head of a network.
pub struct HeadScorer<'a> {
    name: &'static str,
    oracle: Oracle<'a>,
    encoder: &'a Encoder,
    head: usize,
}

impl<'a> HeadScorer<'a> {
    /// The head at that position, under the name that a report is to show.
    pub fn new(
        name: &'static str,
        network: &'a Network,
        encoder: &'a Encoder,
        head: usize,
    ) -> Result<Self, ModelError> {
        Ok(Self { name, oracle: Oracle::new(network)?, encoder, head })
    }
}

impl Scorer for HeadScorer<'_> {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn score(&self, cases: &[Case], candidates: &[bool], out: &mut [f32]) -> Result<(), EvaluateError> {
        if cases.is_empty() {
            return Ok(());
        }
        let items = candidates.len() / cases.len();
        let mut encoded: Vec<EncodedContext> = Vec::with_capacity(cases.len());
        for (row, case) in cases.iter().enumerate() {
            let problem = |e: unimodel_model::features::ContextError| ModelError::Value {
                table: "test cases".into(),
                row,
                problem: e.to_string(),
            };
            encoded.push(self.encoder.encode(&case.context).map_err(problem)?);
        }
        let batch: Vec<(&EncodedContext, usize)> = encoded.iter().map(|e| (e, self.head)).collect();
        let scores = self.oracle.score(&batch, |row, item| candidates[row * items + item as usize])?;
        out.chunks_mut(items).zip(scores).for_each(|(out, scores)| out.copy_from_slice(&scores));
        Ok(())
    }
}
