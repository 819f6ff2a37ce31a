"""OpenAI's helpers: families, counting, and the limiters made in one call."""

from __future__ import annotations

import asyncio
import json

import pytest
from tallygate import (
    OpenAIUsageCounter,
    RateLimiterCallbacks,
    SyncRateLimiterCallbacks,
    count_chat_input_tokens,
    count_tokens,
    create_openai_memory_rate_limiter,
    create_openai_memory_sync_rate_limiter,
    create_openai_redis_rate_limiter,
    create_openai_redis_sync_rate_limiter,
    openai_model_family_getter,
)

HELLO = [{"role": "user", "content": "Hello world"}]
# Two tokens of text, one of the role, three that frame the message, three that begin the answer.
HELLO_TOKENS = 9

counter = OpenAIUsageCounter()


class Words:
    """An encoding whose tokens are words."""

    def encode(self, text, **_options):
        return text.split()


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("gpt-4o", "gpt-4o"),
        ("gpt-4o-20241203", "gpt-4o"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4-0613", "gpt-4"),
        ("gpt-4-1106-preview", "gpt-4"),
        ("gpt-4o-realtime-preview-2024-10-01", "gpt-4o-realtime"),
        ("gpt-4-2024-04", "gpt-4"),
        ("o1-preview", "o1"),
        ("openai/gpt-4o-mini", "gpt-4o-mini"),
        ("ft:gpt-4o-mini-2024-07-18:acme::7p4lURel", "gpt-4o-mini"),
        ("text-embedding-3-small", "text-embedding-3-small"),
        ("davinci-002", "davinci-002"),
        ("gpt-3.5-turbo-16k", "gpt-3.5-turbo-16k"),
        ("gpt-4.1", "gpt-4.1"),
    ],
)
def test_dated_models_are_of_one_family(model, family):
    assert openai_model_family_getter(model) == family


@pytest.mark.parametrize("model", ["ft:", "ft:gpt-4o", "ft::acme", "ft:gpt-4o:"])
def test_a_fine_tuned_model_without_a_base_is_refused(model):
    with pytest.raises(ValueError, match="fine-tuned"):
        openai_model_family_getter(model)


def test_a_chat_counts_with_its_frames():
    assert counter(model="gpt-4o", messages=HELLO) == {"tokens": HELLO_TOKENS, "requests": 1}
    assert counter("openai/gpt-4o", messages=HELLO)["tokens"] == HELLO_TOKENS
    assert count_chat_input_tokens("gpt-4o", HELLO) == HELLO_TOKENS
    named = [{"role": "user", "name": "al", "content": "Hello world"}]
    assert count_chat_input_tokens("gpt-4o", named) > HELLO_TOKENS


@pytest.mark.parametrize(
    ("budget", "more"),
    [
        ({}, 0),
        ({"max_tokens": 100}, 100),
        ({"max_completion_tokens": 100, "max_tokens": 50}, 100),
        ({"max_tokens": 100, "n": 3}, 300),
        ({"max_tokens": 100, "n": 2, "best_of": 4}, 400),
        ({"max_tokens": 0, "n": 4}, 0),
        ({"max_tokens": None, "n": None}, 0),
        ({"max_tokens": 100, "max_tool_calls": 7}, 100),
    ],
)
def test_what_may_be_answered_is_counted(budget, more):
    assert counter(model="gpt-4o", messages=HELLO, **budget)["tokens"] == HELLO_TOKENS + more


def test_fields_that_the_client_left_out_count_with_nothing():
    openai = pytest.importorskip("openai")
    left_out = {"max_tokens": openai.NOT_GIVEN, "tools": openai.NOT_GIVEN}
    assert counter(model="gpt-4o", messages=HELLO, **left_out)["tokens"] == HELLO_TOKENS


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({}, "neither 'messages' nor 'input' nor 'prompt'"),
        ({"inputs": "x"}, "neither 'messages' nor 'input' nor 'prompt'"),
        ({"messages": HELLO, "input": "x"}, "both 'messages' and 'input'"),
        ({"messages": HELLO, "max_token": 5}, "'max_token' is no field"),
        ({"messages": HELLO, "max_tokens": -1}, "max_tokens must be a whole number"),
        ({"messages": HELLO, "max_tokens": 1.5}, "max_tokens must be a whole number"),
        ({"messages": HELLO, "n": True}, "n must be a whole number"),
        ({"messages": "hello"}, "messages must be a list of dicts, not str"),
        ({"messages": ["hello"]}, r"messages\[0\] must be a dict, not str"),
        ({"messages": None}, "messages must be a list of dicts, not NoneType"),
        ({"messages": [{"role": "user", "content": object()}]}, "messages holds a object, which is no JSON"),
        ({"input": 5}, "input"),
    ],
)
def test_a_request_that_cannot_be_counted_says_why(request_, said):
    with pytest.raises(ValueError, match=said):
        counter(model="gpt-4o", **request_)


