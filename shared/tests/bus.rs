//! The bus, in memory and over a real Redis: what both do alike, then what only Redis can suffer.
#![allow(clippy::unwrap_used, reason = "a test may end in a panic")]

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aivonx_shared::bus::memory::MemoryBus;
use aivonx_shared::bus::redis::{RedisBus, RedisOptions};
use aivonx_shared::bus::{Bus, BusError, Outcome};
use aivonx_shared::published::Published;
use aivonx_shared::report::{Load, NodeLoad, NodeReport, Report};
use aivonx_shared::revision::Revision;
use aivonx_shared::usage_batch::{UsageBatch, UsageEntry};
use aivonx_test_servers::Redis;

type Watch = tokio::sync::watch::Receiver<Option<Arc<Published>>>;

const PATIENCE: Duration = Duration::from_secs(20);
const RECLAIM: Duration = Duration::from_millis(50);

/// Waits until a condition holds.
async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn over(redis: &Redis) -> RedisBus {
    over_with(redis, RedisOptions::default())
}

fn over_with(redis: &Redis, options: RedisOptions) -> RedisBus {
    let options = RedisOptions {
        seed: Some(7),
        reclaim: RECLAIM,
        ..options
    };
    RedisBus::new(&redis.url(), options).unwrap()
}

/// Waits until a document is seen.
async fn sees(watch: &mut Watch, wanted: &Published) {
    let is_it = |seen: &Option<Arc<Published>>| seen.as_deref() == Some(wanted);
    let seen = tokio::time::timeout(PATIENCE, watch.wait_for(is_it)).await;
    assert!(
        seen.is_ok_and(|seen| seen.is_ok()),
        "{wanted:?} is not seen"
    );
}

fn published(epoch: u64, number: u64) -> Published {
    let document =
        format!("{{\"nodes\":[],\"strategy\":\"least_active\",\"x\":\"{epoch}.{number} — ü\"}}");
    Published::new(Revision::new(epoch, number), document).unwrap()
}

fn report(instance: &str, in_flight: u32) -> Report {
    let node = NodeReport {
        in_flight,
        ..NodeReport::default()
    };
    Report {
        instance: instance.into(),
        nodes: [("a".to_owned(), node)].into(),
        ..Report::default()
    }
}

fn batch(id: &str) -> UsageBatch {
    let entry = UsageEntry {
        hour: 3600,
        key: "team".into(),
        model: "llama3:latest".into(),
        node: "a".into(),
        requests: 1,
        prompt_tokens: 2,
        output_tokens: 3,
    };
    UsageBatch {
        id: id.into(),
        instance: "gw".into(),
        entries: vec![entry],
    }
}

/// Both kinds of bus; the Redis is to be held.
fn both() -> (Redis, [Arc<dyn Bus>; 2]) {
    let redis = Redis::new();
    let over = Arc::new(over(&redis));
    (
        redis,
        [Arc::new(MemoryBus::reclaiming_after(RECLAIM)), over],
    )
}

#[tokio::test]
async fn the_newest_document_stays_whatever_comes_after() {
    let (_redis, buses) = both();
    for bus in buses {
        assert_eq!(
            (bus.fleet().await.unwrap(), bus.revision().await.unwrap()),
            (None, None)
        );
        // beyond 2^53 too, where Lua's numbers are not exact any more
        let (large, larger) = (published(2, (1 << 53) + 1), published(2, (1 << 53) + 2));
        for (document, outcome) in [
            (published(1, 9), Outcome::Applied),
            (published(1, 9), Outcome::Stale),
            (published(1, 10), Outcome::Applied),
            (published(1, 9), Outcome::Stale),
            (published(0, 99), Outcome::Stale),
            (larger.clone(), Outcome::Applied),
            (large, Outcome::Stale),
        ] {
            assert_eq!(
                bus.publish_fleet(&document).await.unwrap(),
                outcome,
                "{bus:?} {document:?}"
            );
        }
        assert_eq!(bus.revision().await.unwrap(), Some(larger.revision()));
        assert_eq!(bus.fleet().await.unwrap(), Some(larger), "{bus:?}");
    }
}

