//! Walks a value tree key by key and collects every problem instead of stopping at the first.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::rc::Rc;

use serde::de::DeserializeOwned;
use serde_yaml::{Mapping, Value};

use super::Lines;
use crate::fleet_doc::Outside;

/// One thing that is wrong in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, as `nodes[0].url`; empty for the document itself.
    pub key: String,
    /// The line in the file, from 1, where it is known.
    pub line: Option<usize>,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// Every problem of one configuration, in the order of their lines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems {
    list: Vec<Problem>,
}

impl Problems {
    pub(crate) fn of(mut list: Vec<Problem>) -> Self {
        list.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
        Self { list }
    }

    /// The problems, by line.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

/// A mapping being read. Keys that nobody asked for are problems when `finish` is called.
pub(crate) struct Reader<'a> {
    map: Option<&'a Mapping>,
    path: String,
    asked: RefCell<HashSet<&'static str>>,
    problems: Rc<RefCell<Vec<Problem>>>,
    /// Where values that the document only names are fetched from; `None` leaves them unread.
    outside: Option<&'a Outside>,
}

impl<'a> Reader<'a> {
    /// Starts at the root of a document. An empty document reads as an empty mapping.
    pub(crate) fn root(value: &'a Value) -> Self {
        Self::at(value, String::new(), Rc::default())
    }

    fn at(value: &'a Value, path: String, problems: Rc<RefCell<Vec<Problem>>>) -> Self {
        let map = value.as_mapping();
        let reader = Self {
            map,
            path,
            asked: RefCell::default(),
            problems,
            outside: None,
        };
        if map.is_none() && !value.is_null() {
            reader.complain_here(&format!("must be a mapping of keys, not {}", kind(value)));
        }
        reader
    }

    /// The same with what the document may refer to.
    pub(crate) fn with_outside(mut self, outside: Option<&'a Outside>) -> Self {
        self.outside = outside;
        self
    }

    /// What the document may refer to, where that is to be read.
    pub(crate) fn outside(&self) -> Option<&'a Outside> {
        self.outside
    }

    fn child_path(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    fn raw(&self, key: &'static str) -> Option<&'a Value> {
        self.asked.borrow_mut().insert(key);
        self.map?.get(key).filter(|value| !value.is_null())
    }

    /// Records a problem at `key` of this mapping.
    pub(crate) fn complain(&self, key: &str, message: &str) {
        self.push(self.child_path(key), message);
    }

    /// Records a problem of this mapping itself.
    pub(crate) fn complain_here(&self, message: &str) {
        self.push(self.path.clone(), message);
    }

    fn push(&self, key: String, message: &str) {
        self.problems.borrow_mut().push(Problem {
            key,
            line: None,
            message: message.to_owned(),
        });
    }

    /// The value at `key`, if it is there and of the right type.
    pub(crate) fn get<T: DeserializeOwned>(&self, key: &'static str) -> Option<T> {
        let value = self.raw(key)?;
        match T::deserialize(value) {
            Ok(found) => Some(found),
            Err(error) => {
                self.complain(key, &error.to_string());
                None
            }
        }
    }

    /// The value at `key`, or `default`.
    pub(crate) fn or<T: DeserializeOwned>(&self, key: &'static str, default: T) -> T {
        self.get(key).unwrap_or(default)
    }

    /// The raw value at `key`, for shapes that are read by hand.
    pub(crate) fn value(&self, key: &'static str) -> Option<&'a Value> {
        self.raw(key)
    }

    /// The mapping at `key`; reads as empty where it is absent.
    pub(crate) fn section(&self, key: &'static str) -> Reader<'a> {
        static NOTHING: Value = Value::Null;
        let value = self.raw(key).unwrap_or(&NOTHING);
        Self::at(value, self.child_path(key), Rc::clone(&self.problems)).with_outside(self.outside)
    }

    /// The mappings of the list at `key`.
    pub(crate) fn list(&self, key: &'static str) -> Vec<Reader<'a>> {
        let Some(value) = self.raw(key) else {
            return Vec::new();
        };
        let Some(items) = value.as_sequence() else {
            self.complain(key, &format!("must be a list, not {}", kind(value)));
            return Vec::new();
        };
        let path = self.child_path(key);
        items
            .iter()
            .enumerate()
            .map(|(index, item)| {
                Self::at(item, format!("{path}[{index}]"), Rc::clone(&self.problems))
                    .with_outside(self.outside)
            })
            .collect()
    }

    /// Checks for keys that nobody asked for, naming the nearest known one.
    pub(crate) fn finish(&self) {
        let Some(map) = self.map else { return };
        let asked = self.asked.borrow();
        for key in map.keys() {
            let Some(name) = key.as_str() else {
                self.complain_here("keys must be text");
                continue;
            };
            if !asked.contains(name) {
                let mut known: Vec<_> = asked.iter().copied().collect();
                known.sort_unstable();
                // `token:secret` without a space is one key: what follows the colon is not repeated
                let name = name.split(':').next().unwrap_or_default();
                self.complain(
                    name,
                    &format!("unknown key; known here: {}", known.join(", ")),
                );
            }
        }
    }

    /// Takes the collected problems, each with its line. Only the root may be asked.
    pub(crate) fn into_problems(self, lines: &Lines) -> Option<Problems> {
        let mut list = self.problems.take();
        for problem in &mut list {
            problem.line = problem.line.or_else(|| lines.find(&problem.key));
        }
        (!list.is_empty()).then(|| Problems::of(list))
    }
}

/// A word for the type of a YAML value.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Sequence(_) => "a list",
        Value::Mapping(_) => "a mapping",
        Value::Tagged(_) => "a tagged value",
    }
}
