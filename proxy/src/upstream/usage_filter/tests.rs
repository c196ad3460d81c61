//! What passes the filter of a stream with counts is the stream without them.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

use super::*;

/// What passes, piece by piece; the last of them ends the answer.
fn passed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let mut filter = UsageFilter::default();
    let mut out = Vec::new();
    let mut pass = |piece: Option<&[u8]>, end| {
        let mut body = piece.map(Bytes::copy_from_slice);
        filter.pass(&mut body, end);
        assert!(body.as_ref().is_none_or(|body| !body.is_empty()));
        out.push(body.unwrap_or_default().to_vec());
    };
    for piece in pieces {
        pass(Some(piece), false);
    }
    pass(None, true);
    out
}

fn filtered<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
    String::from_utf8(passed(pieces).concat()).unwrap()
}

/// The body of a recorded answer, and its HTTP chunks.
fn recorded(name: &str) -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../sim/recordings/v1.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    let records = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let record = records.into_iter().find(|record| record["name"] == name);
    let events = record.unwrap()["events"].clone();
    let raw: String = events
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event[1].as_str().unwrap())
        .collect();
    let (_, mut rest) = raw.split_once("\r\n\r\n").unwrap();
    let mut chunks = Vec::new();
    loop {
        let (size, after) = rest.split_once("\r\n").unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return chunks;
        }
        chunks.push(after[..size].to_owned());
        rest = &after[size + 2..];
    }
}

/// What differs from request to request: the id's number and the time.
fn scrubbed(stream: &str, like: &str) -> String {
    let id = |text: &str| text.split('"').nth(3).unwrap().to_owned();
    stream.replace(&id(stream), &id(like))
}

#[test]
fn recorded_streams_with_counts_become_those_without() {
    for kind in ["chat", "completions"] {
        let with = recorded(&format!("v1-{kind}-stream-usage"));
        let without = recorded(&format!("v1-{kind}-stream"));
        assert_ne!(with.concat(), without.concat());
        let out = passed(with.iter().map(String::as_bytes));
        let out: Vec<_> = out
            .into_iter()
            .map(|piece| String::from_utf8(piece).unwrap())
            .filter(|piece| !piece.is_empty())
            .collect();
        let like = without.concat();
        let out: Vec<_> = out
            .iter()
            .map(|piece| piece.replace(&id_of(&out[0]), &id_of(&like)))
            .collect();
        // not only the bytes: each chunk passed when it came
        assert_eq!(out, without, "{kind}");
        let whole = with.concat();
        for cut in 0..=whole.len() {
            let (head, tail) = whole.as_bytes().split_at(cut);
            assert_eq!(
                scrubbed(&filtered([head, tail]), &like),
                like,
                "{kind} cut at {cut}"
            );
        }
        assert_eq!(scrubbed(&filtered(whole.as_bytes().chunks(1)), &like), like);
    }
}

fn id_of(stream: &str) -> String {
    stream.split('"').nth(3).unwrap().to_owned()
}

#[test]
fn what_has_no_counts_passes_untouched_and_at_once() {
    for chunk in recorded("v1-chat-stream") {
        assert_eq!(passed([chunk.as_bytes()])[0], chunk.as_bytes());
    }
    for other in [
        ": a comment\n\n",
        "event: error\ndata: {\"error\":\"x\"}\n\n",
        "data: {\"choices\":[]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\":{}\"}}]}\n\n",
        "data: {\"choices\":[{\"usage\":{\"a\":1}}]}\n\n",
        "data: \"usage\": no JSON\n\n",
        "data:\n\n\n\n",
        "{\"error\":\"no event, \\\"usage\\\":{}\"}\n",
        "no end of line",
    ] {
        assert_eq!(filtered([other.as_bytes()]), other);
    }
}

