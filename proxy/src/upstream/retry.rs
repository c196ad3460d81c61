//! What an answer's head means: relay it, or ask another node (retry matrix, ollama-api.md §5).

use http::StatusCode;

/// What to do with an answer whose head arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Relay it; the runner did well.
    Good,
    /// Relay it; it says nothing of the node: the request's own fault, or a plain refusal.
    Final,
    /// The node is too old for the route: another may know it.
    TooOld,
    /// Its inventory is stale: read it again, another holder may have the model.
    Stale,
    /// The node's or runner's fault, or it is busy: another may do.
    Faulty,
    /// A 500 whose fault is not known: once more elsewhere, then it shows.
    Suspicious,
}

/// Judges by status and content type; `held` says that the model was routed to a holder, and
/// `text_plain` that the answer is no JSON of Ollama's.
pub(crate) fn judge(status: StatusCode, text_plain: bool, held: bool) -> Judgement {
    match status.as_u16() {
        200..=399 => Judgement::Good,
        404 if text_plain => Judgement::TooOld,
        404 if held => Judgement::Stale,
        500 => Judgement::Suspicious,
        502..=504 => Judgement::Faulty,
        _ => Judgement::Final,
    }
}

/// Whether an error text names the runner, so that it was not the request's fault
/// (ollama-api.md §5, retry matrix).
pub(crate) fn names_the_runner(text: &[u8]) -> bool {
    const RUNNER: [&[u8]; 6] = [
        b"model runner has unexpectedly stopped",
        b"llama-server process",
        b"timed out waiting for llama-server",
        b"an error was encountered while running the model",
        b"out of memory",
        b"requires more system memory",
    ];
    RUNNER
        .iter()
        .any(|words| memchr::memmem::find(text, words).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_judged_by_the_matrix() {
        let status = |code| StatusCode::from_u16(code).unwrap();
        assert_eq!(judge(status(200), false, true), Judgement::Good);
        assert_eq!(judge(status(400), false, true), Judgement::Final);
        assert_eq!(judge(status(501), false, true), Judgement::Final);
        assert_eq!(judge(status(403), true, true), Judgement::Final);
        assert_eq!(judge(status(404), true, false), Judgement::TooOld);
        assert_eq!(judge(status(404), false, true), Judgement::Stale);
        assert_eq!(judge(status(404), false, false), Judgement::Final);
        assert_eq!(judge(status(500), false, true), Judgement::Suspicious);
        assert_eq!(judge(status(503), false, true), Judgement::Faulty);
    }

    #[test]
    fn only_texts_of_the_runner_speak_against_it() {
        assert!(names_the_runner(
            br#"{"error":"llama-server process no longer running: unknown "}"#
        ));
        assert!(!names_the_runner(
            br#"{"error":"option \"num_ctx\" must be of type integer"}"#
        ));
    }
}
