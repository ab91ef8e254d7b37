//! The profile snapshot: what a version knows of its users, by the key element.

use std::collections::HashMap;
use std::path::Path;

use crate::catalogue::batches;
use crate::columns::ElementColumn;
use crate::context::{Context, Value};
use crate::error::ModelError;
use crate::schema::Element;

/// Context elements by key.
#[derive(Clone, Debug, Default)]
pub struct Profiles {
    by_key: HashMap<String, Context>,
}

impl Profiles {
    /// Reads `users.parquet`, a file or a folder of part files: the key and any of the context elements.
    pub fn read(path: &Path, key: &str, elements: &[Element]) -> Result<Self, ModelError> {
        let mut by_key = HashMap::new();
        for batch in batches(path)? {
            let batch = batch?;
            let mut columns = Vec::new();
            for element in elements {
                if let Some(column) = ElementColumn::of(&batch, element, "users")? {
                    columns.push((element, column));
                }
            }
            for row in 0..batch.num_rows() {
                let mut context = Context::new();
                for (element, column) in &columns {
                    let mut value = column.value(row);
                    if let (Value::List(ids), Some(max)) = (&mut value, element.max_length) {
                        ids.drain(..ids.len().saturating_sub(max));
                    }
                    if value != Value::Null {
                        context.insert(element.name.clone(), value);
                    }
                }
                let id = match context.remove(key) {
                    Some(Value::Text(id)) => id,
                    _ => {
                        let problem = format!("the key `{key}` is null; every profile needs one");
                        return Err(ModelError::Value { table: "users".into(), row, problem });
                    }
                };
                by_key.insert(id, context);
            }
        }
        Ok(Self { by_key })
    }

    /// How many profiles there are.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// All, by key, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Context)> {
        self.by_key.iter().map(|(key, profile)| (key.as_str(), profile))
    }

    /// The profile of that key.
    pub fn get(&self, key: &str) -> Option<&Context> {
        self.by_key.get(key)
    }
}
