//! What is asked of whoever sits at the terminal: passwords, which are never shown and never an argument, and
//! whether something is to be removed.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::path::Path;

use aivonx_shared::fleet_doc::Secret;

use super::failure::Failure;
use super::output::clean;

/// A password that is there already: asked for at a terminal, else the next line of standard input.
pub(super) fn password(prompt: &str) -> Result<Secret, Failure> {
    let read = if std::io::stdin().is_terminal() {
        rpassword::prompt_password(format!("{prompt}: "))
    } else {
        next_line()
    };
    let text =
        read.map_err(|error| Failure::Input(format!("no password could be read: {error}")))?;
    if text.is_empty() {
        return Err(Failure::Usage("the password is empty".to_owned()));
    }
    Ok(Secret::new(text))
}

/// A password to be set: at a terminal it is asked for twice.
pub(super) fn new_password(prompt: &str) -> Result<Secret, Failure> {
    let first = password(prompt)?;
    if std::io::stdin().is_terminal() && password("The same again")? != first {
        let words = "the two passwords are not the same; nothing was changed";
        return Err(Failure::Usage(words.to_owned()));
    }
    Ok(first)
}

/// Whether something is to be removed: asked at a terminal; a script has to say `--yes`.
pub(super) fn confirm(what: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        let words = format!("to {what} without being asked, say --yes");
        return Err(Failure::Usage(words));
    }
    let mut error = std::io::stderr();
    let _ = write!(error, "Really {}? [y/N] ", clean(what)).and_then(|()| error.flush());
    let answer = next_line().unwrap_or_default();
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Failure::Usage("nothing was changed".to_owned()))
}

/// The text of a file; `-` is standard input.
pub(super) fn read_file(file: &Path) -> Result<String, Failure> {
    if file == Path::new("-") {
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text);
        return match read {
            Ok(_) => Ok(text),
            Err(error) => Err(Failure::reading(Path::new("standard input"), &error)),
        };
    }
    std::fs::read_to_string(file).map_err(|error| Failure::reading(file, &error))
}

fn next_line() -> std::io::Result<String> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
