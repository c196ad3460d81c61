"""What schemathesis cannot know of the API by its document. Each rule takes something out, and says why."""

import re

import schemathesis

# The id of `root`, who runs all of this.
ROOT = "1"
# Of a path the front door takes letters that every reader of paths reads alike; for others it has Ollama's own
# 404, in Go's words (proxy/src/request/front_door.rs).
PLAIN = re.compile(r"[A-Za-z0-9._~@:+-]+")


@schemathesis.hook
def filter_query(context, query):
    """`fields` leaves keys out of what is answered, and JSON Schema has no words for that: the check of answers
    would call it a fault. tests/e2e/control/acceptance.rs holds it to its promise."""
    return not query or "fields" not in query


@schemathesis.hook
def filter_path_parameters(context, path_parameters):
    values = [str(value) for value in (path_parameters or {}).values()]
    return all(PLAIN.fullmatch(value) and set(value) != {"."} for value in values)


@schemathesis.hook
def filter_case(context, case):
    """Whoever locks itself out of the API finds nothing any more."""
    is_change = case.method not in {"GET", "HEAD"}
    own = case.path.startswith(("/api/account/users/{id}", "/api/account/tokens/{id}"))
    return not (is_change and own and str((case.path_parameters or {}).get("id")) == ROOT)
