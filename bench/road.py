"""The road from a change over the REST API to the data planes, how fast `serve` starts, and what counting usage costs.

One control plane with a Postgres and a Redis of its own, and two data planes in front of the mock nodes. A change
is an API key that expires and comes to life again in turn: its holder's requests are answered 401 or 200. After the
control plane's answer has arrived both data planes are asked in turn, on open connections and without a pause, until
both answer by the change; the time of the last one counts, so that a question on the way (some 0.2 ms) is in it.
"""

import http.client
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from peers import Bench, Peer, free_port, ok, wait_until

PASSWORD = "correct horse battery"
DOOR = "a-token-that-both-planes-hold"
NEVER, EXPIRED = None, "2020-01-01T00:00:00Z"


def environment(**more: str) -> dict[str, str]:
    """Ours without what would configure aivonx besides."""
    taken = ("AIVONX_", "POSTGRES_", "REDIS_", "ROOT_")
    return {key: value for key, value in os.environ.items() if not key.startswith(taken)} | more


# --- asking ------------------------------------------------------------------------------------------------------


class Caller:
    """Somebody with an open connection and a token."""

    def __init__(self, port: int, token: str = "") -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self.token = token

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        sent = None if body is None else json.dumps(body)
        self.connection.request(method, path, sent, headers)
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def do(self, method: str, path: str, body: object = None) -> dict:
        status, text = self.ask(method, path, body)
        if not 200 <= status < 300:
            raise SystemExit(f"bench: {method} {path}: {status} {text.decode(errors='replace')}")
        return json.loads(text)


# --- what runs ---------------------------------------------------------------------------------------------------


@dataclass
class House:
    """One control plane, two data planes, and root's login."""

    planes: list[Peer]
    root: Caller


@contextmanager
def servers(bench: Bench) -> Iterator[dict]:
    """A Postgres and a Redis."""
    # not among what `stop_all` ends by a signal: it ends with its standard input, and takes both along
    log = (bench.scratch / "bench-servers.log").open("ab")
    process = subprocess.Popen(
        [bench.program("bench-servers")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
    )
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(timeout=30)


@contextmanager
def house(bench: Bench) -> Iterator[House]:
    with servers(bench) as urls:
        # a key for this run alone
        shared = {"AIVONX_SECRET_KEY": os.urandom(32).hex(), "REDIS_URL": urls["redis"]}
        port, ops = free_port(), free_port()
        control = {"DATABASE": urls["postgres"], "FRONT_DOOR_TOKEN": DOOR}
        env = environment(ROOT_PASSWORD=PASSWORD, **shared)
        env |= {f"AIVONX_CONTROL_PLANE__{key}": value for key, value in control.items()}
        listen = ["--listen", f"127.0.0.1:{port}", "--ops-listen", f"127.0.0.1:{ops}"]
        process = bench.spawn(bench.program("aivonx"), "control-plane", *listen, env=env)
        wait_until("the control plane is ready", lambda: ok(f"http://127.0.0.1:{ops}/readyz"))
        planes = [start_plane(bench, f"aivonx-bus-{number}", port, shared) for number in range(2)]
        root = Caller(port)
        login = {"username": "root", "password": PASSWORD}
        root.token = root.do("POST", "/api/account/login", login)["access"]
        try:
            yield House(planes, root)
        finally:
            for peer in planes:
                for one in [peer.process, *peer.helpers]:
                    bench.stop(one)
            bench.stop(process)


def start_plane(bench: Bench, name: str, control: int, shared: dict[str, str]) -> Peer:
    port, ops, folder = free_port(), free_port(), Path(tempfile.mkdtemp(dir=bench.scratch))
    settings = {"FRONT_DOOR__TO": f"http://127.0.0.1:{control}", "FRONT_DOOR__TOKEN": DOOR, "BUS__FOLDER": str(folder)}
    env = environment(**shared) | {f"AIVONX_PROXY__{key}": value for key, value in settings.items()}
    listen = ["--listen", f"127.0.0.1:{port}", "--ops-listen", f"127.0.0.1:{ops}"]
    reader = bench.spawn("cat", stdin=subprocess.PIPE)
    process = bench.spawn(bench.program("aivonx"), "proxy", *listen, stdout=reader.stdin, env=env)
    reader.stdin.close()
    wait_until(f"{name} is ready", lambda: ok(f"http://127.0.0.1:{ops}/readyz"))
    return Peer(name, port, process, [reader])


def furnish(bench: Bench, root: Caller) -> dict:
    """Registers the mock nodes, and a key whose changes are watched for."""
    for number, node in enumerate(bench.nodes):
        root.do("POST", "/api/proxy/nodes", {"name": f"node-{number}", "url": f"http://127.0.0.1:{node}"})
    return root.do("POST", "/api/proxy/keys", {"key_id": "watched"})


# --- measuring ---------------------------------------------------------------------------------------------------


def change(root: Caller, path: str, watchers: list[Caller], expires: str | None) -> float:
    """Milliseconds from the answer to a change until it is in force in all data planes."""
    wanted = 200 if expires is NEVER else 401
    root.do("PATCH", path, {"expires_at": expires})
    answered = time.perf_counter()
    waiting = list(watchers)
    while waiting:
        waiting = [one for one in waiting if one.ask("GET", "/api/tags")[0] != wanted]
        if time.perf_counter() - answered > 10:
            raise SystemExit("bench: a change did not come into force within 10 s")
    return (time.perf_counter() - answered) * 1e3


def changes(bench: Bench, scenario: str, house_: House, key: dict, count: int) -> None:
    path = f"/api/proxy/keys/{key['id']}"
    watchers = [Caller(peer.port, key["key"]) for peer in house_.planes]
    for one in watchers:
        wait_until("the key is known", lambda one=one: one.ask("GET", "/api/tags")[0] == 200)
    took = []
    for number in range(count):
        took.append(change(house_.root, path, watchers, EXPIRED if number % 2 == 0 else NEVER))
    bench.rows.append({"scenario": scenario, "round": 0, "peer": "aivonx", "ms": took})


def run_road(bench: Bench, house_: House, key: dict) -> None:
    """Changes while nothing else goes on, then beside requests: 4 connections that never rest."""
    count = 60 if bench.quick else 300
    count -= count % 2  # the key is good at the end
    changes(bench, "road", house_, key, count)
    load = [bench.program("bench-load"), "run", "--connections", "4", "--seconds", "120"]
    busy = bench.spawn(*load, "--target", f"127.0.0.1:{house_.planes[0].port}")
    changes(bench, "road-busy", house_, key, count)
    bench.stop(busy)


def run_starts(bench: Bench) -> None:
    """`serve` in an empty folder: milliseconds until its front door leads to the API."""
    took = []
    for _ in range(5 if bench.quick else 15):
        port, folder = free_port(), Path(tempfile.mkdtemp(dir=bench.scratch))
        listen = [f"--listen=127.0.0.1:{port}", "--control-listen=127.0.0.1:0", "--ops-listen=127.0.0.1:0"]
        began = time.perf_counter()
        process = bench.spawn(bench.program("aivonx"), "serve", *listen, "--data", str(folder), env=environment())
        while not is_up(port):
            if time.perf_counter() - began > 20:
                raise SystemExit("bench: serve did not start within 20 s")
            time.sleep(0.001)
        took.append((time.perf_counter() - began) * 1e3)
        bench.stop(process)
    bench.rows.append({"scenario": "start", "round": 0, "peer": "aivonx", "ms": took})


def is_up(port: int) -> bool:
    """Whether the control plane answers through the front door."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/api/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
