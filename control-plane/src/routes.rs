//! The only list of paths.

use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, ResponseError as _, web};
use utoipa_actix_web::service_config::ServiceConfig;

use crate::api::{
    account, audit, config, events, fleet, import, jobs, keys, nodes, probe, pull, session, state,
    tokens, usage, users,
};
use crate::docs::Schema;
use crate::problem::ApiError;

/// Everything that the documentation tells of.
pub(crate) fn api(paths: &mut ServiceConfig<'_>) {
    paths
        .service(state::get_health)
        .service(state::get_heartbeat)
        .service(state::get_state)
        .service(state::get_active_requests)
        .service(state::list_models)
        .service(state::list_planes)
        .service(nodes::list_nodes)
        .service(nodes::create_node)
        .service(nodes::get_node)
        .service(nodes::replace_node)
        .service(nodes::change_node)
        .service(nodes::delete_node)
        .service(nodes::enable_node)
        .service(nodes::disable_node)
        .service(nodes::drain_node)
        .service(nodes::undrain_node)
        .service(config::get_config)
        .service(config::replace_config)
        .service(config::change_config)
        .service(config::get_settings)
        .service(config::change_settings)
        .service(keys::list_keys)
        .service(keys::create_key)
        .service(keys::get_key)
        .service(keys::change_key)
        .service(keys::rotate_key)
        .service(keys::delete_key)
        .service(usage::get_usage)
        .service(audit::list_audit)
        .service(fleet::export_fleet)
        .service(fleet::begin_epoch)
        .service(import::import_fleet)
        .configure(work)
        .configure(own_and_users);
}

fn work(paths: &mut ServiceConfig<'_>) {
    paths
        .service(pull::pull_model)
        .service(jobs::list_jobs)
        .service(jobs::create_job)
        .service(jobs::get_job)
        .service(jobs::cancel_job)
        .service(jobs::follow_job)
        .service(probe::probe_node)
        .service(events::follow_events);
}

fn own_and_users(paths: &mut ServiceConfig<'_>) {
    paths
        .service(account::log_in)
        .service(account::refresh_tokens)
        .service(account::log_out)
        .service(session::begin_session)
        .service(account::who_am_i)
        .service(account::change_password)
        .service(tokens::list_sessions)
        .service(tokens::delete_session)
        .service(tokens::list_tokens)
        .service(tokens::create_token)
        .service(tokens::delete_token)
        .service(users::list_users)
        .service(users::create_user)
        .service(users::get_user)
        .service(users::change_user)
        .service(users::delete_user)
        .service(users::end_logins);
}

/// Whatever is not in the list. A path that is there for other methods is 405.
pub(crate) async fn nowhere(request: HttpRequest, schema: web::Data<Schema>) -> HttpResponse {
    let Some(pattern) = request.match_pattern() else {
        let words = format!("there is nothing at {}", request.path());
        return ApiError::NotFound(words).error_response();
    };
    let mut answer = ApiError::WrongMethod.error_response();
    if let Ok(allowed) = HeaderValue::from_str(&schema.allowed(&pattern)) {
        answer.headers_mut().insert(header::ALLOW, allowed);
    }
    answer
}
