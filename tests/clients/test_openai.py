"""The `openai` package, 1.x and the latest: the first puts `messages` and `input` before `model`, the second
after it."""

import asyncio
import base64
import json

import openai
import pytest
from harness import CHAT, EMBED, MISSING, VISION, eventually

SKY = [{"role": "user", "content": "Why is the sky blue?"}]
TAIPEI = [{"role": "user", "content": "Please call get_weather for Taipei."}]
SHORT = {"max_tokens": 8, "seed": 7, "temperature": 0}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture
def client(fleet):
    # A key is asked for by the package; without keys in the fleet document it is not looked at.
    return openai.OpenAI(base_url=f"{fleet.url}/v1", api_key="unused", timeout=30, max_retries=0)


def check_usage(usage, output: int = SHORT["max_tokens"]) -> None:
    assert usage.completion_tokens == output
    assert usage.prompt_tokens > 0
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_chat_answers_whole(client, fleet):
    raw = client.chat.completions.with_raw_response.create(model=CHAT, messages=SKY, **SHORT)
    fleet.check_headers(raw.headers)
    answer = raw.parse()
    assert answer.model == CHAT
    assert answer.object == "chat.completion"
    choice = answer.choices[0]
    assert choice.message.role == "assistant"
    assert choice.message.content.strip()
    assert choice.finish_reason == "length"
    check_usage(answer.usage)


def test_chat_streams_what_it_answers_whole(client, fleet):
    whole = client.chat.completions.create(model=CHAT, messages=SKY, **SHORT).choices[0].message.content
    raw = client.chat.completions.with_raw_response.create(model=CHAT, messages=SKY, stream=True, **SHORT)
    fleet.check_headers(raw.headers)
    chunks = list(raw.parse())
    assert len(chunks) > 2
    assert all(chunk.choices and chunk.usage is None for chunk in chunks), "usage was not asked for"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole
    assert chunks[-1].choices[0].finish_reason == "length"


def test_chat_streams_usage_when_asked(client):
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(client.chat.completions.create(model=CHAT, messages=SKY, **options, **SHORT))
    assert chunks[-1].choices == []
    check_usage(chunks[-1].usage)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]).strip()


def test_completions_stream_usage_only_when_asked(client):
    ask = {"model": CHAT, "prompt": "Why?", "stream": True, **SHORT}
    plain = list(client.completions.create(**ask))
    assert all(chunk.choices and chunk.usage is None for chunk in plain), "usage was not asked for"
    asked = list(client.completions.create(stream_options={"include_usage": True}, **ask))
    assert asked[-1].choices == []
    check_usage(asked[-1].usage)
    assert [chunk.choices[0].text for chunk in asked[:-1]] == [chunk.choices[0].text for chunk in plain]


def test_streams_are_counted_though_nobody_asked(client, fleet):
    if not fleet.through_aivonx:
        pytest.skip("counts are aivonx's")
    before = fleet.metric("aivonx_tokens_total")
    stream = list(client.chat.completions.create(model=CHAT, messages=SKY, stream=True, **SHORT))
    assert all(chunk.usage is None for chunk in stream)
    # both the prompt and the answer, once the last byte has gone out
    eventually(lambda: fleet.metric("aivonx_tokens_total") > before + SHORT["max_tokens"])


def test_chat_calls_a_tool(client):
    answer = client.chat.completions.create(model=CHAT, messages=TAIPEI, tools=[WEATHER])
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    call = choice.message.tool_calls[0]
    assert (call.type, call.function.name) == ("function", "get_weather")
    assert isinstance(json.loads(call.function.arguments)["city"], str)


def test_chat_streams_the_call_of_a_tool(client):
    chunks = list(client.chat.completions.create(model=CHAT, messages=TAIPEI, tools=[WEATHER], stream=True))
    calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert [call.function.name for call in calls] == ["get_weather"]
    assert isinstance(json.loads(calls[0].function.arguments)["city"], str)
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_chat_takes_an_image(client, png):
    url = f"data:image/png;base64,{base64.b64encode(png + bytes(500_000)).decode()}"
    content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]
    answer = client.chat.completions.create(model=VISION, messages=[{"role": "user", "content": content}], **SHORT)
    assert answer.choices[0].message.content.strip()
    check_usage(answer.usage)


