//! What a request asks for beside an answer, as far as its body says: unloading a model, a search
//! on the web. Ask only where the scan's `given` says that there is something to look at.

use super::keep_alive::KeepAlive;
use super::members::{Member, elements, members, text, unfinished};
use super::route::NodeRoute;

/// Whether a whole body asks for nothing but to unload the model (ollama-api.md §5.1 to §5.4): no
/// prompt, messages or input, and a `keep_alive` of zero in any spelling. Images do not matter. Of
/// the embedding routes a node says nothing of unloading, but does it all the same.
pub(crate) fn is_unload(route: NodeRoute, body: &[u8]) -> bool {
    let Some(mut work) = Work::of(route) else {
        return false;
    };
    let mut keep_alive = None;
    for member in members(body) {
        if member.is("keep_alive") {
            // Go's pointer becomes nil with `null`; what is invalid makes the request invalid
            keep_alive = match KeepAlive::read(member.value) {
                None if member.value != b"null" => return false,
                read => read,
            };
        } else if work.take(&member).is_none() {
            return false; // a node answers 400
        }
    }
    !work.is_there && keep_alive.is_some_and(KeepAlive::is_zero)
}

/// Whether the beginning of a body holds work already; `given` is how many members a scan counted
/// that may be some. What cannot be told yet is none.
pub(crate) fn has_work(route: NodeRoute, part: &[u8], given: u32) -> bool {
    let Some(mut work) = Work::of(route) else {
        return false;
    };
    let mut seen = 0;
    for member in members(part) {
        seen += u32::from(WORK.iter().any(|name| member.is(name)));
        if work.take(&member).is_none() {
            return false;
        }
    }
    if let Some(cut) = unfinished(part) {
        seen += u32::from(WORK.iter().any(|name| cut.is(name)));
        work.begin(&cut);
    }
    // one whose value has not begun may still take the others back
    work.is_there && seen == given
}

/// The names that `Given::work` counts.
const WORK: [&str; 3] = ["prompt", "messages", "input"];

/// What a native route has to do, as the members of a body say it one after another.
struct Work {
    name: &'static str,
    is_there: bool,
}

impl Work {
    /// `None` where nothing to do does not mean unloading.
    fn of(route: NodeRoute) -> Option<Self> {
        let name = match route {
            NodeRoute::Generate | NodeRoute::Embeddings => "prompt",
            NodeRoute::Chat => "messages",
            NodeRoute::Embed => "input",
            _ => return None,
        };
        Some(Self {
            name,
            is_there: false,
        })
    }

    /// Takes a whole member in; `None` where a node answers 400 to its value.
    fn take(&mut self, member: &Member<'_>) -> Option<()> {
        if !member.is(self.name) {
            return Some(());
        }
        self.is_there = match (self.name, member.value) {
            ("prompt", b"null") => self.is_there, // a string keeps what was there
            (_, b"null") | ("prompt" | "input", b"\"\"") => false,
            ("messages" | "input", list @ [b'[', ..]) => elements(list).next().is_some(),
            ("prompt", [b'"', ..]) | ("input", _) => true,
            _ => return None,
        };
        Some(())
    }

    /// Takes in as much as there is of the value in which a body breaks off.
    fn begin(&mut self, member: &Member<'_>) {
        if member.is(self.name) {
            self.is_there = match member.value {
                [b'"', _, ..] => self.name != "messages",
                list @ [b'[', ..] => self.name != "prompt" && !list[1..].trim_ascii().is_empty(),
                _ => false,
            };
        }
    }
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
    use super::super::model_scan::ModelScan;
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
        assert!(!unloads(NodeRoute::V1Chat, r#"{"keep_alive":0}"#));
    }

    #[test]
    fn an_embedding_of_nothing_unloads_as_well() {
        for body in [
            r#"{"model":"m","keep_alive":0}"#,
            r#"{"input":[],"keep_alive":"0s"}"#,
            r#"{"input":"","keep_alive":0}"#,
            r#"{"input":["x"],"INPUT":null,"keep_alive":0}"#,
            r#"{"keep_alive":0,"prompt":"not a field of embed"}"#,
        ] {
            assert!(unloads(NodeRoute::Embed, body), "{body}");
        }
        for body in [
            r#"{"input":"x","keep_alive":0}"#,
            r#"{"input":[""],"keep_alive":0}"#,
            r#"{"input":[],"input":["x"],"keep_alive":0}"#,
            r#"{"input":[],"keep_alive":5}"#,
            r#"{"input":3,"keep_alive":0}"#,
        ] {
            assert!(!unloads(NodeRoute::Embed, body), "{body}");
        }
        let older = |body| unloads(NodeRoute::Embeddings, body);
        assert!(older(r#"{"model":"m","prompt":"","keep_alive":0}"#));
        assert!(!older(r#"{"model":"m","prompt":"x","keep_alive":0}"#));
    }

    #[test]
    fn work_is_seen_at_the_beginning_of_a_body() {
        let has = |route, part: &str| {
            let mut scan = ModelScan::json();
            scan.feed(part.as_bytes());
            has_work(route, part.as_bytes(), scan.so_far().given.work)
        };
        for (route, part) in [
            (NodeRoute::Generate, r#"{"model":"m","prompt":"h"#),
            (NodeRoute::Generate, r#"{"prompt":"hi","images":["aGk"#),
            (
                NodeRoute::Chat,
                r#"{"messages":[{"role":"user","images":["aGk"#,
            ),
            (NodeRoute::Embed, r#"{"input":["a","b"#),
            (NodeRoute::Embed, r#"{"input":"a"#),
            (NodeRoute::Embeddings, r#"{"prompt":"\"#),
        ] {
            assert!(has(route, part), "{part}");
        }
        for (route, part) in [
            (NodeRoute::Generate, r#"{"model":"m","junk":"xxx"#),
            (
                NodeRoute::Generate,
                r#"{"model":"m","keep_alive":0,"junk":"xxx"#,
            ),
            (NodeRoute::Generate, r#"{"model":"m","prompt":"#),
            (NodeRoute::Generate, r#"{"model":"m","prompt":""#),
            (NodeRoute::Generate, r#"{"prompt":"x","prompt""#),
            (NodeRoute::Generate, r#"{"prompt":"x","prompt":"","junk":"#),
            (NodeRoute::Generate, r#"{"messages":[{}],"junk":"#),
            (NodeRoute::Generate, r#"{"junk":{"prompt":"x"},"more":"#),
            (NodeRoute::Chat, r#"{"messages":[ "#),
            (NodeRoute::Chat, r#"{"messages":[],"junk":"x"#),
            (NodeRoute::Chat, r#"{"messages":[{}],"prompt""#),
            (NodeRoute::V1Chat, r#"{"messages":[{}"#),
        ] {
            assert!(!has(route, part), "{part}");
        }
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
