#!/usr/bin/env python3
"""Runs aivonx and its peers side by side and says what each costs; script/bench calls it after the build.

All peers stand in front of the same two mock nodes and are loaded in turn, A B C D A B C D …, so that a noisy
machine is noisy for all. What counts is CPU time a request of the process under test and ratios within a round;
tables show medians over the rounds. Writes everything to bench/results/<date-time>.json.
"""

import argparse
import datetime
import json
import os
import platform
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from figures import BARE, secure, secure_table, table, targets, verdicts
from peers import FILES, SAME, SECURE, SENT, STARTS, Bench, Peer, accepts, free_port, guarded_document, running
from peers import start_aivonx, started, stop, wait_until
from road import House, furnish, house, run_road, run_starts

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ["aivonx", "bench-load", "bench-mock", "bench-servers", "bare-pingora", "bare-pingora-jemalloc"]
ONLY = ["small", "stream", "burst", "one", "open", "body", "guard", "tls", "http2", "road", "usage"]
NODES = 2
DEADLINE = 30 * 60  # seconds after which the run ends itself


# --- measuring ---------------------------------------------------------------------------------------------------


def busy() -> float:
    """Seconds of CPU that the whole machine has used."""
    fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    ticks = [int(one) for one in fields[:8]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def cpu_of(pid: int) -> float:
    rest = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rsplit(")", 1)[1].split()
    return (int(rest[11]) + int(rest[12])) / os.sysconf("SC_CLK_TCK")


def load(bench: Bench, scenario: str, number: int, peer: Peer, *args: str, tls: bool = False) -> dict:
    """One measurement; its row is kept, with what everything else on the machine used in the meantime."""
    pid = peer.process.pid if peer.process else bench.mock_pid
    target = f"127.0.0.1:{peer.tls_port if tls else peer.port}"
    command = [bench.program("bench-load"), *args, "--target", target, "--pid", str(pid)]
    if tls:
        command += ["--tls", str(bench.certificate() / "cert.pem")]
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
    tls: bool = False
    only: frozenset[str] = frozenset()  # the choices of `--only` that take it, where that is not its name


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


def run_round(bench: Bench, scenario: Scenario, number: int, peers: dict[str, Peer]) -> None:
    args = ["run", "--seconds", str(scenario.seconds), *scenario.args]
    for name in scenario.peers:
        load(bench, scenario.name, number, peers[name], *args, tls=scenario.tls)


def run_scenario(bench: Bench, scenario: Scenario, peers: dict[str, Peer]) -> None:
    for number in range(scenario.rounds):
        say(f"{scenario.name}: round {number + 1} of {scenario.rounds}")
        run_round(bench, scenario, number, peers)


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
    """What keys, limits and CORS cost: over a request without their headers, and over one that sends them to
    an aivonx without keys, from a page of the same origin."""
    guarded = started(bench, lambda bench: start_aivonx(bench, "aivonx-guarded", guarded_document()))
    seconds = "1.5" if bench.quick else "3"
    for number in range(2 if bench.quick else 9):
        say(f"guard: round {number + 1}")
        for scenario, peer, sent in [("guard-off", plain, []), ("guard-same", plain, SAME), ("guard-on", guarded, SENT)]:
            load(bench, scenario, number, peer, "run", "--seconds", seconds, *sent)
    stop(bench, guarded)


def secure_scenarios(quick: bool) -> list[Scenario]:
    """TLS and HTTP/2, and the same in plain HTTP/1.1 beside them, to say what each adds."""
    small = (2, 1.0) if quick else (5, 1.5)  # rounds, seconds
    streams = (2, 1.0) if quick else (3, 3.0)
    new = (small[0], 10.0)
    stream, http2 = ["--chunks", "100", "--pause-us", "1000"], ["--http2"]
    shared = ["--connections", "4", "--streams", "8"]
    # by their number: what comes in a few seconds would use up the ports of this machine
    fresh = ["--fresh", "--count", "600" if quick else "3000"]
    peers, only_tls, only_http2 = list(SECURE), frozenset({"tls"}), frozenset({"http2"})
    return [
        Scenario("plain", *small, [], peers, only=only_tls | only_http2),
        Scenario("tls", *small, [], peers, tls=True, only=only_tls),
        Scenario("tls-new", *new, fresh, peers, tls=True, only=only_tls),
        Scenario("http2", *small, http2, peers, tls=True, only=only_http2),
        Scenario("http2-shared", *small, [*http2, *shared], peers, tls=True, only=only_http2),
        Scenario("plain-stream", *streams, stream, peers, only=only_tls | only_http2),
        Scenario("tls-stream", *streams, stream, peers, tls=True, only=only_tls),
        Scenario("http2-stream", *streams, [*http2, *stream], peers, tls=True, only=only_http2),
    ]


def run_secure(bench: Bench, only: set[str]) -> None:
    """All scenarios within each round: what TLS adds is a difference within a round."""
    peers = {name: started(bench, start) for name, start in SECURE.items()}
    wanted = [one for one in secure_scenarios(bench.quick) if not only or only & one.only]
    for number in range(max(one.rounds for one in wanted)):
        say(f"tls and http2: round {number + 1}")
        for one in wanted:
            if number < one.rounds:
                run_round(bench, one, number, peers)
    for peer in peers.values():
        stop(bench, peer)


def run_usage(bench: Bench, plain: Peer, fleet: House) -> None:
    """What a fleet from a control plane costs a request: counting usage, reports, and what is in flight elsewhere."""
    seconds = "1.5" if bench.quick else "3"
    for number in range(2 if bench.quick else 9):
        say(f"usage: round {number + 1}")
        for scenario, peer in [("usage-off", plain), ("usage-on", fleet.planes[0])]:
            load(bench, scenario, number, peer, "run", "--seconds", seconds)


def run_house(bench: Bench, only: set[str], plain: Peer) -> None:
    """Both planes, with a Postgres and a Redis."""
    with house(bench) as both:
        key = furnish(bench, both.root)
        if not only or "road" in only:
            say("road: changes until they are in force")
            run_road(bench, both, key)
        if not only or "usage" in only:
            run_usage(bench, plain, both)


def run_open(bench: Bench) -> None:
    """Memory of 2,000 open streams, in a fresh process each time."""
    for number in range(1 if bench.quick else 3):
        say(f"open: round {number + 1}")
        for start in STARTS.values():
            with running(bench, start) as peer:
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
        peers[name] = started(bench, start)
    for scenario in scenarios(bench.quick):
        if not only or scenario.name in only:
            run_scenario(bench, scenario, peers)
    if not only or "guard" in only:
        run_guard(bench, peers["aivonx"])
    if not only or "body" in only:
        run_bodies(bench, peers)
    if not only or only & {"tls", "http2"}:
        run_secure(bench, only)
    if not only or only & {"road", "usage"}:
        run_house(bench, only, peers["aivonx"])
    if not only or "road" in only:
        say("road: starts of serve")
        run_starts(bench)


def out_of_time(*_: object) -> None:
    raise SystemExit("bench: took too long; ended")


def write(path: Path, report: dict) -> None:
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few and short rounds: whether it works, not how it does")
    parser.add_argument("--only", action="append", default=[], choices=ONLY)
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
    results = ROOT / "bench/results"
    results.mkdir(exist_ok=True)
    path = results / f"{began:%Y-%m-%dT%H-%M-%SZ}{'-quick' if options.quick else ''}.json"
    report = {"began": began.isoformat(timespec="seconds"), "quick": options.quick, "machine": machine()}
    measured = {"picks": picks, "rows": bench.rows}
    write(path, report | measured)  # before anything is made of it: a fault there must not lose the run
    reached, secured = targets(bench.rows, picks), secure(bench.rows)
    write(path, report | {"targets": reached, "secure": secured} | measured)
    print("\n\n".join([table(bench.rows), *secure_table(secured), verdicts(reached)]))
    if others := [row["other_cpu_share"] for row in bench.rows if "other_cpu_share" in row]:
        say(f"other programs used {statistics.median(others):.0%} of the machine in the median measurement")
    say(f"raw data: {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
