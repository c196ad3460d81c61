//! What the scanner must agree with: the reference decoder, and itself in another split. Shared by
//! the tests and the fuzz target, and in neither's release build.

use super::reference::{Fields, Text, Verdict, decode};
use super::{Field, Found, Given, ModelScan, Outcome, Root};

/// The longest text that the scanner keeps.
pub(super) const LONGEST: usize = 4096;

/// Scans a document given in pieces.
pub(super) fn scan<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Found {
    run(ModelScan::json(), pieces)
}

/// Ends a scan after feeding it the pieces; what it says on the way must fit its last word.
pub(super) fn run<'a>(mut scan: ModelScan, pieces: impl IntoIterator<Item = &'a [u8]>) -> Found {
    for piece in pieces {
        scan.feed(piece);
    }
    let (failed, closed) = (scan.failed(), scan.root_closed());
    let found = scan.finish();
    assert!(!failed || found.outcome == Outcome::Broken);
    assert!(!closed || found.outcome == Outcome::Complete);
    assert_eq!(found.end.is_some(), found.outcome == Outcome::Complete);
    found
}

/// Panics unless the scanner found what the reference finds.
///
/// Of a body that is no whole value only the outcome is compared; its fields are the scanner's own.
#[track_caller]
pub(super) fn assert_agrees(document: &[u8], found: &Found) {
    let shown = String::from_utf8_lossy(document);
    match decode(document) {
        Verdict::Truncated => assert_eq!(found.outcome, Outcome::Incomplete, "{shown}"),
        Verdict::Syntax => assert_eq!(found.outcome, Outcome::Broken, "{shown}"),
        Verdict::Value(fields) => assert_eq!(*found, expected(fields), "{shown}"),
    }
}

/// Checks an input of the fuzzer: a byte that says how long the pieces are, and a body; as JSON
/// against the reference, as a form against itself in one piece.
pub(super) fn check_cut_input(input: &[u8]) {
    let Some((&length, body)) = input.split_first() else {
        return;
    };
    let pieces = || body.chunks(usize::from(length).max(1));
    assert_agrees(body, &scan([body]));
    assert_eq!(scan(pieces()), scan([body]));
    let form = |pieces: &mut dyn Iterator<Item = &[u8]>| run(ModelScan::multipart(b"B"), pieces);
    let whole = form(&mut [body].into_iter());
    assert_eq!(form(&mut pieces()), whole);
    ModelScan::for_form(body);
}

fn expected(fields: Fields) -> Found {
    let field = |text| match text {
        Text::Unset => Field::Absent,
        Text::Is(_, written) if written > LONGEST => Field::TooLong,
        Text::Is(text, _) => Field::Text(text),
        Text::TypeError => Field::WrongType,
    };
    Found {
        outcome: Outcome::Complete,
        root: match fields.object {
            Some(true) => Root::Object,
            Some(false) => Root::Null,
            None => Root::Other,
        },
        model: field(fields.model),
        name: field(fields.name),
        stream: fields.stream,
        include_usage: fields.include_usage,
        node_id: fields.node_id,
        given: Given {
            model: fields.given[0],
            keep_alive: fields.given[1],
            tools: fields.given[2],
            work: fields.given[3],
        },
        model_at: None,
        end: Some(fields.end as u64),
    }
}
