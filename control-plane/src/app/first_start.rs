//! The first start on a database: makes `root`.

use aivonx_shared::config::ControlConfig;
use aivonx_shared::fleet_doc::Secret;

use super::StartError;
use crate::auth::Passwords;
use crate::auth::bootstrap::{FirstStart, ROOT, RootPassword};
use crate::auth::random;
use crate::domain::{Hidden, NewUser, Role};
use crate::store::{Change, Db, Page, UserFilter};

/// Makes the first user where there is none; gives its password if it was made up, for somebody has to
/// be told.
pub(super) async fn make_root(
    db: &Db,
    passwords: &Passwords,
    config: &ControlConfig,
    is_beyond_loopback: bool,
) -> Result<Option<Secret>, StartError> {
    let one = Page {
        limit: 1,
        offset: 0,
    };
    let has_users = db.users(UserFilter::default(), one).await?.count > 0;
    let start = FirstStart {
        has_users,
        given: config.root_password.as_ref(),
        is_beyond_loopback,
    };
    let (password, made_up) = match start.root_password(random::bytes())? {
        RootPassword::Keep => return Ok(None),
        RootPassword::Given(password) => (password, false),
        RootPassword::Generated(password) => (password, true),
    };
    let hash = passwords
        .hash(password.clone(), random::bytes())
        .await
        .map_err(|error| StartError::FirstUser(error.to_string()))?;
    let root = NewUser {
        name: ROOT.to_owned(),
        email: String::new(),
        role: Role::Admin,
        is_active: true,
        must_change_password: false,
    };
    let change = Change::by_system("startup");
    let made = db
        .create_first_user(&change, root, Hidden::new(hash))
        .await?;
    // another control plane may have been first: then its password is the one
    Ok(made.filter(|_| made_up).map(|_| password))
}
