//! One connection of the load in HTTP/2: over TLS, or plain with prior knowledge.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

use crate::answer::Answer;
use crate::client::AFTER_ERROR;
use crate::request::Request;
use crate::tally::Tally;
use crate::wire::Wire;

/// Windows as wide as a browser's: no server should have to wait for them.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// One connection.
pub(crate) struct Client {
    pub(crate) request: Arc<Request>,
    pub(crate) tally: Arc<Tally>,
    /// Requests at once.
    pub(crate) streams: usize,
}

impl Client {
    /// Asks again and again, on one connection while it lasts. Whatever breaks one request ends the
    /// connection and counts as one error.
    pub(crate) async fn run(self) {
        loop {
            if let Err(error) = self.connection().await {
                self.tally.note(&Err(error), 0, Duration::ZERO);
            }
            tokio::time::sleep(AFTER_ERROR).await;
        }
    }

    async fn connection(&self) -> io::Result<()> {
        match Wire::connect(self.request.target, self.request.tls.as_ref()).await? {
            Wire::Plain(stream) => self.over(stream).await,
            Wire::Tls(stream) => self.over(*stream).await,
        }
    }

    async fn over<S>(&self, stream: S) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let (send, connection) = builder.handshake(stream).await.map_err(io::Error::other)?;
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        for _ in 0..self.streams {
            let (request, tally) = (Arc::clone(&self.request), Arc::clone(&self.tally));
            tasks.spawn(ask_again(send.clone(), request, tally));
        }
        // the first that ends takes the others with it
        match tasks.join_next().await {
            Some(Ok(Err(error))) => Err(io::Error::other(error)),
            Some(Err(error)) => Err(io::Error::other(error)),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

async fn ask_again(
    mut send: SendRequest<Bytes>,
    request: Arc<Request>,
    tally: Arc<Tally>,
) -> Result<(), h2::Error> {
    loop {
        let began = Instant::now();
        send = send.ready().await?;
        let answer = ask(&mut send, &request).await?;
        tally.note(&Ok(answer), request.chunks, began.elapsed());
    }
}

async fn ask(send: &mut SendRequest<Bytes>, request: &Request) -> Result<Answer, h2::Error> {
    let (head, mut body) = send.send_request(request.head.clone(), false)?;
    body.send_data(request.body.clone(), true)?;
    let (head, mut body) = head.await?.into_parts();
    let mut answer = Answer::begun(head.status.as_u16());
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        answer.count(&piece);
    }
    Ok(answer)
}
