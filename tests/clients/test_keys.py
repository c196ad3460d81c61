"""What real clients make of API keys: each presents its key in its own way and raises its own errors."""

import harness
import ollama
import openai
import pytest
from harness import CHAT, VISION, key

SKY = [{"role": "user", "content": "Why is the sky blue?"}]


def openai_with(guarded, api_key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{guarded.url}/v1", api_key=api_key, timeout=30, max_retries=0)


def ollama_with(guarded, api_key: str) -> ollama.Client:
    return ollama.Client(host=guarded.url, headers={"Authorization": f"Bearer {api_key}"})


def ask(client: openai.OpenAI, model: str = CHAT):
    return client.chat.completions.create(model=model, messages=SKY, max_tokens=3)


def test_openai_with_a_key_works_and_without_one_is_told_so(guarded):
    assert ask(openai_with(guarded, key("all"))).choices[0].message.content
    for wrong in ["unused", key("old"), key("all") + "x"]:
        with pytest.raises(openai.AuthenticationError):
            ask(openai_with(guarded, wrong))
    with pytest.raises(openai.AuthenticationError, match="has expired"):
        ask(openai_with(guarded, key("old")))


def test_openai_sees_and_uses_the_models_of_its_key_only(guarded):
    client = openai_with(guarded, key("some"))
    assert [model.id for model in client.models.list()] == [CHAT]
    assert ask(client).choices
    with pytest.raises(openai.PermissionDeniedError, match="not on the list of models"):
        ask(client, VISION)


def test_openai_is_told_when_to_come_back(guarded):
    client = openai_with(guarded, key("slow"))
    assert ask(client).choices
    with pytest.raises(openai.RateLimitError) as raised:
        ask(client)
    assert int(raised.value.response.headers["retry-after"]) > 1


def test_ollama_with_a_key_works_and_without_one_is_told_so(guarded):
    client = ollama_with(guarded, key("all"))
    assert client.chat(model=CHAT, messages=SKY, options={"num_predict": 3})["message"]["content"]
    with pytest.raises(ollama.ResponseError, match="an API key is needed") as raised:
        ollama_with(guarded, "unused").chat(model=CHAT, messages=SKY)
    assert raised.value.status_code == 401
    listed = ollama_with(guarded, key("some")).list()["models"]
    assert len(listed) == 1


def test_requests_are_counted_by_key(guarded):
    before = guarded.metric("aivonx_key_requests_total")
    ask(openai_with(guarded, key("all")))
    assert harness.eventually(lambda: guarded.metric("aivonx_key_requests_total") == before + 1)
