//! Scenes: several clients over time. All of them are played at once, each on its own node whose
//! clock runs faster; order, waits and endings must come out as they were recorded.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aivonx_sim::{Fault, FaultScope, ModelSpec, NodeSpec, RegistrySpec, SimNode};
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use support::client::{Answer, Client, End, get, post};
use support::recorded::{big, bytes_of, recording, small, tiny};
use support::scrub::scrub;

/// Node seconds in a real second, when all scenes play at once; half of it when one plays alone.
const SCALE: f64 = 4.0;

/// How often a scene that came out otherwise is played again, alone: a busy machine can tear
/// moments apart that lie 12 ms from each other, a wrong node is wrong every time.
const ENCORES: usize = 3;

/// What a scheduler's grain, a busy machine and a real model's jitter may add, in scene time.
const SLACK_MS: f64 = 450.0;

/// The same as a part of the time that passed: recorded speeds wandered within a scene.
const SLACK_PART: f64 = 0.15;

/// How late this machine was with a timer so far, in scene time: it adds to what is forgiven.
static LATE_MICROS: AtomicU64 = AtomicU64::new(0);

/// Keeps [`LATE_MICROS`], for as long as it is let run.
async fn watch_lateness() {
    const NAP: Duration = Duration::from_millis(5);
    loop {
        let begun = Instant::now();
        tokio::time::sleep(NAP).await;
        let late = begun.elapsed().saturating_sub(NAP).as_secs_f64() * SCALE * 1e6;
        LATE_MICROS.fetch_max(late as u64, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenes_play_as_recorded() {
    let watch = tokio::spawn(watch_lateness());
    let scenes = recording("scenes");
    let plays = scenes.iter().map(|s| tokio::spawn(play(s.clone(), SCALE)));
    let plays: Vec<_> = plays.collect();
    let mut found = Vec::new();
    for (scene, play_of_it) in scenes.iter().zip(plays) {
        found.push((scene, play_of_it.await.expect("a scene does not panic")));
    }
    for (scene, differences) in &mut found {
        for _ in 0..ENCORES {
            if !differences.is_empty() {
                *differences = play((*scene).clone(), SCALE / 2.0).await;
            }
        }
    }
    let count = found.len();
    let found: Vec<String> = found.into_iter().flat_map(|(_, d)| d).collect();
    watch.abort();
    assert!(
        found.is_empty(),
        "{} differences:\n{}",
        found.len(),
        found.join("\n")
    );
    assert_eq!(count, 20);
}

fn name_of(scene: &Value) -> &str {
    scene["name"].as_str().expect("a name")
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn ms(value: &Value) -> f64 {
    value.as_f64().expect("milliseconds")
}

/// What was recorded of one client.
struct Want {
    who: String,
    at: f64,
    first: Option<f64>,
    ended: f64,
    end: String,
    /// The last line with counts, if it came.
    counts: Option<Value>,
    request: Vec<u8>,
    events: Vec<String>,
}

impl Want {
    fn read(connection: &Value) -> Self {
        let texts = list(connection, "events")
            .iter()
            .filter_map(|e| e[1].as_str().map(str::to_owned));
        let events: Vec<String> = texts.collect();
        let first = list(connection, "events").first().map(|e| ms(&e[0]));
        let all = events.concat();
        Self {
            who: connection["who"].as_str().expect("a name").into(),
            at: ms(&connection["at_ms"]),
            first,
            ended: ms(&connection["ended_ms"]),
            end: connection["end"].as_str().expect("an end").into(),
            counts: counts_in(&all),
            request: bytes_of(&connection["request"]),
            events,
        }
    }

    fn model(&self) -> String {
        let text = String::from_utf8_lossy(&self.request).into_owned();
        let body: Value = text
            .split_once("\r\n\r\n")
            .and_then(|(_, b)| serde_json::from_str(b).ok())
            .unwrap_or_default();
        body["model"].as_str().unwrap_or_default().into()
    }

    /// Whether its model was loaded when it came.
    fn found_it_loaded(&self) -> bool {
        let is_inference =
            self.request.starts_with(b"POST /api/chat") || self.request.starts_with(b"POST /v1");
        let is_warm = |c: &Value| load_ms(c) < 500.0;
        is_inference
            && self
                .counts
                .as_ref()
                .map_or_else(|| self.first.is_some_and(|f| f - self.at < 500.0), is_warm)
    }
}

fn counts_in(text: &str) -> Option<Value> {
    text.lines()
        .filter(|l| l.contains("\"eval_duration\""))
        .find_map(|l| serde_json::from_str(l).ok())
}

/// What the simulated node did to one client.
struct Got {
    first: Option<f64>,
    ended: f64,
    end: &'static str,
    answer: Option<Answer>,
}

async fn play(scene: Value, scale: f64) -> Vec<String> {
    let wants: Vec<Arc<Want>> = list(&scene, "connections")
        .iter()
        .map(|c| Arc::new(Want::read(c)))
        .collect();
    let sim = Arc::new(
        SimNode::start(spec(&scene, &wants, scale))
            .await
            .expect("a node"),
    );
    prepare(&sim, &scene, &wants).await;
    let start = Instant::now();
    let prepared = inference_seen(&sim);
    let mut clients = Vec::new();
    for (before, want) in wants.iter().enumerate() {
        let turn = prepared + before;
        let (sim, want) = (Arc::clone(&sim), Arc::clone(want));
        clients.push(tokio::spawn(async move {
            // Whoever was recorded later also comes later, however late this machine is.
            sleep_until(start + Duration::from_secs_f64(want.at / 1000.0 / scale)).await;
            while inference_seen(&sim) < turn {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            client(sim, want, start, scale).await
        }));
    }
    let mut found = meanwhile(&sim, &scene, start, scale).await;
    let mut gots = Vec::new();
    for client in clients {
        gots.push(client.await.expect("a client does not panic"));
    }
    let name = name_of(&scene);
    for (want, got) in wants.iter().zip(&gots) {
        found.extend(
            differences(want, got)
                .into_iter()
                .map(|d| format!("{name}, {}: {d}", want.who)),
        );
    }
    found.extend(
        orders(&wants, &gots)
            .into_iter()
            .map(|d| format!("{name}: {d}")),
    );
    found
}

/// Requests of the scene's clients that have been read whole.
fn inference_seen(sim: &SimNode) -> usize {
    let seen = sim.requests();
    seen.iter()
        .filter(|r| r.method != "GET" && !r.body_sha256.is_empty())
        .count()
}

/// The recorded server: its settings from the README, its speeds from the scene itself.
fn spec(scene: &Value, wants: &[Arc<Want>], scale: f64) -> NodeSpec {
    let name = name_of(scene);
    let roomy = [
        "slots-three",
        "prefix-reuse",
        "two-cold",
        "delete-loaded",
        "unload-busy",
    ]
    .contains(&name);
    let base = if roomy { 1000 } else { 2000 };
    let mut spec = NodeSpec::new().version("0.0.0").time_scale(scale);
    if roomy {
        spec = spec.num_parallel(3).max_loaded_models(2);
    } else {
        spec = spec.max_queue(2).max_loaded_models(1);
    }
    if name.starts_with("pull") {
        spec.registry = registry(scene);
        return spec;
    }
    for (model, more) in [(small(), 280), (tiny(), 200), (big(), 600)] {
        let mut model = paced(model, wants).load_time(Duration::from_millis(base + more));
        model.start_time = Duration::from_millis(base); // the process runs on though its request is gone
        spec = spec.model(model);
    }
    spec
}

/// A model as fast at prompts as the first of its runs with counts, and at tokens as all of them.
fn paced(model: ModelSpec, wants: &[Arc<Want>]) -> ModelSpec {
    let of_model = |w: &&Arc<Want>| w.model().starts_with(model.name.as_str());
    let runs: Vec<_> = wants
        .iter()
        .filter(of_model)
        .filter_map(|w| Some((w, w.counts.as_ref()?)))
        .collect();
    let Some((run, counts)) = runs.first() else {
        return model.speed(300.0, 62.0);
    };
    let number = |counts: &Value, key: &str| counts[key].as_f64().expect("a count");
    let text = String::from_utf8_lossy(&run.request).into_owned();
    let words = text
        .split("\r\n\r\n")
        .nth(1)
        .map_or(0, |b| b.split(' ').count() + b.matches(". ").count());
    let prompt = if words > 100 {
        words as f64
    } else {
        number(counts, "prompt_eval_count")
    };
    let prompt_speed = prompt / number(counts, "prompt_eval_duration") * 1e9;
    let tokens: f64 = runs.iter().map(|(_, c)| number(c, "eval_count")).sum();
    // One run of `prefix-reuse` stood still during another's prompt: that is not its speed.
    let eval = |c: &Value| (number(c, "eval_duration") / 1e9).min(number(c, "eval_count") * 0.06);
    let seconds: f64 = runs.iter().map(|(_, c)| eval(c)).sum();
    model.speed(prompt_speed, tokens / seconds)
}

/// The recorded registry, as fast as the progress lines say it was.
fn registry(scene: &Value) -> RegistrySpec {
    let mut registry = RegistrySpec::serving([small(), big()]);
    let events = list(&list(scene, "connections")[0], "events");
    let progress = |e: &Value| -> Option<(f64, f64)> {
        let text = e[1].as_str()?;
        let (_, rest) = text.split_once("\"completed\":")?;
        Some((ms(&e[0]), rest.split('}').next()?.parse().ok()?))
    };
    let verify = events
        .iter()
        .find(|e| e[1].as_str().is_some_and(|t| t.contains("verifying")));
    let rate = match (events.iter().filter_map(progress).next_back(), verify) {
        (_, Some(verify)) => 109_229_856.0 / ms(&verify[0]) * 1000.0,
        (Some((at, bytes)), None) => bytes / at * 1000.0,
        (None, None) => return registry,
    };
    registry.bytes_per_second = 1e12;
    registry.total_bytes_per_second = rate;
    registry.verify_bytes_per_second = 1.0e9;
    registry
}

/// Brings the node into the state in which the scene began.
async fn prepare(sim: &SimNode, scene: &Value, wants: &[Arc<Want>]) {
    if name_of(scene) == "delete-loaded" {
        post(
            sim.addr(),
            "/api/copy",
            r#"{"source":"tiny","destination":"tiny-victim"}"#,
        )
        .await;
        post(sim.addr(), "/api/generate", r#"{"model":"tiny"}"#).await;
        post(sim.addr(), "/api/generate", r#"{"model":"small"}"#).await;
    }
    if let Some(first) = wants.first().filter(|w| w.found_it_loaded()) {
        let ctx = if String::from_utf8_lossy(&first.request).contains("\"num_ctx\": 4096") {
            4096
        } else {
            2048
        };
        let body = format!(
            r#"{{"model":"{}","options":{{"num_ctx":{ctx}}}}}"#,
            first.model()
        );
        assert_eq!(post(sim.addr(), "/api/generate", &body).await.status(), 200);
    }
    if name_of(scene) == "evict-busy" {
        // The recorded noise ran into the repetition guard: a stream without its last line.
        let tokens = 3600 * 62 / 1000;
        sim.fault_for(
            Fault::EndWithoutDone { chunks: tokens },
            FaultScope::next(1).path("/api/chat").model("small"),
        );
    }
}

async fn client(sim: Arc<SimNode>, want: Arc<Want>, start: Instant, scale: f64) -> Got {
    let now = || start.elapsed().as_secs_f64() * 1000.0 * scale;
    let mut got = Got {
        first: None,
        ended: 0.0,
        end: "",
        answer: None,
    };
    let Ok(mut client) = Client::connect(sim.addr()).await else {
        return Got {
            end: "refused",
            ended: now(),
            ..got
        };
    };
    client.send(&want.request).await;
    let leaves = (want.end == "closed by the client")
        .then(|| start + Duration::from_secs_f64(want.ended / 1000.0 / scale));
    loop {
        let read = async {
            match leaves {
                Some(at) => tokio::time::timeout_at(at, client.read()).await.ok(),
                None => Some(client.read().await),
            }
        };
        let read = read.await;
        got.answer = Answer::parse(&client.bytes, false, false);
        match read {
            None => got.end = "closed by the client",
            Some(Ok(_)) => {
                got.first.get_or_insert_with(now);
                if !got.answer.as_ref().is_some_and(|a| a.is_complete) {
                    continue;
                }
                got.end = "complete";
            }
            Some(Err(End::Closed)) => got.end = "closed by the server, unfinished",
            Some(Err(_)) => got.end = "reset",
        }
        got.ended = now();
        return got;
    }
}

/// Does and asks what was done and asked meanwhile.
async fn meanwhile(sim: &SimNode, scene: &Value, start: Instant, scale: f64) -> Vec<String> {
    let mut found = Vec::new();
    for step in list(scene, "meanwhile") {
        sleep_until(start + Duration::from_secs_f64(ms(&step["at_ms"]) / 1000.0 / scale)).await;
        let what = step["what"].as_str().expect("a step");
        let (want, got) = match what {
            "ps" => (
                names(&step["result"]),
                names_in_ps(&get(sim.addr(), "/api/ps").await),
            ),
            "version" => (
                r#"{"version":"0.0.0"}"#.into(),
                get(sim.addr(), "/api/version").await.body(),
            ),
            "runners" => {
                let count = step["result"].as_array().map_or(0, Vec::len);
                (count.to_string(), sim.resident().len().to_string())
            }
            "kill -9 runner" => {
                sim.kill_runner("small");
                continue;
            }
            "SIGTERM" => {
                sim.stop().await;
                continue;
            }
            _ => ("0".into(), sim.in_flight().to_string()), // the runner's CPU time
        };
        if want != got {
            found.push(format!(
                "{}, {what} at {}: want {want}, got {got}",
                name_of(scene),
                step["at_ms"]
            ));
        }
    }
    found
}

/// Names in any order: two runners that expire within a blink change places.
fn names(result: &Value) -> String {
    let name = |v: &Value| {
        v.as_str()
            .or_else(|| v[0].as_str())
            .unwrap_or_default()
            .to_owned()
    };
    let mut all: Vec<String> = result
        .as_array()
        .map(|a| a.iter().map(name).collect())
        .unwrap_or_default();
    all.sort();
    all.join(" ")
}

fn names_in_ps(answer: &Answer) -> String {
    let models = answer.json()["models"].clone();
    names(
        &models
            .as_array()
            .into_iter()
            .flatten()
            .map(|m| m["name"].clone())
            .collect(),
    )
}

fn is_near(want: f64, got: f64, passed: f64) -> bool {
    let late = LATE_MICROS.load(Ordering::Relaxed) as f64 / 1e3;
    (want - got).abs() <= SLACK_MS + 2.0 * late + SLACK_PART * passed.abs()
}

#[expect(clippy::too_many_lines, reason = "one check after the other")]
fn differences(want: &Want, got: &Got) -> Vec<String> {
    let mut found = Vec::new();
    let mut check = |ok: bool, what: &str, want: String, got: String| {
        if !ok {
            found.push(format!("{what}: want {want}, got {got}"));
        }
    };
    check(want.end == got.end, "end", want.end.clone(), got.end.into());
    check(
        want.first.is_some() == got.first.is_some(),
        "first bytes",
        format!("{:?}", want.first),
        format!("{:?}", got.first),
    );
    if let (Some(w), Some(g)) = (want.first, got.first) {
        check(
            is_near(w, g, w - want.at),
            "time of the first bytes",
            w.to_string(),
            g.to_string(),
        );
    }
    check(
        is_near(want.ended, got.ended, want.ended - want.at),
        "time of the end",
        want.ended.to_string(),
        got.ended.to_string(),
    );
    let Some(answer) = &got.answer else {
        return found;
    };
    let recorded = Answer::parse(want.events.concat().as_bytes(), false, false);
    let Some(recorded) = recorded else {
        return found;
    };
    check(
        recorded.status_line == answer.status_line,
        "status",
        recorded.status_line.clone(),
        answer.status_line.clone(),
    );
    let mut ends = vec![(
        recorded.texts().first().cloned(),
        answer.texts().first().cloned(),
        "first chunk",
    )];
    if want.end == "complete" {
        let last = want.events.iter().rev().find_map(|e| last_line(e));
        ends.push((
            last,
            answer.texts().last().and_then(|t| last_line(t)),
            "last line",
        ));
    }
    for (w, g, what) in ends {
        let (w, g) = (scrub(&w.unwrap_or_default()), scrub(&g.unwrap_or_default()));
        check(w == g || is_progress(&w, &g), what, w.clone(), g.clone());
    }
    if let (Some(w), Some(g)) = (&want.counts, counts_in(&answer.body())) {
        for (what, w, g) in [
            ("load_duration", load_ms(w), load_ms(&g)),
            ("slot wait", slot_ms(w), slot_ms(&g)),
        ] {
            check(is_near(w, g, w), what, w.to_string(), g.to_string());
        }
    }
    found
}

/// Two chunks of generated text or two amounts of progress.
fn is_progress(want: &str, got: &str) -> bool {
    let plain = |s: &str| s.contains("\"done\":false") || s.contains("\"completed\"");
    plain(want) && plain(got)
}

/// The last line of JSON in a read.
fn last_line(text: &str) -> Option<String> {
    text.lines()
        .rev()
        .find(|l| l.contains('{'))
        .map(str::to_owned)
}

fn load_ms(counts: &Value) -> f64 {
    counts["load_duration"].as_f64().unwrap_or_default() / 1e6
}

/// The wait for a slot, by the formula of ollama-api.md §3.1.
fn slot_ms(counts: &Value) -> f64 {
    let part = |key: &str| counts[key].as_f64().unwrap_or_default() / 1e6;
    part("total_duration")
        - part("load_duration")
        - part("prompt_eval_duration")
        - part("eval_duration")
}

/// Who began and who ended before whom, where it was clear in the recording.
fn orders(wants: &[Arc<Want>], gots: &[Got]) -> Vec<String> {
    let mut found = Vec::new();
    for (a, got_a) in wants.iter().zip(gots) {
        for (b, got_b) in wants.iter().zip(gots) {
            let began = a.first.zip(b.first).zip(got_a.first.zip(got_b.first));
            if began.is_some_and(|((a, b), (x, y))| a + 600.0 < b && x > y) {
                found.push(format!("{} began before {}", a.who, b.who));
            }
            if a.ended + 600.0 < b.ended && got_a.ended > got_b.ended {
                found.push(format!("{} ended before {}", a.who, b.who));
            }
        }
    }
    found
}
