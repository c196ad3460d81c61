#!/usr/bin/env python3
"""Runs aivonx and its peers side by side and says what each costs; script/bench calls it after the build.

All peers stand in front of the same two mock nodes and are loaded in turn, A B C D A B C D …, so that a noisy
machine is noisy for all. What counts is CPU time a request of the process under test and ratios within a round;
tables show medians over the rounds. Writes everything to bench/results/<date-time>.json.
"""

import argparse
import datetime
import hashlib
import json
import os
import platform
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ["aivonx", "bench-load", "bench-mock", "bare-pingora", "bare-pingora-jemalloc"]
NODES = 2
DEADLINE = 30 * 60  # seconds after which the run ends itself
FILES = 16384  # open files: 2,000 streams take 4,000 in a proxy
BARE = ["bare", "bare-jemalloc"]


# --- processes ---------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(what: str, holds: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise SystemExit(f"bench: waited {seconds} s in vain: {what}")
        time.sleep(0.05)


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ok(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


@dataclass
class Bench:
    """Where things are, and what was started."""

    scratch: Path
    quick: bool
    nodes: list[int] = field(default_factory=list)
    started: list[subprocess.Popen] = field(default_factory=list)
    rows: list[dict] = field(default_factory=list)
    mock_pid: int = 0

    def program(self, name: str) -> str:
        return str(self.scratch / "bin" / name)

    def spawn(self, *args: str, **options) -> subprocess.Popen:
        options.setdefault("stdout", subprocess.DEVNULL)
        log = (self.scratch / f"{Path(args[0]).name}.log").open("ab")
        process = subprocess.Popen(args, stdin=options.pop("stdin", subprocess.DEVNULL), stderr=log, **options)
        self.started.append(process)
        return process

    def stop(self, process: subprocess.Popen) -> None:
        """Ends one process that we started; what it forked ends with it."""
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process in self.started:
            self.started.remove(process)

    def stop_all(self) -> None:
        for process in reversed(self.started[:]):
            self.stop(process)


# --- what is measured --------------------------------------------------------------------------------------------


@dataclass
class Peer:
    """A running proxy (or the mock itself)."""

    name: str
    port: int
    process: subprocess.Popen | None
    helpers: list[subprocess.Popen] = field(default_factory=list)


NGINX = """
daemon off;
worker_processes 2;
worker_rlimit_nofile {files};
pid {dir}/nginx.pid;
error_log {dir}/nginx-error.log warn;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  keepalive_requests 100000000; keepalive_timeout 600;
  client_max_body_size 64m; client_body_buffer_size 4m;
  upstream nodes {{
    least_conn;
{servers}
    keepalive 1024; keepalive_requests 100000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=8192;
    tcp_nodelay on;
    location / {{
      proxy_pass http://nodes;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 900;
    }}
  }}
}}
"""

HAPROXY = """
global
  nbthread 2
  maxconn 5000
defaults
  mode http
  timeout connect 2s
  timeout client 900s
  timeout server 900s
  http-reuse always
frontend front
  bind 127.0.0.1:{port} backlog 8192
  default_backend nodes
backend nodes
  balance leastconn
{servers}
"""


def start_nginx(bench: Bench) -> Peer:
    port, folder = free_port(), Path(tempfile.mkdtemp(dir=bench.scratch))
    servers = "\n".join(f"    server 127.0.0.1:{node};" for node in bench.nodes)
    conf = folder / "nginx.conf"
    conf.write_text(NGINX.format(port=port, dir=folder, servers=servers, files=FILES))
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    return Peer("nginx", port, bench.spawn(program, "-p", str(folder), "-c", str(conf), "-e", str(folder / "start.log")))


def start_haproxy(bench: Bench) -> Peer:
    port, folder = free_port(), Path(tempfile.mkdtemp(dir=bench.scratch))
    servers = "\n".join(f"  server n{node} 127.0.0.1:{node}" for node in bench.nodes)
    conf = folder / "haproxy.cfg"
    conf.write_text(HAPROXY.format(port=port, servers=servers))
    program = shutil.which("haproxy") or "/usr/sbin/haproxy"
    return Peer("haproxy", port, bench.spawn(program, "-db", "-f", str(conf)))


def start_bare(bench: Bench, name: str, program: str) -> Peer:
    port = free_port()
    nodes = [f"127.0.0.1:{node}" for node in bench.nodes]
    return Peer(name, port, bench.spawn(bench.program(program), f"127.0.0.1:{port}", *nodes))


KEYS = 1000
KEY = "bench-key-500-of-1000"
# What a browser's client sends with a key.
SENT = ["--header", f"Authorization: Bearer {KEY}", "--header", "Origin: http://localhost:3000"]


def guarded_document() -> str:
    """A thousand keys, each with every limit; the one that is sent stands in the middle."""
    lines = ["anonymous: never", "keys:"]
    for number in range(KEYS):
        digest = hashlib.sha256((KEY if number == KEYS // 2 else f"other-{number}").encode()).hexdigest()
        lines.append(f'  - {{id: key-{number}, sha256: "{digest}", models: ["*"], rate: 1000000/s, max_concurrent: 10000}}')
    return "\n".join(lines) + "\n"


def start_aivonx(bench: Bench, name: str = "aivonx", document: str = "") -> Peer:
    """Everything switched on, all defaults: metrics, access log (into a pipe), model scan, usage, probes."""
    port, ops = free_port(), free_port()
    fleet = bench.scratch / f"fleet-{name}.yaml"
    nodes = [f'  - {{name: node-{n}, url: "http://127.0.0.1:{node}"}}' for n, node in enumerate(bench.nodes)]
    fleet.write_text(document + "nodes:\n" + "\n".join(nodes) + "\n")
    listen = ["--listen", f"127.0.0.1:{port}", "--ops-listen", f"127.0.0.1:{ops}"]
    env = {key: value for key, value in os.environ.items() if not key.startswith("AIVONX_")}
    env |= {key: value for key, value in os.environ.items() if key.startswith("AIVONX_PROXY__")}
    reader = bench.spawn("cat", stdin=subprocess.PIPE)
    process = bench.spawn(bench.program("aivonx"), "proxy", "--fleet", str(fleet), *listen, stdout=reader.stdin, env=env)
    reader.stdin.close()  # the proxy holds the only other end
    wait_until("aivonx is ready", lambda: ok(f"http://127.0.0.1:{ops}/readyz"))
    return Peer(name, port, process, [reader])


STARTS: dict[str, Callable[[Bench], Peer]] = {
    "nginx": start_nginx,
    "haproxy": start_haproxy,
    "bare": lambda bench: start_bare(bench, "bare", "bare-pingora"),
    "bare-jemalloc": lambda bench: start_bare(bench, "bare-jemalloc", "bare-pingora-jemalloc"),
    "aivonx": start_aivonx,
}


@contextmanager
def running(bench: Bench, name: str) -> Iterator[Peer]:
    """A fresh process of a peer."""
    peer = STARTS[name](bench)
    try:
        wait_until(f"{name} listens", lambda: accepts(peer.port))
        yield peer
    finally:
        for process in filter(None, [peer.process, *peer.helpers]):
            bench.stop(process)


# --- measuring ---------------------------------------------------------------------------------------------------


def busy() -> float:
    """Seconds of CPU that the whole machine has used."""
    fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    ticks = [int(one) for one in fields[:8]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def cpu_of(pid: int) -> float:
    rest = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rsplit(")", 1)[1].split()
    return (int(rest[11]) + int(rest[12])) / os.sysconf("SC_CLK_TCK")


def load(bench: Bench, scenario: str, number: int, peer: Peer, *args: str) -> dict:
    """One measurement; its row is kept, with what everything else on the machine used in the meantime."""
    pid = peer.process.pid if peer.process else bench.mock_pid
    command = [bench.program("bench-load"), *args, "--target", f"127.0.0.1:{peer.port}", "--pid", str(pid)]
    began, machine, mock = time.monotonic(), busy(), cpu_of(bench.mock_pid)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    if done.returncode:
        raise SystemExit(f"bench: {scenario} on {peer.name}: {done.stderr.strip()}")
    took, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    row = {"scenario": scenario, "round": number, "peer": peer.name, **json.loads(done.stdout)}
    generator = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    row["mock_cpu_seconds"] = cpu_of(bench.mock_pid) - mock
    row["generator_cpu_seconds"] = generator
    ours = generator + row["mock_cpu_seconds"] + (row.get("cpu_seconds", 0.0) if peer.process else 0.0)
    row["other_cpu_share"] = max(0.0, busy() - machine - ours) / (took * (os.cpu_count() or 1))
    if row.get("errors") or row.get("non_2xx"):
        print(f"  {scenario} on {peer.name}: {row['errors']} errors, {row.get('non_2xx')} non-2xx", file=sys.stderr)
    bench.rows.append(row)
    return row


@dataclass
class Scenario:
    name: str
    rounds: int
    seconds: float
    args: list[str]
    peers: list[str]


def scenarios(quick: bool) -> list[Scenario]:
    everybody = ["direct", "nginx", "haproxy", *BARE, "aivonx"]
    rounds, seconds = (2, 1.5) if quick else (5, 3.0)
    stream = ["--chunks", "100"]
    return [
        Scenario("small", rounds, seconds, [], everybody),
        Scenario("stream", max(2, rounds - 1), seconds, [*stream, "--pause-us", "1000"], everybody),
        Scenario("burst", max(2, rounds - 1), seconds, stream, everybody),
        Scenario("one", rounds, seconds / 2, ["--connections", "1"], everybody),
    ]


def run_scenario(bench: Bench, scenario: Scenario, peers: dict[str, Peer]) -> None:
    for number in range(scenario.rounds):
        say(f"{scenario.name}: round {number + 1} of {scenario.rounds}")
        for name in scenario.peers:
            load(bench, scenario.name, number, peers[name], "run", "--seconds", str(scenario.seconds), *scenario.args)


def run_bodies(bench: Bench, peers: dict[str, Peer]) -> None:
    """3 MB bodies with `model` first and last, in turn."""
    count = 30 if bench.quick else 100
    for number in range(2 if bench.quick else 5):
        say(f"body: round {number + 1}")
        for name in ["nginx", "bare", "aivonx"]:
            for place in ["first", "last"]:
                args = ["--connections", "1", "--count", str(count), "--seconds", "30", "--body", "3000000"]
                load(bench, f"body-{place}", number, peers[name], "run", "--model-at", place, *args)


def run_guard(bench: Bench, plain: Peer) -> None:
    """What keys, limits and CORS cost: without them; without them and their headers sent; with them."""
    guarded = start_aivonx(bench, "aivonx-guarded", guarded_document())
    wait_until("aivonx-guarded listens", lambda: accepts(guarded.port))
    seconds = "1.5" if bench.quick else "3"
    for number in range(2 if bench.quick else 9):
        say(f"guard: round {number + 1}")
        for scenario, peer, sent in [("guard-off", plain, []), ("guard-sent", plain, SENT), ("guard-on", guarded, SENT)]:
            load(bench, scenario, number, peer, "run", "--seconds", seconds, *sent)
    for process in filter(None, [guarded.process, *guarded.helpers]):
        bench.stop(process)


def run_open(bench: Bench) -> None:
    """Memory of 2,000 open streams, in a fresh process each time."""
    for number in range(1 if bench.quick else 3):
        say(f"open: round {number + 1}")
        for name in STARTS:
            with running(bench, name) as peer:
                load(bench, "open", number, peer, "open", "--streams", "2000")


def run_picks() -> dict | None:
    """Picks and reloads are measured within the crate."""
    if not (ROOT / "proxy/examples/picks.rs").exists():
        return None
    say("picks and reloads")
    command = ["cargo", "run", "--release", "--quiet", "--locked", "-p", "aivonx-proxy"]
    command += ["--features", "measure", "--example", "picks"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode:
        say(f"picks failed: {done.stderr.strip()[-500:]}")
        return None
    return json.loads(done.stdout)


# --- reading it --------------------------------------------------------------------------------------------------


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


def difference(rows: list[dict], scenarios_: tuple[str, str], peers: tuple[str, str], key: str) -> float | None:
    more, less = (median(rows, s, p, key) for s, p in zip(scenarios_, peers, strict=True))
    return None if more is None or less is None else more - less


def at(tree: dict | None, scale: float, *path: str) -> float | None:
    """A number in nested objects, or None where it is not."""
    value: object = tree
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value * scale if isinstance(value, int | float) else None


def targets(rows: list[dict], picks: dict | None) -> list[dict]:
    cpu = "cpu_us_per_request"

    def against_bare(name: str, scenario: str, key: str, limit: float) -> Iterator[tuple]:
        """Against both allocators: a figure that only beats the worse one says little."""
        for bare in BARE:
            yield f"{name}, × {bare}", ratio(rows, scenario, "aivonx", bare, key), limit, ""

    body = difference(rows, ("body-last", "body-first"), ("aivonx", "aivonx"), cpu)
    added = difference(rows, ("one", "one"), ("aivonx", "direct"), "p50_us")
    on, off, sent = ("guard-on", "aivonx-guarded"), ("guard-off", "aivonx"), ("guard-sent", "aivonx")
    wanted = [
        *against_bare("CPU per small request", "small", cpu, 1.15),
        *against_bare("CPU per 100-chunk stream, 1 ms apart", "stream", cpu, 1.10),
        *against_bare("CPU per 100-chunk stream, back to back", "burst", cpu, 1.10),
        *against_bare("RSS per open stream at 2,000", "open", "rss_kb_per_stream", 1.10),
        ("p50 at one connection, added to direct", added and added / 1e3, 0.15, "ms"),
        ("CPU of 3 MB, model last less model first", body if body is None else body / 1e3, 2.0, "ms"),
        ("keys, limits and CORS on, over the same requests without", overhead(rows, on, sent, cpu), 3.0, "%"),
        ("the same, over requests without their headers", overhead(rows, on, off, cpu), 3.0, "%"),
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
            known = None if peer == "direct" else median(rows, scenario, peer, "cpu_us_per_request")
            cells.append(cell(known))
            cells.append(cell(known and ratio(rows, scenario, peer, "bare", "cpu_us_per_request"), 2))
        cells += [cell(median(rows, "one", peer, key), 0) for key in ["p50_us", "p99_us"]]
        cells.append(cell(median(rows, "open", peer, "rss_kb_per_stream")))
        lines.append(f"| {peer} | " + " | ".join(cells) + " |")
    lines += ["", "| 3 MB body, CPU ms | model first | model last |", "|---|---|---|"]
    for peer in ["nginx", "bare", "aivonx"]:
        cpu = [median(rows, f"body-{place}", peer, "cpu_us_per_request") for place in ["first", "last"]]
        lines.append(f"| {peer} | " + " | ".join(cell(one and one / 1e3, 2) for one in cpu) + " |")
    return "\n".join(lines)


def verdicts(reached: list[dict]) -> str:
    words = {True: "met", False: "MISSED", None: "not measured"}
    lines = ["| target | limit | measured | |", "|---|---|---|---|"]
    for one in reached:
        unit = f" {one['unit']}" if one["unit"] else ""
        measured = "–" if one["value"] is None else f"{one['value']:.3f}{unit}"
        lines.append(f"| {one['target']} | {one['limit']:g}{unit} | {measured} | {words[one['met']]} |")
    return "\n".join(lines)


# --- main --------------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def version(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
    return found.group(0) if found else "unknown"


def machine() -> dict:
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(encoding="ascii"))
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory.group(1)) / 2**20) if memory else None,
        "kernel": ".".join(platform.release().split(".")[:2]),
        "nginx": version(shutil.which("nginx") or "/usr/sbin/nginx", "-v"),
        "haproxy": version(shutil.which("haproxy") or "/usr/sbin/haproxy", "-v"),
        "rustc": version("rustc", "--version"),
    }


def measure(bench: Bench, only: set[str]) -> None:
    bench.nodes = [free_port() for _ in range(NODES)]
    mock = bench.spawn(bench.program("bench-mock"), *(f"127.0.0.1:{node}" for node in bench.nodes))
    bench.mock_pid = mock.pid
    wait_until("the mock listens", lambda: all(accepts(node) for node in bench.nodes))
    if not only or "open" in only:
        run_open(bench)
    peers = {"direct": Peer("direct", bench.nodes[0], None)}
    for name, start in STARTS.items():
        peers[name] = start(bench)
        wait_until(f"{name} listens", lambda port=peers[name].port: accepts(port))
    for scenario in scenarios(bench.quick):
        if not only or scenario.name in only:
            run_scenario(bench, scenario, peers)
    if not only or "guard" in only:
        run_guard(bench, peers["aivonx"])
    if not only or "body" in only:
        run_bodies(bench, peers)


def out_of_time(*_: object) -> None:
    raise SystemExit("bench: took too long; ended")


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few and short rounds: whether it works, not how it does")
    parser.add_argument("--only", action="append", default=[], choices=["small", "stream", "burst", "one", "open", "body", "guard"])
    parser.add_argument("--binaries", type=Path, required=True, help="where the release build is")
    options = parser.parse_args()

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    for number in (signal.SIGALRM, signal.SIGTERM):
        signal.signal(number, out_of_time)
    signal.alarm(DEADLINE)

    began = datetime.datetime.now(datetime.UTC)
    with tempfile.TemporaryDirectory(prefix="aivonx-bench-") as scratch:
        bench = Bench(Path(scratch), options.quick)
        (bench.scratch / "bin").mkdir()
        for name in PROGRAMS:  # a build in the meantime must not change what is measured
            shutil.copy2(options.binaries / name, bench.scratch / "bin" / name)
        try:
            measure(bench, set(options.only))
        except SystemExit:
            for log in bench.scratch.glob("*.log"):
                print(log.read_text(encoding="utf-8", errors="replace")[-1000:], file=sys.stderr)
            raise
        finally:
            bench.stop_all()
    picks = None if options.only else run_picks()
    reached = targets(bench.rows, picks)
    text = f"{table(bench.rows)}\n\n{verdicts(reached)}"
    results = ROOT / "bench/results"
    results.mkdir(exist_ok=True)
    path = results / f"{began:%Y-%m-%dT%H-%M-%SZ}{'-quick' if options.quick else ''}.json"
    report = {"began": began.isoformat(timespec="seconds"), "quick": options.quick, "machine": machine()}
    report |= {"targets": reached, "picks": picks, "rows": bench.rows}
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(text)
    others = [row["other_cpu_share"] for row in bench.rows]
    say(f"other programs used {statistics.median(others):.0%} of the machine in the median measurement")
    say(f"raw data: {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
