//! That usage arrives exactly once: the spool against a store that forgets, a process that dies and a bus
//! that comes and goes; then the whole road over a bus that can be away.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use aivonx_shared::bus::memory::MemoryBus;
use aivonx_shared::bus::{Outcome, Taken};
use aivonx_shared::published::Published;
use aivonx_shared::report::{Load, Report};
use aivonx_shared::revision::Revision;
use aivonx_shared::usage_batch::{HOUR, UsageBatch, UsageEntry};
use async_trait::async_trait;
use tokio::sync::{broadcast, watch};

use super::growing::{MOST_ENTRIES, requests};
use super::spool::WINDOW;
use super::*;
use crate::telemetry::usage::Used;

const MINUTE: Duration = Duration::from_secs(60);
/// An instant of the tests' own clock, seconds since 1970.
const NOW: u64 = 496_441 * HOUR;

fn entry(key: &str, count: u64) -> UsageEntry {
    UsageEntry {
        hour: NOW,
        key: key.to_owned(),
        model: "tiny:latest".to_owned(),
        node: "gpu-1".to_owned(),
        requests: count,
        prompt_tokens: 10 * count,
        output_tokens: 100 * count,
    }
}

fn spool(name: &str, state: Option<&Path>) -> Spool {
    Spool::new(name, 1, state).with_bounds(1 << 20, MINUTE)
}

/// What a control plane stores: each id once, whoever brings it.
#[derive(Default)]
struct Store(HashMap<String, UsageBatch>);

impl Store {
    /// Stores a batch; one that comes again must be the same.
    fn add(&mut self, batch: &UsageBatch) {
        let first = self.0.entry(batch.id.clone()).or_insert(batch.clone());
        assert_eq!(first, batch, "a batch that was sent has changed");
    }

    fn requests(&self) -> u64 {
        self.0.values().map(requests).sum()
    }
}

#[test]
fn what_is_counted_while_nothing_leaves_makes_one_batch() {
    let mut spool = spool("a", None);
    for _ in 0..100 {
        spool.gather(NOW, vec![entry("k", 1), entry("l", 2)]);
    }
    assert_eq!(spool.len(), 1);
    let due = spool.due(Instant::now());
    assert_eq!((due.len(), requests(&due[0])), (1, 300));
    assert_eq!(due[0].entries.len(), 2);
    assert_eq!(due[0].entries[1].output_tokens, 20_000);
}

#[test]
fn a_batch_that_was_sent_grows_no_more_and_is_sent_again_until_it_is_stored() {
    let (mut spool, start) = (spool("a", None), Instant::now());
    spool.gather(NOW, vec![entry("k", 1)]);
    let first = spool.due(start);
    spool.gather(NOW, vec![entry("k", 2)]);
    let second = spool.due(start);
    assert_eq!((requests(&first[0]), requests(&second[0])), (1, 2));
    assert_ne!(first[0].id, second[0].id);
    assert!(spool.due(start + MINUTE / 2).is_empty());
    spool.stored(&[second[0].id.clone()]);
    assert_eq!(spool.due(start + MINUTE), first);
    assert!(
        spool.due(start + 2 * MINUTE).is_empty(),
        "each time the patience is longer"
    );
    assert_eq!(spool.due(start + 3 * MINUTE), first);
    spool.is_away(start + 3 * MINUTE);
    assert_eq!(spool.due(start + 3 * MINUTE), first, "it may be forgotten");
    spool.stored(&spool.under_way());
    assert_eq!(spool.len(), 0);
}

#[test]
fn not_more_is_under_way_than_the_window_holds() {
    let (mut spool, start) = (spool("a", None), Instant::now());
    let mut sent = Vec::new();
    for _ in 0..3 * WINDOW {
        spool.gather(NOW, vec![entry("k", 1)]);
        sent.extend(spool.due(start));
    }
    assert_eq!((sent.len(), spool.len()), (WINDOW, WINDOW + 1));
    spool.stored(&spool.under_way());
    sent.extend(spool.due(start));
    assert_eq!(requests(sent.last().unwrap()), 2 * WINDOW as u64);
    assert_eq!(spool.under_way().len(), 1);
}

