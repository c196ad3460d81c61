"""Real clients from PyPI against the real binary; script/test --clients runs them.

While developing, point them at any Ollama that holds the models of harness.py, such as a simulated node:
AIVONX_CLIENT_TEST_URL=http://127.0.0.1:11434 target/clients/new/bin/python -m pytest -c tests/clients/pytest.ini
"""

import contextlib
import os

import harness
import pytest

# A proxy or key of the surroundings must not reach the clients.
for name in list(os.environ):
    if name.lower().endswith("_proxy") or name.startswith(("OPENAI_", "ANTHROPIC_", "OLLAMA_")):
        del os.environ[name]


@pytest.fixture(scope="session")
def fleet(tmp_path_factory):
    with harness.fleet(tmp_path_factory.mktemp("fleet")) as running:
        yield running
        if running.through_aivonx:
            assert running.metric("aivonx_inflight") == 0, "every permit must be back"


@pytest.fixture(scope="session")
def guarded(tmp_path_factory):
    """An aivonx that nobody may use without a key."""
    folder = tmp_path_factory.mktemp("guarded")
    with contextlib.ExitStack() as stack:
        urls = harness.start_nodes(stack, folder)
        yield harness.start_aivonx(stack, folder, urls, harness.guarded_document())


@pytest.fixture(scope="session")
def png() -> bytes:
    """A picture of one black pixel."""
    return bytes.fromhex(
        "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
        "0000000a49444154789c6360000000020001e221bc330000000049454e44ae426082"
    )
