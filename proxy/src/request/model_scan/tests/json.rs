//! JSON bodies: the rules by example, and the properties.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

fn of(document: &str) -> Found {
    let found = scan([document.as_bytes()]);
    assert_agrees(document.as_bytes(), &found);
    found
}

fn text(text: &str) -> Field {
    Field::Text(text.to_owned())
}

#[test]
fn the_last_of_several_models_counts_whatever_its_case() {
    assert_eq!(of(r#"{"model":"a","model":"b"}"#).model, text("b"));
    assert_eq!(of(r#"{"model":"a","MODEL":"b"}"#).model, text("b"));
    assert_eq!(of(r#"{"Model":"a"}"#).model, text("a"));
    assert_eq!(of(r#"{"mode\u006c":"a"}"#).model, text("a"));
    assert_eq!(
        of(r#"{"model":"tiny\u003acloud"}"#).model,
        text("tiny:cloud")
    );
}

#[test]
fn null_leaves_what_was_there() {
    assert_eq!(of(r#"{"model":"a","model":null}"#).model, text("a"));
    assert_eq!(of(r#"{"model":null}"#).model, Field::Absent);
}

#[test]
fn a_wrong_type_is_not_forgotten() {
    for value in [
        "1",
        "true",
        "false",
        "[]",
        "{}",
        "-0.5e3",
        r#"["a"]"#,
        r#"{"model":"b"}"#,
    ] {
        let found = of(&format!(
            r#"{{"model":{value},"model":"a","name":{value}}}"#
        ));
        assert_eq!(found.model, Field::WrongType, "{value}");
        assert_eq!(found.name, Field::WrongType, "{value}");
    }
}

#[test]
fn only_the_fields_of_the_root_count() {
    let found = of(r#"{"a":{"model":"x"},"b":[{"model":"y"}],"c":"model","model":"z"}"#);
    assert_eq!(found.model, text("z"));
    assert_eq!(of(r#"[{"model":"x"}]"#).model, Field::Absent);
}

#[test]
fn a_key_folds_as_go_folds_it() {
    assert_eq!(of("{\"\u{17f}tream\":true}").stream, Some(true));
    assert_eq!(of("{\"\\u017Ftream\":false}").stream, Some(false));
    assert_eq!(of("{\"mo\u{3b4}el\":\"a\"}").model, Field::Absent);
    assert_eq!(of("{\"mode\u{13e}\":\"a\"}").model, Field::Absent);
}

#[test]
fn stream_and_include_usage_are_read() {
    let found = of(r#"{"stream":true,"stream_options":{"include_usage":true}}"#);
    assert_eq!(
        (found.stream, found.include_usage),
        (Some(true), Some(true))
    );
    let found = of(r#"{"stream":true,"stream":null,"stream":3}"#);
    assert_eq!(found.stream, Some(true));
    let usage = |document: &str| of(document).include_usage;
    assert_eq!(
        usage(r#"{"stream_options":{"include_usage":true},"stream_options":{}}"#),
        Some(true)
    );
    assert_eq!(
        usage(r#"{"stream_options":{"include_usage":true},"stream_options":null}"#),
        None
    );
    assert_eq!(
        usage(r#"{"stream_options":[{"include_usage":true}]}"#),
        None
    );
    assert_eq!(
        usage(r#"{"stream_options":{"a":{"include_usage":true}}}"#),
        None
    );
    assert_eq!(usage(r#"{"include_usage":true}"#), None);
}

#[test]
fn keys_that_may_ask_for_more_are_counted() {
    let found = of(
        r#"{"tools":[],"Keep_Alive":0,"model":null,"MODEL":"a","x":{"tools":1,"input":2},"prompt":"","Mes\u0073ages":[],"input":5}"#,
    );
    let given = Given {
        model: 2,
        keep_alive: 1,
        tools: 1,
        work: 3,
    };
    assert_eq!(found.given, given);
    assert_eq!(of("{\"\u{212a}eep_alive\":\"5m\"}").given.keep_alive, 1);
    assert_eq!(of(r#"[{"tools":[]}]"#).given, Given::default());
}

#[test]
fn a_node_that_is_named_is_noticed_unless_it_is_null_in_the_end() {
    for document in [
        r#"{"node_id":1}"#,
        r#"{"node_id":"1"}"#,
        r#"{"node_id":[null]}"#,
        r#"{"Node_\u0069d":false}"#,
        r#"{"node_id":null,"node_id":{}}"#,
    ] {
        assert!(of(document).node_id, "{document}");
    }
    for document in [
        "{}",
        r#"{"node_id":null}"#,
        r#"{"node_id":7,"node_id":null}"#,
        r#"{"options":{"node_id":7},"x":[{"node_id":7}],"node":1}"#,
        r#"[{"node_id":7}]"#,
        r#"{"prompt":"node_id"}"#,
    ] {
        assert!(!of(document).node_id, "{document}");
    }
}

#[test]
fn what_follows_the_first_value_is_ignored() {
    let found = of(r#" {"model":"a"} {"model":"b"}"#);
    assert_eq!((found.model, found.end), (text("a"), Some(14)));
    assert_eq!(of("12 {").end, Some(2));
    assert_eq!(of("12").end, Some(2));
    assert_eq!(of("-").outcome, Outcome::Incomplete);
    assert_eq!(of("null").root, Root::Null);
    assert_eq!(of("[]").root, Root::Other);
}

#[test]
fn what_is_no_json_fails_where_go_says_so() {
    for document in [
        "hello",
        "\u{feff}{}",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "[1,]",
        "{a:1}",
        "'a'",
        "\"\n\"",
        "\"\\x\"",
        "\"\\u00g0\"",
        "01 ",
        "[01]",
        "[1.]",
        "[.5]",
        "[+1]",
        "[1e]",
        "nul1",
        "[--1]",
        "{\"a\":1]",
        "[1}",
        "]",
        "}",
        ":",
        "\"\\'\"",
        "{\"a\":tru}",
        "\u{b}{}",
        "\0",
    ] {
        if document == "01 " {
            assert_eq!(of(document).end, Some(1)); // a zero, then trailing bytes
        } else {
            assert_eq!(of(document).outcome, Outcome::Broken, "{document:?}");
        }
    }
    for document in [
        "",
        " \n",
        "{",
        "{\"a\"",
        "{\"model\": \"tiny\", ",
        "\"\\u12",
        "tru",
        "[1",
    ] {
        assert_eq!(of(document).outcome, Outcome::Incomplete, "{document:?}");
    }
}

#[test]
fn ten_thousand_levels_are_allowed_and_one_more_is_not() {
    for open in ["[", "{\"a\":"] {
        let deep = open.repeat(10_000);
        assert_eq!(scan([deep.as_bytes()]).outcome, Outcome::Incomplete);
        assert_eq!(
            scan([deep.as_bytes(), open.as_bytes()]).outcome,
            Outcome::Broken
        );
    }
    let document = "[".repeat(10_000) + &"]".repeat(10_000);
    assert_eq!(scan([document.as_bytes()]).end, Some(20_000));
    let deeper = format!("[{document}]");
    let reference = std::thread::Builder::new().stack_size(64 << 20);
    let verdicts = reference.spawn(move || {
        (
            reference::decode(document.as_bytes()),
            reference::decode(deeper.as_bytes()),
        )
    });
    let (whole, too_deep) = verdicts.unwrap().join().unwrap();
    assert!(matches!(whole, Verdict::Value(_)));
    assert_eq!(too_deep, Verdict::Syntax);
}

#[test]
fn a_model_that_is_too_long_is_not_kept() {
    let long = "m".repeat(LONGEST);
    assert_eq!(of(&format!(r#"{{"model":"{long}"}}"#)).model, text(&long));
    assert_eq!(
        of(&format!(r#"{{"model":"{long}m"}}"#)).model,
        Field::TooLong
    );
    assert_eq!(
        of(&format!(r#"{{"model":"{long}m","model":"a"}}"#)).model,
        text("a")
    );
    assert_eq!(
        of(&format!(r#"{{"model":"a","{long}":"b"}}"#)).model,
        text("a")
    );
}

#[test]
fn the_model_is_known_before_the_body_ends() {
    let mut scan = ModelScan::json();
    scan.feed(br#"{"model":"a"#);
    assert_eq!(scan.model(), None);
    scan.feed(br#"b","prompt":""#);
    assert_eq!(scan.model(), Some("ab"));
    assert!(!scan.root_closed());
    scan.feed(br#"","name":"c"}"#);
    assert_eq!((scan.name(), scan.root_closed()), (Some("c"), true));
}

proptest! {
    #[test]
    fn one_cut_anywhere_changes_nothing(document in documents::mutated()) {
        let whole = scan([&document[..]]);
        assert_agrees(&document, &whole);
        // Everywhere in all but those with a text of thousands of bytes.
        for cut in (0..=document.len()).step_by(document.len() / 1500 + 1) {
            let (head, tail) = document.split_at(cut);
            prop_assert_eq!(&scan([head, tail]), &whole);
        }
        prop_assert_eq!(&scan(document.chunks(1)), &whole);
    }

    #[test]
    fn many_cuts_change_nothing(document in documents::valid(), cuts in vec(any::<Index>(), 0..20)) {
        let whole = scan(documents::pieces(&document, &cuts));
        prop_assert_eq!(whole.outcome, Outcome::Complete);
        assert_agrees(&document, &whole);
    }

    #[test]
    fn every_prefix_is_judged_as_the_reference_judges_it(document in documents::mutated()) {
        for end in (0..document.len()).step_by(document.len() / 500 + 1) {
            assert_agrees(&document[..end], &scan([&document[..end]]));
        }
    }

    #[test]
    fn any_bytes_at_all_are_judged_alike(document in vec(any::<u8>(), 0..40)) {
        assert_agrees(&document, &scan([&document[..]]));
    }
}
