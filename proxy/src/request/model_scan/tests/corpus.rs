//! What the fuzzer has collected (`fuzz/corpus`), without the fuzzer.

use std::fs;

use super::super::agreement::check_cut_input;

#[test]
fn the_fuzzer_s_corpus_holds() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/model_scan");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        check_cut_input(&fs::read(entry.unwrap().path()).unwrap());
        seen += 1;
    }
    assert!(seen > 20, "{seen} inputs in {folder}");
}
