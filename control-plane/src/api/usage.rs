//! Who used how much.

use actix_web::{get, web};
use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::actor::Actor;
use super::body::Query;
use crate::app::App;
use crate::auth::Permission;
use crate::problem::{ApiError, ApiResult};
use crate::store::{Time, UsageGroup, UsageQuery, UsageSum};

/// A sum; what is not told apart is null.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsageView {
    hour: Option<String>,
    key_id: Option<String>,
    model: Option<String>,
    node: Option<String>,
    requests: i64,
    prompt_tokens: i64,
    output_tokens: i64,
}

/// Which usage.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Asked {
    /// Hours from here on; a day ago, if it is not said.
    from: Option<DateTime<Utc>>,
    /// Hours before this; now, if it is not said.
    to: Option<DateTime<Utc>>,
    /// Of this key.
    key_id: Option<String>,
    /// Of this model.
    model: Option<String>,
    /// Of this node.
    node: Option<String>,
    /// What is told apart, of `hour`, `key`, `model` and `node`, separated by commas; the rest is summed.
    #[param(pattern = "^((hour|key|model|node)(,(hour|key|model|node))*)?$")]
    by: Option<String>,
}

impl From<UsageSum> for UsageView {
    fn from(sum: UsageSum) -> Self {
        Self {
            hour: sum.hour.map(|at| at.to_string()),
            key_id: sum.key_id,
            model: sum.model,
            node: sum.node,
            requests: sum.requests,
            prompt_tokens: sum.prompt_tokens,
            output_tokens: sum.output_tokens,
        }
    }
}

/// Sums of requests and tokens.
#[utoipa::path(tag = "usage", params(Asked), security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = Vec<UsageView>), (status = 400, description = "What is wrong, by field")))]
#[get("/api/proxy/usage")]
pub(crate) async fn get_usage(
    app: web::Data<App>,
    actor: Actor,
    Query(asked): Query<Asked>,
) -> ApiResult<web::Json<Vec<UsageView>>> {
    actor.may(Permission::ReadUsage)?;
    let now = Utc::now();
    let query = UsageQuery {
        from: asked.from.unwrap_or(now - Duration::days(1)).into(),
        to: Time::from(asked.to.unwrap_or(now)),
        key_id: asked.key_id,
        model: asked.model,
        node: asked.node,
        by: group(asked.by.as_deref().unwrap_or("key"))?,
    };
    let sums = app.db.usage(query).await?;
    Ok(web::Json(sums.into_iter().map(UsageView::from).collect()))
}

fn group(text: &str) -> ApiResult<UsageGroup> {
    let mut group = UsageGroup::default();
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        match part {
            "hour" => group.hour = true,
            "key" => group.key = true,
            "model" => group.model = true,
            "node" => group.node = true,
            _ => {
                return Err(ApiError::field(
                    "by",
                    "must be of hour, key, model and node",
                ));
            }
        }
    }
    Ok(group)
}
