//! The bus of many processes: Redis. The newest document stands in a key and is announced on a channel
//! of the same name; reports stand in keys that expire; usage waits in a stream.
//!
//! `follow` hears announcements on a connection of its own, `wire` knows names and replies. A bus comes
//! to life with its first call: making one asks nothing of Redis and needs no runtime.

mod follow;
mod wire;

use std::fmt;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bb8_redis::bb8::{Pool, RunError};
use bb8_redis::redis::{
    Client, Cmd, ConnectionAddr, FromRedisValue, IntoConnectionInfo, Pipeline, RedisError,
    TlsCertificates, Value, cmd, pipe,
};
use bb8_redis::{RedisConnectionManager, redis::aio::MultiplexedConnection};
use tokio::sync::{OnceCell, broadcast, watch};
use tokio::task::AbortHandle;

use super::{Bus, BusError, LOADS_KEPT, Outcome, RECLAIM, REPORTS_KEPT, Taken, USAGE_KEPT};
use crate::published::{Published, revision_of};
use crate::report::{Load, Report};
use crate::revision::Revision;
use crate::usage_batch::UsageBatch;
use wire::{Names, SET_IF_NEWER, batches};

/// Connections for commands, at most.
const CONNECTIONS: u32 = 4;
/// Enough of an envelope to know its revision.
const BEGINNING: isize = 64;
/// The group and the reader of the stream of usage. All readers share one name: what one of them leaves
/// behind is taken over by age, so their names would only pile up.
const READER: &str = "store";
/// How long it is remembered that a batch was stored, seconds.
const STORED_FOR: u64 = 24 * 3600;

/// What is said of `rediss://…#insecure`.
const UNCHECKED: &str =
    "certificates are always checked; leave `#insecure` out, and name the server's authority";

/// How a bus over Redis behaves.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// What names of keys and channels begin with.
    pub prefix: String,
    /// Between two looks at the document's key, which make up for lost announcements.
    pub poll: Duration,
    /// After which a command has failed.
    pub patience: Duration,
    /// After which a batch that was taken and not acknowledged is given to whoever asks.
    pub reclaim: Duration,
    /// Seed of the spread of reconnections; `None` takes one from the system.
    pub seed: Option<u64>,
    /// Who may have signed the certificate of a `rediss://` server, in PEM; `None`: the system's authorities.
    pub authorities: Option<String>,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            prefix: "aivonx".to_owned(),
            poll: Duration::from_secs(1),
            patience: Duration::from_secs(2),
            reclaim: RECLAIM,
            seed: None,
            authorities: None,
        }
    }
}

/// A text is no address of a Redis. Never repeats it: it may hold a password.
#[derive(Debug, thiserror::Error)]
#[error("must be an address such as redis://redis.example:6379/0: {0}")]
pub struct UrlError(String);

/// A bus over Redis.
pub struct RedisBus {
    inner: Arc<Inner>,
    /// Follows the channels from the first call of `watch`, `connected` or `loads` on.
    follower: OnceLock<AbortHandle>,
}

struct Inner {
    client: Client,
    pool: OnceCell<Pool<RedisConnectionManager>>,
    names: Names,
    options: RedisOptions,
    fleet: watch::Sender<Option<Arc<Published>>>,
    connected: watch::Sender<bool>,
    loads: broadcast::Sender<Arc<Load>>,
}

impl RedisBus {
    /// A bus at an address such as `redis://user:password@host:6379/0`; `rediss://` goes over TLS.
    pub fn new(url: &str, options: RedisOptions) -> Result<Self, UrlError> {
        let problem = |error: RedisError| UrlError(words(&error));
        let info = url.into_connection_info().map_err(problem)?;
        if let ConnectionAddr::TcpTls { insecure: true, .. } = info.addr() {
            return Err(UrlError(UNCHECKED.to_owned()));
        }
        let names = Names::new(&options.prefix, info.redis_settings().db());
        let client = match &options.authorities {
            None => Client::open(info),
            Some(pem) => Client::build_with_tls(info, only(pem)),
        };
        let inner = Inner {
            client: client.map_err(problem)?,
            pool: OnceCell::new(),
            names,
            options,
            fleet: watch::Sender::new(None),
            connected: watch::Sender::new(false),
            loads: broadcast::Sender::new(LOADS_KEPT),
        };
        Ok(Self {
            inner: Arc::new(inner),
            follower: OnceLock::new(),
        })
    }

