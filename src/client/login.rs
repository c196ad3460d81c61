//! `aivonx login` and `logout`. A login leaves a personal access token: unlike a refresh token it does not change
//! with each use, so that commands at the same time do not take it from each other; and it is revoked by name.

use std::time::{Duration, SystemTime};

use aivonx_shared::fleet_doc::Secret;
use http::{Method, Uri};
use serde_json::{Value, json};

use super::api::Api;
use super::args::{LoginArgs, LogoutArgs, ServerArgs};
use super::credentials::{self, Credentials, Login};
use super::failure::{Done, Failure, Problem};
use super::{output, terminal};

/// Logs in and keeps a token.
pub(super) fn log_in(args: &LoginArgs) -> Done {
    let api = Api::new(&args.server.server, args.server.ca.as_deref())?;
    let mut kept = Credentials::open(file()?)?;
    warn_of_plain_text(api.base());
    let server = api.base().to_owned();
    let prompt = format!("Password of {} at {server}", output::clean(&args.user));
    let password = terminal::password(&prompt)?;
    let (api, refresh) = enter(api, &args.user, &password)?;
    let (api, refresh) = renew_password(api, &args.user, &password, refresh)?;
    let made = api.send(
        Method::POST,
        "/api/account/tokens",
        Some(&draft(args.lasts)),
    )?;
    // the token lasts; what it was made with need not
    let end = json!({"refresh": refresh});
    let _ = api.send(Method::POST, "/api/account/logout", Some(&end));
    let (Some(token), Some(id)) = (made["token"].as_str(), made["id"].as_i64()) else {
        return Err(not_a_login());
    };
    let login = Login {
        user: args.user.clone(),
        token: Secret::new(token),
        id,
    };
    if let Some(before) = kept.take(&server) {
        revoke(&args.server, before)?;
    }
    kept.put(&server, login);
    kept.save()?;
    let until = humantime::format_rfc3339_seconds(SystemTime::now() + args.lasts);
    output::note(&format!(
        "logged in at {server} as {}, until {until}",
        args.user
    ));
    Ok(())
}

/// Revokes the token and forgets it.
pub(super) fn log_out(args: &LogoutArgs) -> Done {
    let api = Api::new(&args.server.server, args.server.ca.as_deref())?;
    let mut kept = Credentials::open(file()?)?;
    let server = api.base();
    let Some(login) = kept.take(server) else {
        output::note(&format!("there is no login at {server}"));
        return Ok(());
    };
    let user = login.user.clone();
    revoke(&args.server, login)?;
    kept.save()?;
    output::note(&format!("{user} is logged out at {server}"));
    Ok(())
}

/// Ends a token; one that is worth nothing any more is ended already.
fn revoke(server: &ServerArgs, login: Login) -> Done {
    let api = Api::new(&server.server, server.ca.as_deref())?.with_token(Some(login.token));
    let path = format!("/api/account/tokens/{}", login.id);
    match api.send(Method::DELETE, &path, None) {
        Ok(_)
        | Err(Failure::Answer(Problem {
            status: 401 | 404, ..
        })) => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// Exchanges a password for a pair of tokens: gives the API with the one, and the other.
fn enter(api: Api, user: &str, password: &Secret) -> Result<(Api, Value), Failure> {
    let login = json!({"username": user, "password": password.reveal()});
    let mut tokens = api.send(Method::POST, "/api/account/login", Some(&login))?;
    let access = tokens["access"].as_str().ok_or_else(not_a_login)?;
    let access = Secret::new(access);
    Ok((api.with_token(Some(access)), tokens["refresh"].take()))
}

/// Who has to choose another password does so here: without it nothing else is allowed.
fn renew_password(
    api: Api,
    user: &str,
    old: &Secret,
    refresh: Value,
) -> Result<(Api, Value), Failure> {
    if api.get("/api/account/me")?["must_change_password"] != json!(true) {
        return Ok((api, refresh));
    }
    output::note("this password was to be used once: choose another one");
    let new = terminal::new_password("New password")?;
    let change = json!({"current": old.reveal(), "new": new.reveal()});
    api.send(Method::PUT, "/api/account/password", Some(&change))?;
    enter(api.with_token(None), user, &new)
}

fn draft(lasts: Duration) -> Value {
    let now = SystemTime::now();
    let host = nix::unistd::gethostname().ok();
    let host = host.and_then(|name| name.into_string().ok());
    let host = host.unwrap_or_else(|| "this machine".to_owned());
    // one's own tokens have different names: the instant makes it so
    let name = format!(
        "login on {host:.40}, {}",
        humantime::format_rfc3339_millis(now)
    );
    let expires = humantime::format_rfc3339_seconds(now + lasts).to_string();
    json!({"name": name, "expires_at": expires})
}

fn file() -> Result<std::path::PathBuf, Failure> {
    credentials::path().ok_or_else(|| {
        let words =
            "where shall the login be kept? set HOME or XDG_CONFIG_HOME, or use AIVONX_TOKEN";
        Failure::Config(words.to_owned())
    })
}

fn not_a_login() -> Failure {
    Failure::Protocol("the answer to the login is none of aivonx's".to_owned())
}

/// Beyond this machine a password over plain HTTP can be read by whoever sits between.
fn warn_of_plain_text(server: &str) {
    let uri = server.parse::<Uri>().unwrap_or_default();
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_local = host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback());
    if uri.scheme_str() == Some("http") && !is_local {
        output::note("warning: without https the password can be read on its way");
    }
}
