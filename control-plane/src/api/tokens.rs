//! One's own personal access tokens and sessions.

use actix_web::{HttpResponse, delete, get, post, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::actor::Actor;
use super::body::{Body, Id};
use crate::app::App;
use crate::auth::api_key::{KeyKind, NewKey};
use crate::auth::{Permission, random};
use crate::domain::{Hidden, Role};
use crate::problem::{ApiError, ApiResult};
use crate::store::{NewPersonalToken, PersonalToken, Time};

/// A personal access token as shown.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenView {
    id: i64,
    name: String,
    /// What it may do at most.
    role: Role,
    expires_at: Option<String>,
    last_used_at: Option<String>,
    created_at: String,
}

/// A new token: the only time that its text is shown.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenOnce {
    /// To be kept now; it cannot be shown again.
    token: String,
    #[serde(flatten)]
    view: TokenView,
}

/// What is said of a token to make it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenDraft {
    /// Unique among one's own.
    name: String,
    /// What it may do at most; one's own role, if it is not said.
    role: Option<Role>,
    /// From then on it is worth nothing.
    expires_at: Option<DateTime<Utc>>,
}

/// A login that lasts: a session of the console, or a family of refresh tokens.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionView {
    id: String,
    /// `session` or `refresh`.
    kind: &'static str,
    created_at: String,
    last_seen_at: String,
    expires_at: String,
    user_agent: String,
    address: String,
    /// Whether this request came with it.
    is_this: bool,
}

impl From<PersonalToken> for TokenView {
    fn from(token: PersonalToken) -> Self {
        Self {
            id: token.id,
            name: token.name,
            role: token.role,
            expires_at: token.expires_at.map(|at| at.to_string()),
            last_used_at: token.last_used_at.map(|at| at.to_string()),
            created_at: token.created_at.to_string(),
        }
    }
}

/// One's own personal access tokens.
#[utoipa::path(tag = "account", security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = Vec<TokenView>), (status = 401, description = "Nobody is logged in")))]
#[get("/api/account/tokens")]
pub(crate) async fn list_tokens(
    app: web::Data<App>,
    actor: Actor,
) -> ApiResult<web::Json<Vec<TokenView>>> {
    actor.may(Permission::OwnAccount)?;
    let tokens = app.db.personal_tokens_of(actor.user.id).await?;
    Ok(web::Json(tokens.into_iter().map(TokenView::from).collect()))
}

/// Makes a personal access token and shows it, once. It may do no more than who makes it.
#[utoipa::path(tag = "account", request_body = TokenDraft, security(("bearer" = []), ("session" = [])), responses(
    (status = 201, body = TokenOnce), (status = 400, description = "What is wrong, by field"),
    (status = 409, description = "Another one of yours has this name")))]
#[post("/api/account/tokens")]
pub(crate) async fn create_token(
    app: web::Data<App>,
    actor: Actor,
    Body(draft): Body<TokenDraft>,
) -> ApiResult<HttpResponse> {
    actor.may(Permission::OwnAccount)?;
    let name = draft.name.trim();
    if name.is_empty() || name.chars().count() > 100 || name.chars().any(char::is_control) {
        return Err(ApiError::field(
            "name",
            "must be 1 to 100 characters, none of them a control character",
        ));
    }
    let role = draft.role.unwrap_or(actor.role);
    if role > actor.role {
        return Err(ApiError::field(
            "role",
            format!("must not be more than your own, {}", actor.role),
        ));
    }
    if draft.expires_at.is_some_and(|at| at <= Utc::now()) {
        return Err(ApiError::field("expires_at", "must be in the future"));
    }
    let new = NewKey::new(KeyKind::Personal, random::bytes());
    let kept = NewPersonalToken {
        user_id: actor.user.id,
        name: name.to_owned(),
        sha256: Hidden::new(new.digest.hex()),
        role,
        expires_at: draft.expires_at.map(Time::from),
    };
    let token = app.db.create_personal_token(&actor.change(), kept).await?;
    Ok(HttpResponse::Created()
        .insert_header((actix_web::http::header::CACHE_CONTROL, "no-store"))
        .json(TokenOnce {
            token: new.secret.reveal().to_owned(),
            view: token.into(),
        }))
}

/// Revokes one of one's own tokens.
#[utoipa::path(tag = "account", params(("id" = i64, Path)), security(("bearer" = []), ("session" = [])), responses(
    (status = 204, description = "It is revoked"), (status = 404, description = "You have none like it")))]
#[delete("/api/account/tokens/{id}")]
pub(crate) async fn delete_token(
    app: web::Data<App>,
    actor: Actor,
    Id(id): Id,
) -> ApiResult<HttpResponse> {
    actor.may(Permission::OwnAccount)?;
    app.db
        .delete_personal_token(&actor.change(), actor.user.id, id)
        .await?;
    Ok(HttpResponse::NoContent().finish())
}

/// One's own logins that last.
#[utoipa::path(tag = "account", security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = Vec<SessionView>), (status = 401, description = "Nobody is logged in")))]
#[get("/api/account/sessions")]
pub(crate) async fn list_sessions(
    app: web::Data<App>,
    actor: Actor,
) -> ApiResult<web::Json<Vec<SessionView>>> {
    actor.may(Permission::OwnAccount)?;
    let now = Time::now();
    let sessions = app.db.sessions_of(actor.user.id, now).await?.into_iter();
    let sessions = sessions.map(|session| SessionView {
        is_this: actor.session.as_deref() == Some(&session.id),
        id: session.id,
        kind: "session",
        created_at: session.created_at.to_string(),
        last_seen_at: session.last_seen_at.to_string(),
        expires_at: session.expires_at.to_string(),
        user_agent: session.user_agent,
        address: session.address,
    });
    let families = app
        .db
        .refresh_tokens_of(actor.user.id, now)
        .await?
        .into_iter();
    let families = families.map(|token| SessionView {
        is_this: false,
        id: token.family,
        kind: "refresh",
        created_at: token.issued_at.to_string(),
        last_seen_at: token.issued_at.to_string(),
        expires_at: token.expires_at.to_string(),
        user_agent: token.user_agent,
        address: token.address,
    });
    Ok(web::Json(sessions.chain(families).collect()))
}

/// Ends one of one's own logins.
#[utoipa::path(tag = "account", params(("id" = String, Path, pattern = "^[A-Za-z0-9_-]{1,64}$")), security(("bearer" = []), ("session" = [])), responses(
    (status = 204, description = "It is ended"), (status = 404, description = "You have none like it")))]
#[delete("/api/account/sessions/{id}")]
pub(crate) async fn delete_session(
    app: web::Data<App>,
    actor: Actor,
    id: web::Path<String>,
) -> ApiResult<HttpResponse> {
    actor.may(Permission::OwnAccount)?;
    let now = Time::now();
    let families = app.db.refresh_tokens_of(actor.user.id, now).await?;
    if families.iter().any(|token| token.family == *id) {
        app.db.revoke_refresh_family(&id, now).await?;
    } else {
        app.db.delete_session(actor.user.id, &id).await?;
    }
    Ok(HttpResponse::NoContent().finish())
}
