//! `proxy.front_door`: where the control plane answers, and the token by which it knows that a
//! request came through the data plane's front door.

use serde_yaml::Value;

use super::{Reader, token};
use crate::fleet_doc::{NodeUrl, Secret};

/// An open front door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrontDoorConfig {
    /// Where the control plane answers.
    pub to: NodeUrl,
    /// What both planes hold: visible ASCII.
    pub token: Secret,
}

/// Reads `front_door`; `None` where it is absent or `false`, that is closed.
pub(super) fn read(proxy: &Reader<'_>) -> Option<FrontDoorConfig> {
    match proxy.value("front_door")? {
        Value::Bool(false) => return None,
        Value::Bool(true) => {
            let words = "must be `false`, or say where to: {to: http://127.0.0.1:8001, token: …}";
            proxy.complain("front_door", words);
            return None;
        }
        _ => {}
    }
    let at = proxy.section("front_door");
    let to = at.get::<String>("to").and_then(|text| {
        text.parse::<NodeUrl>()
            .map_err(|error| at.complain("to", &error.to_string()))
            .ok()
    });
    let token = token::read(&at, "token", "token_file");
    for (key, other, what) in [
        ("to", "to", "where the control plane answers"),
        ("token", "token_file", "the text that both planes hold"),
    ] {
        if at.value(key).is_none() && at.value(other).is_none() {
            at.complain(key, &format!("is missing: {what}"));
        }
    }
    at.finish();
    Some(FrontDoorConfig {
        to: to?,
        token: token?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Overrides, ProxyConfig, overrides_from};
    use super::*;

    const TEXT: &str = "0123456789abcdef0123456789abcdef";

    fn read(yaml: &str) -> Result<Option<FrontDoorConfig>, String> {
        ProxyConfig::from_yaml(yaml, &Overrides::default())
            .map(|config| config.front_door)
            .map_err(|problems| problems.to_string())
    }

    #[test]
    fn without_a_word_and_with_false_it_is_closed() {
        assert_eq!(read(""), Ok(None));
        assert_eq!(read("proxy: {front_door: false}"), Ok(None));
        assert_eq!(ProxyConfig::defaults().front_door, None);
    }

    #[test]
    fn the_token_stands_in_the_file_in_another_or_in_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, format!("{TEXT}\n")).unwrap();
        let to = "to: 'https://control.example:8001/base'";
        let here = format!("proxy: {{front_door: {{{to}, token: {TEXT}}}}}");
        let in_file = format!(
            "proxy: {{front_door: {{{to}, token_file: '{}'}}}}",
            path.display()
        );
        let found = read(&here).unwrap().unwrap();
        assert_eq!(found.to.to_string(), "https://control.example:8001/base");
        assert_eq!(found.token.reveal(), TEXT);
        assert_eq!(read(&in_file).unwrap().unwrap(), found);

        let name = "AIVONX_PROXY__FRONT_DOOR__TOKEN".to_owned();
        let overrides = overrides_from("PROXY", [(name, TEXT.to_owned())].into_iter());
        let yaml = format!("proxy: {{front_door: {{{to}}}}}");
        let config = ProxyConfig::from_yaml(&yaml, &overrides).unwrap();
        assert_eq!(config.front_door, Some(found));
        assert!(!format!("{config:?}").contains(TEXT));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_token() {
        let says = |yaml: &str| read(yaml).unwrap_err();
        let missing = says("proxy:\n  front_door: {}\n");
        assert!(missing.contains("line 2: proxy.front_door.to: is missing"));
        assert!(missing.contains("proxy.front_door.token: is missing"));
        assert!(says("proxy: {front_door: true}").contains("must be `false`"));
        assert!(says("proxy: {front_door: [1]}").contains("must be a mapping"));
        let short = says("proxy: {front_door: {to: '127.0.0.1:8001', token: hunter2}}");
        assert!(short.contains("must begin with http://"), "{short}");
        assert!(short.contains("16 to 512"), "{short}");
        assert!(!short.contains("hunter2"), "{short}");
        let none =
            says("proxy: {front_door: {to: 'http://127.0.0.1:8001', token_file: /nowhere/token}}");
        assert!(
            none.contains("proxy.front_door.token_file: cannot read /nowhere/token"),
            "{none}"
        );
    }
}
