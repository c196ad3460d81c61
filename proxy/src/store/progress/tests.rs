use proptest::prelude::*;

use super::*;

fn status(text: &str) -> Line {
    Line {
        status: text.into(),
        ..Line::default()
    }
}

fn layer(digest: &str, total: u64, completed: u64) -> Line {
    Line {
        status: format!("pulling {digest}"),
        digest: format!("sha256:{digest}"),
        total,
        completed,
    }
}

fn lines(progress: &mut Progress) -> Vec<String> {
    let text = String::from_utf8(progress.lines()).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn one_node_is_told_as_it_tells() {
    let mut one = Progress::new(1);
    for line in [
        status("pulling manifest"),
        layer("a", 10, 0),
        layer("a", 10, 4),
    ] {
        one.heard(0, &line);
        let _ = one.lines();
    }
    one.heard(0, &layer("a", 10, 10));
    assert_eq!(
        lines(&mut one),
        [r#"{"status":"pulling a","digest":"sha256:a","total":10,"completed":10}"#]
    );
    one.heard(0, &status("verifying sha256 digest"));
    one.heard(0, &status("writing manifest"));
    one.heard(0, &status("success"));
    one.ended(0, true);
    assert_eq!(
        lines(&mut one),
        [
            r#"{"status":"verifying sha256 digest"}"#,
            r#"{"status":"writing manifest"}"#
        ],
        "success is for the end to say"
    );
}

#[test]
fn bytes_are_those_of_all_nodes_from_the_first_line_on() {
    let mut three = Progress::new(3);
    three.heard(0, &status("pulling manifest"));
    three.heard(1, &status("pulling manifest"));
    three.heard(0, &layer("a", 100, 0));
    assert_eq!(
        lines(&mut three),
        [
            r#"{"status":"pulling manifest"}"#,
            r#"{"status":"pulling a","digest":"sha256:a","total":300}"#
        ]
    );
    three.heard(1, &layer("a", 100, 100));
    three.heard(0, &layer("a", 100, 40));
    three.heard(0, &layer("a", 100, 50));
    assert_eq!(
        lines(&mut three),
        [r#"{"status":"pulling a","digest":"sha256:a","total":300,"completed":150}"#],
        "one line for all that happened since the last"
    );
}

#[test]
fn a_node_that_fails_leaves_what_it_fetched_and_a_phase_waits_for_the_rest() {
    let mut three = Progress::new(3);
    for part in 0..3 {
        three.heard(part, &layer("a", 100, 10 * part as u64));
    }
    three.heard(0, &status("verifying sha256 digest"));
    let _ = three.lines();
    three.ended(2, false);
    assert_eq!(
        lines(&mut three),
        [r#"{"status":"pulling a","digest":"sha256:a","total":220,"completed":130}"#],
        "100 are there, 10 of 100, and the 20 of the one that failed"
    );
    three.heard(1, &status("verifying sha256 digest"));
    assert_eq!(
        lines(&mut three),
        [
            r#"{"status":"pulling a","digest":"sha256:a","total":220,"completed":220}"#,
            r#"{"status":"verifying sha256 digest"}"#
        ]
    );
}

#[test]
fn a_node_that_resumes_from_less_does_not_turn_the_bar_back() {
    let mut one = Progress::new(1);
    one.heard(0, &layer("a", 100, 60));
    let _ = one.lines();
    one.heard(0, &layer("a", 100, 20));
    assert!(lines(&mut one).is_empty());
    one.heard(0, &layer("a", 100, 900));
    assert_eq!(
        lines(&mut one),
        [r#"{"status":"pulling a","digest":"sha256:a","total":100,"completed":100}"#]
    );
}

#[test]
fn memory_is_bounded_whatever_a_node_says() {
    let mut one = Progress::new(1);
    for number in 0..3 * MOST_LAYERS {
        one.heard(0, &layer(&format!("{number}"), 5, 5));
        one.heard(0, &status(&format!("creating new layer {number}")));
    }
    one.heard(0, &status(&"x".repeat(LONGEST + 1)));
    assert_eq!(one.layers.len(), MOST_LAYERS);
    assert_eq!(lines(&mut one).len(), MOST_LAYERS + MOST_STATUSES);
    assert!(one.lines().is_empty());
}

/// What a node may do next.
#[derive(Debug, Clone)]
enum Step {
    Layer(usize, u8, u64, u64),
    Phase(usize, usize),
    End(usize, bool),
    Read,
}

fn step(parts: usize) -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..parts, 0..4u8, 0..50u64, 0..60u64).prop_map(|(p, l, t, c)| Step::Layer(p, l, t, c)),
        1 => (0..parts, 0..PHASES.len()).prop_map(|(p, phase)| Step::Phase(p, phase)),
        1 => (0..parts, any::<bool>()).prop_map(|(p, well)| Step::End(p, well)),
        3 => Just(Step::Read),
    ]
}

proptest! {
    #[test]
    fn completed_never_falls_and_never_passes_total(steps in prop::collection::vec(step(4), 0..200)) {
        let mut progress = Progress::new(4);
        let mut seen: HashMap<String, u64> = HashMap::new();
        let mut phases = Vec::new();
        let mut ended = [false; 4];
        for step in steps.into_iter().chain([Step::Read]) {
            match step {
                Step::Layer(part, digest, total, completed) if !ended[part] => {
                    progress.heard(part, &layer(&digest.to_string(), total, completed));
                }
                Step::Phase(part, phase) if !ended[part] => progress.heard(part, &status(PHASES[phase])),
                Step::End(part, well) if !ended[part] => {
                    ended[part] = true;
                    progress.ended(part, well);
                }
                Step::Read => for line in lines(&mut progress) {
                    let line: Value = serde_json::from_str(&line).unwrap();
                    let Some(digest) = line["digest"].as_str() else {
                        phases.push(line["status"].as_str().unwrap().to_owned());
                        continue;
                    };
                    let (total, completed) = (line["total"].as_u64().unwrap(), line["completed"].as_u64().unwrap_or(0));
                    prop_assert!(completed <= total, "{line}");
                    let before = seen.insert(digest.to_owned(), completed).unwrap_or(0);
                    prop_assert!(completed >= before, "{line} after {before}");
                },
                _ => {}
            }
        }
        prop_assert!(phases.iter().map(String::as_str).eq(PHASES.iter().copied().take(phases.len())), "{phases:?}");
    }
}
