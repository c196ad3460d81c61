//! What stands in Redis: names, the script that publishes, and the replies about the stream of usage.

use bb8_redis::redis::Value;

use crate::bus::Taken;
use crate::usage_batch::UsageBatch;

/// The field of a stream's entry that holds a batch.
pub(super) const BATCH: &str = "batch";

/// Sets the document and announces it, unless the one that is held is as new. Revisions are compared as
/// digits: Lua's numbers are exact up to 2^53 only.
pub(super) const SET_IF_NEWER: &str = r#"
local function newer(a, b)
  if #a ~= #b then return #a > #b end
  return a > b
end
local held = redis.call('GETRANGE', KEYS[1], 0, 63)
local epoch, number = string.match(held, '^{"epoch":(%d+),"number":(%d+)')
if epoch then
  local is_newer = newer(ARGV[1], epoch) or (ARGV[1] == epoch and newer(ARGV[2], number))
  if not is_newer then return 0 end
end
redis.call('SET', KEYS[1], ARGV[3])
redis.call('PUBLISH', ARGV[4], ARGV[3])
return 1
"#;

/// Names of keys and channels.
pub(super) struct Names {
    /// The key of the document.
    pub(super) fleet: String,
    /// The channel on which it is announced.
    pub(super) announcements: String,
    /// The channel of reports.
    pub(super) reports: String,
    /// The channel of what is in flight.
    pub(super) loads: String,
    /// The set of who reports.
    pub(super) instances: String,
    /// The stream of usage.
    pub(super) usage: String,
    prefix: String,
}

impl Names {
    /// Names with this prefix in a database. Channels do not belong to a database, so their names say
    /// which one is meant; otherwise two installations on one server would hear each other.
    pub(super) fn new(prefix: &str, db: i64) -> Self {
        let channel = |name: &str| match db {
            0 => format!("{prefix}:{name}"),
            db => format!("{prefix}:{name}:{db}"),
        };
        Self {
            fleet: format!("{prefix}:fleet"),
            announcements: channel("fleet"),
            reports: channel("reports"),
            loads: channel("loads"),
            instances: format!("{prefix}:instances"),
            usage: format!("{prefix}:usage"),
            prefix: prefix.to_owned(),
        }
    }

    /// The key of a data plane's report.
    pub(super) fn report(&self, instance: &str) -> String {
        format!("{}:report:{instance}", self.prefix)
    }

    /// The key that says that a batch was stored.
    pub(super) fn stored(&self, id: &str) -> String {
        format!("{}:stored:{id}", self.prefix)
    }
}

/// The batches in a reply of XREADGROUP or XAUTOCLAIM, and the entries that hold none. Both replies
/// hold entries `[id, [field, value, …]]` somewhere in lists of lists.
pub(super) fn batches(reply: &Value) -> (Vec<Taken>, Vec<String>) {
    let mut found = (Vec::new(), Vec::new());
    collect(reply, &mut found);
    found
}

fn collect(value: &Value, found: &mut (Vec<Taken>, Vec<String>)) {
    let Value::Array(items) = value else { return };
    if let [Value::BulkString(id), Value::Array(fields)] = items.as_slice()
        && is_entry_id(id)
        && fields
            .iter()
            .all(|field| matches!(field, Value::BulkString(_)))
    {
        let receipt = String::from_utf8_lossy(id).into_owned();
        match batch(fields) {
            Some(batch) => found.0.push(Taken { receipt, batch }),
            None => found.1.push(receipt),
        }
        return;
    }
    for item in items {
        collect(item, found);
    }
}

fn batch(fields: &[Value]) -> Option<UsageBatch> {
    let at = |value: &Value| matches!(value, Value::BulkString(name) if name == BATCH.as_bytes());
    let [_, Value::BulkString(text)] = fields.chunks_exact(2).find(|pair| at(&pair[0]))? else {
        return None;
    };
    serde_json::from_slice(text).ok()
}

/// As `1787188364000-0`.
fn is_entry_id(id: &[u8]) -> bool {
    let text = std::str::from_utf8(id).unwrap_or_default();
    let parts = text.split_once('-');
    parts.is_some_and(|(ms, number)| ms.parse::<u64>().is_ok() && number.parse::<u64>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_say_which_database_is_meant() {
        let (first, third) = (Names::new("aivonx", 0), Names::new("aivonx", 3));
        assert_eq!(
            (first.fleet.as_str(), first.announcements.as_str()),
            ("aivonx:fleet", "aivonx:fleet")
        );
        assert_eq!(
            (third.fleet.as_str(), third.announcements.as_str()),
            ("aivonx:fleet", "aivonx:fleet:3")
        );
        assert_eq!(third.reports, "aivonx:reports:3");
    }

    #[test]
    fn batches_are_found_in_either_reply_and_what_is_none_is_told_apart() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let entry = |id: &str, body: &str| {
            Value::Array(vec![text(id), Value::Array(vec![text(BATCH), text(body)])])
        };
        let good = r#"{"id":"a-1","instance":"a","entries":[]}"#;
        let entries = Value::Array(vec![entry("1-0", good), Value::Nil, entry("2-0", "{}")]);
        let read = Value::Array(vec![Value::Array(vec![
            text("aivonx:usage"),
            entries.clone(),
        ])]);
        let claimed = Value::Array(vec![text("0-0"), entries, Value::Array(vec![text("3-0")])]);
        for reply in [read, claimed] {
            let (taken, bad) = batches(&reply);
            let seen: Vec<_> = taken
                .iter()
                .map(|taken| (taken.receipt.as_str(), taken.batch.id.as_str()))
                .collect();
            assert_eq!((seen, bad), (vec![("1-0", "a-1")], vec!["2-0".to_owned()]));
        }
        assert_eq!(batches(&Value::Nil), (Vec::new(), Vec::new()));
    }
}
