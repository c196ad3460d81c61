//! Reading what a caller sends: JSON bodies with an error that says what is wrong, and queries. Extractors
//! run side by side, so those of routes that need a login ask for it before they complain: who may not
//! ask hears that, and nothing of what was wrong otherwise.

use std::future::Future;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::web::Bytes;
use actix_web::{FromRequest, HttpMessage, HttpRequest};
use serde::de::DeserializeOwned;

use super::actor::Actor;
use crate::problem::ApiError;

/// Longest body, bytes: far above any draft, far below what could hurt.
pub(crate) const LONGEST: usize = 1 << 20;

/// A body in JSON, of somebody who is logged in.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned + 'static> FromRequest for Body<T> {
    type Error = ApiError;
    type Future = Reading<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let open = OpenBody::from_request(request, payload);
        told_to_users(request, async move { open.await.map(|open| Self(open.0)) })
    }
}

/// A body in JSON, of anybody.
#[derive(Debug)]
pub(crate) struct OpenBody<T>(pub(crate) T);

impl<T: DeserializeOwned + 'static> FromRequest for OpenBody<T> {
    type Error = ApiError;
    type Future = Reading<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let bytes = read(request, payload, is_json, ApiError::WrongType);
        Box::pin(async move { parse(&bytes.await?).map(Self) })
    }
}

/// What an extractor comes to.
pub(super) type Reading<T> = Pin<Box<dyn Future<Output = Result<T, ApiError>>>>;

/// What is read; who is not logged in hears that in the place of what is wrong with it.
pub(super) fn told_to_users<T: 'static>(
    request: &HttpRequest,
    read: impl Future<Output = Result<T, ApiError>> + 'static,
) -> Reading<T> {
    let request = request.clone();
    Box::pin(async move {
        match read.await {
            Ok(read) => Ok(read),
            Err(wrong) => {
                Actor::from_request(&request, &mut Payload::None).await?;
                Err(wrong)
            }
        }
    })
}

/// A body in JSON or, as HTML forms send it, urlencoded; of anybody.
#[derive(Debug)]
pub(crate) struct FormOrJson<T>(pub(crate) T);

impl<T: DeserializeOwned + 'static> FromRequest for FormOrJson<T> {
    type Error = ApiError;
    type Future = Reading<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        if request.content_type() != "application/x-www-form-urlencoded" {
            let body = OpenBody::<T>::from_request(request, payload);
            return Box::pin(async move { body.await.map(|body| Self(body.0)) });
        }
        let form = actix_web::web::Form::<T>::from_request(request, payload);
        Box::pin(async move {
            let form = form.await;
            form.map(|form| Self(form.into_inner()))
                .map_err(|error| ApiError::Malformed(format!("the form cannot be read: {error}")))
        })
    }
}

/// A body in YAML, or in JSON, which is YAML too.
#[derive(Debug)]
pub(crate) struct DocumentText(pub(crate) String);

impl FromRequest for DocumentText {
    type Error = ApiError;
    type Future = Reading<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let bytes = read(
            request,
            payload,
            |kind| is_yaml(kind) || is_json(kind),
            ApiError::NoDocument,
        );
        told_to_users(request, async move {
            let text = String::from_utf8(bytes.await?.to_vec());
            text.map(Self)
                .map_err(|_| ApiError::Malformed("the document is not UTF-8".to_owned()))
        })
    }
}

fn is_json(kind: &str) -> bool {
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

/// RFC 9512, and the names from before it.
fn is_yaml(kind: &str) -> bool {
    let known = [
        "application/yaml",
        "application/x-yaml",
        "text/yaml",
        "text/x-yaml",
    ];
    known.contains(&kind) || (kind.starts_with("application/") && kind.ends_with("+yaml"))
}

fn read(
    request: &HttpRequest,
    payload: &mut Payload,
    is_wanted: fn(&str) -> bool,
    otherwise: ApiError,
) -> impl Future<Output = Result<Bytes, ApiError>> + use<> {
    let kind = request.content_type().to_ascii_lowercase();
    let is_wanted = is_wanted(&kind);
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|text| text.to_str().ok()?.parse::<usize>().ok());
    let bytes = Bytes::from_request(request, payload);
    async move {
        if length.is_some_and(|length| length > LONGEST) {
            return Err(ApiError::TooLarge);
        }
        let bytes = bytes.await.map_err(|error| {
            if error.as_response_error().status_code()
                == actix_web::http::StatusCode::PAYLOAD_TOO_LARGE
            {
                ApiError::TooLarge
            } else {
                ApiError::Malformed("the body did not arrive whole".to_owned())
            }
        })?;
        if !is_wanted && !bytes.is_empty() {
            return Err(otherwise);
        }
        Ok(bytes)
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // an empty body is one without fields: the type says which are needed
    let bytes = if bytes.is_empty() { b"{}" } else { bytes };
    serde_json::from_slice(bytes)
        .map_err(|error| ApiError::Malformed(format!("JSON parse error - {error}")))
}

/// A body that need not be there.
#[derive(Debug)]
pub(crate) struct RawBody(Bytes);

impl RawBody {
    /// What it says, if it says that.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.0).ok()
    }
}

impl FromRequest for RawBody {
    type Error = ApiError;
    type Future = Reading<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let bytes = read(request, payload, is_json, ApiError::WrongType);
        Box::pin(async move { bytes.await.map(Self) })
    }
}

/// The query of an address.
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned + 'static> FromRequest for Query<T> {
    type Error = ApiError;
    type Future = Reading<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let query = actix_web::web::Query::<T>::from_query(request.query_string());
        let query = query
            .map(|query| Self(query.into_inner()))
            .map_err(|error| ApiError::Malformed(format!("the query cannot be read: {error}")));
        told_to_users(request, std::future::ready(query))
    }
}

/// An integer in the path that names something; anything else names nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Id(pub(crate) i64);

impl FromRequest for Id {
    type Error = ApiError;
    type Future = Reading<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let id = request
            .match_info()
            .get("id")
            .and_then(|text| text.parse().ok());
        let id = id
            .map(Self)
            .ok_or_else(|| ApiError::NotFound("Not found.".to_owned()));
        told_to_users(request, std::future::ready(id))
    }
}
