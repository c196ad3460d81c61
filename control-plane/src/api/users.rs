//! Users of the control plane, for admins.

use actix_web::{HttpRequest, HttpResponse, delete, get, patch, post, web};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::account::hashed;
use super::actor::Actor;
use super::body::{Body, Id, Query};
use super::list::{PageQuery, Part};
use super::version::{IfMatch, etag, until_written};
use crate::app::App;
use crate::auth::Permission;
use crate::domain::{Role, UserDraft, draft};
use crate::problem::{ApiError, ApiResult};
use crate::store::{Time, User, UserFilter};

/// Keys of a user that a GET gives and a change passes over.
const READ_ONLY: [&str; 5] = ["id", "version", "created_at", "updated_at", "last_login_at"];

/// A user as shown: never the password or its hash.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UserView {
    id: i64,
    name: String,
    email: String,
    role: Role,
    is_active: bool,
    must_change_password: bool,
    last_login_at: Option<String>,
    version: i64,
    created_at: String,
    updated_at: String,
}

/// Which users.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct UsersQuery {
    /// The name contains this.
    name: Option<String>,
    /// Of this role.
    role: Option<Role>,
    /// Active ones, or the others.
    is_active: Option<bool>,
}

impl From<User> for UserView {
    fn from(user: User) -> Self {
        Self {
            id: user.id,
            name: user.name,
            email: user.email,
            role: user.role,
            is_active: user.is_active,
            must_change_password: user.must_change_password,
            last_login_at: user.last_login_at.map(|at| at.to_string()),
            version: user.version,
            created_at: user.created_at.to_string(),
            updated_at: user.updated_at.to_string(),
        }
    }
}

/// The users.
#[utoipa::path(tag = "users", params(PageQuery, UsersQuery), security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = Part<UserView>), (status = 403, description = "For admins")))]
#[get("/api/account/users")]
pub(crate) async fn list_users(
    app: web::Data<App>,
    actor: Actor,
    request: HttpRequest,
    Query(page): Query<PageQuery>,
    Query(query): Query<UsersQuery>,
) -> ApiResult<web::Json<Value>> {
    actor.may(Permission::ManageUsers)?;
    let filter = UserFilter {
        name: query.name,
        role: query.role,
        is_active: query.is_active,
    };
    let found = app.db.users(filter, page.page()).await?;
    let rows: Vec<_> = found.rows.into_iter().map(UserView::from).collect();
    Ok(web::Json(page.part(&request, found.count, &rows)))
}

/// Adds a user.
#[utoipa::path(tag = "users", request_body = UserDraft, security(("bearer" = []), ("session" = [])), responses(
    (status = 201, body = UserView), (status = 400, description = "What is wrong, by field"),
    (status = 409, description = "Another user has this name")))]
#[post("/api/account/users")]
pub(crate) async fn create_user(
    app: web::Data<App>,
    actor: Actor,
    Body(body): Body<Value>,
) -> ApiResult<HttpResponse> {
    actor.may(Permission::ManageUsers)?;
    let draft: UserDraft = draft(body, &READ_ONLY)?;
    let new = draft.create()?;
    let password = new
        .password
        .ok_or_else(|| ApiError::field("password", "is required"))?;
    let hash = hashed(&app, password.reveal()).await?;
    let user = app.db.create_user(&actor.change(), new.user, hash).await?;
    Ok(HttpResponse::Created()
        .insert_header(etag(user.version))
        .json(UserView::from(user)))
}

/// One user.
#[utoipa::path(tag = "users", params(("id" = i64, Path)), security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = UserView), (status = 404, description = "There is none")))]
#[get("/api/account/users/{id}")]
pub(crate) async fn get_user(
    app: web::Data<App>,
    actor: Actor,
    Id(id): Id,
) -> ApiResult<HttpResponse> {
    actor.may(Permission::ManageUsers)?;
    let user = app.db.user(id).await?;
    Ok(HttpResponse::Ok()
        .insert_header(etag(user.version))
        .json(UserView::from(user)))
}

/// Changes a user; what is absent stays. A new password ends all of the user's logins.
#[utoipa::path(tag = "users", params(("id" = i64, Path), ("If-Match" = Option<String>, Header)), request_body = UserDraft,
    security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = UserView), (status = 400, description = "What is wrong, by field"),
    (status = 404, description = "There is none"), (status = 412, description = "It was changed since it was read")))]
#[patch("/api/account/users/{id}")]
pub(crate) async fn change_user(
    app: web::Data<App>,
    actor: Actor,
    Id(id): Id,
    version: IfMatch,
    Body(body): Body<Value>,
) -> ApiResult<HttpResponse> {
    actor.may(Permission::ManageUsers)?;
    let expected = version.or_in(&body)?;
    let draft: UserDraft = draft(body, &READ_ONLY)?;
    let (mut user, hash) = until_written(expected, async || {
        let present = app.db.user(id).await?;
        let new = draft.clone().patch(present.spec())?;
        let hash = match &new.password {
            Some(password) => Some(hashed(&app, password.reveal()).await?),
            None => None,
        };
        let expected = expected.or(Some(present.version));
        let (change, db) = (actor.change(), &app.db);
        let user = db.update_user(&change, id, expected, new.user).await?;
        Ok((user, hash))
    })
    .await?;
    if let Some(hash) = hash {
        let (change, must_change) = (actor.change(), user.must_change_password);
        user = app
            .db
            .set_password(&change, id, hash, must_change, None)
            .await?;
    }
    Ok(HttpResponse::Ok()
        .insert_header(etag(user.version))
        .json(UserView::from(user)))
}

/// Takes a user out, with all tokens and sessions. The last admin stays.
#[utoipa::path(tag = "users", params(("id" = i64, Path), ("If-Match" = Option<String>, Header)),
    security(("bearer" = []), ("session" = [])), responses(
    (status = 204, description = "The user is out"), (status = 404, description = "There is none")))]
#[delete("/api/account/users/{id}")]
pub(crate) async fn delete_user(
    app: web::Data<App>,
    actor: Actor,
    Id(id): Id,
    version: IfMatch,
) -> ApiResult<HttpResponse> {
    actor.may(Permission::ManageUsers)?;
    app.db
        .delete_user(&actor.change(), id, version.expected())
        .await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Ends all sessions and refresh tokens of a user.
#[utoipa::path(tag = "users", params(("id" = i64, Path)), security(("bearer" = []), ("session" = [])), responses(
    (status = 204, description = "All are ended"), (status = 404, description = "There is none")))]
#[post("/api/account/users/{id}/end-logins")]
pub(crate) async fn end_logins(
    app: web::Data<App>,
    actor: Actor,
    Id(id): Id,
) -> ApiResult<HttpResponse> {
    actor.may(Permission::ManageUsers)?;
    let user = app.db.user(id).await?;
    app.db.revoke_refresh_tokens_of(id, Time::now()).await?;
    app.db.delete_sessions_of(id, None).await?;
    let about = (id.to_string(), user.name);
    app.db
        .note(&actor.change(), ("end_logins", "user"), about, None)
        .await?;
    Ok(HttpResponse::NoContent().finish())
}