#[test]
fn what_is_too_much_or_too_old_is_given_up_the_oldest_first_and_counted() {
    let state = tempfile::tempdir().unwrap();
    let mut spool = Spool::new("a", 1, Some(state.path())).with_bounds(400_000, MINUTE);
    for part in 0..4 {
        let series = |number| entry(&format!("k{part}-{number}"), 1);
        spool.gather(NOW, (0..MOST_ENTRIES).map(series).collect());
    }
    assert!(spool.len() < 4, "1000 entries are more than 100 kB");
    let kept = spool.len() * MOST_ENTRIES;
    let lost = spool.take_lost();
    assert_eq!(lost as usize + kept, 4 * MOST_ENTRIES);
    let due = spool.due(Instant::now());
    assert!(
        due.last().unwrap().entries[0].key.starts_with("k3-"),
        "the newest stays"
    );
    drop(spool);

    let mut late = self::spool("b", Some(state.path()));
    late.take_over(NOW + 40 * 24 * 3600);
    assert_eq!((late.len(), late.take_lost() as usize), (0, kept));
}

#[test]
fn a_process_that_dies_leaves_what_it_sent_under_the_same_id() {
    let (state, mut store) = (tempfile::tempdir().unwrap(), Store::default());
    let mut first = spool("a", Some(state.path()));
    first.gather(NOW, vec![entry("k", 1)]);
    for batch in first.due(Instant::now()) {
        store.add(&batch); // and nobody says so
    }
    first.gather(NOW, vec![entry("k", 2)]);
    first.gather(NOW, vec![entry("k", 4)]);
    let mut second = spool("b", Some(state.path()));
    second.take_over(NOW);
    assert_eq!(second.len(), 0, "the first still adds to it");
    drop(first);
    second.take_over(NOW);
    second.gather(NOW, vec![entry("k", 8)]);
    for batch in second.due(Instant::now()) {
        store.add(&batch);
    }
    assert_eq!((store.requests(), store.0.len()), (15, 3));
    second.stored(&second.under_way());
    drop(second);
    let mut third = spool("c", Some(state.path()));
    third.take_over(NOW);
    assert_eq!(third.len(), 0, "what is stored is gone from the disk");
}

#[test]
fn damaged_files_are_passed_over_and_the_others_are_not() {
    let state = tempfile::tempdir().unwrap();
    let mut first = spool("a", Some(state.path()));
    first.gather(NOW, vec![entry("k", 1)]);
    let folder = state.path().join("usage/a-1");
    std::fs::write(folder.join("0000000001-x.json"), "{\"id\":").unwrap();
    std::fs::write(folder.join("odd.json"), [0xFF, 0x00]).unwrap();
    drop(first);
    for name in ["b", "c"] {
        let mut next = spool(name, Some(state.path()));
        next.take_over(NOW);
        assert_eq!(next.len(), 1);
    }
}

#[test]
fn without_a_disk_it_is_kept_in_memory() {
    let state = tempfile::tempdir().unwrap();
    std::fs::write(state.path().join("usage"), "").unwrap();
    let mut spool = spool("a", Some(state.path()));
    spool.gather(NOW, vec![entry("k", 1)]);
    assert!(spool.unsaved() > 0);
    assert_eq!(requests(&spool.due(Instant::now())[0]), 1);
    std::fs::remove_file(state.path().join("usage")).unwrap();
    spool.gather(NOW, Vec::new());
    assert_eq!(spool.unsaved(), 0, "the disk is there again");
}

