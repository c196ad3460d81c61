//! `aivonx user`.

use http::Method;
use serde_json::{Map, Value, json};

use super::api::{Api, by_id};
use super::args::{Removal, UserArgs, UserCommand, UserFields};
use super::connect;
use super::failure::{Done, Failure};
use super::output::{self, Column, cell, instant};
use super::terminal::{confirm, new_password};
use crate::escape::escaped;

const USERS: &str = "/api/account/users";

const COLUMNS: [Column; 7] = [
    ("ID", |user| cell(user, "id")),
    ("NAME", |user| cell(user, "name")),
    ("ROLE", |user| cell(user, "role")),
    ("ACTIVE", |user| cell(user, "is_active")),
    ("EMAIL", |user| cell(user, "email")),
    ("LAST LOGIN", |user| instant(user, "last_login_at")),
    ("CREATED", |user| instant(user, "created_at")),
];

const LINES: [Column; 8] = [
    ("Id", |user| cell(user, "id")),
    ("Name", |user| cell(user, "name")),
    ("Role", |user| cell(user, "role")),
    ("Active", |user| cell(user, "is_active")),
    ("Email", |user| cell(user, "email")),
    ("Must change password", |user| {
        cell(user, "must_change_password")
    }),
    ("Last login", |user| instant(user, "last_login_at")),
    ("Created", |user| instant(user, "created_at")),
];

/// Does what is said of users.
pub(super) fn run(args: &UserArgs) -> Done {
    let (api, json) = (connect(&args.shared.server)?, args.shared.json);
    match &args.command {
        UserCommand::List => output::list(&api.list(USERS)?, &COLUMNS, json, "there are no users"),
        UserCommand::Add { name, fields } => {
            let password = new_password(&format!("Password for {}", output::clean(name)))?;
            let mut body = draft(fields);
            body.insert("name".to_owned(), json!(name));
            body.insert("password".to_owned(), json!(password.reveal()));
            let made = api.send(Method::POST, USERS, Some(&body.into()))?;
            output::one(&made, &LINES, json)
        }
        UserCommand::Set {
            name,
            new_name,
            active,
            password,
            fields,
        } => {
            let mut body = draft(fields);
            if let Some(new_name) = new_name {
                body.insert("name".to_owned(), json!(new_name));
            }
            if let Some(active) = active {
                body.insert("is_active".to_owned(), json!(active));
            }
            set(&api, name, body, *password, json)
        }
        UserCommand::Remove(removal) => remove(&api, removal),
    }
}

fn draft(fields: &UserFields) -> Map<String, Value> {
    let mut body = Map::new();
    if let Some(role) = fields.role {
        body.insert("role".to_owned(), role.as_str().into());
    }
    if let Some(email) = &fields.email {
        body.insert("email".to_owned(), json!(email));
    }
    if let Some(must) = fields.must_change_password {
        body.insert("must_change_password".to_owned(), must.into());
    }
    body
}

fn set(api: &Api, name: &str, mut body: Map<String, Value>, password: bool, json: bool) -> Done {
    if body.is_empty() && !password {
        let words = "say what to change; `aivonx user set --help` lists it";
        return Err(Failure::Usage(words.to_owned()));
    }
    let user = find(api, name)?;
    if password {
        let new = new_password(&format!("New password for {}", cell(&user, "name")))?;
        body.insert("password".to_owned(), json!(new.reveal()));
    }
    let changed = api.send(Method::PATCH, &path(&user), Some(&body.into()))?;
    output::one(&changed, &LINES, json)
}

fn remove(api: &Api, removal: &Removal) -> Done {
    for name in &removal.names {
        let user = find(api, name)?;
        let shown = format!("{} ({})", cell(&user, "name"), cell(&user, "role"));
        confirm(&format!("take user {shown} out"), removal.yes)?;
        let version = user["version"].as_i64();
        api.change(Method::DELETE, &path(&user), None, version)?;
        output::note(&format!("{shown} is out"));
    }
    Ok(())
}

/// The user of a name, whatever the case of its letters, or an id.
fn find(api: &Api, name: &str) -> Result<Value, Failure> {
    let is_named = |user: &&Value| {
        let own = user["name"].as_str().unwrap_or_default();
        own.to_lowercase() == name.to_lowercase()
    };
    let some = api.list(&format!("{USERS}?name={}", escaped(name)))?;
    if let Some(user) = some.iter().find(is_named) {
        return Ok(user.clone());
    }
    let all = api.list(USERS)?;
    by_id(&all, name)
        .cloned()
        .ok_or_else(|| Failure::missing("user", name, "aivonx user list"))
}

fn path(user: &Value) -> String {
    format!("{USERS}/{}", user["id"])
}