    /// Whether a text is an address that `new` takes.
    pub fn check_url(url: &str) -> Result<(), UrlError> {
        Self::new(url, RedisOptions::default()).map(|_| ())
    }

    fn follow(&self) {
        self.follower.get_or_init(|| {
            let task = tokio::spawn(follow::follow(Arc::clone(&self.inner)));
            task.abort_handle()
        });
    }
}

impl Drop for RedisBus {
    fn drop(&mut self) {
        if let Some(follower) = self.follower.get() {
            follower.abort();
        }
    }
}

impl fmt::Debug for RedisBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBus")
            .field("prefix", &self.inner.options.prefix)
            .finish_non_exhaustive()
    }
}

impl Inner {
    async fn pool(&self) -> Result<&Pool<RedisConnectionManager>, RedisError> {
        self.pool
            .get_or_try_init(|| async {
                let info = self.client.get_connection_info().clone();
                let manager = RedisConnectionManager::new(info)?;
                let pool = Pool::builder()
                    .max_size(CONNECTIONS)
                    .connection_timeout(self.options.patience / 2);
                Ok(pool.build_unchecked(manager))
            })
            .await
    }

    /// Has something done over a connection, within the patience.
    async fn on_connection<T, F>(
        &self,
        ask: impl FnOnce(MultiplexedConnection) -> F + Send,
    ) -> Result<T, BusError>
    where
        F: Future<Output = Result<T, RedisError>> + Send,
    {
        let patience = self.options.patience;
        let asked = async {
            let connection = self.pool().await.map_err(RunError::User)?.get().await?;
            let mut connection = connection.clone();
            connection.set_response_timeout(patience);
            ask(connection).await.map_err(RunError::User)
        };
        let done = match tokio::time::timeout(patience, asked).await {
            Ok(done) => done,
            Err(_) => Err(RunError::TimedOut),
        };
        let answered = match &done {
            Ok(_) => true,
            Err(RunError::User(error)) => error.code().is_some(),
            Err(RunError::TimedOut) => false,
        };
        self.connected
            .send_if_modified(|connected| std::mem::replace(connected, answered) != answered);
        done.map_err(|error| match error {
            RunError::User(error) => BusError::Unreachable(words(&error)),
            RunError::TimedOut => BusError::Unreachable("no answer in time".to_owned()),
        })
    }

    async fn ask<T: FromRedisValue + Send>(&self, command: Cmd) -> Result<T, BusError> {
        self.on_connection(
            |mut connection| async move { command.query_async(&mut connection).await },
        )
        .await
    }

    async fn ask_all<T: FromRedisValue + Send>(&self, commands: Pipeline) -> Result<T, BusError> {
        self.on_connection(
            |mut connection| async move { commands.query_async(&mut connection).await },
        )
        .await
    }

    async fn fleet(&self) -> Result<Option<Published>, BusError> {
        let mut get = cmd("GET");
        get.arg(&self.names.fleet);
        let text: Option<String> = self.ask(get).await?;
        let read = |text: String| Published::from_json(&text).map_err(|error| garbled(&error));
        text.map(read).transpose()
    }

    async fn revision(&self) -> Result<Option<Revision>, BusError> {
        let mut get = cmd("GETRANGE");
        get.arg(&self.names.fleet).arg(0).arg(BEGINNING);
        let beginning: Vec<u8> = self.ask(get).await?;
        // the cut may have gone through a letter
        Ok(revision_of(&String::from_utf8_lossy(&beginning)))
    }

    /// Takes over what was seen, if it is newer.
    fn saw(&self, published: Published) {
        self.fleet.send_if_modified(|held| {
            let is_newer = held
                .as_ref()
                .is_none_or(|held| published.revision() > held.revision());
            if is_newer {
                *held = Some(Arc::new(published));
            }
            is_newer
        });
    }

