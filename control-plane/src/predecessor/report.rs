//! What was taken over, and what was not and why: lines for who reads the terminal.

use std::fmt;

use aivonx_shared::fleet_doc::Secret;
use aivonx_shared::revision::Revision;

/// What became of an import.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Nothing was done.
    pub dry_run: bool,
    /// Nodes.
    pub nodes: Part,
    /// Users.
    pub users: Part,
    /// Settings.
    pub settings: Part,
    /// The password that was made up for `root`: to be shown once.
    pub made_up: Option<Secret>,
    /// The fleet's revision, if something was changed.
    pub revision: Option<Revision>,
}

/// Lines about one kind of things.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// What is taken, a line each.
    pub taken: Vec<String>,
    /// What is not, and why.
    pub left: Vec<String>,
    /// What to know besides.
    pub notes: Vec<String>,
}

impl Report {
    pub(super) fn new(dry_run: bool) -> Self {
        Self {
            dry_run,
            ..Self::default()
        }
    }
}

impl Part {
    pub(super) fn taken(&mut self, line: String) {
        self.taken.push(line);
    }

    pub(super) fn note(&mut self, line: String) {
        self.notes.push(line);
    }

    pub(super) fn left(&mut self, line: String) {
        self.left.push(line);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, part) in [
            ("nodes", &self.nodes),
            ("users", &self.users),
            ("settings", &self.settings),
        ] {
            writeln!(
                f,
                "{name}: {} taken, {} not",
                part.taken.len(),
                part.left.len()
            )?;
            for (mark, lines) in [('+', &part.taken), ('-', &part.left), ('!', &part.notes)] {
                for line in lines {
                    writeln!(f, "  {mark} {line}")?;
                }
            }
        }
        match self.revision {
            _ if self.dry_run => f.write_str("dry run: nothing was taken"),
            None => f.write_str("ok: there was nothing new to take"),
            Some(revision) => write!(f, "ok: the fleet is at revision {revision}"),
        }
    }
}
