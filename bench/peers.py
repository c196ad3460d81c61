"""The peers that script/bench measures: how each is set up, started and stopped. compare.py loads them.

All stand in front of the same two mock nodes. Those of TLS and HTTP/2 (`SECURE`) have a TLS listener beside the
plain one and show the same certificate.
"""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

FILES = 16384  # open files: 2,000 streams take 4,000 in a proxy


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

    def certificate(self) -> Path:
        """The folder of the certificate that all peers show, made when it is first asked for."""
        folder = self.scratch / "tls"
        if not folder.exists():
            folder.mkdir()
            subprocess.run([self.program("bench-load"), "certificate", str(folder)], check=True, timeout=60)
            both = [(folder / name).read_text(encoding="ascii") for name in ["cert.pem", "key.pem"]]
            (folder / "both.pem").write_text("".join(both), encoding="ascii")
        return folder

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
    tls_port: int | None = None

    def listens(self) -> bool:
        return accepts(self.port) and (self.tls_port is None or accepts(self.tls_port))


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
{tls}
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

NGINX_TLS = """
    listen 127.0.0.1:{port} ssl http2 backlog=8192;
    ssl_certificate {folder}/cert.pem;
    ssl_certificate_key {folder}/key.pem;
    ssl_protocols TLSv1.3;
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
{tls}
  default_backend nodes
backend nodes
  balance leastconn
{servers}
"""


HAPROXY_TLS = "  bind 127.0.0.1:{port} backlog 8192 ssl crt {folder}/both.pem alpn h2,http/1.1 ssl-min-ver TLSv1.3"

AIVONX_TLS = """
proxy:
  tls: {{listen: "127.0.0.1:{port}", certificate: "{folder}/cert.pem", key: "{folder}/key.pem"}}
"""


def tls_listener(bench: Bench, text: str, tls: bool) -> tuple[int | None, str]:
    """A peer's TLS listener, if it is to have one: the port, and the lines of its configuration."""
    if not tls:
        return None, ""
    port = free_port()
    return port, text.format(port=port, folder=bench.certificate())


def start_nginx(bench: Bench, tls: bool = False) -> Peer:
    port, folder = free_port(), Path(tempfile.mkdtemp(dir=bench.scratch))
    tls_port, listen = tls_listener(bench, NGINX_TLS, tls)
    servers = "\n".join(f"    server 127.0.0.1:{node};" for node in bench.nodes)
    conf = folder / "nginx.conf"
    conf.write_text(NGINX.format(port=port, dir=folder, servers=servers, files=FILES, tls=listen))
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    process = bench.spawn(program, "-p", str(folder), "-c", str(conf), "-e", str(folder / "start.log"))
    return Peer("nginx", port, process, tls_port=tls_port)


def start_haproxy(bench: Bench, tls: bool = False) -> Peer:
    port, folder = free_port(), Path(tempfile.mkdtemp(dir=bench.scratch))
    tls_port, bind = tls_listener(bench, HAPROXY_TLS, tls)
    servers = "\n".join(f"  server n{node} 127.0.0.1:{node}" for node in bench.nodes)
    conf = folder / "haproxy.cfg"
    conf.write_text(HAPROXY.format(port=port, servers=servers, tls=bind))
    program = shutil.which("haproxy") or "/usr/sbin/haproxy"
    return Peer("haproxy", port, bench.spawn(program, "-db", "-f", str(conf)), tls_port=tls_port)


def start_bare(bench: Bench, name: str, program: str) -> Peer:
    port = free_port()
    nodes = [f"127.0.0.1:{node}" for node in bench.nodes]
    return Peer(name, port, bench.spawn(bench.program(program), f"127.0.0.1:{port}", *nodes))


KEYS = 1000
KEY = "bench-key-500-of-1000"
# What a browser's client sends with a key.
SENT = ["--header", f"Authorization: Bearer {KEY}", "--header", "Origin: http://localhost:3000"]
# The same bytes but for their meaning: the page is of the same origin, so CORS has nothing to say.
SAME = ["--header", f"Authorization: Bearer {KEY}", "--header", "Origin: http://localhost"]


def guarded_document() -> str:
    """A thousand keys, each with every limit; the one that is sent stands in the middle."""
    lines = ["anonymous: never", "keys:"]
    for number in range(KEYS):
        digest = hashlib.sha256((KEY if number == KEYS // 2 else f"other-{number}").encode()).hexdigest()
        lines.append(f'  - {{id: key-{number}, sha256: "{digest}", models: ["*"], rate: 1000000/s, max_concurrent: 10000}}')
    return "\n".join(lines) + "\n"


def start_aivonx(bench: Bench, name: str = "aivonx", document: str = "", tls: bool = False) -> Peer:
    """Everything switched on, all defaults: metrics, access log (into a pipe), model scan, usage, probes."""
    port, ops, folder = free_port(), free_port(), Path(tempfile.mkdtemp(dir=bench.scratch))
    tls_port, config = tls_listener(bench, AIVONX_TLS, tls)
    fleet = folder / "fleet.yaml"
    nodes = [f'  - {{name: node-{n}, url: "http://127.0.0.1:{node}"}}' for n, node in enumerate(bench.nodes)]
    fleet.write_text(document + "nodes:\n" + "\n".join(nodes) + "\n")
    listen = ["--listen", f"127.0.0.1:{port}", "--ops-listen", f"127.0.0.1:{ops}"]
    if config:
        (folder / "aivonx.yaml").write_text(config)
        listen += ["--config", str(folder / "aivonx.yaml")]
    env = {key: value for key, value in os.environ.items() if not key.startswith("AIVONX_")}
    env |= {key: value for key, value in os.environ.items() if key.startswith("AIVONX_PROXY__")}
    reader = bench.spawn("cat", stdin=subprocess.PIPE)
    process = bench.spawn(bench.program("aivonx"), "proxy", "--fleet", str(fleet), *listen, stdout=reader.stdin, env=env)
    reader.stdin.close()  # the proxy holds the only other end
    wait_until("aivonx is ready", lambda: ok(f"http://127.0.0.1:{ops}/readyz"))
    return Peer(name, port, process, [reader], tls_port)


STARTS: dict[str, Callable[[Bench], Peer]] = {
    "nginx": start_nginx,
    "haproxy": start_haproxy,
    "bare": lambda bench: start_bare(bench, "bare", "bare-pingora"),
    "bare-jemalloc": lambda bench: start_bare(bench, "bare-jemalloc", "bare-pingora-jemalloc"),
    "aivonx": start_aivonx,
}

# The same with a TLS listener beside the plain one.
SECURE: dict[str, Callable[[Bench], Peer]] = {
    "nginx": lambda bench: start_nginx(bench, tls=True),
    "haproxy": lambda bench: start_haproxy(bench, tls=True),
    "aivonx": lambda bench: start_aivonx(bench, tls=True),
}


def started(bench: Bench, start: Callable[[Bench], Peer]) -> Peer:
    """A fresh process of a peer, which listens."""
    peer = start(bench)
    wait_until(f"{peer.name} listens", peer.listens)
    return peer


def stop(bench: Bench, peer: Peer) -> None:
    for process in filter(None, [peer.process, *peer.helpers]):
        bench.stop(process)


@contextmanager
def running(bench: Bench, start: Callable[[Bench], Peer]) -> Iterator[Peer]:
    """The same for a while."""
    peer = started(bench, start)
    try:
        yield peer
    finally:
        stop(bench, peer)
