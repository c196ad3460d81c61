//! Logging in and out, and one's own account.

use actix_web::{HttpRequest, HttpResponse, get, post, put, web};
use aivonx_shared::fleet_doc::Secret;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Instant;
use utoipa::ToSchema;

use super::actor::{Actor, Visitor, session_id};
use super::body::{Body, FormOrJson, OpenBody, RawBody};
use crate::app::App;
use crate::auth::password::PasswordError;
use crate::auth::refresh::{self, RefreshToken};
use crate::auth::session::CookieJar;
use crate::auth::token::Subject;
use crate::auth::{Permission, bootstrap, csrf, random, throttle::Turn};
use crate::domain::{Hidden, Role, check_password};
use crate::problem::{ApiError, ApiResult};
use crate::store::{Change, NewRefreshToken, Rotation, StoreError, Time, User};
use crate::telemetry::LoginResult;

/// What a login sends. The predecessor's callers say `account` and `passwd`.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct Login {
    /// The user's name; or `account`.
    #[serde(alias = "account")]
    #[schema(value_type = String, required)]
    username: Option<String>,
    /// The user's password; or `passwd`.
    #[serde(alias = "passwd")]
    #[schema(value_type = String, required)]
    password: Option<Hidden>,
}

/// A pair of tokens.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Tokens {
    /// To be sent as `Authorization: Bearer …`, for some minutes.
    access: String,
    /// For `/api/account/refresh`, once.
    refresh: String,
    /// Seconds until the access token expires.
    expires_in: u64,
}

/// A refresh token.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct Refresh {
    /// As a login or a refresh gave it.
    #[schema(value_type = String)]
    refresh: Hidden,
}

/// Who one is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Me {
    id: i64,
    name: String,
    email: String,
    /// What one may do now.
    role: Role,
    must_change_password: bool,
}

impl Me {
    /// A user with what it may do.
    pub(super) fn of(user: User, role: Role) -> Self {
        Self {
            id: user.id,
            name: user.name,
            email: user.email,
            role,
            must_change_password: user.must_change_password,
        }
    }
}

/// A change of one's own password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasswordChange {
    /// The present one.
    #[schema(value_type = String)]
    current: Hidden,
    /// The new one: 10 characters or more.
    #[schema(value_type = String, min_length = 10, max_length = 512)]
    new: Hidden,
}

/// Logs in.
#[utoipa::path(tag = "account", request_body = Login, responses(
    (status = 200, description = "A pair of tokens", body = Tokens),
    (status = 400, description = "A name or a password is missing"),
    (status = 401, description = "Wrong name or password"),
    (status = 429, description = "Too many tries; Retry-After says when")))]
#[post("/api/account/login")]
pub(crate) async fn log_in(
    app: web::Data<App>,
    visitor: Visitor,
    FormOrJson(login): FormOrJson<Login>,
) -> ApiResult<HttpResponse> {
    let user = judged(&app, &visitor, login).await?;
    let now = Time::now();
    let (refresh, kept) = new_refresh(&app, &visitor, now);
    let family = refresh::family(random::bytes());
    let ends_at = (now.utc() + refresh::FAMILY_LIFE).into();
    app.db
        .insert_refresh_token(user.id, &family, ends_at, kept)
        .await?;
    note_login(&app, &visitor, &user, now).await?;
    Ok(no_store(&tokens(&app, &user, &refresh, now)))
}

/// The user whose name and password these are. Not from another site's page: that would put its
/// visitor into a stranger's account.
pub(super) async fn judged(app: &App, visitor: &Visitor, login: Login) -> ApiResult<User> {
    csrf::judge_login(visitor.source).map_err(|error| ApiError::Forbidden(error.to_string()))?;
    let (Some(name), Some(password)) = (login.username, login.password) else {
        return Err(ApiError::Malformed("Missing credentials.".to_owned()));
    };
    let judged = authenticate(app, visitor, &name, password).await;
    app.metrics.logins.count(login_result(&judged));
    judged
}

/// Remembers a login, with the user and in the audit.
pub(super) async fn note_login(
    app: &App,
    visitor: &Visitor,
    user: &User,
    now: Time,
) -> ApiResult<()> {
    app.db.touch_login(user.id, now).await?;
    let change = Change::by_user(user.id, user.name.clone(), visitor.client.address);
    let about = (user.id.to_string(), user.name.clone());
    Ok(app.db.note(&change, ("login", "user"), about, None).await?)
}

/// Exchanges a refresh token for another pair.
#[utoipa::path(tag = "account", request_body = Refresh, responses(
    (status = 200, description = "A pair of tokens", body = Tokens),
    (status = 401, description = "The token is not good; one that was used before ends its whole family")))]
