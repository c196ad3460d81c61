//! The rules row by row, the recordings of a real Ollama, and properties that hold for any text.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn name(text: &str) -> ModelName {
    ModelName::parse(text).unwrap()
}

fn key(text: &str) -> String {
    name(text).key().to_string()
}

fn with_source(text: &str) -> (String, Source) {
    let (name, source) = ModelName::parse_with_source(text).unwrap();
    (name.display().to_owned(), source)
}

#[test]
fn every_spelling_of_one_name_has_one_key() {
    for text in [
        "llama3",
        "llama3:latest",
        "LLAMA3:latest",
        "library/llama3",
        "Library/Llama3:Latest",
        "registry.ollama.ai/library/llama3",
        "https://registry.ollama.ai/library/llama3:latest",
        "http:///library/llama3",
        "  llama3\n",
        "\u{a0}llama3\u{2003}",
    ] {
        assert_eq!(
            key(text),
            "registry.ollama.ai/library/llama3:latest",
            "{text:?}"
        );
    }
}

#[test]
fn hosts_are_never_taken_for_one_another() {
    assert_eq!(key("hf.co/u/r:Q4"), "hf.co/u/r:q4");
    assert_ne!(name("hf.co/u/r:Q4"), name("huggingface.co/u/r:Q4"));
}

#[test]
fn a_colon_before_the_last_slash_is_a_port() {
    let name = name("http://localhost:5000/ns/m");
    assert_eq!(name.host(), "localhost:5000");
    assert_eq!(name.namespace(), "ns");
    assert_eq!(name.model(), "m");
    assert_eq!(name.tag(), "latest");
    assert_eq!(ModelName::parse("host:5000/m"), Err(NameError::Invalid)); // a namespace has no colon
}

#[test]
fn display_drops_the_defaults_and_keeps_the_tag_and_the_case() {
    for (text, shown) in [
        ("llama3", "llama3:latest"),
        ("registry.ollama.ai/library/Llama3:8B", "Llama3:8B"),
        ("Registry.Ollama.AI/Alice/m", "Alice/m:latest"),
        ("hf.co/library/m", "hf.co/library/m:latest"),
        ("hf.co/Bob/M:Q4_K_M", "hf.co/Bob/M:Q4_K_M"),
    ] {
        assert_eq!(name(text).display(), shown);
        assert_eq!(name(text).key().display(), shown.to_lowercase());
    }
}

#[test]
fn promised_but_empty_parts_are_invalid() {
    for text in [
        ":x", "a:", "a//b", "/a", "a/", "/", ":", "//", "a/b//c", "://", "http://",
    ] {
        assert_eq!(ModelName::parse(text), Err(NameError::Invalid), "{text:?}");
    }
    for text in ["", "  ", "\n\t"] {
        assert_eq!(ModelName::parse(text), Err(NameError::Empty));
        assert_eq!(ModelName::parse_with_source(text), Err(NameError::Empty));
    }
}

#[test]
fn each_part_has_its_length_and_its_characters() {
    let long = |n: usize| "x".repeat(n);
    assert!(ModelName::parse(&long(80)).is_ok());
    assert!(ModelName::parse(&long(81)).is_err());
    assert!(ModelName::parse(&format!("m:{}", long(81))).is_err());
    assert!(ModelName::parse(&format!("{}/m", long(81))).is_err());
    assert!(ModelName::parse(&format!("{}/n/m", long(350))).is_ok());
    assert!(ModelName::parse(&format!("{}/n/m", long(351))).is_err());
    for text in [
        "_a",
        "a-b_c.d",
        "0",
        "m:1.5",
        "a.b:8080/n/m",
        "n-s/m",
        "h/n/m:t",
    ] {
        assert!(ModelName::parse(text).is_ok(), "{text}");
    }
    for text in [
        "-a",
        ".a",
        "a b",
        "a@sha256:x",
        "n.s/m",
        "ä",
        "m:ä",
        "m:-t",
        "a\\b",
        "w/h/n/m",
        "m!",
        "m:.x",
    ] {
        assert_eq!(ModelName::parse(text), Err(NameError::Invalid), "{text}");
    }
}

