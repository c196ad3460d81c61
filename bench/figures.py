"""Reads the measurements of script/bench: medians and ratios, the targets, the tables. compare.py prints them."""

import math
import statistics
from collections.abc import Iterator

from peers import SECURE, STARTS

BARE = ["bare", "bare-jemalloc"]
CPU = "cpu_us_per_request"
# What is said of TLS and HTTP/2: words, scenario, and the scenario that it adds to.
SECURED = [
    ("small, plain HTTP/1.1", "plain", None),
    ("small, TLS, HTTP/1.1", "tls", "plain"),
    ("small, TLS, HTTP/1.1, a new connection each", "tls-new", "plain"),
    ("small, TLS, HTTP/2", "http2", "plain"),
    ("small, TLS, HTTP/2, 8 at once on a connection", "http2-shared", "plain"),
    ("stream, plain HTTP/1.1", "plain-stream", None),
    ("stream, TLS, HTTP/1.1", "tls-stream", "plain-stream"),
    ("stream, TLS, HTTP/2", "http2-stream", "plain-stream"),
]


# --- reading rows ------------------------------------------------------------------------------------------------


def values(rows: list[dict], scenario: str, peer: str, key: str) -> dict[int, float]:
    return {
        row["round"]: row[key]
        for row in rows
        if row["scenario"] == scenario and row["peer"] == peer and row.get(key) is not None
    }


def median(rows: list[dict], scenario: str, peer: str, key: str) -> float | None:
    found = values(rows, scenario, peer, key).values()
    return statistics.median(found) if found else None


def ratio(rows: list[dict], scenario: str, peer: str, base: str, key: str) -> float | None:
    """Median over the rounds of the ratio within a round."""
    ours, theirs = values(rows, scenario, peer, key), values(rows, scenario, base, key)
    both = [ours[number] / theirs[number] for number in ours if theirs.get(number)]
    return statistics.median(both) if both else None


def overhead(rows: list[dict], more: tuple[str, str], less: tuple[str, str], key: str) -> float | None:
    """Per cent that one (scenario, peer) takes more than another: the median over rounds of the ratio within a round."""
    ours, theirs = values(rows, *more, key), values(rows, *less, key)
    both = [ours[number] / theirs[number] for number in ours if theirs.get(number)]
    return (statistics.median(both) - 1) * 100 if both else None


def added(rows: list[dict], peer: str, scenario: str, base: str, key: str) -> float | None:
    """Median over the rounds of what a peer needs more for one scenario than for another within a round."""
    more, less = values(rows, scenario, peer, key), values(rows, base, peer, key)
    both = [more[number] - less[number] for number in more if number in less]
    return statistics.median(both) if both else None


def difference(rows: list[dict], scenarios_: tuple[str, str], peers: tuple[str, str], key: str) -> float | None:
    more, less = (median(rows, s, p, key) for s, p in zip(scenarios_, peers, strict=True))
    return None if more is None or less is None else more - less


def percentile(rows: list[dict], scenario: str, share: float) -> float | None:
    """Of all times (`ms`) of a scenario, the one that this share of them does not exceed (nearest rank)."""
    times = sorted(one for row in rows if row["scenario"] == scenario for one in row["ms"])
    return times[max(0, math.ceil(share * len(times)) - 1)] if times else None


def at(tree: dict | None, scale: float, *path: str) -> float | None:
    """A number in nested objects, or None where it is not."""
    value: object = tree
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value * scale if isinstance(value, int | float) else None


