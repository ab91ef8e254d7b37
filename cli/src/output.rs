//! What commands print: tables for people, JSON for programs, errors on one line.

use std::io::Write;

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;
use unimodel_model::store::ChannelState;
use unimodel_model::version::ChannelName;

/// How a command prints what it found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A table, for people.
    #[default]
    Table,
    /// One JSON document, for programs.
    Json,
}

/// Prints one line (or several) on standard output.
pub fn print(text: impl std::fmt::Display) -> anyhow::Result<()> {
    // Not `println!`, which panics when the reader of a pipe has gone.
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

/// Prints a JSON document on standard output.
pub fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print(serde_json::to_string_pretty(value)?)
}

/// A table with those column titles; the caller adds the rows. A column whose title starts with `>` is aligned to the
/// right, as numbers are.
pub fn table(titles: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(titles.iter().map(|t| Cell::new(t.trim_start_matches('>'))));
    for (column, title) in table.column_iter_mut().zip(titles) {
        column.set_padding((0, 2));
        if title.starts_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Prints where a channel is.
pub fn print_channel(channel: &ChannelName, state: &ChannelState, format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return print_json(state);
    }
    let before = state.previous.first().map_or(String::new(), |version| format!(" (before: {version})"));
    print(format_args!("{channel} -> {}{before}", state.version))
}

/// An error and its causes on one line, each said once.
pub fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        // Many errors already end with the words of their cause.
        if !line.ends_with(&cause) {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(&cause);
        }
    }
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether printing failed because nobody reads any more.
pub fn reader_has_gone(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::one_line;

    #[test]
    fn an_error_is_one_line_that_says_each_cause_once() {
        let error = anyhow!("no such file\n (os error 2)").context("cannot read x: no such file\n (os error 2)");
        assert_eq!(one_line(&error), "cannot read x: no such file (os error 2)");
        let error = Err::<(), _>(anyhow!("inner")).context("outer").unwrap_err();
        assert_eq!(one_line(&error), "outer: inner");
    }
}
