//! Compressed bodies.

use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

use super::super::{ZSTD_MAX_DECODED, ZstdFault, ZstdScan, decode_zstd};
use super::*;

fn compress(text: &[u8]) -> Vec<u8> {
    zstd::encode_all(text, 3).unwrap()
}

fn feed(body: &[u8], piece: usize) -> Result<Found, ZstdFault> {
    let mut scan = ZstdScan::json().unwrap();
    body.chunks(piece).for_each(|piece| scan.feed(piece));
    scan.finish()
}

/// `{"pad": "<length of A>", "model": "tiny"}`.
fn padded(length: usize) -> Vec<u8> {
    [
        &br#"{"pad":""#[..],
        &vec![b'A'; length],
        br#"","model":"tiny"}"#,
    ]
    .concat()
}

#[test]
fn the_model_behind_a_large_image_is_found_in_any_split() {
    let document = padded(300_000);
    let body = compress(&document);
    for piece in [1, 7, 1000, body.len()] {
        assert_eq!(feed(&body, piece).unwrap(), scan([&document[..]]));
    }
}

#[test]
fn several_frames_are_one_body() {
    let body = [
        compress(b"{\"model\""),
        compress(b""),
        compress(b":\"tiny\"}"),
    ]
    .concat();
    for piece in [1, 3, body.len()] {
        assert_eq!(
            feed(&body, piece).unwrap().model,
            Field::Text("tiny".into())
        );
    }
}

#[test]
fn what_is_no_zstd_or_is_cut_short_is_broken() {
    assert_eq!(feed(br#"{"model":"tiny"}"#, 100), Err(ZstdFault::Broken));
    let body = compress(br#"{"model":"tiny","more":"#);
    assert_eq!(feed(&body, 4).unwrap().outcome, Outcome::Incomplete);
    assert_eq!(feed(&body[..body.len() - 1], 4), Err(ZstdFault::Broken));
    assert_eq!(feed(b"", 1), Err(ZstdFault::Broken));
    let mut damaged = compress(&padded(1000));
    damaged[6] ^= 0xff;
    assert_eq!(feed(&damaged, 4), Err(ZstdFault::Broken));
}

#[test]
fn a_body_that_decodes_to_more_than_20_mib_is_too_large() {
    let frame = 28; // of the document around the padding
    let most = padded(ZSTD_MAX_DECODED as usize - frame);
    let whole = feed(&compress(&most), 1 << 20).unwrap();
    assert!(whole.end <= Some(ZSTD_MAX_DECODED), "{:?}", whole.end);
    assert_eq!(whole.model, Field::Text("tiny".into()));
    let more = padded(ZSTD_MAX_DECODED as usize);
    assert_eq!(feed(&compress(&more), 1 << 20), Err(ZstdFault::TooLarge));
}

#[test]
fn a_window_over_8_mib_is_refused() {
    let compress = |log| {
        let mut compressor = Compressor::new(1).unwrap();
        compressor
            .set_parameter(CParameter::WindowLog(log))
            .unwrap();
        compressor
            .set_parameter(CParameter::ContentSizeFlag(false))
            .unwrap();
        compressor.compress(&padded(17 << 20)).unwrap()
    };
    assert!(feed(&compress(23), 1 << 16).is_ok());
    assert_eq!(feed(&compress(24), 1 << 16), Err(ZstdFault::Broken));
}

#[test]
fn nothing_is_decoded_after_the_first_value() {
    let mut scan = ZstdScan::json().unwrap();
    scan.feed(&compress(br#"{"model":"tiny"}"#));
    assert!(scan.scan().root_closed());
    scan.feed(b"no zstd at all");
    assert_eq!(scan.fault(), None);
    assert_eq!(scan.finish().unwrap().model, Field::Text("tiny".into()));
}

#[test]
fn what_was_scanned_can_be_decoded() {
    let document = padded(300_000);
    let body = [compress(&document[..1000]), compress(&document[1000..])].concat();
    let end = feed(&body, body.len()).unwrap().end.unwrap();
    assert_eq!(decode_zstd(&body, end).as_deref(), Some(&document[..]));
    assert_eq!(decode_zstd(&body, 20).as_deref(), Some(&document[..20]));
    assert_eq!(decode_zstd(&body, end + 1), None);
    assert_eq!(decode_zstd(b"no zstd", 1), None);
    assert_eq!(decode_zstd(b"", 0).as_deref(), Some(&b""[..]));
}