def targets(rows: list[dict], picks: dict | None) -> list[dict]:
    def against_bare(name: str, scenario: str, key: str, limit: float) -> Iterator[tuple]:
        """Against both allocators: a figure that only beats the worse one says little."""
        for bare in BARE:
            yield f"{name}, × {bare}", ratio(rows, scenario, "aivonx", bare, key), limit, ""

    body = difference(rows, ("body-last", "body-first"), ("aivonx", "aivonx"), CPU)
    added = difference(rows, ("one", "one"), ("aivonx", "direct"), "p50_us")
    usage = overhead(rows, ("usage-on", "aivonx-bus-0"), ("usage-off", "aivonx"), CPU)
    on, off, same = ("guard-on", "aivonx-guarded"), ("guard-off", "aivonx"), ("guard-same", "aivonx")
    wanted = [
        *against_bare("CPU per small request", "small", CPU, 1.15),
        *against_bare("CPU per 100-chunk stream, 1 ms apart", "stream", CPU, 1.10),
        *against_bare("CPU per 100-chunk stream, back to back", "burst", CPU, 1.10),
        *against_bare("RSS per open stream at 2,000", "open", "rss_kb_per_stream", 1.10),
        ("p50 at one connection, added to direct", added and added / 1e3, 0.15, "ms"),
        ("CPU of 3 MB, model last less model first", body if body is None else body / 1e3, 2.0, "ms"),
        ("keys, limits and CORS on, over the same requests without", overhead(rows, on, same, CPU), 3.0, "%"),
        ("the same, over requests without their headers", overhead(rows, on, off, CPU), 3.0, "%"),
        ("a fleet from a control plane, over one from a file", usage, 3.0, "%"),
        ("a change, from its 200 until in force in two planes, p50", percentile(rows, "road", 0.5), 50.0, "ms"),
        ("the same, p99", percentile(rows, "road", 0.99), 50.0, "ms"),
        ("the same beside requests, p99", percentile(rows, "road-busy", 0.99), 50.0, "ms"),
        ("serve, start in an empty folder, p50", percentile(rows, "start", 0.5), 500.0, "ms"),
        ("the same, slowest", percentile(rows, "start", 1.0), 500.0, "ms"),
        ("a pick, 8 nodes of 1,000 hold the model", at(picks, 1e-3, "pick_ns", "holders_8"), 2.0, "µs"),
        ("a pick, all of 1,000 nodes hold it", at(picks, 1e-3, "pick_ns", "holders_all"), 2.0, "µs"),
        ("a reload, each of 500 models on 8 nodes", at(picks, 1, "reload", "holders_8", "took_ms"), 200.0, "ms"),
        ("a reload, all 500 models on all 1,000", at(picks, 1, "reload", "holders_all", "took_ms"), 200.0, "ms"),
        ("longest wait for a pick in that reload", at(picks, 1, "reload", "holders_all", "longest_pick_ms"), 5.0, "ms"),
    ]
    return [
        {"target": name, "value": value, "limit": limit, "unit": unit, "met": None if value is None else value <= limit}
        for name, value, limit, unit in wanted
    ]


def cell(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def table(rows: list[dict]) -> str:
    """Medians, one line a peer."""
    lines = [
        "| | requests/s | CPU µs, small request | × bare | CPU µs, stream paced | × bare "
        "| CPU µs, stream in a burst | × bare | p50 µs, one connection | p99 | KB RSS, open stream |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for peer in ["direct", *STARTS]:
        cells = [cell(median(rows, "small", peer, "requests_per_second"), 0)]
        for scenario in ["small", "stream", "burst"]:
            # the mock's own cost is no proxy's
            known = None if peer == "direct" else median(rows, scenario, peer, CPU)
            cells.append(cell(known))
            cells.append(cell(known and ratio(rows, scenario, peer, "bare", CPU), 2))
        cells += [cell(median(rows, "one", peer, key), 0) for key in ["p50_us", "p99_us"]]
        cells.append(cell(median(rows, "open", peer, "rss_kb_per_stream")))
        lines.append(f"| {peer} | " + " | ".join(cells) + " |")
    lines += ["", "| 3 MB body, CPU ms | model first | model last |", "|---|---|---|"]
    for peer in ["nginx", "bare", "aivonx"]:
        cpu = [median(rows, f"body-{place}", peer, CPU) for place in ["first", "last"]]
        lines.append(f"| {peer} | " + " | ".join(cell(one and one / 1e3, 2) for one in cpu) + " |")
    return "\n".join(lines)


def secure(rows: list[dict]) -> list[dict]:
    """What TLS and HTTP/2 cost each peer, as far as it was measured."""
    return [
        {
            "what": what,
            "scenario": name,
            "cpu_us": {peer: median(rows, name, peer, CPU) for peer in SECURE},
            "times_nginx": {peer: ratio(rows, name, peer, "nginx", CPU) for peer in SECURE},
            "added_us": {peer: added(rows, peer, name, base, CPU) for peer in SECURE} if base else None,
        }
        for what, name, base in SECURED
        if values(rows, name, "nginx", CPU)
    ]


def secure_table(found: list[dict]) -> list[str]:
    """One table, or none where nothing of it was measured."""
    if not found:
        return []
    columns = [*SECURE, "aivonx × nginx", *(f"{peer} adds" for peer in SECURE)]
    lines = ["| CPU µs | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for one in found:
        cells = [cell(one["cpu_us"][peer]) for peer in SECURE]
        cells.append(cell(one["times_nginx"]["aivonx"], 2))
        cells += [cell(one["added_us"] and one["added_us"][peer]) for peer in SECURE]
        lines.append(f"| {one['what']} | " + " | ".join(cells) + " |")
    return ["\n".join(lines)]


def verdicts(reached: list[dict]) -> str:
    words = {True: "met", False: "MISSED", None: "not measured"}
    lines = ["| target | limit | measured | |", "|---|---|---|---|"]
    for one in reached:
        unit = f" {one['unit']}" if one["unit"] else ""
        measured = "–" if one["value"] is None else f"{one['value']:.3f}{unit}"
        lines.append(f"| {one['target']} | {one['limit']:g}{unit} | {measured} | {words[one['met']]} |")
    return "\n".join(lines)
