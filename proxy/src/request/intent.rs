//! What a request asks for beside an answer, as far as its body says: unloading a model, a search
//! on the web. Ask only where the scan's `given` says that there is something to look at.

use super::keep_alive::KeepAlive;
use super::members::{elements, members, text};
use super::route::NodeRoute;

/// Whether a whole body asks for nothing but to unload the model (ollama-api.md §5.1, §5.2): no
/// prompt or no messages, and a `keep_alive` of zero in any spelling. Images do not matter.
pub(crate) fn is_unload(route: NodeRoute, body: &[u8]) -> bool {
    let work = match route {
        NodeRoute::Generate => "prompt",
        NodeRoute::Chat => "messages",
        _ => return false,
    };
    let (mut keep_alive, mut idle) = (None, true);
    for member in members(body) {
        if member.is("keep_alive") {
            // Go's pointer becomes nil with `null`; what is invalid makes the request invalid
            keep_alive = match KeepAlive::read(member.value) {
                None if member.value != b"null" => return false,
                read => read,
            };
        } else if member.is(work) {
            idle = match member.value {
                b"\"\"" if work == "prompt" => true,
                b"null" => idle || work == "messages", // a string keeps what was there
                [b'[', ..] if work == "messages" => elements(member.value).next().is_none(),
                [b'"', ..] if work == "prompt" => false,
                _ => return false, // a node answers 400
            };
        }
    }
    idle && keep_alive.is_some_and(KeepAlive::is_zero)
}

/// The tool that makes a node search the web on its own account (ollama-api.md §4, the end), if
/// the body holds one: `web_search` in Responses, `web_search…` in Messages. Dated and preview
/// spellings count on both, and so do tools of a key that comes again: better refuse too much than
/// let a search out.
pub(crate) fn web_search_tool(route: NodeRoute, body: &[u8]) -> Option<String> {
    if !matches!(route, NodeRoute::V1Responses | NodeRoute::V1Messages) {
        return None;
    }
    members(body)
        .filter(|member| member.is("tools"))
        .flat_map(|member| elements(member.value))
        .flat_map(members)
        .filter(|member| member.is("type"))
        .filter_map(|member| text(member.value))
        .find(|kind| {
            let start = kind.trim().as_bytes().get(.."web_search".len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(b"web_search"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unloads(route: NodeRoute, body: &str) -> bool {
        is_unload(route, body.as_bytes())
    }

    #[test]
    fn a_request_with_nothing_to_do_and_no_time_to_keep_unloads() {
        for body in [
            r#"{"model":"m","keep_alive":0}"#,
            r#"{"model":"m","keep_alive":"0h0m","prompt":""}"#,
            r#"{"keep_alive":0.0,"prompt":null,"images":["aGk="]}"#,
            r#"{"KEEP_ALIVE":5,"keep_alive":"0"}"#,
            r#"{"prompt":"x","prompt":"","keep_alive":0}"#,
        ] {
            assert!(unloads(NodeRoute::Generate, body), "{body}");
        }
        for body in [
            r#"{"model":"m"}"#,
            r#"{"model":"m","keep_alive":0,"prompt":"x"}"#,
            r#"{"prompt":"x","prompt":null,"keep_alive":0}"#,
            r#"{"keep_alive":0,"keep_alive":null}"#,
            r#"{"keep_alive":"5","keep_alive":0}"#,
            r#"{"keep_alive":"500ms"}"#,
            r#"{"keep_alive":-1}"#,
            r#"{"keep_alive":0,"prompt":3}"#,
            r#"[{"keep_alive":0}]"#,
        ] {
            assert!(!unloads(NodeRoute::Generate, body), "{body}");
        }
    }

    #[test]
    fn a_chat_has_nothing_to_do_without_messages() {
        for body in [
            r#"{"model":"tiny","messages":[],"keep_alive":0}"#, // recording `chat-unload`
            r#"{"keep_alive":0}"#,
            r#"{"messages":[ ],"keep_alive":0,"prompt":"not a field of chat"}"#,
            r#"{"messages":[{}],"messages":null,"keep_alive":"0s"}"#,
        ] {
            assert!(unloads(NodeRoute::Chat, body), "{body}");
        }
        for body in [
            r#"{"messages":[{}],"keep_alive":0}"#,
            r#"{"messages":"","keep_alive":0,"messages":{}}"#,
            r#"{"messages":[]}"#,
        ] {
            assert!(!unloads(NodeRoute::Chat, body), "{body}");
        }
        assert!(!unloads(NodeRoute::Embed, r#"{"keep_alive":0}"#));
    }

    #[test]
    fn tools_that_search_the_web_are_seen() {
        let tool = |route, body: &str| web_search_tool(route, body.as_bytes());
        let responses =
            r#"{"tools":[{"type":"function","name":"web_search"},{"type":"web_search","x":1}]}"#;
        assert_eq!(
            tool(NodeRoute::V1Responses, responses).as_deref(),
            Some("web_search")
        );
        let messages =
            r#"{"tools":[{"name":"web_search","Ty\u0070e":"web_search_20250305"}],"tools":[]}"#;
        assert_eq!(
            tool(NodeRoute::V1Messages, messages).as_deref(),
            Some("web_search_20250305")
        );
        for body in [
            r#"{"tools":[{"type":"function","name":"web_search"}]}"#,
            r#"{"tools":[{"name":"web_search","input_schema":{"type":"web_search"}}]}"#,
            r#"{"input":[{"tools":[{"type":"web_search"}]}]}"#,
            r#"{"tools":null}"#,
            r#"{"tools":[{"type":"web"},{"type":3},4]}"#,
        ] {
            assert_eq!(tool(NodeRoute::V1Responses, body), None, "{body}");
        }
        assert_eq!(tool(NodeRoute::V1Chat, responses), None);
    }
}
