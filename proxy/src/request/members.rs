//! The members of a JSON object that is in hand, and where they stand: what edits and closer looks
//! at a body start from. The scan has judged the grammar by then; this walk only finds places.
//!
//! Of text that is no whole object it gives the members that are whole, and stops.

use std::ops::Range;

use super::model_scan::{key_is, plain, unquote};

/// One member of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member<'a> {
    /// As written, between its quotes.
    key: &'a [u8],
    /// The value as written.
    pub(crate) value: &'a [u8],
    /// Where the value stands.
    pub(crate) at: Range<usize>,
    /// Where the key begins, with its quote.
    pub(crate) key_at: usize,
}

impl<'a> Member<'a> {
    fn until(self, text: &'a [u8], end: usize) -> Self {
        let at = self.at.start..end;
        Self {
            value: &text[at.clone()],
            at,
            ..self
        }
    }

    /// Whether Go takes the key for the field `name` (lower-case ASCII).
    pub(crate) fn is(&self, name: &str) -> bool {
        key_is(self.key, name)
    }
}

/// A string value, decoded as Go decodes it; `None` for any other value.
pub(crate) fn text(value: &[u8]) -> Option<String> {
    let inside = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    Some(unquote(inside))
}

/// The members of the object that `text` begins with, in their order.
pub(crate) fn members(text: &[u8]) -> impl Iterator<Item = Member<'_>> {
    let mut items = Items::open(text, b'{');
    std::iter::from_fn(move || {
        let begun = items.next_member()?;
        items.at = value_end(text, begun.at.start)?;
        Some(begun.until(text, items.at))
    })
}

/// The member within whose value `text` breaks off, as far as it goes.
pub(crate) fn unfinished(text: &[u8]) -> Option<Member<'_>> {
    let mut items = Items::open(text, b'{');
    loop {
        let begun = items.next_member()?;
        match value_end(text, begun.at.start) {
            Some(end) => items.at = end,
            None => return (!begun.value.is_empty()).then_some(begun),
        }
    }
}

/// The values of the array that `text` begins with.
pub(crate) fn elements(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut items = Items::open(text, b'[');
    std::iter::from_fn(move || {
        let start = items.next_item()?;
        let end = value_end(text, start)?;
        items.at = end;
        Some(&text[start..end])
    })
}

/// What stands between the commas of an object or array.
struct Items<'a> {
    text: &'a [u8],
    /// Behind the last item; the end of the text where there are no more.
    at: usize,
    first: bool,
}

impl<'a> Items<'a> {
    fn open(text: &'a [u8], bracket: u8) -> Self {
        let start = blanks_end(text, 0);
        let opens = text.get(start) == Some(&bracket);
        Self {
            text,
            at: if opens { start + 1 } else { text.len() },
            first: true,
        }
    }

    /// The next member, its value up to the end of the text.
    fn next_member(&mut self) -> Option<Member<'a>> {
        let key_at = self.next_item()?;
        let key_end = string_end(self.text, key_at)?;
        let colon = blanks_end(self.text, key_end);
        if self.text.get(colon) != Some(&b':') {
            return None;
        }
        let start = blanks_end(self.text, colon + 1);
        Some(Member {
            key: &self.text[key_at + 1..key_end - 1],
            value: &self.text[start..],
            at: start..self.text.len(),
            key_at,
        })
    }

    /// Where the next item begins.
    fn next_item(&mut self) -> Option<usize> {
        let mut at = blanks_end(self.text, self.at);
        if !std::mem::replace(&mut self.first, false) {
            if self.text.get(at) != Some(&b',') {
                return None;
            }
            at = blanks_end(self.text, at + 1);
        }
        let ended = matches!(self.text.get(at), None | Some(b'}' | b']'));
        (!ended).then_some(at)
    }
}

fn blanks_end(text: &[u8], from: usize) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    let blank = |byte: &u8| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    from + rest.iter().position(blank).unwrap_or(rest.len())
}

/// Behind the string whose quote stands at `from`.
fn string_end(text: &[u8], from: usize) -> Option<usize> {
    if text.get(from) != Some(&b'"') {
        return None;
    }
    let mut at = from + 1;
    loop {
        at += plain(text.get(at..)?);
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => return None,
        }
    }
}

/// Behind the value that begins at `from`; `None` where the text may end within it.
fn value_end(text: &[u8], from: usize) -> Option<usize> {
    match text.get(from)? {
        b'"' => string_end(text, from),
        b'{' | b'[' => bracket_end(text, from),
        _ => {
            let part =
                |byte: &u8| !matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n');
            let length = text[from..].iter().position(|byte| !part(byte))?;
            (length > 0).then_some(from + length)
        }
    }
}

