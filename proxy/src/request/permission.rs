//! Whether what a body asks for is allowed: the caller's model list, and the house's rule for
//! requests that would leave it.

use aivonx_shared::fleet_doc::Cloud;
use aivonx_shared::model_name::{ModelKey, Source};

use super::demand::Resolved;
use super::model_scan::{Field, Found, Outcome};
use super::rejection::Rejection;
use super::route::NodeRoute;
use crate::fleet::Snapshot;
use crate::fleet::access::Grant;

/// A request as far as it is to be judged.
pub(crate) struct Asked<'a> {
    pub(crate) route: NodeRoute,
    pub(crate) query: Option<&'a str>,
    pub(crate) found: &'a Found,
    pub(crate) resolved: &'a Resolved,
    /// Whether another model that comes later in a body that streams on would be noticed.
    pub(crate) is_watched: bool,
}

impl Asked<'_> {
    /// Refuses what would leave the house while it shall not (`cloud: deny`).
    pub(crate) fn check_cloud(&self, snapshot: &Snapshot) -> Result<(), Rejection> {
        if snapshot.cloud() == Cloud::Allow {
            return Ok(());
        }
        if self.route == NodeRoute::WebTool {
            return Err(Rejection::Cloud("web search and web fetch".into()));
        }
        if self.resolved.entry.is_some() || self.resolved.asked.is_empty() {
            return Ok(()); // entries of stubs are not made while they are denied
        }
        let mut scratch = String::new();
        match ModelKey::of(&self.resolved.asked, &mut scratch) {
            Ok((_, Source::Cloud)) => Err(self.cloud_model()),
            Ok((key, _)) if snapshot.is_stub(key) => Err(self.cloud_model()),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn cloud_model(&self) -> Rejection {
        Rejection::Cloud(format!("model '{}'", self.resolved.asked))
    }

    /// Holds the model that will count at the node against the caller's list. What cannot be told
    /// is not allowed.
    pub(crate) fn check_model(&self, grant: &Grant) -> Result<(), Rejection> {
        if !grant.is_restricted() || !self.route.names_model() {
            return Ok(());
        }
        if self.route == NodeRoute::V1Transcriptions && names_model(self.query) {
            return Err(Rejection::ModelInQuery);
        }
        let is_judged = self.is_watched || self.found.outcome == Outcome::Complete;
        let is_text = matches!(self.found.model, Field::Absent | Field::Text(_));
        if let Some(aliased) = &self.resolved.alias
            && is_judged
            && is_text
        {
            return if aliased.alias.is_open_to(grant) {
                Ok(())
            } else {
                Err(Rejection::ModelForbidden(self.resolved.asked.clone()))
            };
        }
        let is_allowed = if is_judged && is_text {
            self.allowed_by(grant)
        } else {
            None
        };
        match is_allowed {
            Some(true) => Ok(()),
            Some(false) => Err(Rejection::ModelForbidden(self.resolved.asked.clone())),
            None => Err(Rejection::ModelUnclear),
        }
    }

    /// Whether the model by its own name is on the caller's list; `None` where the name is none.
    fn allowed_by(&self, grant: &Grant) -> Option<bool> {
        let entry = self.resolved.entry.as_ref();
        let by_name = entry.filter(|_| self.resolved.alias.is_none());
        // what was found by this very name need not be read a second time
        if let Some(key) = by_name.and_then(|entry| entry.key.as_ref()) {
            return Some(grant.allows(key));
        }
        let mut scratch = String::new();
        let (key, _) = ModelKey::of(&self.resolved.asked, &mut scratch).ok()?;
        Some(grant.allows(&ModelKey::parse(key).ok()?))
    }
}

/// Holds one model that a change of a store names against the caller's list; `denies_cloud` says
/// that cloud models may not be brought in.
pub(crate) fn check_change(
    grant: &Grant,
    model: &str,
    denies_cloud: bool,
) -> Result<(), Rejection> {
    let mut scratch = String::new();
    let read = ModelKey::of(model, &mut scratch);
    if denies_cloud && matches!(read, Ok((_, Source::Cloud))) {
        return Err(Rejection::Cloud(format!("model '{model}'")));
    }
    if !grant.is_restricted() {
        return Ok(());
    }
    // copy and push read no source: the name with its suffix must be on the list, too
    let plain = ModelKey::parse(model).ok();
    let key = read.ok().and_then(|(key, _)| ModelKey::parse(key).ok());
    match (plain, key) {
        (Some(plain), Some(key)) if grant.allows(&plain) && grant.allows(&key) => Ok(()),
        (None, None) => Err(Rejection::ModelUnclear),
        _ => Err(Rejection::ModelForbidden(model.to_owned())),
    }
}

/// Whether a query has a `model`, in any spelling that a form decoder reads.
fn names_model(query: Option<&str>) -> bool {
    query.is_some_and(|query| {
        query.split(['&', ';']).any(|pair| {
            let name = pair.split('=').next().unwrap_or_default();
            super::route::path::decoded(&name.replace('+', " ")).eq_ignore_ascii_case("model")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_in_the_query_is_noticed_however_it_is_spelt() {
        for query in ["model=x", "a=1&model", "%6dodel=x", "a;MODEL=y"] {
            assert!(names_model(Some(query)), "{query}");
        }
        assert!(!names_model(Some("models=x&a=model")));
        assert!(!names_model(None));
    }
}
