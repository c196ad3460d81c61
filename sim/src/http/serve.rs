//! A connection from its first request to its last: read, check, break if told to, answer.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::body::BodyReader;
use super::conn::Conn;
use super::head::{Head, HeadError, read_head};
use super::reply::{Reply, Stop, Written, lights_out, reason};
use crate::answer::{ApiError, Dialect, send_error, send_text};
use crate::cors::{Verdict, check};
use crate::digest::hex;
use crate::fault::{Asked, Fault, millis};
use crate::handlers::{self, Request};
use crate::node::Node;
use crate::routes::{Resolution, Route, resolve};
use crate::seen::{OpenRequest, Outcome, SeenRequest};

/// Unread bodies up to this are read away so that the connection can live on, as in Go.
const DRAIN: usize = 256 << 10;

/// What to do with the connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Request,
    /// At once.
    Close,
    /// So that the client surely reads the answer.
    CloseGently,
}

/// Serves one connection until either side ends it.
pub(crate) async fn serve(node: Arc<Node>, conn: Conn) {
    let early = Asked {
        path: "",
        inference: false,
        model: None,
    };
    if node
        .faults
        .take(&early, |f| *f == Fault::ResetOnAccept)
        .is_some()
    {
        conn.reset();
        return;
    }
    loop {
        conn.shrink();
        let head = tokio::select! {
            biased;
            head = read_head(&conn) => head,
            () = refused(&node) => return,
        };
        if node.faults.state().dark {
            lights_out(&conn, &node.faults).await;
            return;
        }
        let next = match head {
            Ok(head) => Box::pin(exchange(&node, &conn, &head)).await,
            Err(HeadError::Closed) => Next::Close,
            Err(HeadError::Refused(text)) => {
                refuse(&conn, text).await;
                Next::CloseGently
            }
        };
        match next {
            Next::Request => {}
            Next::Close => return,
            Next::CloseGently => return conn.close_gently().await,
        }
    }
}

