//! A browser's login: a session in a cookie, in the place of tokens that scripts would have to keep.

use actix_web::http::header::{CACHE_CONTROL, SET_COOKIE};
use actix_web::{HttpRequest, HttpResponse, post, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::account::{Login, Me, judged, note_login};
use super::actor::{Visitor, session_id, session_life};
use super::body::FormOrJson;
use crate::app::App;
use crate::auth::session::{CookieJar, SessionId};
use crate::auth::{csrf, random};
use crate::problem::ApiResult;
use crate::store::{NewSession, StoreError, Time};

/// A session that began.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionBegun {
    /// To be sent as `X-CSRF-Token` with everything that changes something. The cookie `csrftoken` holds
    /// the same, for pages that are loaded again.
    csrf_token: String,
    /// From then on one has to log in again, whatever happens.
    expires_at: String,
    user: Me,
}

/// Logs a browser in: the answer sets a cookie that scripts cannot read (`HttpOnly`, `SameSite=Lax`, over
/// TLS `Secure` and `__Host-`). `POST /api/account/logout` ends it.
#[utoipa::path(tag = "account", request_body = Login, responses(
    (status = 200, description = "The cookies are set", body = SessionBegun),
    (status = 400, description = "A name or a password is missing"),
    (status = 401, description = "Wrong name or password"),
    (status = 403, description = "The request comes from another site"),
    (status = 429, description = "Too many tries; Retry-After says when")))]
#[post("/api/account/session")]
pub(crate) async fn begin_session(
    app: web::Data<App>,
    request: HttpRequest,
    visitor: Visitor,
    FormOrJson(login): FormOrJson<Login>,
) -> ApiResult<HttpResponse> {
    let user = judged(&app, &visitor, login).await?;
    // a browser has one: who logs in anew leaves none behind
    if let Some(old) = session_id(&request, visitor.client) {
        end(&app, &old.digest().hex()).await?;
    }
    let (id, now, life) = (
        SessionId::new(random::bytes()),
        Time::now(),
        session_life(&app),
    );
    let address = visitor.client.address;
    let new = NewSession {
        id: id.digest().hex(),
        user_id: user.id,
        created_at: now,
        expires_at: (now.utc() + life.idle.min(life.absolute)).into(),
        user_agent: visitor.user_agent.clone(),
        address: address.map(|ip| ip.to_string()).unwrap_or_default(),
    };
    app.db.insert_session(new).await?;
    note_login(&app, &visitor, &user, now).await?;
    let jar = CookieJar::new(visitor.client.is_tls);
    let role = user.role;
    Ok(HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "no-store"))
        .append_header((SET_COOKIE, jar.set_session(&id, life.absolute)))
        .append_header((SET_COOKIE, jar.set_csrf(&id, life.absolute)))
        .json(SessionBegun {
            csrf_token: csrf::token(&id),
            expires_at: Time::from(now.utc() + life.absolute).to_string(),
            user: Me::of(user, role),
        }))
}

/// Ends the session of this id, if there is one.
pub(super) async fn end(app: &App, id: &str) -> ApiResult<()> {
    match app.db.session(id, Time::now()).await {
        Ok((session, _)) => Ok(app.db.delete_session(session.user_id, id).await?),
        Err(StoreError::NotFound) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
