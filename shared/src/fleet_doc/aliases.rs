//! `aliases: {name: [model, …]}` of a fleet document: other names for models, each with a chain to
//! fall back along.

use std::collections::{HashMap, HashSet};

use serde_yaml::Value;

use crate::config::Reader;
use crate::model_name::{ModelKey, ModelName, Source};

/// One alias. It hides an installed model of the same name.
#[derive(Debug, Clone, PartialEq)]
pub struct AliasDoc {
    /// As the document spells it: the id in `/v1/models`.
    pub written: String,
    /// What it is called.
    pub name: ModelName,
    /// What may be served, best first; at least one. Its own name here means the installed model.
    pub models: Vec<ModelName>,
}

pub(super) fn read(root: &Reader<'_>) -> Vec<AliasDoc> {
    let Some(value) = root.value("aliases") else {
        return Vec::new();
    };
    let Some(map) = value.as_mapping() else {
        root.complain(
            "aliases",
            "must map names to lists of models, as in `aliases: {small: [qwen3:8b, llama3.1:8b]}`",
        );
        return Vec::new();
    };
    let mut aliases = Vec::with_capacity(map.len());
    for (written, models) in map {
        let Some(written) = written.as_str() else {
            root.complain("aliases", "the name of an alias must be text");
            continue;
        };
        let at = format!("aliases.{written}");
        match read_one(written, models) {
            Ok(alias) => aliases.push(alias),
            Err(problem) => root.complain(&at, &problem),
        }
    }
    complain_of_pairs(root, &aliases);
    aliases
}

fn read_one(written: &str, models: &Value) -> Result<AliasDoc, String> {
    let name = local_name(written)?;
    let Some(list) = models.as_sequence() else {
        return Err("must be a list of models, best first, as in `[qwen3:8b, llama3.1:8b]`".into());
    };
    if list.is_empty() {
        return Err("names no model; give at least one, or remove it".into());
    }
    let mut seen = HashSet::new();
    let mut chain = Vec::with_capacity(list.len());
    for model in list {
        let text = model.as_str().ok_or("its models must be text")?;
        let model = local_name(text)?;
        if !seen.insert(model.key().clone()) {
            return Err(format!("names `{text}` twice"));
        }
        chain.push(model);
    }
    Ok(AliasDoc {
        written: written.trim().to_owned(),
        name,
        models: chain,
    })
}

/// A valid name without a source: requests that name one never mean an alias, and a chain is
/// followed by what the nodes hold.
fn local_name(text: &str) -> Result<ModelName, String> {
    match ModelName::parse_with_source(text) {
        Ok((name, Source::Unspecified)) => Ok(name),
        Ok((_, Source::Local | Source::Cloud)) => Err(format!(
            "`{text}` ends in :local, :cloud or -cloud, which no alias and no model of one may"
        )),
        Err(error) => Err(format!("`{text}`: {error}")),
    }
}

/// Names that are one once their defaults are filled in, and aliases of aliases.
fn complain_of_pairs(root: &Reader<'_>, aliases: &[AliasDoc]) {
    let mut by_key: HashMap<&ModelKey, &AliasDoc> = HashMap::new();
    for alias in aliases {
        if let Some(first) = by_key.insert(alias.name.key(), alias) {
            let problem = format!("is the same name as `{}`", first.written);
            root.complain(&format!("aliases.{}", alias.written), &problem);
        }
    }
    for alias in aliases {
        let other = alias
            .models
            .iter()
            .filter(|model| model.key() != alias.name.key())
            .find_map(|model| by_key.get(model.key()));
        if let Some(other) = other {
            let problem = format!(
                "points to `{}`, which is an alias itself; write its models here",
                other.written
            );
            root.complain(&format!("aliases.{}", alias.written), &problem);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::FleetDoc;
    use super::*;

    fn problems(aliases: &str) -> Vec<String> {
        let text = format!("nodes: []\naliases:\n{aliases}");
        match FleetDoc::from_yaml(&text) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn aliases_keep_their_spelling_and_their_order() {
        let text = "nodes: []\naliases:\n  GPT-4o-mini: [qwen3:8b, llama3.1:8b]\n  b: [B, c]\n";
        let doc = FleetDoc::from_yaml(text).unwrap();
        let seen: Vec<_> = doc
            .aliases
            .iter()
            .map(|alias| {
                let models: Vec<_> = alias.models.iter().map(ModelName::display).collect();
                (
                    alias.written.as_str(),
                    alias.name.display(),
                    models.join(" "),
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                (
                    "GPT-4o-mini",
                    "GPT-4o-mini:latest",
                    "qwen3:8b llama3.1:8b".to_owned()
                ),
                // its own name is the installed model's
                ("b", "b:latest", "B:latest c:latest".to_owned()),
            ]
        );
    }

    #[test]
    fn what_an_alias_may_not_be_is_said_with_its_line() {
        for (aliases, problem) in [
            ("  a: []", "line 3: aliases.a: names no model"),
            ("  a: qwen3", "line 3: aliases.a: must be a list of models"),
            ("  a: [3]", "line 3: aliases.a: its models must be text"),
            (
                "  a b: [m]",
                "line 3: aliases.a b: `a b`: invalid model name",
            ),
            (
                "  a: ['m m']",
                "line 3: aliases.a: `m m`: invalid model name",
            ),
            (
                "  a: [m, 'M:latest']",
                "line 3: aliases.a: names `M:latest` twice",
            ),
            ("  a: ['m:cloud']", "line 3: aliases.a: `m:cloud` ends in"),
            (
                "  'a:local': [m]",
                "line 3: aliases.a:local: `a:local` ends in",
            ),
            (
                "  a: [m]\n  A:latest: [n]",
                "line 4: aliases.A:latest: is the same name as `a`",
            ),
            (
                "  a: [m, b]\n  b: [n]",
                "line 3: aliases.a: points to `b`, which is an alias itself",
            ),
            ("  - a", "line 2: aliases: must map names to lists"),
        ] {
            let found = problems(aliases);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with(problem), "{found:?}");
        }
    }
}