#[test]
fn a_source_suffix_is_cut_off_for_inference() {
    use Source::{Cloud, Local, Unspecified};
    for (text, shown, source) in [
        ("gpt-oss:120b-cloud", "gpt-oss:120b", Cloud),
        ("gpt-oss:120b:cloud", "gpt-oss:120b", Cloud),
        ("gpt-oss:120b:CLOUD", "gpt-oss:120b", Cloud),
        ("gpt-oss:120b-Cloud ", "gpt-oss:120b", Cloud),
        ("qwen3:cloud", "qwen3:latest", Cloud),
        ("qwen3: cloud", "qwen3:latest", Cloud),
        ("qwen3: 8b-cloud", "qwen3:8b", Cloud),
        ("qwen3:8b:local", "qwen3:8b", Local),
        ("tiny:local", "tiny:latest", Local),
        ("my-cloud-model", "my-cloud-model:latest", Unspecified),
        ("my-cloud", "my-cloud:latest", Unspecified),
        ("qwen3:xcloud", "qwen3:xcloud", Unspecified),
        ("h:5/n/m-cloud", "h:5/n/m-cloud:latest", Unspecified),
    ] {
        assert_eq!(with_source(text), (shown.to_owned(), source), "{text}");
    }
}

#[test]
fn two_source_suffixes_are_an_error_that_quotes_the_name() {
    for text in [
        "x:cloud:local",
        "x:local:cloud",
        "x:20b-cloud:cloud",
        "x:1-cloud-cloud",
    ] {
        let error = ModelName::parse_with_source(text).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("use either :local or :cloud, not both: \"{text}\"")
        );
    }
    assert_eq!(
        ModelName::parse_with_source(":cloud"),
        Err(NameError::Invalid)
    );
    assert_eq!(
        ModelName::parse_with_source("x:-cloud"),
        Err(NameError::Invalid)
    );
}

#[test]
fn copy_push_and_create_read_no_source_suffix() {
    assert_eq!(name("x:cloud").tag(), "cloud");
    assert_eq!(name("x:local").tag(), "local");
    assert_eq!(ModelName::parse("x:20b:cloud"), Err(NameError::Invalid));
}

#[test]
fn pull_and_delete_fold_the_cloud_suffix_back_into_the_tag() {
    for (text, shown) in [
        ("x:20b:cloud", "x:20b-cloud"),
        ("x:20b-cloud", "x:20b-cloud"),
        ("x:cloud", "x:cloud"),
        ("x:8b:local", "x:8b"),
        ("x", "x:latest"),
        ("h/n/x:cloud", "h/n/x:cloud"),
    ] {
        assert_eq!(ModelName::parse_for_store(text).unwrap().display(), shown);
    }
}

#[test]
fn a_map_of_keys_is_asked_without_an_allocation_of_its_own() {
    let held = std::collections::HashMap::from([(name("Tiny").key().clone(), 7)]);
    let mut scratch = String::new();
    let (key, source) = ModelKey::of("tiny:LATEST:local", &mut scratch).unwrap();
    assert_eq!(held.get(key), Some(&7));
    assert_eq!(source, Source::Local);
    assert_eq!(ModelKey::of("a//b", &mut scratch), Err(NameError::Invalid));
    assert_eq!(scratch, "");
}

#[test]
fn names_and_keys_cross_between_the_planes_in_their_short_form() {
    let name = name("Alice/M");
    assert_eq!(serde_json::to_string(&name).unwrap(), "\"Alice/M:latest\"");
    assert_eq!(
        serde_json::to_string(name.key()).unwrap(),
        "\"alice/m:latest\""
    );
    let key: ModelKey = serde_json::from_str("\"Alice/M\"").unwrap();
    assert_eq!(&key, name.key());
    assert!(serde_json::from_str::<ModelName>("\"a//b\"").is_err());
}

