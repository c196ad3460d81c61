//! Any bytes, cut anywhere: the scanner must say what the plain decoder says.
//!
//! The scanner's files are compiled in directly, so that the proxy need not be built. The first
//! bytes of an input say how it is cut, the rest is the body.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, unreachable_pub)]
#[path = "../../proxy/src/request/model_scan"]
mod model_scan {
    mod agreement;
    mod field;
    mod json;
    mod media_type;
    mod multipart;
    mod nesting;
    mod reference;
    mod scan;
    mod skip;
    mod text;
    mod zstd_scan;

    pub use field::{Field, Found, Given, Outcome, Root};
    pub use scan::ModelScan;

    /// Checks one input.
    pub fn check(input: &[u8]) {
        agreement::check_cut_input(input);
    }
}

fuzz_target!(|input: &[u8]| model_scan::check(input));