    /// Makes the stream of usage where there is none.
    async fn make_group(&self) -> Result<(), BusError> {
        let mut make = cmd("XGROUP");
        make.arg("CREATE").arg(&self.names.usage).arg(READER);
        make.arg("0").arg("MKSTREAM");
        match self.ask::<()>(make).await {
            // another reader made it
            Err(BusError::Unreachable(why)) if why.contains("BUSYGROUP") => Ok(()),
            done => done,
        }
    }

    async fn take(&self, most: usize) -> Result<Vec<Taken>, BusError> {
        let mut left_behind = cmd("XAUTOCLAIM");
        left_behind.arg(&self.names.usage).arg(READER).arg(READER);
        left_behind.arg(self.options.reclaim.as_millis() as u64);
        left_behind.arg("0-0").arg("COUNT").arg(most);
        let (mut taken, mut bad) = batches(&self.ask(left_behind).await?);
        if taken.len() < most {
            let mut fresh = cmd("XREADGROUP");
            fresh.arg("GROUP").arg(READER).arg(READER).arg("COUNT");
            fresh.arg(most - taken.len());
            fresh.arg("STREAMS").arg(&self.names.usage).arg(">");
            let (more, more_bad) = batches(&self.ask(fresh).await?);
            taken.extend(more);
            bad.extend(more_bad);
        }
        if !bad.is_empty() {
            tracing::error!(
                entries = bad.join(", "),
                "usage that cannot be read is dropped"
            );
            self.forget(&bad).await?;
        }
        Ok(taken)
    }

    async fn forget(&self, receipts: &[String]) -> Result<(), BusError> {
        let mut forget = pipe();
        forget.cmd("XACK").arg(&self.names.usage).arg(READER);
        forget.arg(receipts).ignore();
        forget
            .cmd("XDEL")
            .arg(&self.names.usage)
            .arg(receipts)
            .ignore();
        self.ask_all(forget).await
    }
}

#[async_trait]
impl Bus for RedisBus {
    async fn publish_fleet(&self, published: &Published) -> Result<Outcome, BusError> {
        let Revision { epoch, number } = published.revision();
        let mut set = cmd("EVAL");
        set.arg(SET_IF_NEWER).arg(1).arg(&self.inner.names.fleet);
        set.arg(epoch).arg(number).arg(published.to_json());
        set.arg(&self.inner.names.announcements);
        Ok(match self.inner.ask::<u8>(set).await? {
            0 => Outcome::Stale,
            _ => Outcome::Applied,
        })
    }

    async fn fleet(&self) -> Result<Option<Published>, BusError> {
        self.inner.fleet().await
    }

    async fn revision(&self) -> Result<Option<Revision>, BusError> {
        self.inner.revision().await
    }

    fn watch(&self) -> watch::Receiver<Option<Arc<Published>>> {
        self.follow();
        self.inner.fleet.subscribe()
    }

    fn connected(&self) -> watch::Receiver<bool> {
        self.follow();
        self.inner.connected.subscribe()
    }

    async fn report(&self, report: &Report) -> Result<(), BusError> {
        let names = &self.inner.names;
        let text = serde_json::to_string(report).map_err(|error| garbled(&error))?;
        let mut say = pipe();
        say.cmd("SET")
            .arg(names.report(&report.instance))
            .arg(&text);
        say.arg("PX").arg(REPORTS_KEPT.as_millis() as u64).ignore();
        say.cmd("SADD").arg(&names.instances).arg(&report.instance);
        say.ignore();
        say.cmd("PUBLISH").arg(&names.reports).arg(&text).ignore();
        self.inner.ask_all(say).await
    }