#[post("/api/account/refresh")]
pub(crate) async fn refresh_tokens(
    app: web::Data<App>,
    visitor: Visitor,
    OpenBody(given): OpenBody<Refresh>,
) -> ApiResult<HttpResponse> {
    let refused = || ApiError::BadToken("Token is invalid or expired".to_owned());
    let digest = RefreshToken::read(given.refresh.reveal()).ok_or_else(refused)?;
    let digest = Hidden::new(digest.hex());
    let now = Time::now();
    let (token, kept) = new_refresh(&app, &visitor, now);
    match app.db.rotate_refresh_token(digest, kept).await? {
        Rotation::Rotated(kept) => {
            let user = app.db.user(kept.user_id).await?;
            if !user.is_active {
                return Err(refused());
            }
            Ok(no_store(&tokens(&app, &user, &token, now)))
        }
        Rotation::Replayed(stolen) => {
            let name = app.db.user(stolen.user_id).await?.name;
            let change = Change::by_user(stolen.user_id, name.clone(), visitor.client.address);
            let about = (stolen.user_id.to_string(), name);
            app.db
                .note(&change, ("refresh_replayed", "user"), about, None)
                .await?;
            tracing::warn!(
                user.id = stolen.user_id,
                "a refresh token was used twice; its family is revoked"
            );
            Err(refused())
        }
        Rotation::Revoked(_) | Rotation::Expired(_) | Rotation::Unknown => Err(refused()),
    }
}

/// Ends a login: the family of the refresh token, and the session of the console.
#[utoipa::path(tag = "account", responses((status = 204, description = "Logged out, or nobody was")))]
#[post("/api/account/logout")]
pub(crate) async fn log_out(
    app: web::Data<App>,
    request: HttpRequest,
    visitor: Visitor,
    given: RawBody,
) -> ApiResult<HttpResponse> {
    csrf::judge_login(visitor.source).map_err(|error| ApiError::Forbidden(error.to_string()))?;
    let given = given.json::<Refresh>();
    if let Some(digest) = given.and_then(|given| RefreshToken::read(given.refresh.reveal())) {
        match app.db.refresh_token(Hidden::new(digest.hex())).await {
            Ok(token) => {
                app.db
                    .revoke_refresh_family(&token.family, Time::now())
                    .await?;
            }
            Err(StoreError::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut answer = HttpResponse::NoContent();
    if let Some(id) = session_id(&request, visitor.client) {
        let id = id.digest().hex();
        super::session::end(&app, &id).await?;
        for cookie in CookieJar::new(visitor.client.is_tls).clear() {
            answer.append_header((actix_web::http::header::SET_COOKIE, cookie));
        }
    }
    Ok(answer.finish())
}

/// Who one is.
#[utoipa::path(tag = "account", security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = Me), (status = 401, description = "Nobody is logged in")))]
#[get("/api/account/me")]
pub(crate) async fn who_am_i(actor: Actor) -> ApiResult<web::Json<Me>> {
    actor.may(Permission::OwnAccount)?;
    Ok(web::Json(Me::of(actor.user, actor.role)))
}

/// Changes one's own password. All other logins end.
#[utoipa::path(tag = "account", request_body = PasswordChange, security(("bearer" = []), ("session" = [])), responses(
    (status = 204, description = "Changed; log in again"),
    (status = 400, description = "The new password will not do, or the present one is wrong"),
    (status = 429, description = "Too many tries; Retry-After says when")))]
