//! A fleet document into the database: what would become of the fleet, or that it became so.

use actix_web::{HttpResponse, post, web};
use aivonx_shared::revision::Revision;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::actor::Actor;
use super::body::{DocumentText, Query};
use super::version::{IfRevision, revision_etag};
use crate::app::App;
use crate::auth::Permission;
use crate::domain::{Difference, ImportRules, WholeFleet};
use crate::problem::{ApiError, ApiResult};
use crate::store::{Import, ImportNode, StoreError};

/// How often it is begun anew because somebody else changed the fleet in between.
const TRIES: usize = 3;

/// How to import.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)] // a misspelt `dry_run` must not become an import
pub(crate) struct ImportQuery {
    /// `true`: tell the difference and change nothing.
    #[serde(default)]
    dry_run: bool,
}

/// What an import did, or would do.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ImportView {
    /// Whether it was only to be told.
    dry_run: bool,
    /// Whether the fleet was changed: not by a dry run, nor where there is no difference.
    applied: bool,
    /// The fleet's revision now. An import begins a new epoch.
    revision: String,
    /// In a line: `nodes: 1 added, 2 changed`, or `no difference`.
    summary: String,
    /// Field by field.
    difference: Difference,
}

/// Puts a fleet document in the place of all nodes, keys and settings: what it does not name is taken out
/// or falls back to its default. Users, and keys that are disabled, stay. All of it is one change.
///
/// Secrets are text, or references or sealed as exports of this installation have them; files and
/// variables can only be named in a fleet file. `dry_run=true` tells the difference; send the revision that it names as
/// `If-Match`, and what was told is what happens.
#[utoipa::path(tag = "settings", params(ImportQuery, ("If-Match" = Option<String>, Header)),
    request_body(content((Object = "application/yaml"), (Object = "application/json"))),
    security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = ImportView), (status = 400, description = "All that is wrong, by key and line"),
    (status = 403, description = "For admins"), (status = 412, description = "The fleet has another revision"),
    (status = 413, description = "Longer than 1 MiB"), (status = 415, description = "Neither YAML nor JSON")))]
#[post("/api/proxy/fleet/import")]
pub(crate) async fn import_fleet(
    app: web::Data<App>,
    actor: Actor,
    IfRevision(expected): IfRevision,
    Query(query): Query<ImportQuery>,
    DocumentText(text): DocumentText,
) -> ApiResult<HttpResponse> {
    actor.may(Permission::ImportFleet)?;
    for _ in 0..TRIES {
        let plan = Plan::of(&app, text.clone(), expected).await?;
        if query.dry_run || plan.difference.is_empty() {
            return Ok(plan.told(query.dry_run));
        }
        match app.db.import(&actor.change(), plan.import()).await {
            Ok((_, revision)) => {
                app.publisher.announce();
                return Ok(plan.done(revision));
            }
            Err(StoreError::Conflict { .. }) => {} // somebody was first: laid beside what they did
            Err(error) => return Err(error.into()),
        }
    }
    Err(ApiError::OtherRevision(app.db.revision().await?))
}

/// A document beside the fleet at one revision.
struct Plan {
    revision: Revision,
    wanted: WholeFleet,
    difference: Difference,
}

impl Plan {
    async fn of(app: &web::Data<App>, text: String, expected: Option<Revision>) -> ApiResult<Self> {
        let fleet = app.db.fleet().await?;
        let revision = fleet.revision;
        if expected.is_some_and(|expected| expected != revision) {
            return Err(ApiError::OtherRevision(revision));
        }
        let app = app.clone();
        // a long document is some work: not on the thread that answers others
        let laid_beside = web::block(move || {
            let present = fleet.whole();
            let rules = ImportRules {
                addresses: &app.addresses,
                key: &app.seal,
            };
            let wanted = present.with_document(&text, rules)?;
            let difference = Difference::between(&present, &wanted);
            Ok::<_, ApiError>((wanted, difference))
        });
        let (wanted, difference) = laid_beside
            .await
            .map_err(|error| ApiError::internal("reading a fleet document", &error))??;
        Ok(Self {
            revision,
            wanted,
            difference,
        })
    }

    fn import(&self) -> Import {
        let nodes = self.wanted.nodes.iter().cloned().map(|node| ImportNode {
            id: None,
            created_at: None,
            node,
        });
        Import {
            nodes: nodes.collect(),
            keys: self.wanted.keys.clone(),
            users: Vec::new(),
            settings: self.wanted.settings_patch(),
            replace: true,
            expected: Some(self.revision),
        }
    }

    fn told(self, dry_run: bool) -> HttpResponse {
        let revision = self.revision;
        self.answer(dry_run, false, revision)
    }

    fn done(self, revision: Revision) -> HttpResponse {
        self.answer(false, true, revision)
    }

    fn answer(self, dry_run: bool, applied: bool, revision: Revision) -> HttpResponse {
        HttpResponse::Ok()
            .insert_header(revision_etag(revision))
            .json(ImportView {
                dry_run,
                applied,
                revision: revision.to_string(),
                summary: self.difference.to_string(),
                difference: self.difference,
            })
    }
}