#[test]
fn counts_go_wherever_they_stand() {
    for (with, without) in [
        (
            "data: {\"usage\":null,\"choices\":[1]}\n\n",
            "data: {\"choices\":[1]}\n\n",
        ),
        (
            "data: {\"a\":1 , \"usage\": {} , \"choices\":[1]}\n\n",
            "data: {\"a\":1 , \"choices\":[1]}\n\n",
        ),
        ("data:{\"usage\":{}}\n\n", "data:{}\n\n"),
        (
            "data: {\"usage\":{},\"choices\":[ ]}\r\n\r\ndata: x\r\n",
            "data: x\r\n",
        ),
        (
            "data: {\"usage\":{},\"choices\":[]}\ndata: x\n\n",
            "data: x\n\n",
        ),
        ("data: {\"usage\":{},\"choices\":[]}", ""),
    ] {
        assert_eq!(filtered([with.as_bytes()]), without);
    }
}

#[test]
fn a_very_long_event_passes_in_bounded_memory() {
    let text = "A".repeat(300_000);
    let event = |usage: &str| format!("data: {{\"choices\":[{{\"text\":\"{text}\"}}]{usage}}}\n\n");
    let with = event(",\"usage\":{\"prompt_tokens\":0,\"completion_tokens\":0,\"total_tokens\":0}");
    let mut filter = UsageFilter::default();
    let mut out = Vec::new();
    for piece in with.as_bytes().chunks(10_000) {
        let mut body = Some(Bytes::copy_from_slice(piece));
        filter.pass(&mut body, false);
        out.extend_from_slice(&body.unwrap_or_default());
        assert!(filter.held.len() <= LONGEST);
    }
    assert_eq!(String::from_utf8(out).unwrap(), event(""));
    assert_eq!(filtered([with.as_bytes()]), event(""));
    // text that only looks like it stays
    let looks = event(",\"x\":\"\\\",\\\"usage\\\":{}\"");
    assert_eq!(filtered(looks.as_bytes().chunks(7_000)), looks);
}

/// An event of a stream with counts, and what a client that asked for none sees of it.
fn event() -> impl Strategy<Value = (String, String)> {
    let counts = json!({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7});
    let data = |value: &Value| format!("data: {value}\n\n");
    let content =
        "[a-z\"\\\\{}\\[\\]:, \n]{0,20}|\"usage\":\\{\\}|,\"choices\":\\[\\],\"usage\":\\{";
    (content, 0..5).prop_map(move |(text, kind)| {
        let chat =
            json!({"id": "chatcmpl-1", "model": "m", "choices": [{"delta": {"content": text}}]});
        let mut completion = json!({"id": "cmpl-1", "choices": [{"text": text}], "model": "m"});
        match kind {
            0 | 1 => (data(&chat), data(&chat)),
            2 => {
                let without = data(&completion);
                completion["usage"] = counts.clone();
                (data(&completion), without)
            }
            3 => {
                let last = json!({"id": "cmpl-1", "choices": [], "model": text, "usage": counts});
                (data(&last), String::new())
            }
            _ => ("data: [DONE]\n\n".into(), "data: [DONE]\n\n".into()),
        }
    })
}

proptest! {
    #[test]
    fn any_stream_in_any_split(
        events in vec(event(), 0..12),
        cuts in vec(any::<Index>(), 0..20),
        end in select(),
    ) {
        let mut with: String = events.iter().map(|(with, _)| with.as_str()).collect();
        let mut without: String = events.iter().map(|(_, without)| without.as_str()).collect();
        with.push_str(end);
        without.push_str(end);
        let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(with.len() + 1)).collect();
        ends.extend([0, with.len()]);
        ends.sort_unstable();
        let pieces = ends.windows(2).map(|two| &with.as_bytes()[two[0]..two[1]]);
        prop_assert_eq!(filtered(pieces), without);
    }

    /// Never more is held back than a line that has not ended.
    #[test]
    fn whole_events_pass_at_once(events in vec(event(), 1..12)) {
        let out = passed(events.iter().map(|(with, _)| with.as_bytes()));
        for (piece, (_, without)) in out.iter().zip(&events) {
            prop_assert_eq!(std::str::from_utf8(piece).unwrap(), without);
        }
    }

    #[test]
    fn any_bytes_without_the_key_pass(bytes in vec(any::<u8>(), 0..80), size in 1_usize..9) {
        prop_assume!(memmem::find(&bytes, KEY).is_none());
        prop_assert_eq!(passed(bytes.chunks(size)).concat(), bytes);
    }
}

/// How a stream may stop.
fn select() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec!["", "data: {\"choices\":[{", "data: {\"id\"", "x\n"])
}
