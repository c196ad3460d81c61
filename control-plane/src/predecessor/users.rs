//! The predecessor's users as ours. A superuser is an admin, staff is an operator, all others are
//! viewers, though the predecessor let everybody who was logged in change everything: who shall go on
//! doing so is raised by an admin.

use std::collections::HashSet;

use aivonx_shared::fleet_doc::Secret;

use super::report::Part;
use super::source::FoundUser;
use super::{ImportError, Options};
use crate::auth::bootstrap::{FirstStart, ROOT, RootPassword};
use crate::auth::password::is_readable;
use crate::auth::{Passwords, random};
use crate::domain::{Hidden, NewUser, Role, UserDraft};
use crate::store::User;

/// What the predecessor gave `root` where nobody said otherwise.
const DEFAULT_PASSWORD: &str = "changeme";
/// A hash that no password has: Django's own mark.
const NO_PASSWORD: &str = "!";

/// A user to add.
pub(super) struct Taken {
    user: NewUser,
    hash: Hidden,
}

impl Taken {
    pub(super) fn into_parts(self) -> (NewUser, Hidden) {
        (self.user, self.hash)
    }

    fn can_administrate(&self) -> bool {
        self.user.role == Role::Admin && self.user.is_active && is_readable(self.hash.reveal())
    }
}

/// The users to add. One whose name is here already, whatever the case of its letters, stays as it is
/// here, with the password that it has here.
pub(super) fn take(found: Vec<FoundUser>, present: &[User], told: &mut Part) -> Vec<Taken> {
    let here: HashSet<String> = present
        .iter()
        .map(|user| user.name.to_lowercase())
        .collect();
    let mut names = here.clone();
    let mut taken = Vec::new();
    for found in found {
        let shown = format!("{:?}", found.username);
        let small = found.username.to_lowercase();
        if here.contains(&small) {
            told.left(format!(
                "{shown}: is here already, and keeps the role and password it has here"
            ));
            continue;
        }
        if !names.insert(small) {
            told.left(format!(
                "{shown}: another one has this name in other letters, which are the same here"
            ));
            continue;
        }
        match user(&found) {
            Ok((user, notes)) => {
                let hash = hash(&found);
                told.taken(line(&user, &hash, notes));
                taken.push(Taken { user, hash });
            }
            Err(problem) => told.left(format!("{shown}: {problem}")),
        }
    }
    taken
}

fn user(found: &FoundUser) -> Result<(NewUser, &'static str), String> {
    let nobody = NewUser {
        name: String::new(),
        email: String::new(),
        role: if found.is_superuser {
            Role::Admin
        } else if found.is_staff {
            Role::Operator
        } else {
            Role::Viewer
        },
        is_active: found.is_active,
        must_change_password: false,
    };
    let draft = |email: &str| UserDraft {
        name: Some(found.username.clone()),
        email: Some(email.to_owned()),
        ..UserDraft::default()
    };
    match draft(&found.email).patch(nobody.clone()) {
        Ok(change) => Ok((change.user, "")),
        Err(invalid) if invalid.fields.keys().eq(["email"]) => {
            let change = draft("")
                .patch(nobody)
                .map_err(|invalid| invalid.to_string())?;
            Ok((change.user, "; its e-mail address is none, and is left out"))
        }
        Err(invalid) => Err(invalid.to_string()),
    }
}

/// The hash as it is, if it can be verified here.
fn hash(found: &FoundUser) -> Hidden {
    if is_readable(&found.password) {
        Hidden::new(found.password.clone())
    } else {
        Hidden::new(NO_PASSWORD)
    }
}

fn line(user: &NewUser, hash: &Hidden, notes: &str) -> String {
    let mut line = format!("{}: {}", user.name, user.role);
    if !user.is_active {
        line.push_str("; disabled, as there");
    }
    if !is_readable(hash.reveal()) {
        line.push_str("; it has no password that could be checked here: an admin has to set one");
    }
    line.push_str(notes);
    line
}

/// `root` of whom everybody knows the password has to choose another at the first login.
pub(super) async fn watch_default_password(
    taken: &mut [Taken],
    told: &mut Part,
) -> Result<(), ImportError> {
    let Some(root) = taken.iter_mut().find(|taken| taken.user.name == ROOT) else {
        return Ok(());
    };
    let stored = Some(root.hash.reveal().to_owned());
    let default = Secret::new(DEFAULT_PASSWORD);
    if Passwords::new(1).verify(default, stored).await?.ok {
        root.user.must_change_password = true;
        told.note(format!(
            "{ROOT}: its password is `{DEFAULT_PASSWORD}`, which opens nothing from other machines; another one has \
             to be chosen at the first login"
        ));
    }
    Ok(())
}

/// If nobody could log in as an admin, `root` gets a password; gives it where it was made up.
pub(super) async fn make_admin(
    taken: &mut Vec<Taken>,
    present: &[User],
    options: &Options,
    told: &mut Part,
) -> Result<Option<Secret>, ImportError> {
    let is_admin = |user: &User| {
        user.role == Role::Admin && user.is_active && is_readable(user.password_hash.reveal())
    };
    let is_root = |name: &str| name.eq_ignore_ascii_case(ROOT);
    if taken.iter().any(Taken::can_administrate)
        || present
            .iter()
            .any(|user| is_admin(user) || is_root(&user.name))
    {
        return Ok(None);
    }
    let start = FirstStart {
        has_users: false,
        given: options.root_password.as_ref(),
        is_beyond_loopback: false, // from elsewhere a well-known password opens nothing
    };
    let (password, made_up) = match start.root_password(random::bytes())? {
        RootPassword::Keep => return Ok(None),
        RootPassword::Given(password) => (password, false),
        RootPassword::Generated(password) => (password, true),
    };
    let hash = Passwords::new(1)
        .hash(password.clone(), random::bytes())
        .await?;
    taken.retain(|taken| !is_root(&taken.user.name));
    taken.push(Taken {
        user: NewUser {
            name: ROOT.to_owned(),
            email: String::new(),
            role: Role::Admin,
            is_active: true,
            must_change_password: false,
        },
        hash: Hidden::new(hash),
    });
    told.note(format!(
        "{ROOT}: admin, with a new password, because no admin could log in otherwise"
    ));
    Ok(made_up.then_some(password))
}