def test_a_model_must_be_named():
    with pytest.raises(TypeError, match="model must be a str"):
        counter(model=None, messages=HELLO)
    with pytest.raises(ValueError, match="model must not be empty"):
        counter(model="", messages=HELLO)


def test_texts_of_the_responses_api_count():
    plain = counter(model="gpt-4o", input="Hello world")["tokens"]
    assert plain == HELLO_TOKENS
    listed = counter(model="gpt-4o", input=[{"role": "user", "content": "Hello world"}])["tokens"]
    assert listed == plain
    assert counter(model="gpt-4o", input={"role": "user", "content": "Hello world"})["tokens"] == plain
    assert counter(model="gpt-4o", input="Hello world", instructions="Be brief")["tokens"] > plain
    assert counter(model="gpt-4o", input="Hello world", max_output_tokens=50)["tokens"] == plain + 50


def test_embeddings_count_bare():
    assert counter(model="text-embedding-3-small", input="Hello world")["tokens"] == 2
    assert counter(model="text-embedding-3-small", input=["Hello world", "Hello"])["tokens"] == 3
    assert counter(model="text-embedding-3-small", input=[1, 2, 3])["tokens"] == 3
    assert counter(model="gpt-4o", input=[[1, 2], [3, 4]])["tokens"] == 4
    assert counter(model="gpt-4o", input=["Hello world"])["tokens"] == 2


def test_prompts_count():
    assert counter(model="gpt-3.5-turbo-instruct", prompt="Hello world")["tokens"] == 2
    bare = counter(model="gpt-4o", prompt={"id": "p1"})["tokens"]
    with_text = counter(model="gpt-4o", prompt={"id": "p1", "variables": {"name": "Hello world"}})["tokens"]
    assert with_text == bare + 2
    part = {"type": "input_text", "text": "Hello world"}
    assert counter(model="gpt-4o", prompt={"id": "p1", "variables": {"name": part}})["tokens"] == bare + 2


def test_what_stands_beside_the_messages_counts():
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    assert counter(model="gpt-4o", messages=HELLO, tools=[tool])["tokens"] > HELLO_TOKENS
    prediction = {"type": "content", "content": "Hello world"}
    assert counter(model="gpt-4o", messages=HELLO, prediction=prediction)["tokens"] == HELLO_TOKENS + 2
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object", "properties": {}}}}
    assert counter(model="gpt-4o", messages=HELLO, response_format=schema)["tokens"] > HELLO_TOKENS


def test_objects_of_pydantic_count_as_what_is_sent():
    pydantic = pytest.importorskip("pydantic")

    class Message(pydantic.BaseModel):
        role: str
        content: str

    sent = counter(model="gpt-4o", messages=[Message(role="user", content="Hello world").model_dump()])
    assert counter(model="gpt-4o", input=[Message(role="user", content="Hello world")]) == sent


def test_text_like_a_control_token_is_text():
    assert counter(model="gpt-4o", messages=[{"role": "user", "content": "<|endoftext|>"}])["tokens"] > 7


def test_images_are_estimated():
    image = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}
    message = {"role": "user", "content": [{"type": "text", "text": "Hello world"}, image]}
    assert counter(model="gpt-4o", messages=[message])["tokens"] > HELLO_TOKENS + 80


def test_an_encoding_of_ones_own_counts():
    own = OpenAIUsageCounter(get_encoding_func=lambda _model: Words())
    assert own(model="house-model", messages=HELLO)["tokens"] == HELLO_TOKENS
    parts = [{"role": "user", "content": [{"type": "text", "text": "one two"}, {"type": "text", "text": "three"}]}]
    assert own(model="house-model", messages=parts, max_tokens=10)["tokens"] == 3 + 1 + 3 + 3 + 10
    assert own(model="house-model", input="one two three")["tokens"] == 3
    assert own(model="house-model", input=["one two", "three"])["tokens"] == 3
    assert own(model="house-model", input=[[1, 2], [3]])["tokens"] == 3
    assert own(model="house-model", messages=HELLO, instructions="be brief")["tokens"] == HELLO_TOKENS + 2
    assert count_chat_input_tokens(Words(), HELLO) == HELLO_TOKENS
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]
    with pytest.raises(ValueError, match="cannot count"):
        own(model="house-model", messages=image)


def test_an_unknown_model_is_estimated():
    assert counter(model="no-such-model", messages=HELLO)["tokens"] >= HELLO_TOKENS - 3


def test_counting_may_be_awaited():
    async def run():
        await counter.warmup_models(["gpt-4o", "gpt-4"])
        with pytest.raises(TypeError, match="model must be a str"):
            await counter.warmup_models([None])  # type: ignore[list-item]
        return await counter.count_request_async("gpt-4o", messages=HELLO)

    assert asyncio.run(run()) == {"tokens": HELLO_TOKENS, "requests": 1}


