"""The `ollama` package, as old as 0.3.3 and as new as the latest: dicts in one, objects that index like dicts in
the other. What both understand is what these tests use."""

import asyncio
import inspect

import ollama
import pytest
from harness import CHAT, EMBED, MISSING, NODES, PULLED, VISION, eventually

SKY = [{"role": "user", "content": "Why is the sky blue?"}]
TAIPEI = [{"role": "user", "content": "Please call get_weather for Taipei."}]
SHORT = {"num_predict": 8, "seed": 7, "temperature": 0}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "Name of the city"}},
            "required": ["city"],
        },
    },
}


@pytest.fixture
def answers():
    """The raw answers that the client got, first to last."""
    return []


@pytest.fixture
def client(fleet, answers):
    return ollama.Client(host=fleet.url, timeout=30, event_hooks={"response": [answers.append]})


def name_of(entry) -> str:
    """A model's name in list and ps: `model` in both, beside `name` in the old one."""
    return entry["model"]


def check_final(answer, reason: str = "length") -> None:
    """What the last object of a finished generation says."""
    assert answer["done"] is True
    assert answer["done_reason"] == reason
    assert answer["eval_count"] == SHORT["num_predict"]
    assert answer["prompt_eval_count"] > 0
    assert answer["total_duration"] >= answer["eval_duration"] > 0


def test_chat_answers_whole(client, fleet, answers):
    answer = client.chat(model=CHAT, messages=SKY, options=SHORT)
    assert answer["model"] == CHAT
    assert answer["message"]["role"] == "assistant"
    assert answer["message"]["content"].strip()
    check_final(answer)
    fleet.check_headers(answers[-1].headers)


def test_chat_streams_what_it_answers_whole(client, fleet, answers):
    whole = client.chat(model=CHAT, messages=SKY, options=SHORT)["message"]["content"]
    parts = list(client.chat(model=CHAT, messages=SKY, options=SHORT, stream=True))
    assert len(parts) > 2
    assert all(part["done"] is False for part in parts[:-1])
    assert "".join(part["message"]["content"] for part in parts) == whole
    check_final(parts[-1])
    fleet.check_headers(answers[-1].headers)


def check_tool_call(message) -> None:
    call = message["tool_calls"][0]["function"]
    assert call["name"] == "get_weather"
    assert isinstance(call["arguments"]["city"], str)


def test_chat_calls_a_tool(client):
    answer = client.chat(model=CHAT, messages=TAIPEI, tools=[WEATHER])
    check_tool_call(answer["message"])
    assert (answer["done"], answer["done_reason"]) == (True, "stop")


def test_chat_streams_the_call_of_a_tool(client):
    parts = list(client.chat(model=CHAT, messages=TAIPEI, tools=[WEATHER], stream=True))
    calls = [part["message"] for part in parts if part["message"].get("tool_calls")]
    assert len(calls) == 1
    check_tool_call(calls[0])
    assert parts[-1]["done"] is True


def test_chat_takes_the_result_of_a_tool(client):
    call = {"function": {"name": "get_weather", "arguments": {"city": "Taipei"}}}
    messages = [
        *TAIPEI,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "22 degrees"},
        {"role": "user", "content": "Is that warm?"},
    ]
    answer = client.chat(model=CHAT, messages=messages, tools=[WEATHER], options=SHORT)
    assert answer["message"]["content"].strip()
    check_final(answer)


def test_chat_takes_an_image(client, png):
    messages = [{"role": "user", "content": "What is this?", "images": [png]}]
    answer = client.chat(model=VISION, messages=messages, options=SHORT)
    assert answer["message"]["content"].strip()
    check_final(answer)


def test_chat_carries_large_images_whole(client, png):
    """Bodies of megabytes reach the node complete: a node refuses base64 that was cut."""
    messages = [{"role": "user", "content": "What is this?", "images": [png + bytes(2_000_000)]}]
    check_final(client.chat(model=VISION, messages=messages, options=SHORT))


def test_generate_answers_whole(client, fleet, answers):
    answer = client.generate(model=CHAT, prompt="Why is the sky blue?", options=SHORT)
    assert answer["model"] == CHAT
    assert answer["response"].strip()
    assert answer["context"]
    check_final(answer)
    fleet.check_headers(answers[-1].headers)


def test_generate_streams_what_it_answers_whole(client):
    whole = client.generate(model=CHAT, prompt="Why?", options=SHORT)["response"]
    parts = list(client.generate(model=CHAT, prompt="Why?", options=SHORT, stream=True))
    assert len(parts) > 2
    assert "".join(part["response"] for part in parts) == whole
    check_final(parts[-1])


def test_generate_takes_an_image(client, png):
    check_final(client.generate(model=VISION, prompt="What is this?", images=[png], options=SHORT))


def test_generate_without_a_prompt_loads_the_model(client):
    answer = client.generate(model=CHAT, prompt="")
    assert (answer["done"], answer["done_reason"]) == (True, "load")


