"""The `anthropic` package through /v1/messages: named events, usage, errors of its own kind."""

import asyncio
import base64

import anthropic
import harness
import pytest
from harness import CHAT, MISSING, VISION

SKY = [{"role": "user", "content": "Why is the sky blue?"}]
TAIPEI = [{"role": "user", "content": "Please call get_weather for Taipei."}]
SHORT = {"max_tokens": 8, "extra_body": {"temperature": 0}}
WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture
def client(fleet):
    # A key is asked for by the package; without keys in the fleet document it is not looked at.
    return anthropic.Anthropic(base_url=fleet.url, api_key="unused", timeout=30, max_retries=0)


def check_usage(usage) -> None:
    assert usage.output_tokens == SHORT["max_tokens"]
    assert usage.input_tokens > 0


def test_messages_answer_whole(client, fleet):
    raw = client.messages.with_raw_response.create(model=CHAT, messages=SKY, **SHORT)
    fleet.check_headers(raw.headers)
    answer = raw.parse()
    assert (answer.type, answer.role, answer.model) == ("message", "assistant", CHAT)
    assert answer.content[0].type == "text"
    assert answer.content[0].text.strip()
    assert answer.stop_reason == "max_tokens"
    check_usage(answer.usage)


def test_messages_stream_named_events(client, fleet):
    raw = client.messages.with_raw_response.create(model=CHAT, messages=SKY, stream=True, **SHORT)
    fleet.check_headers(raw.headers)
    events = list(raw.parse())
    kinds = [event.type for event in events]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-2:] == ["message_delta", "message_stop"]
    text = "".join(event.delta.text for event in events if event.type == "content_block_delta")
    assert text.strip()
    assert events[-2].delta.stop_reason == "max_tokens"
    check_usage(events[-2].usage)


def test_the_stream_helper_puts_the_message_together(client):
    with client.messages.stream(model=CHAT, messages=SKY, **SHORT) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
    assert text.strip()
    assert message.content[0].text == text
    assert message.usage.output_tokens == SHORT["max_tokens"]


def test_messages_call_a_tool(client):
    answer = client.messages.create(model=CHAT, messages=TAIPEI, tools=[WEATHER], max_tokens=64)
    assert answer.stop_reason == "tool_use"
    call = next(block for block in answer.content if block.type == "tool_use")
    assert call.name == "get_weather"
    assert isinstance(call.input["city"], str)


def test_the_stream_helper_puts_the_call_together(client):
    with client.messages.stream(model=CHAT, messages=TAIPEI, tools=[WEATHER], max_tokens=64) as stream:
        message = stream.get_final_message()
    assert message.stop_reason == "tool_use"
    call = next(block for block in message.content if block.type == "tool_use")
    assert (call.name, isinstance(call.input["city"], str)) == ("get_weather", True)


def test_messages_take_a_system_prompt_and_an_image(client, png):
    data = base64.b64encode(png + bytes(500_000)).decode()
    source = {"type": "base64", "media_type": "image/png", "data": data}
    content = [{"type": "image", "source": source}, {"type": "text", "text": "What is this?"}]
    messages = [{"role": "user", "content": content}]
    answer = client.messages.create(model=VISION, system="Be brief.", messages=messages, **SHORT)
    assert answer.content[0].text.strip()
    check_usage(answer.usage)


@pytest.mark.parametrize("stream", [False, True])
def test_an_unknown_model_is_not_found(client, stream):
    with pytest.raises(anthropic.NotFoundError) as error:
        client.messages.create(model=MISSING, messages=SKY, stream=stream, **SHORT)
    assert error.value.body["type"] == "error"
    assert error.value.body["error"]["type"] == "not_found_error"
    assert MISSING in error.value.body["error"]["message"]


def test_a_bad_request_is_the_nodes_own(client):
    with pytest.raises(anthropic.BadRequestError) as error:
        client.messages.create(model=CHAT, messages=SKY, max_tokens=0)
    assert error.value.body["error"]["type"] == "invalid_request_error"
    assert "max_tokens" in error.value.body["error"]["message"]


def test_the_async_client_works_in_parallel(fleet):
    async def ask(client):
        async with client.messages.stream(model=CHAT, messages=SKY, **SHORT) as stream:
            return (await stream.get_final_message()).content[0].text

    async def all_at_once():
        async with anthropic.AsyncAnthropic(base_url=fleet.url, api_key="unused", timeout=60) as client:
            return await asyncio.gather(*(ask(client) for _ in range(8)))

    texts = asyncio.run(all_at_once())
    assert all(text.strip() for text in texts)


def test_a_key_is_presented_in_a_header_of_its_own(guarded):
    ask_it = {"model": CHAT, "max_tokens": 3, "messages": SKY}
    client = anthropic.Anthropic(base_url=guarded.url, api_key=harness.key("all"), max_retries=0)
    assert client.messages.create(**ask_it).content
    stranger = anthropic.Anthropic(base_url=guarded.url, api_key="unused", max_retries=0)
    with pytest.raises(anthropic.AuthenticationError, match="an API key is needed"):
        stranger.messages.create(**ask_it)
