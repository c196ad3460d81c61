//! Listens to server-sent events, as a browser does.

use serde_json::Value;

use crate::support::{Client, Response, Stack};

/// An open stream.
pub(super) struct Events {
    client: Client,
    answer: Response,
    /// How much of the answer was read.
    read: usize,
}

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Event {
    pub(super) id: Option<i64>,
    pub(super) name: String,
    pub(super) data: Value,
}

impl Events {
    /// Opens a stream with a token; `last` is what was seen before.
    pub(super) async fn open(stack: &Stack, token: &str, path: &str, last: Option<i64>) -> Self {
        let last = last.map_or_else(String::new, |id| format!("Last-Event-ID: {id}\r\n"));
        let mut client = Client::connect(stack.aivonx.addr).await;
        client
            .send(format!(
                "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{last}\r\n"
            ))
            .await;
        let answer = client.head().await.unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), Some("text/event-stream"));
        Self {
            client,
            answer,
            read: 0,
        }
    }

    /// The next event; `None` at the end. Signs of life are passed over.
    pub(super) async fn next(&mut self) -> Option<Event> {
        loop {
            let text = self.answer.text();
            let rest = &text[self.read..];
            if let Some(end) = rest.find("\n\n") {
                let event = parse(&rest[..end]);
                self.read += end + 2;
                if event.is_some() {
                    return event;
                }
                continue;
            }
            if !self.client.chunk(&mut self.answer).await {
                return None;
            }
        }
    }

    /// The next event that is wanted; those before it are passed over.
    pub(super) async fn until(&mut self, is_wanted: impl Fn(&Event) -> bool) -> Event {
        loop {
            let event = self.next().await.expect("the stream has ended");
            if is_wanted(&event) {
                return event;
            }
        }
    }

    /// Passes over what is left; comes back at the end.
    pub(super) async fn end(mut self) {
        while self.next().await.is_some() {}
    }
}

/// `None` for comments and for what is not for us.
fn parse(text: &str) -> Option<Event> {
    let field = |name: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    Some(Event {
        id: field("id").map(|id| id.parse().unwrap()),
        name: field("event")?.to_owned(),
        data: serde_json::from_str(field("data")?).unwrap(),
    })
}
