"""The latest OpenAI and Anthropic packages over TLS with HTTP/2, and curl in every way it can connect."""

import json
import ssl
import subprocess

import anthropic
import httpx
import openai
import pytest
from harness import CHAT, MISSING, VISION, key

SKY = [{"role": "user", "content": "Why is the sky blue?"}]
SHORT = {"max_tokens": 8, "temperature": 0}


def trusted(fleet) -> ssl.SSLContext:
    if fleet.tls is None:
        pytest.skip("no TLS listener")
    return ssl.create_default_context(cafile=str(fleet.authority))


def openai_at(fleet, api_key: str) -> openai.OpenAI:
    http = openai.DefaultHttpxClient(http2=True, verify=trusted(fleet))
    return openai.OpenAI(base_url=f"{fleet.tls}/v1", api_key=api_key, max_retries=0, http_client=http)


def anthropic_at(fleet, api_key: str) -> anthropic.Anthropic:
    http = anthropic.DefaultHttpxClient(http2=True, verify=trusted(fleet))
    return anthropic.Anthropic(base_url=fleet.tls, api_key=api_key, max_retries=0, http_client=http)


@pytest.fixture
def over_openai(fleet):
    return openai_at(fleet, "unused")


@pytest.fixture
def over_anthropic(fleet):
    return anthropic_at(fleet, "unused")


def test_openai_over_http_2(over_openai, fleet):
    raw = over_openai.chat.completions.with_raw_response.create(model=CHAT, messages=SKY, seed=7, **SHORT)
    assert raw.http_response.http_version == "HTTP/2"
    fleet.check_headers(raw.headers)
    whole = raw.parse().choices[0].message.content
    chunks = list(over_openai.chat.completions.create(model=CHAT, messages=SKY, seed=7, stream=True, **SHORT))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole
    with pytest.raises(openai.NotFoundError):
        over_openai.chat.completions.create(model=MISSING, messages=SKY)


def test_a_long_prompt_over_http_2(over_openai):
    long = [{"role": "user", "content": "word " * 200_000}]
    answer = over_openai.chat.completions.create(model=CHAT, messages=long, **SHORT)
    assert answer.usage.completion_tokens == SHORT["max_tokens"]


def test_a_long_body_of_no_length_over_http_2(fleet):
    long = [{"role": "user", "content": "word " * 100_000}]
    body = json.dumps({"model": CHAT, "messages": long, "stream": False, "options": {"num_predict": 3}}).encode()
    half = len(body) // 2
    with httpx.Client(http2=True, verify=trusted(fleet)) as client:
        for _ in range(5):
            answer = client.post(f"{fleet.tls}/api/chat", content=iter([body[:half], body[half:]]), timeout=20)
            assert (answer.http_version, answer.status_code) == ("HTTP/2", 200), answer.text
            assert "content-length" not in answer.request.headers
            assert answer.json()["done"] is True
    command = ["curl", "--silent", "--show-error", "--fail", "--max-time", "20", "--http2-prior-knowledge"]
    command += ["--request", "POST", "--upload-file", "-", f"{fleet.url}/api/chat"]
    done = subprocess.run(command, check=True, capture_output=True, input=body)
    assert json.loads(done.stdout)["done"] is True


def test_anthropic_over_http_2(over_anthropic):
    raw = over_anthropic.messages.with_raw_response.create(model=CHAT, messages=SKY, max_tokens=8)
    assert raw.http_response.http_version == "HTTP/2"
    assert raw.parse().content[0].text.strip()
    with over_anthropic.messages.stream(model=CHAT, messages=SKY, max_tokens=8) as stream:
        assert "".join(stream.text_stream).strip()
        assert stream.get_final_message().stop_reason == "max_tokens"


def test_openai_with_a_key_over_tls_and_http_2(guarded):
    client = openai_at(guarded, key("some"))
    raw = client.chat.completions.with_raw_response.create(model=CHAT, messages=SKY, **SHORT)
    assert raw.http_response.http_version == "HTTP/2"
    guarded.check_headers(raw.headers)
    assert raw.parse().choices[0].message.content
    chunks = list(client.chat.completions.create(model=CHAT, messages=SKY, stream=True, **SHORT))
    assert chunks[-1].choices[0].finish_reason == "length"
    assert [model.id for model in client.models.list()] == [CHAT]
    with pytest.raises(openai.PermissionDeniedError, match="not on the list of models"):
        client.chat.completions.create(model=VISION, messages=SKY)
    for wrong in ["unused", key("some") + "x", key("old")]:
        with pytest.raises(openai.AuthenticationError):
            openai_at(guarded, wrong).chat.completions.create(model=CHAT, messages=SKY, **SHORT)


def test_anthropic_with_a_key_over_tls_and_http_2(guarded):
    ask = {"messages": SKY, "max_tokens": 8}
    client = anthropic_at(guarded, key("some"))
    raw = client.messages.with_raw_response.create(model=CHAT, **ask)
    assert raw.http_response.http_version == "HTTP/2"
    guarded.check_headers(raw.headers)
    assert raw.parse().content[0].text.strip()
    with client.messages.stream(model=CHAT, **ask) as stream:
        assert "".join(stream.text_stream).strip()
        assert stream.get_final_message().stop_reason == "max_tokens"
    with pytest.raises(anthropic.PermissionDeniedError, match="not on the list of models"):
        client.messages.create(model=VISION, **ask)
    for wrong in ["unused", key("some") + "x", key("old")]:
        with pytest.raises(anthropic.AuthenticationError):
            anthropic_at(guarded, wrong).messages.create(model=CHAT, **ask)


def test_many_at_once_share_a_connection_and_one_that_is_stopped_harms_no_other(over_openai, fleet):
    make = over_openai.chat.completions.create
    streams = [make(model=CHAT, messages=SKY, stream=True, **SHORT) for _ in range(4)]
    streams[0].close()
    for stream in streams[1:]:
        assert list(stream)[-1].choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("how", "version", "secure"),
    [
        ("--http1.0", "1", False),
        ("--http1.1", "1.1", False),
        ("--http2", "1.1", False),  # asks to be upgraded, and is answered as it came
        ("--http2-prior-knowledge", "2", False),
        ("--http1.1", "1.1", True),
        ("--http2", "2", True),
    ],
)
def test_curl(fleet, how, version, secure):
    if fleet.tls is None:
        pytest.skip("no TLS listener")
    body = json.dumps({"model": CHAT, "messages": SKY, "stream": False, "options": {"num_predict": 3}})
    command = ["curl", "--silent", "--show-error", "--fail", "--max-time", "20", how, "--cacert", str(fleet.authority)]
    command += ["--data", body, "--write-out", "\n%{http_version}", f"{fleet.tls if secure else fleet.url}/api/chat"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    answer, _, spoken = done.stdout.rpartition("\n")
    assert json.loads(answer)["done"] is True
    assert spoken == version
