//! Forms: `multipart/form-data`.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

fn form<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Found {
    run(ModelScan::multipart(b"B"), pieces)
}

fn part(headers: &str, value: &str) -> String {
    format!("--B\r\n{headers}\r\n\r\n{value}\r\n")
}

fn field(name: &str, value: &str) -> String {
    part(
        &format!("Content-Disposition: form-data; name=\"{name}\""),
        value,
    )
}

/// The model of a form with these parts, the same in every split in two.
#[track_caller]
fn model(parts: &[String]) -> Field {
    let body = parts.concat() + "--B--\r\n";
    let whole = form([body.as_bytes()]);
    assert_eq!(whole.outcome, Outcome::Complete, "{body}");
    for cut in 0..body.len() {
        let (head, tail) = body.as_bytes().split_at(cut);
        assert_eq!(form([head, tail]), whole, "cut at {cut} of {body}");
    }
    assert_eq!(form(body.as_bytes().chunks(1)), whole);
    let at = whole
        .model_at
        .map(|(from, to)| &body[from as usize..to as usize]);
    assert_eq!(at, whole.model.text());
    whole.model
}

fn text(text: &str) -> Field {
    Field::Text(text.to_owned())
}

#[test]
fn the_parts_may_come_in_any_order() {
    let file = part(
        "Content-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav",
        "RIFF\r\n--\r\n--B\x01\r\r\n--BB\r\n--B-x\r\n",
    );
    assert_eq!(model(&[field("model", "tiny"), file.clone()]), text("tiny"));
    assert_eq!(model(&[file, field("model", "tiny")]), text("tiny"));
    assert_eq!(model(&[field("prompt", "model")]), Field::Absent);
    assert_eq!(model(&[]), Field::Absent);
}

#[test]
fn the_first_value_wins() {
    assert_eq!(
        model(&[field("model", "a"), field("model", "b")]),
        text("a")
    );
    assert_eq!(model(&[field("model", ""), field("model", "b")]), text(""));
    assert_eq!(
        model(&[field("Model", "a"), field("model", "b")]),
        text("b")
    );
}

#[test]
fn a_disposition_is_read_in_each_of_its_spellings() {
    for headers in [
        "content-disposition:form-data;name=model",
        "CONTENT-DISPOSITION: Form-Data; NAME=\"model\"",
        "Content-Disposition: form-data; name=\"mo\\del\"; name=\"mo\\del\"",
        "Content-Disposition: form-data; x=\"a;b\\\"c\"; name=\"model\"",
        "Content-Disposition: form-data;\r\n\tname=\"model\"",
        "Content-Disposition: form-data; name=\"model\"; filename=\"\"",
        "Content-Type: text/plain\r\nContent-Disposition: form-data; name=\"model\";",
    ] {
        let expected = if headers.contains("mo\\del") {
            Field::Absent
        } else {
            text("tiny")
        };
        assert_eq!(model(&[part(headers, "tiny")]), expected, "{headers}");
    }
}

#[test]
fn a_file_or_another_disposition_is_no_field() {
    for headers in [
        "Content-Disposition: form-data; name=\"model\"; filename=\"m\"",
        "Content-Disposition: attachment; name=\"model\"",
        "Content-Type: text/plain",
        "X-Content-Disposition: form-data; name=\"model\"",
    ] {
        assert_eq!(
            model(&[part(headers, "a"), field("model", "b")]),
            text("b"),
            "{headers}"
        );
    }
}

#[test]
fn what_only_a_node_can_read_gives_no_answer_of_its_own() {
    for headers in [
        "Content-Disposition: form-data; name*=utf-8''model",
        "Content-Disposition: form-data; name*0=mo; name*1=del",
        "Content-Disposition: form-data; name=\"model\"; filename*=\"\"",
        "Content-Disposition: form-data; name=\"model\"; name=\"x\"",
        "Content-Disposition: form-data; name=\"model\"\r\nContent-Transfer-Encoding: Quoted-Printable",
        "Content-Disposition: form-data;\u{a0}name=\"model\"",
    ] {
        assert_eq!(
            model(&[part(headers, "a"), field("model", "b")]),
            Field::WrongType,
            "{headers}"
        );
        assert_eq!(
            model(&[field("model", "b"), part(headers, "a")]),
            text("b"),
            "{headers}"
        );
    }
}

#[test]
fn a_long_value_is_not_kept() {
    assert_eq!(
        model(&[field("model", &"m".repeat(LONGEST))]),
        text(&"m".repeat(LONGEST))
    );
    assert_eq!(
        model(&[field("model", &"m".repeat(LONGEST + 1))]),
        Field::TooLong
    );
}

