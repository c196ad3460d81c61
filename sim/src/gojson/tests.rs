//! Go's words, one case a line.

use super::bind::bind;
use super::parse;
use super::schema::{CHAT, SHOW};

fn error(body: &[u8]) -> String {
    parse(body).expect_err("the body is wrong")
}

#[test]
fn syntax_errors_read_as_in_go() {
    for (body, text) in [
        (&b""[..], "EOF"),
        (b"  \n", "EOF"),
        (b"{", "unexpected EOF"),
        (
            b"hello",
            "invalid character 'h' looking for beginning of value",
        ),
        (
            b"{,",
            "invalid character ',' looking for beginning of object key string",
        ),
        (b"{\"a\" 1}", "invalid character '1' after object key"),
        (
            b"{\"a\":1 x",
            "invalid character 'x' after object key:value pair",
        ),
        (b"[1 2]", "invalid character '2' after array element"),
        (
            b"nul!",
            "invalid character '!' in literal null (expecting 'l')",
        ),
        (b"\"\\x\"", "invalid character 'x' in string escape code"),
        (b"\"a\nb\"", "invalid character '\\n' in string literal"),
        (b"-x", "invalid character 'x' in numeric literal"),
        (
            b"\x1f\x8b",
            "invalid character '\\x1f' looking for beginning of value",
        ),
        (
            b"'a'",
            "invalid character '\\'' looking for beginning of value",
        ),
    ] {
        assert_eq!(error(body), text, "for {:?}", String::from_utf8_lossy(body));
    }
}

#[test]
fn what_is_no_text_becomes_a_replacement_character() {
    let body = b"{\"model\":\"a\xff\\ud800b\"} trailing";
    let bound = bind(&parse(body).expect("valid"), &SHOW).expect("fits");
    assert_eq!(bound["model"], "a\u{fffd}\u{fffd}b");
}

#[test]
fn keys_fold_and_null_leaves_the_value_before() {
    let body = br#"{"Model":"a","MODEL":"b","model":null,"other":{}}"#;
    let bound = bind(&parse(body).expect("valid"), &SHOW).expect("fits");
    assert_eq!(bound["model"], "b");
    assert_eq!(bound.len(), 1);
}

#[test]
fn wrong_types_name_struct_and_field() {
    for (body, text) in [
        (
            r#"{"model":5}"#,
            "json: cannot unmarshal number into Go struct field ChatRequest.model of type string",
        ),
        (
            "[]",
            "json: cannot unmarshal array into Go value of type api.ChatRequest",
        ),
        (
            r#"{"messages":[{"role":true}],"model":5}"#,
            "json: cannot unmarshal bool into Go struct field Message.messages.role of type string",
        ),
        (
            r#"{"top_logprobs":1.5}"#,
            "json: cannot unmarshal number 1.5 into Go struct field ChatRequest.top_logprobs of type int",
        ),
        (
            r#"{"keep_alive":"5"}"#,
            "time: missing unit in duration \"5\"",
        ),
        (
            r#"{"messages":[{"images":["aGVs*G8="]}]}"#,
            "illegal base64 data at input byte 4",
        ),
        (
            r#"{"options":[]}"#,
            "json: cannot unmarshal array into Go struct field ChatRequest.options of type map[string]interface {}",
        ),
    ] {
        let json = parse(body.as_bytes()).expect("valid");
        assert_eq!(bind(&json, &CHAT).expect_err("does not fit"), text);
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(body: Vec<u8>) {
        let _ = parse(&body);
    }

    #[test]
    fn what_serde_reads_is_read_the_same(text in r#"[\[\]{}:, ]{0,6}("[a-z\\\\n]{0,4}"|-?[0-9]{1,5}(\.[0-9]+)?(e-?[0-9])?|true|null)[\[\]{}:, 0-9"a]{0,9}"#) {
        if let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) {
            proptest::prop_assert_eq!(parse(text.as_bytes()).map(|j| j.to_value()), Ok(value));
        }
    }
}