#[test]
fn a_pattern_without_a_wildcard_is_a_name() {
    let matches = |pattern: &str, model: &str| {
        ModelPattern::parse(pattern)
            .unwrap()
            .matches(name(model).key())
    };
    for (pattern, model, expected) in [
        ("llama3", "llama3:latest", true),
        ("LIBRARY/llama3", "llama3", true),
        ("llama3", "llama3:8b", false),
        ("llama3:*", "llama3:8b", true),
        ("llama3:*", "llama3", true),
        ("llama3:*", "llama3.1", false),
        ("llama*", "Llama3.1:8B", true),
        ("llama*", "alice/llama3", false),
        ("l?ama3", "llama3", true),
        ("l?ama3", "llama3:8b", false),
        ("l?ama3:8?", "llama3:8b", true),
        ("*/coder", "alice/coder", true),
        ("*/coder", "alice/coder:7b", false),
        ("alice/*", "Alice/m:t", true),
        ("alice/*", "bob/m", false),
        ("library/*", "m", true),
        ("hf.co/*", "hf.co/u/r:Q4", true),
        ("registry.ollama.ai/*", "m", true),
        ("h:5/n/*", "h:5/n/m", true),
        ("*", "hf.co/u/r", true),
        ("*:*b", "m:8b", true),
        ("*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaa:c", false),
    ] {
        assert_eq!(matches(pattern, model), expected, "{pattern} on {model}");
    }
}

#[test]
fn a_pattern_that_can_never_match_is_refused() {
    assert_eq!(ModelPattern::parse(" "), Err(PatternError::Empty));
    for text in ["a//b", "a b*", "[ab]*", "ä*", "a:"] {
        assert!(
            matches!(ModelPattern::parse(text), Err(PatternError::Invalid(_))),
            "{text}"
        );
    }
    let pattern: ModelPattern = serde_json::from_str("\"Llama3:*\"").unwrap();
    assert_eq!(serde_json::to_string(&pattern).unwrap(), "\"Llama3:*\"");
}

/// `/api/show` of each spelling: 200 where it names `tiny:latest`, which the store holds.
#[test]
fn the_spellings_recorded_from_ollama_are_read_the_same() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../sim/recordings/names.jsonl");
    let mut seen = 0;
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let about = record["about"].as_str().unwrap();
        let Some(text) = about
            .strip_prefix("name '")
            .and_then(|s| s.strip_suffix('\''))
        else {
            continue;
        };
        if !record["name"].as_str().unwrap().ends_with("-show") {
            continue;
        }
        let found = record["events"][0][1]
            .as_str()
            .unwrap()
            .starts_with("HTTP/1.1 200");
        let (read, source) = ModelName::parse_with_source(text).unwrap();
        assert_eq!(read == name("tiny"), found, "{text:?}");
        assert_ne!(source, Source::Cloud);
        seen += 1;
    }
    assert_eq!(seen, 9);
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC*") {
        let mut scratch = String::new();
        let _ = ModelName::parse(&text);
        let _ = ModelName::parse_with_source(&text);
        let _ = ModelName::parse_for_store(&text);
        let _ = ModelPattern::parse(&text);
        let _ = ModelKey::of(&text, &mut scratch);
    }

    #[test]
    fn what_is_shown_reads_back_as_the_same_name(text in "[a-cA-C:/. _-]{1,12}(-cloud|:cloud|:local|)") {
        if let Ok((name, source)) = ModelName::parse_with_source(&text) {
            let mut scratch = String::new();
            let (key, same) = ModelKey::of(&text, &mut scratch).unwrap();
            prop_assert_eq!((key, same), (name.key().as_str(), source));
            for again in [name.display(), name.full(), name.key().as_str(), name.key().display()] {
                prop_assert_eq!(&ModelName::parse(again).unwrap(), &name);
            }
            let joined = format!("{}/{}/{}:{}", name.host(), name.namespace(), name.model(), name.tag());
            prop_assert_eq!(joined, name.full());
        }
    }

    #[test]
    fn case_never_makes_a_difference(text in "[a-zA-Z0-9:/._-]{1,20}") {
        let one = ModelName::parse_with_source(&text);
        let other = ModelName::parse_with_source(&text.to_uppercase());
        match (one, other) {
            (Ok(one), Ok(other)) => prop_assert_eq!(one, other),
            (one, other) => prop_assert_eq!(one.is_ok(), other.is_ok()),
        }
    }

    #[test]
    fn a_name_is_a_pattern_that_matches_itself(text in "([a-c]{1,3}/){0,2}[a-c]{1,3}(:[a-c]{1,3})?") {
        let name = name(&text);
        for pattern in [text.as_str(), "*", &format!("{}*", &text[..1]), &format!("*:{}", name.tag())] {
            prop_assert!(ModelPattern::parse(pattern).unwrap().matches(name.key()), "{}", pattern);
        }
    }
}