def test_embed_takes_one_and_many(client, fleet, answers):
    one = client.embed(model=EMBED, input="hello")["embeddings"]
    two = client.embed(model=EMBED, input=["hello", "world"])["embeddings"]
    assert len(one) == 1
    assert len(two) == 2
    assert len(one[0]) == len(two[1]) > 8
    assert list(one[0]) == list(two[0])
    assert list(two[0]) != list(two[1])
    fleet.check_headers(answers[-1].headers)


def test_embeddings_is_the_older_embed(client):
    vector = client.embeddings(model=EMBED, prompt="hello")["embedding"]
    assert list(vector) == pytest.approx(list(client.embed(model=EMBED, input="hello")["embeddings"][0]), abs=1e-6)


def test_list_names_every_model_once(client):
    models = client.list()["models"]
    assert sorted(name_of(model) for model in models) == sorted([CHAT, VISION, EMBED])
    for model in models:
        assert model["size"] > 0
        assert len(model["digest"]) == 64
        assert model["details"]["format"] == "gguf"


def test_ps_names_what_is_loaded(client):
    client.generate(model=CHAT, prompt="hi", options=SHORT)
    loaded = eventually(lambda: [model for model in client.ps()["models"] if name_of(model) == CHAT])
    assert len(loaded) == 1, "one row, however many nodes have it loaded"
    assert loaded[0]["expires_at"]


def test_show_describes_a_model(client, fleet, answers):
    shown = client.show(VISION)
    assert shown["details"]["family"]
    # `modelinfo` in the newer client's object, as the field's name there is its own.
    assert answers[-1].json()["capabilities"]
    assert isinstance(answers[-1].json()["model_info"], dict)
    fleet.check_headers(answers[-1].headers)


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.chat(model=MISSING, messages=SKY),
        lambda client: list(client.chat(model=MISSING, messages=SKY, stream=True)),
        lambda client: client.generate(model=MISSING, prompt="hi"),
        lambda client: client.embed(model=MISSING, input="hi"),
        lambda client: client.show(MISSING),
    ],
    ids=["chat", "chat-stream", "generate", "embed", "show"],
)
def test_an_unknown_model_is_a_404(client, ask):
    with pytest.raises(ollama.ResponseError) as error:
        ask(client)
    assert error.value.status_code == 404
    assert MISSING in error.value.error
    assert "not found" in error.value.error


def test_a_model_that_cannot_chat_is_the_nodes_own_400(client, fleet, answers):
    with pytest.raises(ollama.ResponseError) as error:
        client.chat(model=EMBED, messages=SKY)
    assert error.value.status_code == 400
    assert "does not support chat" in error.value.error
    fleet.check_headers(answers[-1].headers)


def test_a_request_id_is_kept(fleet):
    answers = []
    hooks = {"response": [answers.append]}
    client = ollama.Client(host=fleet.url, headers={"x-request-id": "from-the-client"}, event_hooks=hooks)
    client.generate(model=CHAT, prompt="hi", options=SHORT)
    if fleet.through_aivonx:
        assert answers[-1].headers["x-request-id"] == "from-the-client"


def test_leaving_a_stream_is_no_trouble(client):
    for _ in client.generate(model=CHAT, prompt="hi", stream=True, options={"num_predict": 200}):
        break
    check_final(client.generate(model=CHAT, prompt="hi", options=SHORT))


def test_the_async_client_works_in_parallel(fleet):
    async def ask(client, number: int):
        messages = [{"role": "user", "content": f"Question {number}"}]
        parts = [part async for part in await client.chat(model=CHAT, messages=messages, options=SHORT, stream=True)]
        return "".join(part["message"]["content"] for part in parts), parts[-1]

    async def all_at_once():
        client = ollama.AsyncClient(host=fleet.url, timeout=60)
        return await asyncio.gather(*(ask(client, number) for number in range(12)))

    for text, last in asyncio.run(all_at_once()):
        assert text.strip()
        check_final(last)


def test_the_async_client_embeds_lists_and_fails(fleet):
    async def use():
        client = ollama.AsyncClient(host=fleet.url, timeout=30)
        embedded = await client.embed(model=EMBED, input="hello")
        listed = await client.list()
        with pytest.raises(ollama.ResponseError) as error:
            await client.generate(model=MISSING, prompt="hi")
        return embedded, listed, error.value

    embedded, listed, error = asyncio.run(use())
    assert len(embedded["embeddings"][0]) > 8
    assert len(listed["models"]) == 3
    assert error.status_code == 404


@pytest.fixture
def pulled(client):
    """A model that is pulled for one test."""
    assert client.pull(PULLED)["status"] == "success"
    yield PULLED
    client.delete(PULLED)


def names(client) -> set[str]:
    return {name_of(model) for model in client.list()["models"]}


