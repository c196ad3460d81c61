//! Who asks: an access token, a personal one, or the console's session, and from where. Every handler
//! that needs a login takes an `Actor` and says in its first line what it needs of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, web};
use aivonx_shared::fleet_doc::Secret;

use crate::app::App;
use crate::auth::api_key::{self, KeyKind};
use crate::auth::client::{
    CLIENT_HEADER, FORWARDING_HEADERS, FRONT_DOOR_HEADER, SCHEME_HEADER, Told,
};
use crate::auth::csrf;
use crate::auth::origin::{Asked, Source};
use crate::auth::session::{CookieJar, SessionId, SessionLife, SessionState, StoredSession};
use crate::auth::{Client, Permission};
use crate::domain::{Hidden, Role};
use crate::problem::{ApiError, ApiResult};
use crate::store::{Change, Session, StoreError, Time, User};

/// A user on the way of one request.
pub(crate) struct Actor {
    pub(crate) user: User,
    /// What it may do now: the user's own role, or less by a personal token.
    pub(crate) role: Role,
    pub(crate) client: Client,
    /// The console's session that it came with.
    pub(crate) session: Option<String>,
    /// When its token expires, where it has one that does.
    pub(crate) until: Option<Time>,
}

/// In a request's extensions: it is only looked whether its login still holds, and that is no use of it.
pub(crate) struct OnlyLook;

impl Actor {
    /// Refuses whom the role does not allow it, and who has to choose a password first.
    pub(crate) fn may(&self, permission: Permission) -> ApiResult<()> {
        if self.user.must_change_password && permission != Permission::OwnAccount {
            let words = "choose another password first: PUT /api/account/password";
            return Err(ApiError::Forbidden(words.to_owned()));
        }
        if self.role.allows(permission) {
            return Ok(());
        }
        Err(ApiError::Forbidden(format!(
            "the role {} does not have the permission {}",
            self.role,
            permission.as_str()
        )))
    }

    /// What a change tells its audit row.
    pub(crate) fn change(&self) -> Change {
        Change::by_user(self.user.id, self.user.name.clone(), self.client.address)
    }
}

impl FromRequest for Actor {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = ApiResult<Self>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let app = app(&request);
            let client = client(&request, &app);
            match bearer(&request) {
                Some(token) if token.starts_with(KeyKind::Personal.prefix()) => {
                    by_personal_token(&app, &token, client).await
                }
                Some(token) => by_access_token(&app, &token, client).await,
                None => by_session(&app, &request, client).await,
            }
        })
    }
}

/// Who a request without a login comes from, and where to.
pub(crate) struct Visitor {
    pub(crate) client: Client,
    /// What it calls itself, cut.
    pub(crate) user_agent: String,
    pub(crate) source: Source,
}

impl FromRequest for Visitor {
    type Error = ApiError;
    type Future = std::future::Ready<ApiResult<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let client = client(request, &app(request));
        let agent = text(request, header::USER_AGENT.as_str()).unwrap_or_default();
        std::future::ready(Ok(Self {
            client,
            user_agent: agent
                .chars()
                .filter(|letter| !letter.is_control())
                .take(200)
                .collect(),
            source: source(request, client),
        }))
    }
}

/// The console's session in a request's cookies.
pub(crate) fn session_id(request: &HttpRequest, client: Client) -> Option<SessionId> {
    let cookies = request.headers().get_all(header::COOKIE);
    CookieJar::new(client.is_tls).session(cookies.filter_map(|value| value.to_str().ok()))
}

fn app(request: &HttpRequest) -> Arc<App> {
    let app = request.app_data::<web::Data<App>>();
    Arc::clone(app.expect("`app` puts it in every worker"))
}

fn text<'a>(request: &'a HttpRequest, name: &str) -> Option<&'a str> {
    request.headers().get(name)?.to_str().ok()
}

fn client(request: &HttpRequest, app: &App) -> Client {
    let told = Told {
        client: text(request, CLIENT_HEADER),
        scheme: text(request, SCHEME_HEADER),
        is_forwarded: FORWARDING_HEADERS
            .iter()
            .any(|name| request.headers().contains_key(*name)),
    };
    let shown = text(request, FRONT_DOOR_HEADER);
    let by_front_door = app
        .front_door
        .as_ref()
        .is_some_and(|door| door.is_shown(shown));
    Client::of(
        request.peer_addr().map(|peer| peer.ip()),
        by_front_door,
        &told,
    )
}

