//! Reads of the fleet, from what is known of it: lists and the version, of all nodes in service or
//! of the one that the caller names.

use pingora::Result;
use pingora_proxy::Session;
use serde_json::json;

use aivonx_shared::error_body::Dialect;

use super::answer::{JSON, Local};
use super::ctx::RequestCtx;
use super::pin::{pinned, target};
use super::{Gateway, failure};
use crate::merge::{self, View};
use crate::request::rejection::Rejection;
use crate::request::route::Route;
use crate::store::targets::Target;

impl Gateway {
    /// A read of the fleet, or of the one node that the caller names.
    pub(super) fn read(&self, session: &Session, ctx: &RequestCtx) -> Result<Local> {
        let snapshot = self.fleet.load_full();
        let pinned = pinned(session).map(|name| target(&snapshot, name));
        let node = match pinned.transpose()? {
            Some(Target {
                node,
                away: Some(why),
            }) => {
                let name = node.name().to_owned();
                return Err(failure::rejected(Rejection::NodeAway(name, why)));
            }
            there => there.map(|target| target.node),
        };
        let view = View {
            snapshot: &snapshot,
            grant: ctx.caller.as_ref().map(|caller| &*caller.grant),
            node: node.as_deref(),
        };
        let answer = match &ctx.route {
            Route::Version => self.tell_version(view)?,
            Route::Ps => Local::json(merge::ps(view)),
            Route::Models => Local::new(200, JSON, merge::models(view)),
            Route::Model(id) => match merge::model(view, id) {
                Ok(body) => Local::new(200, JSON, body),
                Err(name) => {
                    let text = format!("model '{name}' not found");
                    let body = Dialect::OpenAi.error_body(404, &text, &ctx.id);
                    Local::new(404, JSON, format!("{body}\n"))
                }
            },
            _ => Local::json(merge::tags(view)),
        };
        Ok(Local { node, ..answer })
    }

    fn tell_version(&self, view: View<'_>) -> Result<Local> {
        let set = self.version.clone().filter(|_| view.node.is_none());
        match (set.or_else(|| merge::lowest_version(view)), view.node) {
            (Some(version), _) => Ok(Local::json(json!({ "version": version }).to_string())),
            (None, Some(node)) => {
                let name = node.name().to_owned();
                Err(failure::rejected(Rejection::NodeAway(
                    name,
                    "of a version not known yet",
                )))
            }
            (None, None) => Err(failure::rejected(Rejection::NoNode)),
        }
    }
}
