//! Where the values of a YAML file are, so that an error can name the line.
//!
//! A value is named by its path, such as `tasks[2].loss.type`.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScanError};

/// A place in a file, both counted from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

/// A key that a mapping has twice, which parsers of YAML do not agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DuplicateKey {
    /// Path of the key.
    pub path: String,
    /// The first one.
    pub first: Position,
    /// The one that repeats it.
    pub second: Position,
}

/// The positions of all keys, list entries and scalars of one YAML document.
#[derive(Clone, Debug, Default)]
pub struct Positions {
    nodes: HashMap<String, Node>,
    duplicates: Vec<DuplicateKey>,
}

#[derive(Clone, Debug)]
struct Node {
    position: Position,
    /// The text of a scalar.
    scalar: Option<String>,
}

/// What the parser is inside of.
enum Open {
    /// The key that has been read, if its value is what comes next.
    Mapping {
        path: String,
        key: Option<String>,
    },
    Sequence {
        path: String,
        next: usize,
    },
}

impl Positions {
    /// Reads the document.
    ///
    /// # Errors
    /// It is not YAML; the error has the position.
    pub fn read(yaml: &str) -> Result<Self, ScanError> {
        let mut positions = Self::default();
        let mut open: Vec<Open> = Vec::new();
        for event in Parser::new_from_str(yaml) {
            let (event, span) = event?;
            // The parser counts columns from zero.
            let position = Position { line: span.start.line(), column: span.start.col() + 1 };
            match event {
                Event::Scalar(text, ..) => positions.visit(&mut open, position, Some(text.into_owned())),
                Event::Alias(_) => positions.visit(&mut open, position, None),
                Event::SequenceStart(..) => {
                    let path = positions.enter(&mut open, position);
                    open.push(Open::Sequence { path, next: 0 });
                }
                Event::MappingStart(..) => {
                    let path = positions.enter(&mut open, position);
                    open.push(Open::Mapping { path, key: None });
                }
                Event::SequenceEnd | Event::MappingEnd => drop(open.pop()),
                Event::DocumentEnd => break,
                _ => {}
            }
        }
        Ok(positions)
    }

    /// The place of that path: of its key, or of the entry of a list. What is not there has the place of the nearest
    /// thing around it.
    pub fn of(&self, path: &str) -> Position {
        let mut path = path;
        loop {
            if let Some(node) = self.nodes.get(path) {
                return node.position;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return Position { line: 1, column: 1 },
            }
        }
    }

    /// The text of the scalar at that path.
    pub fn scalar(&self, path: &str) -> Option<&str> {
        self.nodes.get(path)?.scalar.as_deref()
    }

    /// Whether the document has that path.
    pub fn has(&self, path: &str) -> bool {
        self.nodes.contains_key(path)
    }

    /// The path of the first key of that name at or below the path.
    pub fn below(&self, path: &str, key: &str) -> Option<&str> {
        let inside = |p: &str| p.strip_prefix(path).is_some_and(|rest| rest.starts_with(['.', '[']) || path.is_empty());
        let named = |p: &str| p.strip_suffix(key).is_some_and(|before| before.is_empty() || before.ends_with('.'));
        let found = self.nodes.iter().filter(|(p, _)| inside(p) && named(p));
        found.min_by_key(|(_, node)| node.position).map(|(p, _)| p.as_str())
    }

    /// Keys that occur twice in one mapping, in order.
    pub fn duplicates(&self) -> &[DuplicateKey] {
        &self.duplicates
    }

    /// A scalar or an alias: a key, or a value.
    fn visit(&mut self, open: &mut [Open], position: Position, scalar: Option<String>) {
        if let Some(Open::Mapping { path, key: key @ None }) = open.last_mut() {
            let path = join(path, &scalar.unwrap_or_default());
            if let Some(first) = self.nodes.get(&path) {
                let duplicate = DuplicateKey { path: path.clone(), first: first.position, second: position };
                self.duplicates.push(duplicate);
            }
            self.nodes.insert(path.clone(), Node { position, scalar: None });
            *key = Some(path);
            return;
        }
        let path = self.enter(open, position);
        if let Some(node) = self.nodes.get_mut(&path) {
            node.scalar = scalar;
        }
    }

    /// The path of the value that begins here.
    fn enter(&mut self, open: &mut [Open], position: Position) -> String {
        match open.last_mut() {
            None => String::new(),
            Some(Open::Sequence { path, next }) => {
                let entry = format!("{path}[{next}]");
                *next += 1;
                self.nodes.insert(entry.clone(), Node { position, scalar: None });
                entry
            }
            // A key that is itself a mapping or a list has no path; nothing of ours has one.
            Some(Open::Mapping { key, .. }) => key.take().unwrap_or_default(),
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const YAML: &str = "\
kind: Pipeline
tasks:
  - name: a
    loss: {type: softmax}
  - name: b
    loss:
      type: bce
context: [{name: x}, {name: y, default: []}]
";

    fn at(line: usize, column: usize) -> Position {
        Position { line, column }
    }

    #[test]
    fn keys_entries_and_scalars_have_their_place() {
        let positions = Positions::read(YAML).unwrap();
        assert_eq!(positions.of("kind"), at(1, 1));
        assert_eq!(positions.scalar("kind"), Some("Pipeline"));
        assert_eq!(positions.of("tasks[0]"), at(3, 5));
        assert_eq!(positions.of("tasks[0].loss.type"), at(4, 12));
        assert_eq!(positions.of("tasks[1].loss.type"), at(7, 7));
        assert_eq!(positions.scalar("tasks[1].loss.type"), Some("bce"));
        assert_eq!(positions.of("context[1].name"), at(8, 23));
    }

    #[test]
    fn what_is_absent_has_the_place_of_what_is_around_it() {
        let positions = Positions::read(YAML).unwrap();
        assert_eq!(positions.of("tasks[1].loss.softTargets.decay"), positions.of("tasks[1].loss"));
        assert_eq!(positions.of("tasks[7]"), positions.of("tasks"));
        assert_eq!(positions.of("model"), at(1, 1));
        assert!(!positions.has("model"));
        assert_eq!(positions.below("tasks", "type"), Some("tasks[0].loss.type"));
        assert_eq!(positions.below("tasks[1]", "type"), Some("tasks[1].loss.type"));
        assert_eq!(positions.below("", "kind"), Some("kind"));
        assert_eq!(positions.below("context", "type"), None);
    }

    #[test]
    fn a_key_twice_is_found() {
        let positions = Positions::read("a: 1\nb:\n  c: 1\n  d: {}\n  c: 2\n").unwrap();
        let [duplicate] = positions.duplicates() else { panic!("{:?}", positions.duplicates()) };
        assert_eq!((duplicate.path.as_str(), duplicate.first, duplicate.second), ("b.c", at(3, 3), at(5, 3)));
    }

    #[test]
    fn what_is_no_yaml_has_a_position_too() {
        let error = Positions::read("a: [1, 2\nb: {").unwrap_err();
        assert!(error.marker().line() >= 1);
    }
}
