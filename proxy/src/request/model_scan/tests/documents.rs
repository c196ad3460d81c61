//! Random documents: valid ones with odd spellings, and what mutation makes of them.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// A valid document, mostly an object with our fields among others.
pub(super) fn valid() -> impl Strategy<Value = Vec<u8>> {
    let member = (key(), blank(), blank(), value(3))
        .prop_map(|(key, a, b, value)| [key, a, b":".to_vec(), b, value].concat());
    let object = vec(member, 0..7).prop_map(|members| braces(b'{', &members, b'}'));
    let trailing = select(vec!["", " ", "\n", " x", "{}", "]", ",", "\u{feff}", "\0"]);
    (
        blank(),
        prop_oneof![8 => object.boxed(), 1 => value(2)],
        trailing,
    )
        .prop_map(|(before, value, after)| [before, value, after.as_bytes().to_vec()].concat())
}

/// A document that may be anything: a valid one cut, changed, doubled or with bytes put in.
pub(super) fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<Index>(), 0..4, odd_byte());
    (valid(), vec(change, 0..4)).prop_map(|(mut document, changes)| {
        for (index, kind, byte) in changes {
            let at = index.index(document.len() + 1);
            match kind {
                0 => document.truncate(at),
                1 => document.insert(at, byte),
                2 if at < document.len() => document[at] = byte,
                3 if at < document.len() => {
                    document.remove(at);
                }
                _ => {}
            }
        }
        document
    })
}

/// Cuts a document at some places.
pub(super) fn pieces<'a>(document: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut ends: Vec<_> = cuts
        .iter()
        .map(|cut| cut.index(document.len() + 1))
        .collect();
    ends.sort_unstable();
    ends.push(document.len());
    let mut start = 0;
    let mut pieces = Vec::new();
    for end in ends {
        pieces.push(&document[start..end]);
        start = end;
    }
    pieces
}

fn odd_byte() -> impl Strategy<Value = u8> {
    prop_oneof![
        select(br#"{}[]:,"\u0tfn-+.eE5 "#.to_vec()),
        select(vec![0, 0x1f, 0x7f, 0x80, 0xc3, 0xe2, 0xff, 0xef]),
        any::<u8>(),
    ]
}

fn blank() -> impl Strategy<Value = Vec<u8>> {
    select(vec!["", "", "", " ", "\n\t", "\r\n  "]).prop_map(|blank| blank.as_bytes().to_vec())
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    let ours = select(vec![
        "model",
        "name",
        "stream",
        "stream_options",
        "messages",
        "keep_alive",
        "tools",
        "node_id",
    ]);
    prop_oneof![
        3 => (ours, vec(0_u8..6, 14)).prop_map(|(key, ways)| quoted(&odd_spelling(key, &ways))),
        1 => text(),
    ]
}

/// Each letter as it is, as a capital, escaped, or as what folds to it.
fn odd_spelling(key: &str, ways: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (letter, way) in key.chars().zip(ways.iter().cycle()) {
        let spelt = match (way, letter) {
            (1, letter) => letter.to_uppercase().to_string(),
            (2, letter) => format!("\\u{:04x}", u32::from(letter)),
            (3, 's') => "\u{17f}".to_owned(),
            (4, 's') => "\\u017F".to_owned(),
            (_, letter) => letter.to_string(),
        };
        out.extend_from_slice(spelt.as_bytes());
    }
    out
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    let bit = prop_oneof![
        4 => "[a-z0-9:/. -]{0,9}".prop_map(String::into_bytes),
        2 => select(vec![
            "\\n", "\\\"", "\\\\", "\\/", "\\b", "\\t", "\\f", "\\r", "\\u0041", "\\u00e9",
            "\\ud83d\\ude00", "\\ud83d", "\\ude00", "\\uD83D\\u0041", "\\ud83d\\n",
            "\\ud83d\\ud83d\\ude00", "\\u0000", "\\uFFFD", "é", "😀", "\u{17f}", "\u{feff}",
        ])
        .prop_map(|escape| escape.as_bytes().to_vec()),
        1 => select(vec![&b"\x80"[..], b"\xe2\x82", b"\xff", b"\xf0\x9f\x98", b"\xc0\x80", b"\xed\xa0\x80", b"\x7f"])
            .prop_map(<[u8]>::to_vec),
        1 => (30_usize..200).prop_map(|length| vec![b'A'; length]),
    ];
    vec(bit, 0..4).prop_map(|bits| quoted(&bits.concat()))
}

fn quoted(inside: &[u8]) -> Vec<u8> {
    [b"\"", inside, b"\""].concat()
}

fn value(depth: u32) -> BoxedStrategy<Vec<u8>> {
    let long = select(vec![super::LONGEST, super::LONGEST + 1]);
    let scalar = prop_oneof![
        30 => text(),
        20 => select(vec!["true", "false", "null"]).prop_map(|word| word.as_bytes().to_vec()),
        10 => "-?(0|[1-9][0-9]{0,5})([.][0-9]{1,4})?([eE][+-]?[0-9]{1,2})?".prop_map(String::into_bytes),
        10 => select(vec![
            r#"{"include_usage":true}"#,
            r#"{"Include_U\u0073age":false,"x":{"include_usage":1}}"#,
            r#"{"include_uſage":null}"#,
            r#"{"model":"inner","name":[{"model":3}]}"#,
        ])
        .prop_map(|options| options.as_bytes().to_vec()),
        1 => long.prop_map(|length| quoted(&vec![b'm'; length])),
    ];
    scalar
        .prop_recursive(depth, 24, 4, |inner| {
            let member = (key(), inner.clone())
                .prop_map(|(key, value)| [key, b": ".to_vec(), value].concat());
            prop_oneof![
                vec(inner, 0..4).prop_map(|values| braces(b'[', &values, b']')),
                vec(member, 0..4).prop_map(|members| braces(b'{', &members, b'}')),
            ]
        })
        .boxed()
}

fn braces(open: u8, inside: &[Vec<u8>], close: u8) -> Vec<u8> {
    let inside = inside.join(&b", "[..]);
    [&[open][..], &inside, &[close]].concat()
}