/// Whatever happens in whichever order, each request counts once.
#[test]
fn everything_counts_once_whatever_dies() {
    for seed in 0..8 {
        let mut dice = fastrand::Rng::with_seed(seed);
        let (state, mut now) = (tempfile::tempdir().unwrap(), Instant::now());
        let (mut store, mut on_bus) = (Store::default(), Vec::<Arc<UsageBatch>>::new());
        let (mut known, mut counted, mut starts) = (Vec::<String>::new(), 0, 0);
        let mut spool = spool("p0", Some(state.path()));
        let mut is_away = false;
        for step in 0..120 {
            now += MINUTE / 4;
            let is_last = step >= 100; // all is well from here on
            match dice.u8(..12) {
                0 if !is_last => is_away = !is_away,
                1 if !is_last => {
                    on_bus.clear(); // the bus begins anew
                    known.clear();
                }
                2 if !is_last => {
                    drop(spool); // as a process that is killed
                    starts += 1;
                    spool = self::spool(&format!("p{starts}"), Some(state.path()));
                    spool.take_over(NOW);
                }
                3 if !is_last => {
                    // the control plane stores, and dies before it says so
                    for batch in &on_bus {
                        store.add(batch);
                    }
                }
                4..6 => {
                    for batch in on_bus.drain(..) {
                        store.add(&batch);
                        known.push(batch.id.clone());
                    }
                }
                _ => {
                    let key = format!("k{}", dice.u8(..3));
                    spool.gather(NOW, vec![entry(&key, 1)]);
                    counted += 1;
                }
            }
            is_away &= !is_last;
            if is_away {
                if dice.u8(..4) == 0 {
                    on_bus.extend(spool.due(now)); // it arrives, and nobody says so
                }
                spool.is_away(now);
                continue;
            }
            spool.stored(&known);
            on_bus.extend(spool.due(now));
        }
        for _ in 0..2 {
            on_bus.extend(spool.due(now + 100 * MINUTE));
            on_bus.drain(..).for_each(|batch| store.add(&batch));
            spool.stored(&spool.under_way());
        }
        assert_eq!((store.requests(), spool.len()), (counted, 0), "seed {seed}");
        assert!(counted > 40 && starts > 0, "seed {seed} shows nothing");
    }
}

/// A bus that can be away.
#[derive(Debug, Default)]
struct Unreliable {
    bus: MemoryBus,
    is_away: AtomicBool,
}

impl Unreliable {
    fn answers(&self) -> Result<(), BusError> {
        if self.is_away.load(Ordering::SeqCst) {
            return Err(BusError::Unreachable("away".to_owned()));
        }
        Ok(())
    }
}

#[async_trait]
impl Bus for Unreliable {
    async fn publish_fleet(&self, published: &Published) -> Result<Outcome, BusError> {
        self.bus.publish_fleet(published).await
    }

    async fn fleet(&self) -> Result<Option<Published>, BusError> {
        self.bus.fleet().await
    }

    async fn revision(&self) -> Result<Option<Revision>, BusError> {
        self.bus.revision().await
    }

    fn watch(&self) -> watch::Receiver<Option<Arc<Published>>> {
        self.bus.watch()
    }

    fn connected(&self) -> watch::Receiver<bool> {
        self.bus.connected()
    }

    async fn report(&self, report: &Report) -> Result<(), BusError> {
        self.bus.report(report).await
    }

    async fn reports(&self) -> Result<Vec<Report>, BusError> {
        self.bus.reports().await
    }

    async fn share_load(&self, load: &Load) -> Result<(), BusError> {
        self.bus.share_load(load).await
    }

    fn loads(&self) -> broadcast::Receiver<Arc<Load>> {
        self.bus.loads()
    }

    async fn send_usage(&self, batch: &UsageBatch) -> Result<(), BusError> {
        self.answers()?;
        self.bus.send_usage(batch).await
    }

    async fn take_usage(&self, most: usize) -> Result<Vec<Taken>, BusError> {
        self.bus.take_usage(most).await
    }

    async fn ack_usage(&self, taken: &[Taken]) -> Result<(), BusError> {
        self.bus.ack_usage(taken).await
    }

    async fn stored_usage(&self, ids: &[String]) -> Result<Vec<String>, BusError> {
        self.answers()?;
        self.bus.stored_usage(ids).await
    }
}