/// Returns when the node stops listening; an idle connection ends with it.
async fn refused(node: &Node) {
    let mut state = node.faults.subscribe();
    if state.wait_for(|s| s.refuse).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Go's answer to what is not a request.
async fn refuse(conn: &Conn, text: &str) {
    let line = text;
    let answer = format!(
        "HTTP/1.1 {line}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n{text}"
    );
    let _ = conn.send(answer.as_bytes()).await;
}

async fn exchange(node: &Arc<Node>, conn: &Conn, head: &Head) -> Next {
    let mut open = OpenRequest::new(&node.seen, || seen(conn, head));
    let mut reply = Reply::new(conn, head, &node.faults, &node.clock);
    let mut body = BodyReader::new(conn, head);
    let resolution = resolve(&head.method, &head.path);
    let inference = matches!(&resolution, Resolution::Found(r) if r.is_inference());
    let asked = Asked {
        path: &head.path,
        inference,
        model: None,
    };
    let early = node.faults.take(&asked, Fault::is_early);
    let written = match early {
        Some(Fault::StatusBeforeBody { code, message }) => {
            open.end(Outcome::Faulted);
            reply.close_after();
            fail(node, &mut reply, head, code, message).await
        }
        Some(Fault::ResetWhileReading { bytes }) => {
            open.end(Outcome::Faulted);
            reset_while_reading(conn, &mut body, bytes).await
        }
        _ => {
            answer(
                node, conn, head, resolution, &mut body, &mut reply, &mut open,
            )
            .await
        }
    };
    match written {
        Err(Stop::Closed) => return Next::Close,
        Ok(()) | Err(Stop::Ended) => {}
    }
    if !body.is_done() && (body.is_promised() || !drain(&mut body).await) {
        return Next::Close;
    }
    if reply.keeps_alive() {
        Next::Request
    } else {
        Next::Close
    }
}

/// Answers a request that no early fault has ended.
async fn answer(
    node: &Arc<Node>,
    conn: &Conn,
    head: &Head,
    resolution: Resolution,
    body: &mut BodyReader<'_>,
    reply: &mut Reply<'_>,
    open: &mut OpenRequest<'_>,
) -> Written {
    let Some(route) = route_or_answer(head, resolution, reply).await? else {
        open.end(Outcome::Finished(reply.status));
        return Ok(());
    };
    let Some(request) = read_body(node, head, &route, body).await else {
        return Err(Stop::Closed);
    };
    let model = handlers::named_model(&request, &route);
    node.seen.update(open.number, |r| {
        r.body_len = request.body_len;
        r.body_sha256.clone_from(&request.body_sha256);
        r.model = model.clone().unwrap_or_default();
    });
    let asked = Asked {
        path: &head.path,
        inference: route.is_inference(),
        model: model.as_deref(),
    };
    let fault = node
        .faults
        .take(&asked, |f| !f.is_early() && *f != Fault::ResetOnAccept);
    let has_fault = fault.is_some();
    let in_flight = route.is_inference().then(|| node.begin());
    let work = async {
        if let Some(done) = misbehave(node, conn, head, reply, fault).await {
            return done;
        }
        handlers::handle(node, &request, &route, reply).await?;
        reply.finish().await
    };
    let written = tokio::select! {
        biased;
        written = Box::pin(work) => written,
        () = conn.gone() => {
            drop(in_flight);
            return Err(Stop::Closed);
        }
    };
    drop(in_flight);
    open.end(match written {
        Ok(()) if !has_fault => Outcome::Finished(reply.status),
        Err(Stop::Closed) if !has_fault => Outcome::Cancelled,
        Ok(()) | Err(Stop::Ended | Stop::Closed) => Outcome::Faulted,
    });
    written
}

/// Redirects, 403, 404 and 405 come before a body is read; `None` when one of them was sent.
async fn route_or_answer(
    head: &Head,
    resolution: Resolution,
    reply: &mut Reply<'_>,
) -> Result<Option<Route>, Stop> {
    if let Resolution::Redirect { status, path } = &resolution {
        redirect(head, reply, *status, path).await?;
        return Ok(None);
    }
    if let Resolution::NotAllowed(methods) = &resolution {
        reply.header("Allow", methods.clone());
    }
    if let Verdict::End(status) = check(head, reply) {
        reply.status = status;
        reply.finish().await?;
        return Ok(None);
    }
    match resolution {
        Resolution::Found(route) => return Ok(Some(route)),
        Resolution::NotAllowed(_) => {
            send_text(reply, 405, "text/plain", "405 method not allowed").await?;
        }
        Resolution::NotFound | Resolution::Redirect { .. } => {
            send_text(reply, 404, "text/plain", "404 page not found").await?;
        }
    }
    Ok(None)
}

async fn redirect(head: &Head, reply: &mut Reply<'_>, status: u16, path: &str) -> Written {
    let location = match head.target.split_once('?') {
        Some((_, query)) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    reply.status = status;
    reply.header("Location", location.clone());
    if matches!(head.method.as_str(), "GET" | "HEAD") {
        reply.header("Content-Type", "text/html; charset=utf-8");
        let escaped = location
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;");
        reply.write(format!("<a href=\"{escaped}\">{}</a>.\n\n", reason(status)).as_bytes());
    }
    reply.finish().await
}

/// Faults that take the place of an answer; stream faults are armed on the reply.
async fn misbehave(
    node: &Node,
    conn: &Conn,
    head: &Head,
    reply: &mut Reply<'_>,
    fault: Option<Fault>,
) -> Option<Written> {
    match fault? {
        Fault::Hang => std::future::pending().await,
        Fault::Delay { millis: n } => {
            node.clock.sleep(millis(n)).await;
            None
        }
        Fault::Status { code, message } => Some(fail(node, reply, head, code, message).await),
        Fault::Garbage => {
            let noise: Vec<u8> = (0..64).map(|_| node.draw(256) as u8 | 0x80).collect();
            let _ = conn.send(&noise).await;
            Some(Err(Stop::Closed))
        }
        stream => {
            reply.set_fault(Some(stream));
            None
        }
    }
}

/// An error in the dialect of the path; by default one that names the runner.
async fn fail(
    node: &Node,
    reply: &mut Reply<'_>,
    head: &Head,
    code: u16,
    message: Option<String>,
) -> Written {
    let text = message.unwrap_or_else(|| {
        "model runner has unexpectedly stopped, this may be due to resource limitations or an \
         internal error, check ollama server logs for details"
            .into()
    });
    send_error(
        reply,
        Dialect::of(&head.path),
        &ApiError::new(code, text),
        node.id(),
    )
    .await
}

async fn reset_while_reading(conn: &Conn, body: &mut BodyReader<'_>, bytes: usize) -> Written {
    let mut read = 0;
    while read < bytes {
        match body.next().await {
            Ok(Some(piece)) => read += piece.len(),
            _ => break,
        }
    }
    conn.reset();
    Err(Stop::Closed)
}

/// Reads the body; blobs are only hashed. `None` when the client left or broke the framing.
async fn read_body<'a>(
    node: &Node,
    head: &'a Head,
    route: &Route,
    body: &mut BodyReader<'_>,
) -> Option<Request<'a>> {
    let is_blob = matches!(route, Route::BlobPut(_));
    let hashes = is_blob || node.seen.on();
    let (mut hash, mut len, mut bytes) = (Sha256::new(), 0, Vec::new());
    while let Some(piece) = body.next().await.ok()? {
        len += piece.len() as u64;
        if hashes {
            hash.update(&piece);
        }
        if !is_blob {
            bytes.extend_from_slice(&piece);
        }
    }
    let body_sha256 = if hashes {
        hex(&hash.finalize())
    } else {
        String::new()
    };
    Some(Request::new(head, route, bytes, len, body_sha256))
}

/// Reads away a small rest of a body; whether it is all gone.
async fn drain(body: &mut BodyReader<'_>) -> bool {
    let mut read = 0;
    while read <= DRAIN {
        match body.next().await {
            Ok(Some(piece)) => read += piece.len(),
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
    false
}

fn seen(conn: &Conn, head: &Head) -> SeenRequest {
    SeenRequest {
        number: 0,
        connection: conn.number,
        method: head.method.clone(),
        path: head.path.clone(),
        target: head.target.clone(),
        headers: head.headers.clone(),
        body_len: 0,
        body_sha256: String::new(),
        model: String::new(),
        outcome: Outcome::Open,
    }
}