def test_completions_answer_whole_and_stream(client):
    answer = client.completions.create(model=CHAT, prompt="Why?", **SHORT)
    assert answer.object == "text_completion"
    assert answer.choices[0].text.strip()
    check_usage(answer.usage)
    chunks = list(client.completions.create(model=CHAT, prompt="Why?", stream=True, **SHORT))
    assert "".join(chunk.choices[0].text for chunk in chunks) == answer.choices[0].text
    assert chunks[-1].choices[0].finish_reason == "length"


def test_embeddings_come_as_base64_and_as_floats(client, fleet):
    raw = client.embeddings.with_raw_response.create(model=EMBED, input=["hello", "world"])
    fleet.check_headers(raw.headers)
    packed = raw.parse()  # base64 is what the package asks for by itself
    plain = client.embeddings.create(model=EMBED, input=["hello", "world"], encoding_format="float")
    assert [entry.index for entry in packed.data] == [0, 1]
    assert packed.usage.prompt_tokens == packed.usage.total_tokens > 0
    assert len(packed.data[0].embedding) > 8
    for ours, theirs in zip(packed.data, plain.data):
        assert list(ours.embedding) == pytest.approx(theirs.embedding, abs=1e-6)
    assert plain.data[0].embedding != plain.data[1].embedding


def test_responses_answer_whole(client, fleet):
    raw = client.responses.with_raw_response.create(model=CHAT, input="Why?", max_output_tokens=8)
    fleet.check_headers(raw.headers)
    answer = raw.parse()
    assert answer.status == "completed"
    assert answer.output_text.strip()
    assert answer.usage.output_tokens == 8
    assert answer.usage.total_tokens == answer.usage.input_tokens + 8


def test_responses_stream_named_events(client):
    events = list(client.responses.create(model=CHAT, input="Why?", max_output_tokens=8, stream=True))
    kinds = [event.type for event in events]
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text.strip()
    assert events[-1].response.output_text == text
    assert events[-1].response.usage.output_tokens == 8


def test_models_list_and_retrieve(client):
    models = {model.id: model for model in client.models.list()}
    assert sorted(models) == sorted([CHAT, VISION, EMBED])
    one = client.models.retrieve(CHAT)
    assert (one.id, one.object, one.owned_by) == (CHAT, "model", "library")
    assert one.created == models[CHAT].created > 0


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.chat.completions.create(model=MISSING, messages=SKY),
        lambda client: client.chat.completions.create(model=MISSING, messages=SKY, stream=True),
        lambda client: client.completions.create(model=MISSING, prompt="hi"),
        lambda client: client.embeddings.create(model=MISSING, input="hi"),
        lambda client: client.responses.create(model=MISSING, input="hi"),
        lambda client: client.models.retrieve(MISSING),
    ],
    ids=["chat", "chat-stream", "completions", "embeddings", "responses", "models"],
)
def test_an_unknown_model_is_not_found(client, ask):
    with pytest.raises(openai.NotFoundError) as error:
        ask(client)
    assert MISSING in error.value.message
    assert error.value.type == "not_found_error"


def test_a_bad_request_is_the_nodes_own(client):
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model=CHAT, messages=[])
    assert error.value.type == "invalid_request_error"
    assert "too short" in error.value.message


def test_leaving_a_stream_is_no_trouble(client):
    stream = client.chat.completions.create(model=CHAT, messages=SKY, stream=True, max_tokens=200)
    next(iter(stream))
    stream.close()
    assert client.chat.completions.create(model=CHAT, messages=SKY, **SHORT).choices[0].message.content


def test_the_async_client_works_in_parallel(fleet):
    async def ask(client):
        stream = await client.chat.completions.create(model=CHAT, messages=SKY, stream=True, **SHORT)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def all_at_once():
        async with openai.AsyncOpenAI(base_url=f"{fleet.url}/v1", api_key="unused", timeout=60) as client:
            return await asyncio.gather(*(ask(client) for _ in range(12)))

    texts = asyncio.run(all_at_once())
    assert texts[0].strip()
    assert set(texts) == {texts[0]}, "the same seed gives the same answer on every node"
