//! An advice for people.

use std::fmt;

use super::{Advice, Decision, Weight};

/// Columns that a line may fill.
const WIDTH: usize = 100;

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

/// The text after a margin, broken between words.
fn write_wrapped(f: &mut fmt::Formatter<'_>, margin: &str, text: &str) -> fmt::Result {
    let indent = " ".repeat(margin.len());
    write!(f, "{margin}")?;
    let mut column = margin.len();
    for (number, word) in text.split(' ').enumerate() {
        let length = word.chars().count();
        if number > 0 && column + 1 + length > WIDTH {
            write!(f, "\n{indent}")?;
            column = indent.len();
        } else if number > 0 {
            write!(f, " ")?;
            column += 1;
        }
        write!(f, "{word}")?;
        column += length;
    }
    writeln!(f)
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, task) in self.tasks.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            writeln!(f, "{}: {}", task.task, task.decision.name())?;
            write_wrapped(f, "why ", &task.because)?;
            for finding in &task.findings {
                write_wrapped(f, &format!("{:>3} ", finding.weight.mark()), &finding.text)?;
            }
        }
        if self.tasks.iter().any(|t| !t.findings.is_empty()) {
            write!(f, "\n+ for, - against; ++ and -- decide alone, two - decide together.")?;
        }
        Ok(())
    }
}