#[put("/api/account/password")]
pub(crate) async fn change_password(
    app: web::Data<App>,
    actor: Actor,
    Body(change): Body<PasswordChange>,
) -> ApiResult<HttpResponse> {
    actor.may(Permission::OwnAccount)?;
    wait_for_turn(&app, &actor.user.name, &actor.client)?;
    let current = Secret::new(change.current.reveal());
    let stored = actor.user.password_hash.reveal().to_owned();
    if !verified(app.passwords.verify(current, Some(stored)).await)?.ok {
        return Err(ApiError::field("current", "is not the present password"));
    }
    app.throttle.succeeded(
        &actor.user.name.to_lowercase(),
        actor.client.address,
        Instant::now(),
    );
    check_password("new", change.new.reveal(), &actor.user.name)?;
    let hash = hashed(&app, change.new.reveal()).await?;
    let by = actor.change();
    app.db
        .set_password(&by, actor.user.id, hash, false, actor.session.clone())
        .await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The hash of a new password.
pub(super) async fn hashed(app: &App, password: &str) -> ApiResult<Hidden> {
    let hash = app
        .passwords
        .hash(Secret::new(password), random::bytes())
        .await;
    verified(hash).map(Hidden::new)
}

fn verified<T>(result: Result<T, PasswordError>) -> ApiResult<T> {
    result.map_err(|error| match error {
        PasswordError::Busy => ApiError::Unavailable(error.to_string()),
        PasswordError::TooLong => ApiError::field("password", error.to_string()),
        PasswordError::Failed => ApiError::internal("hashing a password", &error),
    })
}

fn wait_for_turn(app: &App, name: &str, client: &crate::auth::Client) -> ApiResult<()> {
    match app
        .throttle
        .attempt(&name.to_lowercase(), client.address, Instant::now())
    {
        Turn::Allowed => Ok(()),
        Turn::Wait(wait) => Err(ApiError::SlowDown(wait)),
    }
}

fn login_result(judged: &ApiResult<User>) -> LoginResult {
    match judged {
        Ok(_) => LoginResult::Ok,
        Err(ApiError::WrongPassword) => LoginResult::Refused,
        Err(ApiError::SlowDown(_)) => LoginResult::Throttled,
        Err(_) => LoginResult::Failed,
    }
}

/// The user of a name and a password. Who is refused hears the same, whatever the reason.
async fn authenticate(
    app: &App,
    visitor: &Visitor,
    name: &str,
    password: Hidden,
) -> ApiResult<User> {
    wait_for_turn(app, name, &visitor.client)?;
    let user = match app.db.user_by_name(name).await {
        Ok(user) => Some(user),
        Err(StoreError::NotFound) => None,
        Err(error) => return Err(error.into()),
    };
    let secret = Secret::new(password.reveal());
    let stored = user
        .as_ref()
        .map(|user| user.password_hash.reveal().to_owned());
    let verdict = match app.passwords.verify(secret.clone(), stored).await {
        Ok(verdict) => verdict,
        Err(error) => {
            app.throttle
                .not_judged(&name.to_lowercase(), visitor.client.address, Instant::now());
            return verified(Err(error));
        }
    };
    let is_refused = bootstrap::refuses_login(&secret, visitor.client.is_loopback);
    let Some(user) = user.filter(|user| verdict.ok && user.is_active && !is_refused) else {
        note_failure(app, visitor, name).await;
        return Err(ApiError::WrongPassword);
    };
    app.throttle
        .succeeded(&name.to_lowercase(), visitor.client.address, Instant::now());
    if verdict.needs_upgrade {
        let new = hashed(app, secret.reveal()).await?;
        let old = user.password_hash.clone();
        app.db.rehash_password(user.id, old, new).await?;
    }
    Ok(user)
}

/// Who tries what matters later; the name may be a password typed into the wrong field, so it is cut.
async fn note_failure(app: &App, visitor: &Visitor, name: &str) {
    let mut change = Change::by_system("login");
    change.address = visitor.client.address;
    let name: String = name
        .chars()
        .filter(|letter| !letter.is_control())
        .take(64)
        .collect();
    let known = app.db.user_by_name(&name).await.is_ok();
    let shown = if known { name } else { "?".to_owned() };
    // the refusal stands, whether it could be remembered or not
    let _ = app
        .db
        .note(
            &change,
            ("login_failed", "user"),
            (String::new(), shown),
            None,
        )
        .await;
}

fn new_refresh(app: &App, visitor: &Visitor, now: Time) -> (RefreshToken, NewRefreshToken) {
    let token = RefreshToken::new(random::bytes());
    let kept = NewRefreshToken {
        id: refresh::family(random::bytes()),
        sha256: Hidden::new(token.digest.hex()),
        issued_at: now,
        expires_at: (now.utc() + app.config.logins.refresh_token).into(),
        user_agent: visitor.user_agent.clone(),
        address: visitor
            .client
            .address
            .map(|ip| ip.to_string())
            .unwrap_or_default(),
    };
    (token, kept)
}

fn tokens(app: &App, user: &User, refresh: &RefreshToken, now: Time) -> Tokens {
    let subject = Subject {
        user_id: user.id,
        name: user.name.clone(),
        role: user.role,
        password: user.password_stamp(),
    };
    let lifetime = app.config.logins.access_token;
    let access = app
        .key_ring()
        .sign(&subject, lifetime, now.utc(), random::bytes());
    Tokens {
        access: access.reveal().to_owned(),
        refresh: refresh.secret.reveal().to_owned(),
        expires_in: lifetime.as_secs(),
    }
}

fn no_store(tokens: &Tokens) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((actix_web::http::header::CACHE_CONTROL, "no-store"))
        .json(json!(tokens))
}
