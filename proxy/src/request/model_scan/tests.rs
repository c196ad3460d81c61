//! The scanner against the reference, the reference against a real Ollama.

mod compressed;
mod corpus;
mod documents;
mod form;
mod json;
mod recordings;

use super::agreement::{LONGEST, assert_agrees, run, scan};
use super::reference::{self, Text, Verdict};
use super::{Field, Found, Given, ModelScan, Outcome, Root};
