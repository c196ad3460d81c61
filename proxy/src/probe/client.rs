//! A small client for nodes on Pingora's connector: plain or TLS, pooled connections.

use std::net::SocketAddr;
use std::time::Duration;

use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::prelude::{Error, ErrorType, OrErr};

use crate::fleet::Node;
use crate::upstream::peer;

/// Longest answer that is read: inventories of thousands of models.
const LONGEST: usize = 16 << 20;

/// Idle connections that are kept, over all nodes.
const POOL: usize = 4096;

/// Asks nodes. One for all of them: each would read the system's authorities anew.
pub(crate) struct Client {
    connector: Connector,
}

/// What is asked.
#[derive(Clone, Copy)]
struct Question<'a> {
    method: &'static str,
    path: &'a str,
    /// JSON; empty for none.
    body: &'static str,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            connector: Connector::new(Some(ConnectorOptions::new(POOL))),
        }
    }
}

impl Client {
    /// `GET path` on a node; the body of a 200.
    pub(super) async fn get(
        &self,
        node: &Node,
        address: SocketAddr,
        path: &str,
        patience: Duration,
    ) -> pingora::Result<Vec<u8>> {
        let question = Question {
            method: "GET",
            path,
            body: "",
        };
        self.ask(node, address, question, patience).await
    }

    /// `POST path` with a JSON body on a node; the body of a 200.
    pub(super) async fn post(
        &self,
        node: &Node,
        address: SocketAddr,
        path: &str,
        body: &'static str,
        patience: Duration,
    ) -> pingora::Result<Vec<u8>> {
        let question = Question {
            method: "POST",
            path,
            body,
        };
        self.ask(node, address, question, patience).await
    }

    /// A pooled connection that the node has closed in the meantime is no failure: it is asked once
    /// more on a fresh one.
    async fn ask(
        &self,
        node: &Node,
        address: SocketAddr,
        question: Question<'_>,
        patience: Duration,
    ) -> pingora::Result<Vec<u8>> {
        let ask = async {
            match self.once(node, address, question, patience).await {
                Err((true, _)) => self
                    .once(node, address, question, patience)
                    .await
                    .map_err(|(_, error)| error),
                other => other.map_err(|(_, error)| error),
            }
        };
        tokio::time::timeout(patience, ask)
            .await
            .or_err(ErrorType::ReadTimedout, "no answer in time")?
    }

    /// One try; an error says whether the connection was a pooled one.
    async fn once(
        &self,
        node: &Node,
        address: SocketAddr,
        question: Question<'_>,
        patience: Duration,
    ) -> Result<Vec<u8>, (bool, Box<Error>)> {
        let mut peer = peer::base(node, address);
        peer.options.connection_timeout = Some(patience);
        peer.options.read_timeout = Some(patience);
        let (mut session, reused) = self
            .connector
            .get_http_session(&peer)
            .await
            .map_err(|error| (false, error))?;
        let exchange = async {
            let head = head_for(node, question)?;
            session.write_request_header(Box::new(head)).await?;
            if !question.body.is_empty() {
                session
                    .write_request_body(question.body.into(), true)
                    .await?;
            }
            session.finish_request_body().await?;
            session.read_response_header().await?;
            let status = session
                .response_header()
                .map_or(0, |head| head.status.as_u16());
            let mut body = Vec::new();
            while let Some(chunk) = session.read_response_body().await? {
                if body.len() + chunk.len() > LONGEST {
                    return Error::e_explain(ErrorType::ReadError, "answer too long");
                }
                body.extend_from_slice(&chunk);
            }
            if status != 200 {
                return Error::e_explain(ErrorType::HTTPStatus(status), refusal(status));
            }
            Ok(body)
        };
        let body = exchange.await.map_err(|error| (reused, error))?;
        self.connector
            .release_http_session(session, &peer, Some(Duration::from_secs(60)))
            .await;
        Ok(body)
    }
}

fn head_for(node: &Node, question: Question<'_>) -> pingora::Result<RequestHeader> {
    let path = format!("{}{}", node.doc().url.base, question.path);
    let mut head = RequestHeader::build(question.method, path.as_bytes(), Some(5))?;
    head.insert_header("Host", node.authority().clone())?;
    head.insert_header("User-Agent", concat!("aivonx/", env!("CARGO_PKG_VERSION")))?;
    if !question.body.is_empty() {
        head.insert_header("Content-Type", "application/json")?;
        head.insert_header("Content-Length", question.body.len())?;
    }
    peer::authorize(&mut head, node)?;
    Ok(head)
}

/// An answer that is no 200, in words for the log.
fn refusal(status: u16) -> String {
    match status {
        401 | 403 => {
            format!("it answered {status}: does it want other credentials, or another Host?")
        }
        _ => format!("it answered {status}"),
    }
}
