//! What Ollama would answer a request that no node is there to judge. Texts and statuses:
//! ollama-api.md §5 and the recordings `errors`.

use aivonx_shared::model_name::{ModelName, NameError};

use super::model_scan::{Field, Found, Outcome, Root};
use super::rejection::Rejection;
use super::route::NodeRoute;

/// The answer to a request that is wrong in itself; `None` where nothing is wrong that can be
/// seen from here.
pub(crate) fn without_a_node(found: &Found, route: NodeRoute, asked: &str) -> Option<Rejection> {
    let bad = |text: &str| Some(Rejection::AsOllama(400, text.to_owned()));
    match (found.outcome, found.root) {
        (Outcome::Incomplete, Root::None) => {
            return bad(if is_v1(route) {
                "EOF"
            } else {
                "missing request body"
            });
        }
        (Outcome::Incomplete, _) => return bad("unexpected EOF"),
        (Outcome::Broken, _) => return bad("invalid request body"),
        (Outcome::Complete, _) => {}
    }
    match &found.model {
        Field::WrongType => {
            return bad("json: cannot unmarshal the model into a Go value of type string");
        }
        Field::TooLong => return bad("invalid model name"),
        Field::Absent | Field::Text(_) => {}
    }
    match ModelName::parse_with_source(asked) {
        Ok(_) => None,
        Err(NameError::Empty) if empty_is_unknown(route) => Some(unknown_model(route, asked)),
        Err(NameError::Empty) => bad("model is required"),
        Err(error) => bad(&error.to_string()),
    }
}

/// The 404 of a model that no node may serve, in the words of its route.
pub(crate) fn unknown_model(route: NodeRoute, asked: &str) -> Rejection {
    let text = match route {
        NodeRoute::Embed | NodeRoute::Embeddings | NodeRoute::V1Embeddings if !asked.is_empty() => {
            format!("model \"{asked}\" not found, try pulling it first")
        }
        NodeRoute::Show => {
            let display =
                ModelName::parse_with_source(asked).map(|(name, _)| name.display().to_owned());
            format!(
                "model '{}' not found",
                display.unwrap_or_else(|_| asked.to_owned())
            )
        }
        _ => format!("model '{asked}' not found"),
    };
    Rejection::AsOllama(404, text)
}

/// Routes on which an empty name is looked up like any other.
fn empty_is_unknown(route: NodeRoute) -> bool {
    matches!(
        route,
        NodeRoute::Generate | NodeRoute::Embed | NodeRoute::V1Completions | NodeRoute::V1Embeddings
    )
}

fn is_v1(route: NodeRoute) -> bool {
    matches!(
        route,
        NodeRoute::V1Chat
            | NodeRoute::V1Completions
            | NodeRoute::V1Embeddings
            | NodeRoute::V1Responses
            | NodeRoute::V1Messages
            | NodeRoute::V1Transcriptions
    )
}