    async fn reports(&self) -> Result<Vec<Report>, BusError> {
        let names = &self.inner.names;
        let mut list = cmd("SMEMBERS");
        list.arg(&names.instances);
        let mut instances: Vec<String> = self.inner.ask(list).await?;
        if instances.is_empty() {
            return Ok(Vec::new());
        }
        instances.sort_unstable();
        let mut get = pipe();
        for instance in &instances {
            let key = names.report(instance);
            get.cmd("GET").arg(&key).cmd("PTTL").arg(&key);
        }
        let answers: Vec<Value> = self.inner.ask_all(get).await?;
        let (mut reports, mut gone) = (Vec::new(), Vec::new());
        for (instance, answer) in instances.into_iter().zip(answers.chunks_exact(2)) {
            let [Value::BulkString(text), Value::Int(left)] = answer else {
                gone.push(instance);
                continue;
            };
            // one that cannot be read is another version's: the others count all the same
            if let Ok(mut report) = serde_json::from_slice::<Report>(text) {
                let left = Duration::from_millis((*left).max(0).cast_unsigned());
                report.age = REPORTS_KEPT.saturating_sub(left);
                reports.push(report);
            }
        }
        if !gone.is_empty() {
            let mut forget = cmd("SREM");
            forget.arg(&names.instances).arg(gone);
            self.inner.ask::<()>(forget).await?;
        }
        Ok(reports)
    }

    async fn share_load(&self, load: &Load) -> Result<(), BusError> {
        let text = serde_json::to_string(load).map_err(|error| garbled(&error))?;
        let mut say = cmd("PUBLISH");
        say.arg(&self.inner.names.loads).arg(text);
        self.inner.ask(say).await
    }

    fn loads(&self) -> broadcast::Receiver<Arc<Load>> {
        self.follow();
        self.inner.loads.subscribe()
    }

    async fn send_usage(&self, batch: &UsageBatch) -> Result<(), BusError> {
        let text = serde_json::to_string(batch).map_err(|error| garbled(&error))?;
        let mut add = cmd("XADD");
        add.arg(&self.inner.names.usage).arg("MAXLEN").arg("~");
        add.arg(USAGE_KEPT).arg("*").arg(wire::BATCH).arg(text);
        self.inner.ask::<String>(add).await.map(|_| ())
    }

    async fn take_usage(&self, most: usize) -> Result<Vec<Taken>, BusError> {
        match self.inner.take(most).await {
            // nothing was ever sent, or Redis began anew
            Err(BusError::Unreachable(why)) if why.contains("NOGROUP") => {
                self.inner.make_group().await?;
                self.inner.take(most).await
            }
            done => done,
        }
    }

    async fn ack_usage(&self, taken: &[Taken]) -> Result<(), BusError> {
        if taken.is_empty() {
            return Ok(());
        }
        let mut remember = pipe();
        for taken in taken {
            let key = self.inner.names.stored(&taken.batch.id);
            remember
                .cmd("SET")
                .arg(key)
                .arg(1)
                .arg("EX")
                .arg(STORED_FOR);
            remember.ignore();
        }
        // first this: between the two a batch is taken again at worst, and its id tells
        self.inner.ask_all::<()>(remember).await?;
        let receipts: Vec<_> = taken.iter().map(|taken| taken.receipt.clone()).collect();
        self.inner.forget(&receipts).await
    }

    async fn stored_usage(&self, ids: &[String]) -> Result<Vec<String>, BusError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut get = cmd("MGET");
        get.arg(
            ids.iter()
                .map(|id| self.inner.names.stored(id))
                .collect::<Vec<_>>(),
        );
        let known: Vec<Option<String>> = self.inner.ask(get).await?;
        let stored = ids.iter().zip(known).filter(|(_, known)| known.is_some());
        Ok(stored.map(|(id, _)| id.clone()).collect())
    }
}

/// These authorities in place of the system's.
fn only(pem: &str) -> TlsCertificates {
    TlsCertificates {
        client_tls: None,
        root_cert: Some(pem.as_bytes().to_vec()),
    }
}

fn garbled(error: &serde_json::Error) -> BusError {
    BusError::Garbled(error.to_string())
}

/// An error in words, without anything of the address.
fn words(error: &RedisError) -> String {
    let what = error.code().unwrap_or_else(|| error.category());
    match error.detail() {
        Some(detail) => format!("{what}: {detail}"),
        None => error.to_string(),
    }
}