/// Behind the object or array that begins at `from`.
fn bracket_end(text: &[u8], from: usize) -> Option<usize> {
    let (mut at, mut depth) = (from, 0_usize);
    loop {
        match text.get(at)? {
            b'"' => {
                at = string_end(text, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn seen(body: &str) -> Vec<(String, &str)> {
        members(body.as_bytes())
            .map(|member| {
                assert_eq!(&body.as_bytes()[member.at.clone()], member.value);
                assert_eq!(body.as_bytes()[member.key_at], b'"');
                let value = std::str::from_utf8(member.value).unwrap();
                (unquote(member.key), value)
            })
            .collect()
    }

    #[test]
    fn members_are_found_where_they_stand() {
        let body = r#" { "a" : [1, {"b":"}]"}] ,"c":"\"\\","d":-1e3 , "a":null,"":{}} {"e":1}"#;
        let key = |key: &str| key.to_owned();
        assert_eq!(
            seen(body),
            [
                (key("a"), r#"[1, {"b":"}]"}]"#),
                (key("c"), r#""\"\\""#),
                (key("d"), "-1e3"),
                (key("a"), "null"),
                (key(""), "{}"),
            ]
        );
        for none in [
            "", "{}", " {", "[1]", "null", "\"a\":1", "{\"a\"}", "{\"a\":",
        ] {
            assert_eq!(seen(none), [], "{none}");
        }
    }

    #[test]
    fn keys_are_compared_as_go_compares_them() {
        let body = "{\"M\\u006fdel\":1}".as_bytes();
        let member = members(body).next().unwrap();
        assert!(member.is("model") && !member.is("models"));
    }

    #[test]
    fn elements_are_the_values_of_an_array() {
        let all: Vec<_> = elements(br#" [ {"a":[1]}, "x,y" ,3]"#).collect();
        assert_eq!(all, [&br#"{"a":[1]}"#[..], b"\"x,y\"", b"3"]);
        assert_eq!(elements(b"{}").count() + elements(b"[").count(), 0);
    }

    #[test]
    fn a_part_of_an_object_gives_the_members_that_are_whole() {
        let body = r#"{"model":"a","n":12,"x":[1,2],"model":"b"}"#;
        for end in 0..body.len() {
            let whole = seen(&body[..end]);
            assert_eq!(whole, seen(body)[..whole.len()], "{}", &body[..end]);
        }
        assert_eq!(seen(r#"{"model":"a","n":12"#).len(), 1); // it may go on: 123
    }

    #[test]
    fn the_member_in_which_a_part_breaks_off_is_given_as_far_as_it_goes() {
        let cut = |text: &'static str| {
            let member = unfinished(text.as_bytes())?;
            let value = std::str::from_utf8(member.value).unwrap();
            Some((unquote(member.key), value))
        };
        let some = |key: &str, value| Some((key.to_owned(), value));
        assert_eq!(cut(r#"{"a":"b","c":"d"#), some("c", "\"d"));
        assert_eq!(cut(r#"{"a": [{"b":"]"}, "#), some("a", r#"[{"b":"]"}, "#));
        assert_eq!(cut(r#"{"a":12"#), some("a", "12"));
        for none in ["", "{", r#"{"a"#, r#"{"a""#, r#"{"a": "#, r#"{"a":"b","#] {
            assert_eq!(cut(none), None, "{none}");
        }
        assert_eq!(cut(r#"{"a":"b"}"#), None);
    }

    proptest! {
        /// Against a parser that knows nothing of this one.
        #[test]
        fn every_object_is_cut_as_serde_cuts_it(value in object()) {
            for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
                let cut: serde_json::Map<String, Value> = members(text.as_bytes())
                    .map(|member| {
                        (unquote(member.key), serde_json::from_slice(member.value).unwrap())
                    })
                    .collect();
                prop_assert_eq!(Value::Object(cut), value.clone());
            }
        }

        #[test]
        fn no_bytes_at_all_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            for member in members(&bytes) {
                prop_assert_eq!(&bytes[member.at.clone()], member.value);
            }
            prop_assert!(elements(&bytes).count() <= bytes.len());
        }
    }

    fn object() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-z\"\\\\{}\\[\\]:, \n\u{e9}]{0,12}".prop_map(Value::from),
            Just(Value::Null),
        ];
        let value = leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::hash_map("[a-z\"]{0,4}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        });
        proptest::collection::hash_map("[a-z\\\\\"]{0,6}", value, 0..5)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    }
}
