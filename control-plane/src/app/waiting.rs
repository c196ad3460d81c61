//! Answers for an API that cannot be there yet: 503, on the same socket, until it is.

use std::net::TcpListener;

use actix_web::dev::ServerHandle;
use actix_web::http::KeepAlive;
use actix_web::{App, HttpResponse, HttpServer, ResponseError as _, web};

use crate::problem::ApiError;

/// How long an answer that is under way may take when the API takes over, seconds.
const GRACE: u64 = 1;

/// A server that says that it waits.
pub(super) struct Waiting(ServerHandle);

impl Waiting {
    /// Answers on a copy of the socket: what connects while one server takes over from the other waits in the
    /// socket's queue.
    pub(super) fn start(listener: &TcpListener) -> std::io::Result<Self> {
        let server = HttpServer::new(|| App::new().default_service(web::route().to(away)))
            .workers(1)
            // nobody stays on a connection whose next request is for the API
            .keep_alive(KeepAlive::Disabled)
            .shutdown_timeout(GRACE)
            .disable_signals()
            .listen(listener.try_clone()?)?
            .run();
        let handle = server.handle();
        tokio::spawn(server);
        Ok(Self(handle))
    }

    /// Ends it.
    pub(super) async fn end(self) {
        self.0.stop(true).await;
    }
}

async fn away() -> HttpResponse {
    let why = "the control plane waits for its database";
    ApiError::Unavailable(why.to_owned()).error_response()
}