#[tokio::test]
async fn who_watches_sees_what_is_there_and_what_comes_and_never_goes_back() {
    let (_redis, buses) = both();
    for bus in buses {
        bus.publish_fleet(&published(1, 1)).await.unwrap();
        let mut watch = bus.watch();
        let seen = watch.wait_for(Option::is_some).await.unwrap().clone();
        assert_eq!(*seen.unwrap(), published(1, 1));
        for number in 2..20 {
            bus.publish_fleet(&published(1, number)).await.unwrap();
            bus.publish_fleet(&published(1, number - 1)).await.unwrap();
            let newest = |seen: &Option<Arc<Published>>| {
                seen.as_ref().unwrap().revision() >= Revision::new(1, number)
            };
            let seen = watch.wait_for(newest).await.unwrap().clone();
            assert_eq!(*seen.unwrap(), published(1, number), "{bus:?}");
        }
        let mut connected = bus.connected();
        assert!(*connected.wait_for(|connected| *connected).await.unwrap());
    }
}

#[tokio::test]
async fn of_many_publishers_at_once_the_newest_document_stays() {
    let redis = Redis::new();
    let memory = Arc::new(MemoryBus::new());
    let many: Vec<Arc<dyn Bus>> = (0..4)
        .map(|_| Arc::new(over(&redis)) as Arc<dyn Bus>)
        .collect();
    for buses in [vec![memory as Arc<dyn Bus>; 4], many] {
        let watch = buses[0].watch();
        let publish = |(index, bus): (usize, &Arc<dyn Bus>)| {
            let bus = Arc::clone(bus);
            tokio::spawn(async move {
                for number in 0..50 {
                    bus.publish_fleet(&published(1, number * 4 + index as u64))
                        .await
                        .unwrap();
                }
            })
        };
        let publishers: Vec<_> = buses.iter().enumerate().map(publish).collect();
        for publisher in publishers {
            publisher.await.unwrap();
        }
        assert_eq!(buses[1].fleet().await.unwrap(), Some(published(1, 199)));
        until("the newest is seen", || async {
            watch.borrow().as_deref() == Some(&published(1, 199))
        })
        .await;
    }
}

#[tokio::test]
async fn the_last_report_of_each_data_plane_is_there_with_its_age() {
    let (_redis, buses) = both();
    for bus in buses {
        assert_eq!(bus.reports().await.unwrap(), []);
        for (instance, in_flight) in [("b", 1), ("a", 2), ("b", 3)] {
            bus.report(&report(instance, in_flight)).await.unwrap();
        }
        let seen = bus.reports().await.unwrap();
        let told: Vec<_> = seen
            .iter()
            .map(|report| (report.instance.as_str(), report.nodes["a"].in_flight))
            .collect();
        assert_eq!(told, [("a", 2), ("b", 3)]);
        assert!(seen.iter().all(|report| report.age < PATIENCE), "{seen:?}");
        until("they grow old", || async {
            let seen = bus.reports().await.unwrap();
            seen.iter()
                .all(|report| report.age >= Duration::from_millis(20))
        })
        .await;
        bus.report(&report("a", 2)).await.unwrap();
        let seen = bus.reports().await.unwrap();
        assert!(seen[0].age < seen[1].age, "{seen:?}");
    }
}

#[tokio::test]
async fn who_listens_hears_what_is_in_flight() {
    let (_redis, buses) = both();
    for bus in buses {
        let (mut one, mut two) = (bus.loads(), bus.loads());
        let mut connected = bus.connected();
        connected.wait_for(|connected| *connected).await.unwrap();
        for in_flight in 0..3 {
            let node = NodeLoad {
                in_flight,
                ..NodeLoad::default()
            };
            let load = Load {
                instance: "gw".into(),
                nodes: [("a".to_owned(), node)].into(),
            };
            bus.share_load(&load).await.unwrap();
            for listener in [&mut one, &mut two] {
                let heard = tokio::time::timeout(PATIENCE, listener.recv()).await;
                assert_eq!(*heard.unwrap().unwrap(), load, "{bus:?}");
            }
        }
    }
}

