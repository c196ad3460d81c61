//! What is shown: tables and pages for people, the API's objects for scripts. Everything goes to standard
//! output; what is only said beside it goes to standard error.

use std::io::Write as _;

use serde_json::Value;
use tabwriter::TabWriter;

use super::failure::{Done, Failure};

/// A column of a table: its head, and what stands in it of an object.
pub(super) type Column = (&'static str, fn(&Value) -> String);

/// Shows a list: as a table, or as the API's own objects. An empty list says so beside it.
pub(super) fn list(rows: &[Value], columns: &[Column], json: bool, nothing: &str) -> Done {
    if json {
        return show_json(&Value::from(rows.to_vec()));
    }
    if rows.is_empty() {
        note(nothing);
        return Ok(());
    }
    print(&table(rows, columns))
}

/// Shows one object: line by line, or as the API gives it.
pub(super) fn one(object: &Value, lines: &[Column], json: bool) -> Done {
    if json {
        return show_json(object);
    }
    let lines = lines
        .iter()
        .map(|(name, of)| format!("{name}:\t{}\n", of(object)));
    print(&aligned(&lines.collect::<String>()))
}

/// Shows an object as the API gives it.
pub(super) fn show_json(value: &Value) -> Done {
    print(&format!("{value:#}\n"))
}

/// Writes to standard output. A reader that has seen enough (`| head`) is no failure.
pub(super) fn print(text: &str) -> Done {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::Output(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Says something beside the output.
pub(super) fn note(text: &str) {
    // nobody listens: there is nowhere left to say so
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A text for a terminal: what would move its cursor is taken out, for names are others' text.
pub(super) fn clean(text: &str) -> String {
    let visible = |letter: char| if letter.is_control() { '?' } else { letter };
    text.chars().map(visible).collect()
}

/// The text at a key; `-` where there is none.
pub(super) fn cell(object: &Value, key: &str) -> String {
    match &object[key] {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => clean(text),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Array(list) if list.is_empty() => "-".to_owned(),
        Value::Array(list) => {
            let texts = list.iter().map(|item| item.as_str().map(clean));
            texts.flatten().collect::<Vec<_>>().join(",")
        }
        other => clean(&other.to_string()),
    }
}

/// The instant at a key, to the second.
pub(super) fn instant(object: &Value, key: &str) -> String {
    let text = cell(object, key);
    match text.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => text,
    }
}

/// The pairs at a key, as `key=value,…`.
pub(super) fn pairs(object: &Value, key: &str) -> String {
    let map = object[key].as_object();
    let map = map.filter(|map| !map.is_empty());
    map.map_or_else(
        || "-".to_owned(),
        |map| {
            let texts = map.iter().map(|(name, value)| match value.as_str() {
                Some(value) => clean(&format!("{name}={value}")),
                None => clean(name),
            });
            texts.collect::<Vec<_>>().join(",")
        },
    )
}

fn table(rows: &[Value], columns: &[Column]) -> String {
    let heads: Vec<_> = columns.iter().map(|(head, _)| (*head).to_owned()).collect();
    let mut text = heads.join("\t");
    for row in rows {
        let cells: Vec<_> = columns.iter().map(|(_, of)| of(row)).collect();
        text.push('\n');
        text.push_str(&cells.join("\t"));
    }
    text.push('\n');
    aligned(&text)
}

/// Lines with their tabs made columns, two spaces apart.
fn aligned(text: &str) -> String {
    let mut writer = TabWriter::new(Vec::new());
    let written = writer
        .write_all(text.as_bytes())
        .and_then(|()| writer.flush());
    let bytes = written.ok().and_then(|()| writer.into_inner().ok());
    let bytes = bytes.expect("a list of bytes takes everything");
    String::from_utf8(bytes).expect("text stays text")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COLUMNS: [Column; 3] = [
        ("ID", |row| cell(row, "id")),
        ("NAME", |row| cell(row, "name")),
        ("MODELS", |row| cell(row, "models")),
    ];

    #[test]
    fn columns_are_aligned_by_what_a_terminal_shows() {
        let rows = [
            json!({"id": 1, "name": "gpu-1", "models": []}),
            json!({"id": 12, "name": "日本", "models": ["a", "b"]}),
            json!({"id": 3, "name": "\u{1b}[31mred\tink", "models": null}),
        ];
        assert_eq!(
            table(&rows, &COLUMNS),
            "ID  NAME          MODELS\n\
             1   gpu-1         -\n\
             12  日本          a,b\n\
             3   ?[31mred?ink  -\n"
        );
    }

    #[test]
    fn cells_are_short_and_never_empty() {
        let object = json!({
            "at": "2026-11-25T05:00:00.123456Z", "none": null, "empty": "", "yes": true,
            "labels": {"x": "y", "zone": "a"}, "headers": {"x-team": null}, "nothing": {},
        });
        assert_eq!(instant(&object, "at"), "2026-11-25T05:00:00Z");
        assert_eq!(instant(&object, "none"), "-");
        assert_eq!(cell(&object, "empty"), "-");
        assert_eq!(cell(&object, "yes"), "yes");
        assert_eq!(pairs(&object, "labels"), "x=y,zone=a");
        assert_eq!(pairs(&object, "headers"), "x-team");
        assert_eq!(pairs(&object, "nothing"), "-");
    }
}