fn source(request: &HttpRequest, client: Client) -> Source {
    let asked = Asked {
        is_tls: client.is_tls,
        host: text(request, header::HOST.as_str()).unwrap_or_default(),
        origin: text(request, header::ORIGIN.as_str()),
        referer: text(request, header::REFERER.as_str()),
    };
    asked.source(&[])
}

/// What follows `Bearer` in the `Authorization` header.
fn bearer(request: &HttpRequest) -> Option<String> {
    let (scheme, token) = text(request, header::AUTHORIZATION.as_str())?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim().to_owned())
}

fn not_valid(words: &str) -> ApiError {
    ApiError::BadToken(words.to_owned())
}

/// The same words whatever is wrong with it, but for the time, which its holder knows.
async fn by_access_token(app: &App, token: &str, client: Client) -> ApiResult<Actor> {
    let now = Time::now();
    let access = app
        .key_ring()
        .verify(token, now.utc())
        .map_err(|_| not_valid("Token is invalid or expired"))?;
    let user = found(app.db.user(access.subject.user_id).await)?;
    let user = user
        .filter(|user| user.is_active)
        .ok_or_else(|| not_valid("User is inactive"))?;
    if access.subject.password != user.password_stamp() {
        return Err(not_valid("The password was changed since; log in again"));
    }
    Ok(Actor {
        role: user.role,
        user,
        client,
        session: None,
        until: Some(access.expires_at.into()),
    })
}

async fn by_personal_token(app: &App, token: &str, client: Client) -> ApiResult<Actor> {
    let refused = || not_valid("Token is invalid or expired");
    let (_, digest) = api_key::read(token).ok_or_else(refused)?;
    let now = Time::now();
    let found = found(app.db.personal_token(Hidden::new(digest.hex()), now).await)?;
    let (token, user) = found
        .filter(|(_, user)| user.is_active)
        .ok_or_else(refused)?;
    let is_news = |at: Time| (now.utc() - at.utc()).num_seconds() >= 60;
    if token.last_used_at.is_none_or(is_news) {
        // only for show: a failure must not refuse who may
        let _ = app.db.touch_personal_token(token.id, now).await;
    }
    Ok(Actor {
        role: user.role.min(token.role),
        user,
        client,
        session: None,
        until: token.expires_at,
    })
}

async fn by_session(app: &App, request: &HttpRequest, client: Client) -> ApiResult<Actor> {
    let id = session_id(request, client).ok_or(ApiError::NoLogin)?;
    let digest = id.digest().hex();
    let now = Time::now();
    let found = found(app.db.session(&digest, now).await)?;
    let (session, user) = found
        .filter(|(_, user)| user.is_active)
        .ok_or(ApiError::NoLogin)?;
    let is_use = !request.extensions().contains::<OnlyLook>();
    touch(app, &session, now, is_use).await?;
    let given = [csrf::HEADER, csrf::DJANGO_HEADER]
        .iter()
        .find_map(|name| text(request, name));
    let given = given.map(Secret::new);
    let method = http::Method::from_bytes(request.method().as_str().as_bytes());
    let method = method.map_err(|_| ApiError::WrongMethod)?;
    csrf::judge(&method, &id, source(request, client), given.as_ref())
        .map_err(|error| ApiError::Forbidden(format!("CSRF: {error}")))?;
    Ok(Actor {
        role: user.role,
        user,
        client,
        session: Some(digest),
        until: None,
    })
}

async fn touch(app: &App, session: &Session, now: Time, is_use: bool) -> ApiResult<()> {
    let life = session_life(app);
    let stored = StoredSession {
        created_at: session.created_at.utc(),
        last_seen_at: session.last_seen_at.utc(),
    };
    match life.judge(&stored, now.utc()) {
        SessionState::Live { touch: false } => Ok(()),
        SessionState::Live { touch: true } if !is_use => Ok(()),
        SessionState::Live { touch: true } => {
            let end = stored.created_at + life.absolute;
            let end = end.min(now.utc() + life.idle);
            Ok(app.db.touch_session(&session.id, now, end.into()).await?)
        }
        SessionState::Idle | SessionState::TooOld => Err(ApiError::NoLogin),
    }
}

/// How long sessions of the console live, as configured.
pub(crate) fn session_life(app: &App) -> SessionLife {
    SessionLife {
        idle: app.config.logins.session_idle,
        absolute: app.config.logins.session,
    }
}

/// What is not there is no fault here.
fn found<T>(result: Result<T, StoreError>) -> ApiResult<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(StoreError::NotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