struct World {
    bus: Arc<Unreliable>,
    metrics: Arc<Metrics>,
    state: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self {
            bus: Arc::default(),
            metrics: Arc::new(Metrics::new().unwrap()),
            state: tempfile::tempdir().unwrap(),
        }
    }

    fn road(&self, instance: &str) -> UsageRoad {
        let bus = Arc::clone(&self.bus) as Arc<dyn Bus>;
        let config = UsageConfig {
            interval: MINUTE,
            keep: 1 << 20,
        };
        UsageRoad::new(
            &bus,
            &self.metrics,
            config,
            instance,
            Some(self.state.path()),
        )
    }

    /// Stores what the bus holds, as a control plane does.
    async fn store(&self, store: &mut Store) {
        let taken = self.bus.take_usage(1000).await.unwrap();
        for taken in &taken {
            store.add(&taken.batch);
        }
        self.bus.ack_usage(&taken).await.unwrap();
    }
}

#[expect(
    clippy::default_trait_access,
    reason = "their type is `upstream`'s, which `sync` does not know"
)]
fn count(road: &UsageRoad, requests: u64) {
    for _ in 0..requests {
        let used = Used {
            key: "k",
            model: (1, "tiny:latest"),
            node: (1, "gpu-1"),
            tokens: Default::default(),
        };
        road.counts().count(NOW, &used);
    }
}

async fn waiting(road: &UsageRoad) -> usize {
    road.on_spool(|spool| spool.len()).await.unwrap()
}

#[tokio::test]
async fn usage_is_kept_until_it_is_stored() {
    let (world, mut store) = (World::new(), Store::default());
    let road = world.road("a");
    count(&road, 3);
    road.round().await;
    assert_eq!(waiting(&road).await, 1, "sent is not stored");
    world.store(&mut store).await;
    road.round().await;
    assert_eq!((waiting(&road).await, store.requests()), (0, 3));
    road.round().await;
    assert!(
        world.bus.take_usage(9).await.unwrap().is_empty(),
        "nothing is sent where nothing was used"
    );
}

#[tokio::test]
async fn an_outage_of_the_bus_makes_few_batches_and_loses_none() {
    let (world, mut store) = (World::new(), Store::default());
    let road = world.road("a");
    world.bus.is_away.store(true, Ordering::SeqCst);
    for _ in 0..20 {
        count(&road, 1);
        road.round().await;
    }
    assert_eq!(
        waiting(&road).await,
        2,
        "the one that was tried, and one more"
    );
    world.bus.is_away.store(false, Ordering::SeqCst);
    road.round().await;
    world.store(&mut store).await;
    road.round().await;
    assert_eq!((waiting(&road).await, store.requests()), (0, 20));
}

#[tokio::test]
async fn the_end_sends_what_it_can_and_keeps_the_rest() {
    let (world, mut store) = (World::new(), Store::default());
    let road = world.road("a");
    count(&road, 1);
    road.finish().await;
    world.store(&mut store).await;
    assert_eq!(store.requests(), 1, "the bus is there");
    world.bus.is_away.store(true, Ordering::SeqCst);
    count(&road, 2);
    road.finish().await;
    drop(road);
    let road = world.road("b");
    count(&road, 4);
    road.keep(); // as after a SIGINT, when nothing runs any more
    drop(road);
    world.bus.is_away.store(false, Ordering::SeqCst);
    let road = world.road("c");
    road.round().await;
    world.store(&mut store).await;
    road.round().await;
    assert_eq!((waiting(&road).await, store.requests()), (0, 7));
}

#[tokio::test]
async fn what_is_given_up_is_told() {
    let world = World::new();
    let road = world.road("a");
    let lose = |spool: &mut Spool| {
        spool.gather(
            NOW,
            (0..2 * MOST_ENTRIES)
                .map(|at| entry(&at.to_string(), 1))
                .collect(),
        );
        spool.gather(NOW + 40 * 24 * 3600, Vec::new());
    };
    road.on_spool(lose).await.unwrap();
    road.round().await;
    let fleet = crate::fleet::Fleet::new(aivonx_shared::config::ProxyConfig::defaults().breaker);
    let text = world.metrics.render(&fleet, 0).unwrap();
    assert!(
        text.contains("aivonx_usage_lost_requests_total 1000"),
        "{text}"
    );
    assert!(text.contains("aivonx_usage_waiting_batches 1"), "{text}");
}
