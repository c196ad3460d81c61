//! A small GET client for nodes on Pingora's connector: plain or TLS, pooled connections.

use std::net::SocketAddr;
use std::time::Duration;

use aivonx_shared::fleet_doc::Scheme;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::prelude::{Error, ErrorType, OrErr};
use pingora::upstreams::peer::HttpPeer;

use crate::fleet::Node;

/// Longest answer that is read: inventories of thousands of models.
const LONGEST: usize = 16 << 20;

/// Asks nodes.
pub(super) struct Client {
    connector: Connector,
}

impl Client {
    pub(super) fn new() -> Self {
        Self {
            connector: Connector::new(None),
        }
    }

    /// `GET path` on a node; the body of a 200. A pooled connection that the node has closed in the
    /// meantime is no failure: it is asked once more on a fresh one.
    pub(super) async fn get(
        &self,
        node: &Node,
        address: SocketAddr,
        path: &str,
        patience: Duration,
    ) -> pingora::Result<Vec<u8>> {
        let ask = async {
            match self.once(node, address, path, patience).await {
                Err((true, _)) => self
                    .once(node, address, path, patience)
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
        path: &str,
        patience: Duration,
    ) -> Result<Vec<u8>, (bool, Box<Error>)> {
        let url = &node.doc().url;
        let tls = url.scheme == Scheme::Https;
        let mut peer = HttpPeer::new(
            address,
            tls,
            if tls { url.host.clone() } else { String::new() },
        );
        peer.options.connection_timeout = Some(patience);
        peer.options.read_timeout = Some(patience);
        let (mut session, reused) = self
            .connector
            .get_http_session(&peer)
            .await
            .map_err(|error| (false, error))?;
        let exchange = async {
            let mut head =
                RequestHeader::build("GET", format!("{}{path}", url.base).as_bytes(), Some(3))?;
            head.insert_header("Host", url.authority())?;
            head.insert_header("User-Agent", concat!("aivonx/", env!("CARGO_PKG_VERSION")))?;
            session.write_request_header(Box::new(head)).await?;
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
                return Error::e_explain(ErrorType::HTTPStatus(status), "no 200");
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
