#!/usr/bin/env python3
"""Has schemathesis try the control plane's API by its own document: a real `aivonx serve` with a database of its
own and one simulated node, as an admin with a personal access token. script/test calls it; arguments go to
`schemathesis run`. The log of aivonx is kept beside the other logs of the tests, and must tell of no fault.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "clients"))

from harness import AIVONX, DEADLINE, TARGET, Process, start_nodes  # noqa: E402

PASSWORD = "correct horse battery"


def ask(base: str, path: str, body: dict, token: str = "") -> dict:
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(base + path, json.dumps(body).encode(), headers, method="POST")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def start(stack: contextlib.ExitStack, folder: Path, log: Path) -> str:
    """Starts `aivonx serve`; gives the address of its front door."""
    os.environ["ROOT_PASSWORD"] = PASSWORD
    os.environ["AIVONX_CONTROL_PLANE__LOCAL_OLLAMA"] = "none"
    listen = ["--listen=127.0.0.1:0", "--ops-listen=127.0.0.1:0", "--control-listen=127.0.0.1:0"]
    process = Process([str(AIVONX), "serve", *listen, "--data", str(folder / "data")], log)
    stack.callback(process.stop)
    return "http://" + process.next_json(time.monotonic() + DEADLINE)["proxy"]


def main() -> int:
    logs = Path(os.environ.get("AIVONX_TEST_LOGS", TARGET.parent / "test-logs"))
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / "schema-aivonx.log"
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aivonx-schema-")))
        base = start(stack, folder, log)
        token = ask(base, "/api/account/login", {"username": "root", "password": PASSWORD})["access"]
        # an access token may expire in between
        token = ask(base, "/api/account/tokens", {"name": "schemathesis", "role": "admin"}, token)["token"]
        for number, url in enumerate(start_nodes(stack, folder)):
            ask(base, "/api/proxy/nodes", {"name": f"gpu-{number}", "url": url}, token)
        command = [Path(sys.executable).with_name("schemathesis"), "--config-file", HERE / "schemathesis.toml", "run"]
        command += [f"{base}/api/schema?format=json", "--header", f"Authorization: Bearer {token}", *sys.argv[1:]]
        environment = os.environ | {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE)}
        status = subprocess.run(command, env=environment, cwd=folder, check=False).returncode
    # Pingora calls it an error when a pooled connection is taken by two at once; it takes another one then
    lines = log.read_text(errors="replace").splitlines()
    faults = [line for line in lines if ('"ERROR"' in line and '"target":"aivonx' in line) or "panicked" in line]
    for line in faults[:20]:
        print(f"schema: aivonx logged a fault: {line}")
    return status or bool(faults)


if __name__ == "__main__":
    sys.exit(main())
