"""Starts what the client tests drive: simulated Ollama nodes, and the real aivonx binary in front of them.

Everything listens on port 0 of loopback and is ended with the block that started it. Nothing here sleeps for
a fixed time: it waits for a line or a status, with a deadline.
"""

import contextlib
import hashlib
import json
import os
import queue
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
AIVONX = Path(os.environ.get("AIVONX_BIN", TARGET / "aivonx"))
SIM = Path(os.environ.get("AIVONX_SIM", TARGET / "ollama-sim"))
DEADLINE = 30.0  # seconds for a process to be ready

NODES = 3
CHAT = "llama3.2:3b"
VISION = "llava:7b"
EMBED = "nomic-embed-text:latest"
MISSING = "no-such-model"
PULLED = "smollm2:135m"  # in the registry of every node, and on none of them
SLOTS = 4
MODELS = [
    {"name": CHAT, "size": 2_000_000_000, "load_ms": 20, "tokens_per_second": 500},
    {"name": VISION, "size": 4_000_000_000, "tokens_per_second": 500, "capabilities": ["completion", "vision"]},
    {"name": EMBED, "size": 300_000_000, "capabilities": ["embedding"]},
]

# The keys of a guarded aivonx; their texts are what `key` gives.
KEYS = {
    "all": "scopes: [infer, manage]",
    "some": f'models: ["{CHAT}"]',
    "slow": "rate: 1/h",
    "old": "expires: 2020-01-01",
}


def key(name: str) -> str:
    return f"sk-{name}-of-the-tests"


def guarded_document() -> str:
    """Keys of a fleet file that nobody may use without one."""
    rows = [
        f"  - {{id: {name}, sha256: {hashlib.sha256(key(name).encode()).hexdigest()}, {more}}}\n"
        for name, more in KEYS.items()
    ]
    return "anonymous: never\nkeys:\n" + "".join(rows)


class Process:
    """A child whose standard output is read line by line; its standard error is shown when it fails."""

    def __init__(self, command: list[str], log: Path) -> None:
        self.command = command
        self.log = log
        self.errors = log.open("wb")
        self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.errors)
        self.lines: queue.Queue[str | None] = queue.Queue()
        # Read to the end even when nobody waits: access lines go to standard output too.
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.child.stdout:
            self.lines.put(line.decode(errors="replace"))
        self.lines.put(None)

    def next_json(self, until: float) -> dict:
        """The next line that is a JSON object."""
        while True:
            try:
                line = self.lines.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                raise self.failure("said nothing in time") from None
            if line is None:
                raise self.failure("ended early")
            with contextlib.suppress(ValueError):
                value = json.loads(line)
                if isinstance(value, dict):
                    return value

    def failure(self, what: str) -> RuntimeError:
        self.errors.flush()
        tail = self.log.read_text(errors="replace")[-4000:]
        return RuntimeError(f"{' '.join(map(str, self.command))} {what}; its standard error ends:\n{tail}")

    def stop(self) -> None:
        self.child.terminate()
        try:
            self.child.wait(10)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self.errors.close()


@dataclass
class Fleet:
    """Where the tests send their requests."""

    url: str
    ops: str | None = None  # None: the tests talk to a node directly
    nodes: list[str] = field(default_factory=list)
    tls: str | None = None  # the same over TLS
    authority: Path | None = None  # what to trust there

    @property
    def through_aivonx(self) -> bool:
        return self.ops is not None

    def check_headers(self, headers) -> None:
        """What aivonx adds to an answer that came from a node."""
        if not self.through_aivonx:
            return
        assert headers.get("x-request-id"), f"no x-request-id in {dict(headers)}"
        assert headers.get("x-aivonx-node") in self.nodes, f"no known x-aivonx-node in {dict(headers)}"

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        with urllib.request.urlopen(f"http://{self.ops}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        values = [line.rsplit(" ", 1) for line in text.splitlines() if line.split("{")[0].split(" ")[0] == name]
        assert values, f"no metric {name}"
        return sum(float(value) for _, value in values)


def start_nodes(stack: contextlib.ExitStack, folder: Path) -> list[str]:
    """The URLs of NODES simulated nodes that hold the same models.

    A process each, with the same seed, so that they answer alike: `--nodes` would give each a seed of its own.
    """
    config = folder / "node.json"
    registry = [{"name": PULLED, "size": 200_000_000}]
    rate = {"registry": registry, "registry_bytes_per_second": 400_000_000}
    config.write_text(json.dumps({"models": MODELS, "num_parallel": SLOTS, "seed": 7, **rate}))
    command = [str(SIM), "--config", str(config), "--listen", "127.0.0.1:0"]
    processes = []
    for number in range(1, NODES + 1):
        processes.append(Process(command, folder / f"ollama-sim-{number}.log"))
        stack.callback(processes[-1].stop)
    until = time.monotonic() + DEADLINE
    return [process.next_json(until)["url"] for process in processes]


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of localhost's own, and its key, in PEM."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command += ["-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


def start_aivonx(stack: contextlib.ExitStack, folder: Path, urls: list[str], document: str = "") -> Fleet:
    """aivonx in front of the nodes, ready for requests; `document` holds more keys of the fleet file."""
    names = [f"gpu-{number}" for number, _ in enumerate(urls, 1)]
    fleet = folder / "fleet.yaml"
    rows = [f'  - {{name: {name}, url: "{url}", slots: {SLOTS}}}\n' for name, url in zip(names, urls)]
    fleet.write_text(f"{document}\nnodes:\n" + "".join(rows))
    config = folder / "aivonx.yaml"
    # What is loaded is polled: often here, so that nobody waits long to see it.
    certificate, key = make_certificate(folder)
    tls = f'{{listen: "127.0.0.1:0", certificate: "{certificate}", key: "{key}"}}'
    config.write_text(f"proxy:\n  residency: {{interval: 200ms}}\n  tls: {tls}\n")
    command = [str(AIVONX), "proxy", "--config", str(config), "--fleet", str(fleet)]
    command += ["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"]
    process = Process(command, folder / "aivonx.log")
    stack.callback(process.stop)
    until = time.monotonic() + DEADLINE
    event: dict = {}
    while event.get("event") != "listening":
        event = process.next_json(until)
    wait_until_ready(process, f"http://{event['ops']}/readyz", until)
    tls = f"https://localhost:{event['tls'].rpartition(':')[2]}"
    return Fleet(url=f"http://{event['proxy']}", ops=event["ops"], nodes=names, tls=tls, authority=certificate)


def eventually(holds, seconds: float = 10.0):
    """What `holds()` gives as soon as it is true; for what aivonx learns by polling."""
    until = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < until, "did not come true in time"
        time.sleep(0.05)
    return found


def wait_until_ready(process: Process, url: str, until: float) -> None:
    while time.monotonic() < until:
        with contextlib.suppress(urllib.error.URLError, OSError):
            if urllib.request.urlopen(url, timeout=1).status == 200:
                return
        if process.child.poll() is not None:
            raise process.failure("ended early")
        time.sleep(0.02)
    raise process.failure(f"was not ready in time ({url})")


@contextlib.contextmanager
def fleet(folder: Path) -> Iterator[Fleet]:
    """The fleet under test: AIVONX_CLIENT_TEST_URL, or nodes and an aivonx of our own."""
    given = os.environ.get("AIVONX_CLIENT_TEST_URL")
    if given:
        yield Fleet(url=given.rstrip("/"))
        return
    with contextlib.ExitStack() as stack:
        yield start_aivonx(stack, folder, start_nodes(stack, folder))