#[test]
fn preamble_line_ends_and_an_immediate_boundary_are_as_in_go() {
    let whole = |body: &str| {
        let found = form([body.as_bytes()]);
        assert_eq!(form(body.as_bytes().chunks(1)), found, "{body}");
        (found.outcome, found.model)
    };
    let head = "Content-Disposition: form-data; name=model";
    let lf = format!("hello\n\n--B \t\n{head}\n\ntiny\r\n--B--\n");
    assert_eq!(whole(&lf), (Outcome::Complete, text("tiny\r")));
    let preamble = format!("hello\r\n--Bx\r\n--B\r\n{head}\r\n\r\ntiny\r\n--B--");
    assert_eq!(whole(&preamble), (Outcome::Complete, text("tiny")));
    let empty = format!("--B\r\n{head}\r\n\r\n--B--\r\n");
    assert_eq!(whole(&empty), (Outcome::Complete, text("")));
    assert_eq!(whole("--B--").0, Outcome::Complete);
    assert_eq!(whole("--B--x\r\n").0, Outcome::Incomplete);
    assert_eq!(whole("").0, Outcome::Incomplete);
    assert_eq!(whole("--B\r\nContent-Ty: x").0, Outcome::Complete);
    assert_eq!(whole("--B\r\nContent-Ty").0, Outcome::Broken);
    let cut = format!("--B\r\n{head}\r\n\r\ntiny\r\n--B");
    assert_eq!(whole(&cut).0, Outcome::Incomplete);
    let bad = format!("--B\r\n{head}\r\n\r\ntiny\r\n--B x\r\n");
    assert_eq!(whole(&bad).0, Outcome::Broken);
    assert_eq!(whole("--B\r\nno colon\r\n\r\n").0, Outcome::Broken);
    assert_eq!(whole("--B\r\n folded: x\r\n\r\n").0, Outcome::Broken);
    assert_eq!(whole(&"x".repeat(5000)).0, Outcome::Broken);
    assert_eq!(form_of("", b"").0, Outcome::Broken);
}

fn form_of(boundary: &str, body: &[u8]) -> (Outcome, Field) {
    let mut scan = ModelScan::multipart(boundary.as_bytes());
    scan.feed(body);
    let found = scan.finish();
    (found.outcome, found.model)
}

#[test]
fn the_boundary_is_taken_from_the_content_type() {
    for content_type in [
        "multipart/form-data; boundary=B",
        "Multipart/Form-Data;charset=utf-8; BOUNDARY=\"B\"",
    ] {
        let mut scan = ModelScan::for_form(content_type.as_bytes()).unwrap();
        scan.feed((field("model", "tiny") + "--B--").as_bytes());
        assert_eq!(scan.model(), Some("tiny"), "{content_type}");
    }
    for content_type in [
        "",
        "application/json",
        "multipart/form-data",
        "multipart/mixed; boundary=B",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\"\"",
        "multipart/form-data; boundary=\"B",
        "multipart/form-data; boundary=B x",
    ] {
        assert!(
            ModelScan::for_form(content_type.as_bytes()).is_none(),
            "{content_type}"
        );
    }
}

proptest! {
    #[test]
    fn any_cuts_and_any_bytes_leave_the_result_the_same(
        bits in vec(select(vec![
            "--B", "--B", "\r\n", "\r\n", "\r\n", "\n", "-", "--", "\r", " ", "x", "model", ":",
            "Content-Disposition: form-data; name=\"model\"", "\r\n\r\n", "\u{e9}", "filename=a",
            "--B\r\nContent-Disposition: form-data; name=model\r\n\r\n",
        ]), 0..24),
        cuts in vec(any::<Index>(), 0..6),
    ) {
        let body = bits.concat().into_bytes();
        let whole = form([&body[..]]);
        prop_assert_eq!(&form(documents::pieces(&body, &cuts)), &whole);
        prop_assert_eq!(&form(body.chunks(1)), &whole);
    }

    #[test]
    fn content_of_any_bytes_is_passed_over(content in vec(any::<u8>(), 0..300)) {
        prop_assume!(!content.windows(3).any(|three| three == b"--B"));
        let body = [b"--B\r\n\r\n", &content[..], b"\r\n", field("model", "tiny").as_bytes()].concat();
        prop_assert_eq!(form([&body[..], b"--B--"]).model, text("tiny"));
    }
}
