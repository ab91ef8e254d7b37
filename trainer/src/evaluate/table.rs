//! An evaluation as tables for a terminal of 100 columns.

use super::bootstrap::Estimate;
use super::report::{Comparison, Evaluation, TaskEvaluation};
use crate::pipeline::Metric;

/// What the last column says.
pub const LEGEND: &str = "\
UNIFIED ÷ IT: the unified model's first metric over that system's, on the same cases.
* the 95 % interval of their difference leaves out zero (paired bootstrap).";

/// One table: its title, the columns' titles (`>` marks a column of numbers) and the rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// What it is about.
    pub title: String,
    /// Titles of the columns.
    pub header: Vec<String>,
    /// Cells, as many a row as there are columns.
    pub rows: Vec<Vec<String>>,
}

impl Evaluation {
    /// One table a task.
    pub fn tables(&self) -> Vec<Table> {
        self.tasks.iter().map(|task| task.table(self.split.name())).collect()
    }
}

impl TaskEvaluation {
    fn table(&self, split: &str) -> Table {
        let mut header = vec!["SLICE".to_owned(), "SYSTEM".into()];
        header.extend(self.metrics.iter().map(|m| format!(">{}", m.name().to_uppercase())));
        header.push(">UNIFIED ÷ IT".into());
        let mut rows = Vec::new();
        for slice in &self.slices {
            for (number, system) in slice.systems.iter().enumerate() {
                let first = number == 0;
                let mut row = vec![if first { slice.name.name().to_owned() } else { String::new() }];
                row.push(system.name.clone());
                row.extend(self.metrics.iter().enumerate().map(|(place, metric)| {
                    system
                        .metrics
                        .get(metric)
                        .map(|e| if place == 0 { interval(e) } else { number3(e.value) })
                        .unwrap_or_default()
                }));
                let steers: Option<&Metric> = self.metrics.first();
                let comparison = system.comparison.as_ref().zip(steers).and_then(|(c, m)| c.get(m));
                row.push(comparison.map(ratio).unwrap_or_default());
                rows.push(row);
            }
        }
        let cases: Vec<String> = self.slices.iter().map(|s| format!("{} {}", s.cases, s.name.name())).collect();
        Table { title: format!("{} ({split} cases: {})", self.name, cases.join(", ")), header, rows }
    }
}

fn number3(value: f64) -> String {
    format!("{value:.3}")
}

fn interval(estimate: &Estimate) -> String {
    format!("{:.3} ({:.3}–{:.3})", estimate.value, estimate.low, estimate.high)
}

/// Two decimals, and a mark that takes its place where it is absent too, so that numbers stand below each other.
fn ratio(comparison: &Comparison) -> String {
    let mark = if comparison.significant { '*' } else { ' ' };
    comparison.ratio.map_or_else(|| format!("– {mark}"), |r| format!("{r:.2} {mark}"))
}
