//! An advice for people.

use std::fmt;

use super::{Advice, Decision, Weight};

impl Decision {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Consolidate => "consolidate",
            Self::KeepSeparate => "keep separate",
        }
    }
}

impl Weight {
    /// One or two characters for the margin.
    fn mark(self) -> &'static str {
        match self {
            Self::DecidesFor => "++",
            Self::For => "+",
            Self::Neutral => "",
            Self::Against => "-",
            Self::DecidesAgainst => "--",
        }
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, task) in self.tasks.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            writeln!(f, "{}: {}", task.task, task.decision.name())?;
            writeln!(f, "  because {}", task.because)?;
            for finding in &task.findings {
                writeln!(f, "  {:>2} {}", finding.weight.mark(), finding.text)?;
            }
        }
        if self.tasks.iter().any(|t| !t.findings.is_empty()) {
            write!(f, "\n+ for, - against; ++ and -- decide alone, two - decide together.")?;
        }
        Ok(())
    }
}