def test_long_texts_count_as_the_tokenizer_counts_them():
    text = "The quick brown fox jumps over the lazy dog. " * 200
    chat = counter(model="gpt-4o", messages=[{"role": "user", "content": text}])["tokens"]
    assert chat == count_tokens(text, "gpt-4o") + 7


class Answer:
    class usage:
        total_tokens = 20


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4o-2024-08-06"])
def test_a_limiter_in_memory_counts_limits_and_settles(model):
    limiter = create_openai_memory_sync_rate_limiter(rpm=10, tpm=100)
    request = {"model": model, "messages": HELLO, "max_tokens": 80}
    reservation = limiter.acquire_capacity_for_request(**request)
    assert reservation.usage == {"tokens": HELLO_TOKENS + 80, "requests": 1}
    assert (reservation.model, reservation.model_family) == (model, "gpt-4o")
    with pytest.raises(TimeoutError):
        limiter.acquire_capacity_for_request(**{**request, "model": "openai/gpt-4o"}, timeout=0)
    limiter.refund_capacity_from_response(reservation, Answer())
    assert limiter.acquire_capacity_for_request(**{**request, "max_tokens": 70}, timeout=0)
    limiter.close()


def test_an_asyncio_limiter_in_memory_counts_limits_and_settles():
    async def run():
        async with create_openai_memory_rate_limiter(rpm=10, tpm=100) as limiter:
            reservation = await limiter.acquire_capacity_for_request(model="gpt-4o", messages=HELLO, max_tokens=80)
            await limiter.refund_capacity_from_response(reservation, json.loads('{"usage": {"total_tokens": 20}}'))
            await limiter.acquire_capacity_for_request(model="gpt-4o", messages=HELLO, max_tokens=70, timeout=0)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("limits", "error", "said"),
    [
        ({"rpm": True, "tpm": 1}, TypeError, "rpm must be an int, not bool"),
        ({"rpm": 1, "tpm": 1.5}, TypeError, "tpm must be an int, not float"),
        ({"rpm": 0, "tpm": 1}, ValueError, "rpm must be at least 1"),
        ({"rpm": 1, "tpm": 1, "callbacks": 3}, TypeError, "callbacks must be"),
    ],
)
def test_limits_that_cannot_be_are_refused_when_the_limiter_is_made(limits, error, said):
    for create in (create_openai_memory_rate_limiter, create_openai_memory_sync_rate_limiter):
        with pytest.raises(error, match=said):
            create(**limits)


def test_limiters_over_redis_share_what_is_left(valkey_url):
    redis = pytest.importorskip("redis")
    client = redis.Redis.from_url(valkey_url)
    one = create_openai_redis_sync_rate_limiter(client, key_prefix="shared", rpm=10, tpm=100)
    other = create_openai_redis_sync_rate_limiter(
        valkey_url, key_prefix="shared", rpm=10, tpm=100, callbacks=SyncRateLimiterCallbacks()
    )
    apart = create_openai_redis_sync_rate_limiter(client, key_prefix="apart", rpm=10, tpm=100)
    request = {"model": "gpt-4o", "messages": HELLO, "max_tokens": 80}
    one.acquire_capacity_for_request(**request)
    with pytest.raises(TimeoutError):
        other.acquire_capacity_for_request(**request, timeout=0)
    apart.acquire_capacity_for_request(**request, timeout=0)
    for limiter in (one, other, apart):
        limiter.close()
    assert client.ping(), "the client of the application stays open"


def test_an_asyncio_limiter_over_redis_takes_the_clients_address(valkey_url):
    redis = pytest.importorskip("redis.asyncio")

    async def run():
        client = redis.from_url(valkey_url)
        limiter = create_openai_redis_rate_limiter(
            client,
            key_prefix="asyncio",
            rpm=10,
            tpm=100,
            bucket_ttl_seconds=3_600,
            refund_dedup_ttl_seconds=60,
            max_reservation_lifetime_seconds=60,
            callbacks=RateLimiterCallbacks(),
        )
        reservation = await limiter.acquire_capacity_for_request(model="gpt-4o", messages=HELLO, max_tokens=80)
        await limiter.refund_capacity_from_response(reservation, usage={"total_tokens": 20})
        await limiter.aclose()
        await client.aclose()

    asyncio.run(run())


def test_what_is_no_redis_is_refused():
    with pytest.raises(TypeError, match="redis_client_or_url"):
        create_openai_redis_sync_rate_limiter(object(), key_prefix="x", rpm=1, tpm=1)
    with pytest.raises(ValueError, match="key_prefix"):
        create_openai_redis_sync_rate_limiter("redis://127.0.0.1:1", key_prefix="a:b", rpm=1, tpm=1)