def test_pull_tells_its_progress_and_delete_takes_it_back(client, fleet):
    seen = {}
    parts = list(client.pull(PULLED, stream=True))
    for part in parts:
        if not part.get("digest"):
            continue
        total, completed = part["total"], part.get("completed") or 0
        assert seen.get(part["digest"], 0) <= completed <= total
        seen[part["digest"]] = completed
    assert parts[0]["status"] == "pulling manifest"
    assert parts[-1]["status"] == "success"
    if fleet.through_aivonx:
        assert max(seen.values()) > (NODES - 1) * 200_000_000 * 0.99, "bytes of every node are counted"
    # Known to the very next request, here and below.
    assert PULLED in names(client)
    check_final(client.generate(model=PULLED, prompt="hi", options=SHORT))
    assert client.delete(PULLED)["status"] == "success"
    assert PULLED not in names(client)
    with pytest.raises(ollama.ResponseError) as error:
        client.delete(PULLED)
    assert error.value.status_code == 404


def test_pull_answers_whole(client, pulled):
    check_final(client.chat(model=pulled, messages=SKY, options=SHORT))


@pytest.mark.parametrize("stream", [False, True])
def test_pull_of_an_unknown_model_fails_as_with_one_ollama(client, stream):
    with pytest.raises(ollama.ResponseError) as error:
        for _ in client.pull(MISSING, stream=stream):
            pass
    assert error.value.error == "pull model manifest: file does not exist"


def test_leaving_a_pull_is_no_trouble(client):
    for _ in client.pull(PULLED, stream=True):
        break
    assert client.pull(PULLED)["status"] == "success"
    client.delete(PULLED)


def test_copy_gives_a_second_name(client):
    assert client.copy(CHAT, "mine:1")["status"] == "success"
    try:
        assert "mine:1" in names(client)
        for _ in range(NODES * 2):
            check_final(client.generate(model="mine:1", prompt="hi", options=SHORT))
    finally:
        assert client.delete("mine:1")["status"] == "success"


NEW_CREATE = "from_" in inspect.signature(ollama.Client.create).parameters


@pytest.mark.skipif(not NEW_CREATE, reason="this client sends a Modelfile")
def test_create_from_a_model(client):
    parts = list(client.create("brief:1", from_=CHAT, system="Be brief.", stream=True))
    assert parts[-1]["status"] == "success"
    try:
        assert "brief:1" in names(client)
        assert "Be brief." in client.show("brief:1")["modelfile"]
        check_final(client.generate(model="brief:1", prompt="hi", options=SHORT))
    finally:
        client.delete("brief:1")
    assert client.create("brief:1", from_=CHAT)["status"] == "success"
    client.delete("brief:1")


@pytest.mark.skipif(not NEW_CREATE, reason="this client sends a Modelfile")
def test_create_from_blobs(client, tmp_path):
    files = {}
    for number in range(3):
        file = tmp_path / f"{number}.gguf"
        file.write_bytes(b"weights %d" % number * 50_000)
        files[file.name] = client.create_blob(file)
    assert client.create("blobs:1", files=files)["status"] == "success"
    try:
        check_final(client.generate(model="blobs:1", prompt="hi", options=SHORT))
    finally:
        client.delete("blobs:1")


@pytest.mark.skipif(NEW_CREATE, reason="this client sends no Modelfile")
def test_a_modelfile_is_refused_in_the_nodes_own_words(client, tmp_path):
    """What the nodes read no more; the blobs that it names are uploaded first, and found again."""
    weights = tmp_path / "weights.gguf"
    weights.write_bytes(b"weights" * 50_000)
    for _ in range(2):
        with pytest.raises(ollama.ResponseError) as error:
            client.create("old:1", modelfile=f"FROM {weights}\nSYSTEM Be brief.\n")
        assert error.value.status_code == 400
        assert error.value.error == "neither 'from' or 'files' was specified"


@pytest.mark.parametrize("stream", [False, True])
def test_push_is_refused_cleanly(client, stream):
    with pytest.raises(ollama.ResponseError) as error:
        for _ in client.push(MISSING, stream=stream):
            pass
    assert error.value.status_code == 500
    assert "no such file or directory" in error.value.error


@pytest.mark.parametrize("how", ["generate", "chat"])
def test_stopping_a_model_unloads_it_everywhere(client, how):
    for _ in range(NODES * 2):
        client.generate(model=CHAT, prompt="hi", options=SHORT)
    eventually(lambda: CHAT in {name_of(model) for model in client.ps()["models"]})
    if how == "generate":
        answer = client.generate(model=CHAT, prompt="", keep_alive=0)
    else:
        answer = client.chat(model=CHAT, messages=[], keep_alive=0)
    assert (answer["done"], answer["done_reason"]) == (True, "unload")
    eventually(lambda: CHAT not in {name_of(model) for model in client.ps()["models"]})


def test_the_async_client_pulls_and_deletes(fleet):
    async def use():
        client = ollama.AsyncClient(host=fleet.url, timeout=30)
        parts = [part async for part in await client.pull(PULLED, stream=True)]
        deleted = await client.delete(PULLED)
        return parts, deleted

    parts, deleted = asyncio.run(use())
    assert parts[-1]["status"] == "success"
    assert deleted["status"] == "success"
