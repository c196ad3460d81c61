//! Every problem of a draft at once, by field: what the API answers with 400.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// What is wrong with a draft.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, thiserror::Error)]
pub struct Invalid {
    /// Problems by field, in words; secrets are never repeated.
    pub fields: BTreeMap<String, Vec<String>>,
}

impl Invalid {
    /// One problem.
    pub fn of(field: &str, problem: impl Into<String>) -> Self {
        let mut invalid = Self::default();
        invalid.add(field, problem);
        invalid
    }

    /// One more problem; said once however often it is found.
    pub fn add(&mut self, field: &str, problem: impl Into<String>) {
        let problem = problem.into();
        let problems = self.fields.entry(field.to_owned()).or_default();
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }

    /// Nothing, if nothing was found.
    pub fn or_ok(self) -> Result<(), Self> {
        if self.fields.is_empty() {
            Ok(())
        } else {
            Err(self)
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (field, problems)) in self.fields.iter().enumerate() {
            let separator = if index > 0 { "; " } else { "" };
            write!(f, "{separator}{field}: {}", problems.join(", "))?;
        }
        Ok(())
    }
}