#[tokio::test]
async fn usage_is_given_until_it_is_acknowledged_and_never_after() {
    let (_redis, buses) = both();
    for bus in buses {
        assert_eq!(bus.take_usage(10).await.unwrap(), []);
        for id in ["1", "2", "3"] {
            bus.send_usage(&batch(id)).await.unwrap();
        }
        let first = bus.take_usage(2).await.unwrap();
        assert_eq!(
            first.iter().map(|taken| &taken.batch).collect::<Vec<_>>(),
            [&batch("1"), &batch("2")]
        );
        bus.ack_usage(&first[..1]).await.unwrap();
        assert_eq!(
            bus.stored_usage(&["1".into(), "2".into()]).await.unwrap(),
            ["1"]
        );
        let mut rest = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while rest.len() < 2 {
            assert!(Instant::now() < deadline, "{bus:?}: {rest:?}");
            for taken in bus.take_usage(1).await.unwrap() {
                bus.ack_usage(std::slice::from_ref(&taken)).await.unwrap();
                rest.push(taken.batch.id);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        rest.sort();
        assert_eq!(
            rest,
            ["2", "3"],
            "what was taken and not acknowledged comes again"
        );
        // once a later one comes again, so would have what was acknowledged before it was taken
        bus.send_usage(&batch("4")).await.unwrap();
        let mut taken = Vec::new();
        while taken.len() < 2 {
            assert!(Instant::now() < deadline, "{bus:?}: {taken:?}");
            let more = bus.take_usage(10).await.unwrap();
            taken.extend(more.into_iter().map(|taken| taken.batch.id));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(taken, ["4", "4"], "what was acknowledged does not come");
    }
}

#[tokio::test]
async fn an_announcement_arrives_without_waiting_for_the_next_look() {
    let redis = Redis::new();
    let never = Duration::from_secs(3600);
    let listener = over_with(
        &redis,
        RedisOptions {
            poll: never,
            ..RedisOptions::default()
        },
    );
    let mut watch = listener.watch();
    listener
        .connected()
        .wait_for(|connected| *connected)
        .await
        .unwrap();
    over(&redis).publish_fleet(&published(1, 1)).await.unwrap();
    sees(&mut watch, &published(1, 1)).await;
}

#[tokio::test]
async fn a_lost_announcement_is_made_up_for() {
    let redis = Redis::new();
    let bus = over_with(
        &redis,
        RedisOptions {
            poll: Duration::from_millis(20),
            ..RedisOptions::default()
        },
    );
    let mut watch = bus.watch();
    bus.connected()
        .wait_for(|connected| *connected)
        .await
        .unwrap();
    // written past the channel
    command(&redis, &["SET", "aivonx:fleet", &published(1, 5).to_json()]);
    sees(&mut watch, &published(1, 5)).await;
    // what nobody can read is passed over, and a document that can be read takes its place
    command(
        &redis,
        &[
            "SET",
            "aivonx:fleet",
            "{\"epoch\":9,\"number\":1,\"document\":",
        ],
    );
    command(&redis, &["PUBLISH", "aivonx:fleet", "nonsense"]);
    assert!(matches!(bus.fleet().await, Err(BusError::Garbled(_))));
    command(&redis, &["SET", "aivonx:fleet", "nonsense"]);
    assert_eq!(
        bus.publish_fleet(&published(1, 6)).await.unwrap(),
        Outcome::Applied
    );
    sees(&mut watch, &published(1, 6)).await;
}

#[tokio::test]
async fn a_connection_that_is_fine_is_kept() {
    let redis = Redis::new();
    let poll = Duration::from_millis(10);
    let options = RedisOptions {
        poll,
        ..RedisOptions::default()
    };
    let bus = over_with(&redis, options);
    let (mut watch, mut connected) = (bus.watch(), bus.connected());
    connected.wait_for(|connected| *connected).await.unwrap();
    for number in 1..20 {
        // only a look finds it, so there was one
        let document = published(1, number);
        command(&redis, &["SET", "aivonx:fleet", &document.to_json()]);
        sees(&mut watch, &document).await;
    }
    assert!(!connected.has_changed().unwrap());
}

#[tokio::test]
async fn a_redis_that_comes_back_empty_is_heard_again_and_can_be_filled_again() {
    let redis = Redis::new();
    let (bus, publisher) = (over(&redis), over(&redis));
    let (mut watch, mut connected) = (bus.watch(), bus.connected());
    publisher.publish_fleet(&published(1, 1)).await.unwrap();
    watch.wait_for(Option::is_some).await.unwrap();
    bus.send_usage(&batch("1")).await.unwrap();
    bus.take_usage(1).await.unwrap();

    redis.stop();
    connected.wait_for(|connected| !connected).await.unwrap();
    assert!(matches!(
        publisher.publish_fleet(&published(1, 2)).await,
        Err(BusError::Unreachable(_))
    ));
    assert!(publisher.report(&report("a", 1)).await.is_err());
    redis.start();
    connected.wait_for(|connected| *connected).await.unwrap();

    assert_eq!(
        watch.borrow().as_deref(),
        Some(&published(1, 1)),
        "what was seen stays"
    );
    until("the publisher sees that it is empty", || async {
        matches!(publisher.revision().await, Ok(None))
    })
    .await;
    assert_eq!(
        publisher.publish_fleet(&published(1, 2)).await.unwrap(),
        Outcome::Applied
    );
    sees(&mut watch, &published(1, 2)).await;
    assert_eq!(
        bus.take_usage(1).await.unwrap(),
        [],
        "the stream is made anew"
    );
    bus.send_usage(&batch("1")).await.unwrap();
    assert_eq!(bus.take_usage(1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_redis_that_hangs_is_an_error_in_time_and_heard_again_after() {
    let redis = Redis::new();
    let patience = Duration::from_millis(300);
    let options = RedisOptions {
        patience,
        poll: Duration::from_millis(50),
        ..RedisOptions::default()
    };
    let bus = over_with(&redis, options);
    let (mut watch, mut connected) = (bus.watch(), bus.connected());
    connected.wait_for(|connected| *connected).await.unwrap();
    redis.pause();
    let began = Instant::now();
    assert!(bus.report(&report("a", 1)).await.is_err());
    assert!(began.elapsed() < PATIENCE / 4, "{:?}", began.elapsed());
    connected.wait_for(|connected| !connected).await.unwrap();
    redis.resume();
    until("it is published", || async {
        bus.publish_fleet(&published(1, 1)).await.is_ok()
    })
    .await;
    sees(&mut watch, &published(1, 1)).await;
}

#[tokio::test]
async fn a_bus_may_be_made_before_its_redis_and_waits_for_it() {
    let redis = Redis::new();
    redis.stop();
    let bus = over(&redis);
    let (mut watch, connected) = (bus.watch(), bus.connected());
    assert!(bus.fleet().await.is_err());
    assert!(!*connected.borrow());
    redis.start();
    over(&redis).publish_fleet(&published(1, 1)).await.unwrap();
    sees(&mut watch, &published(1, 1)).await;
}

#[tokio::test]
async fn two_prefixes_and_two_databases_do_not_hear_each_other() {
    let redis = Redis::new();
    let at = |db: &str, prefix: &str| {
        let options = RedisOptions {
            prefix: prefix.into(),
            ..RedisOptions::default()
        };
        RedisBus::new(&format!("{}/{db}", redis.url()), options).unwrap()
    };
    let (one, other_db, other_prefix) = (at("0", "aivonx"), at("1", "aivonx"), at("0", "else"));
    for bus in [&one, &other_db, &other_prefix] {
        bus.watch();
        bus.connected()
            .wait_for(|connected| *connected)
            .await
            .unwrap();
    }
    one.publish_fleet(&published(9, 9)).await.unwrap();
    for (bus, number) in [(&other_db, 1), (&other_prefix, 2)] {
        assert_eq!(
            bus.publish_fleet(&published(1, number)).await.unwrap(),
            Outcome::Applied
        );
        let mut watch = bus.watch();
        let seen = watch.wait_for(Option::is_some).await.unwrap().clone();
        assert_eq!(seen.unwrap().revision(), Revision::new(1, number));
    }
}

#[test]
fn a_bad_address_is_refused_without_repeating_it() {
    for bad in [
        "",
        "localhost",
        "http://user:hush@h",
        "redis://user:hush@h:port/0",
        "redis://h/hush",
        "rediss://user:hush@h#insecure",
    ] {
        let error = RedisBus::check_url(bad).unwrap_err().to_string();
        assert!(
            error.contains("redis://") && !error.contains("hush"),
            "{error}"
        );
    }
    RedisBus::check_url("redis://user:hush@h:6379/2").unwrap();
    let bus = RedisBus::new("redis://user:hush@h:6379/2", RedisOptions::default()).unwrap();
    assert!(!format!("{bus:?}").contains("hush"));
}

/// Sends one command over a connection of its own.
fn command(redis: &Redis, words: &[&str]) {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", redis.port())).unwrap();
    let count = format!("*{}\r\n", words.len());
    let word = |word: &&str| format!("${}\r\n{word}\r\n", word.len());
    let text = words.iter().fold(count, |text, next| text + &word(next));
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = [0; 1];
    stream.read_exact(&mut answer).unwrap();
    assert_ne!(answer, *b"-");
}
