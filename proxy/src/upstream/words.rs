//! A failure of a node in words for a client: what happened, no addresses.

use pingora::prelude::{Error, ErrorType};

/// The words for an error of Pingora's.
pub(crate) fn plain(error: &Error) -> &'static str {
    match error.etype() {
        ErrorType::ConnectRefused => "connection refused",
        ErrorType::ConnectTimedout => "no connection in time",
        ErrorType::ConnectNoRoute => "no route to it",
        ErrorType::TLSHandshakeFailure
        | ErrorType::TLSHandshakeTimedout
        | ErrorType::InvalidCert => "no TLS with it",
        ErrorType::ConnectError | ErrorType::SocketError | ErrorType::BindError => "no connection",
        ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError => {
            "connection broke off"
        }
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => "no answer in time",
        ErrorType::InvalidHTTPHeader | ErrorType::H1Error => "it answered no HTTP",
        _ => "unknown failure",
    }
}
