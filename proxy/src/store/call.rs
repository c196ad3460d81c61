//! One question to one node, on Pingora's connector, its answer read as it comes. Every question
//! takes a connection of its own: a change that a node may have begun is never sent twice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aivonx_shared::config::TimeoutConfig;
use bytes::Bytes;
use http::{HeaderValue, header};
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::prelude::{Error, ErrorType, HttpPeer};
use pingora::protocols::http::client::HttpSession;

use crate::fleet::{Node, Permit};
use crate::upstream::connection::Connections;
use crate::upstream::words::plain;

/// Longest answer in one piece, bytes: an inventory of thousands of models.
const LONGEST: usize = 16 << 20;
/// A node that its probes hold for down and that says nothing for so long is given up. Silence
/// alone is no sign: hashing a large blob takes minutes.
const SILENCE: Duration = Duration::from_secs(10);
/// Between two looks at the health of a node that says nothing.
const LOOK: Duration = Duration::from_millis(250);

/// Asks nodes.
pub(crate) struct Caller {
    connector: Connector,
    connections: Arc<Connections>,
    timeouts: TimeoutConfig,
}

/// What a node is asked.
#[derive(Clone)]
pub(crate) struct Question {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) body: Bytes,
    /// The request it belongs to.
    pub(crate) id: HeaderValue,
    /// Whether all the work comes before the first byte of the answer.
    pub(crate) is_long: bool,
}

/// Why a node did not do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What it answered, where it answered.
    pub(crate) status: Option<u16>,
    /// Its own words, or ours.
    pub(crate) text: String,
}

impl Failure {
    /// In our words.
    pub(crate) fn of(text: impl Into<String>) -> Self {
        Self {
            status: None,
            text: text.into(),
        }
    }
}

/// A whole answer.
pub(crate) struct Whole {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

impl Caller {
    /// A caller with these timeouts.
    pub(crate) fn new(timeouts: TimeoutConfig) -> Self {
        Self {
            connector: Connector::new(None),
            connections: Arc::default(),
            timeouts,
        }
    }

    /// Sends a question and reads the head of its answer.
    pub(crate) async fn ask(
        &self,
        node: &Arc<Node>,
        question: &Question,
    ) -> Result<Answer, Failure> {
        let now = Instant::now();
        let Some(mut permit) = Permit::reserve(node, None, now) else {
            return Err(Failure::of("it fails requests and is left alone for now"));
        };
        let asked = tokio::select! {
            asked = self.send(node, question) => asked.map_err(|error| plain(&error)),
            () = lost(node, Duration::ZERO) => Err("it stopped answering"),
        };
        match asked {
            Ok(session) => {
                permit.head_arrived(Instant::now());
                permit.succeeded(false, Instant::now());
                let idle = self.timeouts.idle;
                Ok(Answer {
                    session,
                    idle,
                    permit,
                })
            }
            Err(text) => {
                permit.node_failed(Instant::now());
                node.state().refresh.notify_one();
                Err(Failure::of(text))
            }
        }
    }

    /// A question and its whole answer, whatever its status.
    pub(crate) async fn whole(
        &self,
        node: &Arc<Node>,
        question: &Question,
    ) -> Result<Whole, Failure> {
        self.ask(node, question).await?.whole().await
    }

    /// `GET path`; the body of a 200.
    pub(crate) async fn get(&self, node: &Arc<Node>, path: &'static str) -> Option<Bytes> {
        let question = Question {
            method: "GET",
            path,
            body: Bytes::new(),
            id: HeaderValue::from_static("aivonx"),
            is_long: false,
        };
        let whole = self.whole(node, &question).await.ok()?;
        (whole.status == 200).then_some(whole.body)
    }

    async fn send(&self, node: &Node, question: &Question) -> pingora::Result<HttpSession> {
        let peer = self.peer(node)?;
        let (mut session, _) = self.connector.get_http_session(&peer).await?;
        let patience = if question.is_long {
            self.timeouts.answer
        } else {
            self.timeouts.first_byte
        };
        session.set_write_timeout(Some(self.timeouts.client));
        session.set_read_timeout(Some(patience));
        session
            .write_request_header(Box::new(head(node, question)?))
            .await?;
        if !question.body.is_empty() {
            session
                .write_request_body(question.body.clone(), true)
                .await?;
        }
        session.finish_request_body().await?;
        loop {
            session.read_response_header().await?;
            let informational = session
                .response_header()
                .is_some_and(|head| head.status.is_informational());
            if !informational {
                return Ok(session);
            }
        }
    }

    fn peer(&self, node: &Node) -> pingora::Result<HttpPeer> {
        let Some(address) = node.state().address() else {
            return Error::e_explain(ErrorType::ConnectError, "the node has no address");
        };
        let (_, tracer) = self.connections.prepare();
        Ok(crate::upstream::peer::peer(
            node,
            address,
            &self.timeouts,
            tracer,
        ))
    }
}

/// The head of a question to a node.
fn head(node: &Node, question: &Question) -> pingora::Result<RequestHeader> {
    let path = format!("{}{}", node.doc().url.base, question.path);
    let mut head = RequestHeader::build(question.method, path.as_bytes(), Some(6))?;
    head.insert_header("Host", node.authority().clone())?;
    head.insert_header("User-Agent", concat!("aivonx/", env!("CARGO_PKG_VERSION")))?;
    head.insert_header("x-request-id", question.id.clone())?;
    head.insert_header("Connection", "close")?;
    crate::upstream::peer::authorize(&mut head, node)?;
    if !question.body.is_empty() {
        head.insert_header("Content-Type", "application/json")?;
        head.insert_header("Content-Length", question.body.len())?;
    }
    Ok(head)
}

/// Ends once a node is down by its probes and `silence` has passed.
async fn lost(node: &Node, silence: Duration) {
    let began = Instant::now();
    let mut tick = tokio::time::interval(LOOK);
    loop {
        tick.tick().await;
        if !node.state().health.is_up() && began.elapsed() >= silence {
            return;
        }
    }
}

/// An answer whose head has come. Dropping it closes the connection, which ends what the node does.
pub(crate) struct Answer {
    session: HttpSession,
    idle: Duration,
    permit: Permit,
}

impl Answer {
    /// Its status.
    pub(crate) fn status(&self) -> u16 {
        self.session
            .response_header()
            .map_or(0, |head| head.status.as_u16())
    }

    /// Whether it comes line by line.
    pub(crate) fn is_lines(&self) -> bool {
        let head = self.session.response_header();
        head.and_then(|head| head.headers.get(header::CONTENT_TYPE))
            .is_some_and(|value| value.as_bytes().starts_with(b"application/x-ndjson"))
    }

    /// The next piece of its body; `None` at the end.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, Failure> {
        self.session.set_read_timeout(Some(self.idle));
        let read = tokio::select! {
            read = self.session.read_response_body() => read.map_err(|error| plain(&error)),
            () = lost(self.permit.node(), SILENCE) => Err("it stopped answering"),
        };
        read.map_err(|text| {
            self.permit.node_failed(Instant::now());
            Failure::of(text)
        })
    }

    /// All of it.
    pub(crate) async fn whole(mut self) -> Result<Whole, Failure> {
        let status = self.status();
        let mut body = Vec::new();
        while let Some(piece) = self.piece().await? {
            if body.len() + piece.len() > LONGEST {
                return Err(Failure::of("its answer is too long"));
            }
            body.extend_from_slice(&piece);
        }
        Ok(Whole {
            status,
            body: body.into(),
        })
    }
}
