"""Clients whose answers come from memory, as tests make them: no provider is needed to see what is charged."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import httpx
import httpx2
import openai
import pytest

from tallygate import PerModelConfig, Quota, RateLimiter, SyncRateLimiter, UsageQuotas
from tallygate.clients import AsyncLimitedTransport, LimitedTransport, wrap_openai

# Of a hundred days nothing refills during a test.
WINDOW = 8_640_000
CONFIG = PerModelConfig(UsageQuotas([Quota("requests", 100, WINDOW), Quota("tokens", 100_000, WINDOW)]))
HELLO: list[Any] = [{"role": "user", "content": "Hello world"}]
BODY = {"model": "gpt-4o", "messages": HELLO, "max_tokens": 500}
USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
ANSWER: dict[str, Any] = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": USAGE,
}
URL = "http://provider/v1/chat/completions"


def used(limiter: SyncRateLimiter | RateLimiter) -> tuple[int, int]:
    """Requests and tokens that were charged; nothing may be open."""
    assert limiter.snapshot_state()["in_flight_reservations"] == 0
    ask = limiter._models.ask("gpt-4o")
    assert ask.family is not None
    left = limiter._models.capacities(ask.family, ask.family.native.left())
    return 100 - round(left["requests", WINDOW]), 100_000 - round(left["tokens", WINDOW])


def client_of(answer: Any) -> openai.OpenAI:
    http = httpx2 if openai.DefaultHttpxClient.__mro__[-2].__module__.startswith("httpx2") else httpx
    transport = http.MockTransport(lambda _: answer(http))
    return openai.OpenAI(api_key="k", base_url="http://provider/v1", max_retries=0, http_client=http.Client(transport=transport))


def served(http: Any) -> Any:
    return http.Response(200, json=ANSWER)


def test_a_client_that_is_wrapped_twice_is_charged_once() -> None:
    with SyncRateLimiter(CONFIG) as limiter, SyncRateLimiter(CONFIG) as other:
        client = client_of(served)
        for one in (limiter, other, limiter):
            assert wrap_openai(client, one) is client
        wrap_openai(client.with_options(timeout=5), limiter)
        client.chat.completions.create(model="gpt-4o", messages=HELLO)
        assert used(limiter) == (1, 11) and used(other) == (1, 11), "limiters of two kinds both count"
        wrap_openai(client, limiter, timeout=0)
        limiter.record_usage({"requests": 99, "tokens": 0}, "gpt-4o")
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(model="gpt-4o", messages=HELLO)


@pytest.mark.parametrize("http", [httpx, httpx2])
def test_an_answer_in_memory_is_settled_by_its_usage(http: Any) -> None:
    packed = gzip.compress(json.dumps(ANSWER).encode())
    answers = [
        http.Response(200, json=ANSWER),
        http.Response(200, content=packed, headers={"content-type": "application/json", "content-encoding": "gzip"}),
    ]
    with SyncRateLimiter(CONFIG) as limiter:
        transport = http.MockTransport(lambda _: answers.pop())
        with http.Client(transport=LimitedTransport(transport, limiter)) as client:
            assert client.post(URL, json=BODY).json() == ANSWER and used(limiter) == (1, 11)
            assert client.post(URL, json=BODY).json() == ANSWER and used(limiter) == (2, 22)

    async def main() -> None:
        async with RateLimiter(CONFIG) as limiter:
            transport = http.MockTransport(lambda _: http.Response(200, json=ANSWER))
            async with http.AsyncClient(transport=AsyncLimitedTransport(transport, limiter)) as client:
                assert (await client.post(URL, json=BODY)).json() == ANSWER
            assert used(limiter) == (1, 11)

    asyncio.run(main())


def test_a_stream_in_memory_is_settled_and_hides_its_usage() -> None:
    events = [{"choices": [{"index": 0, "delta": {"content": "hi"}}]}, {"choices": [], "usage": USAGE}]
    text = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    answer = httpx.Response(200, content=text.encode(), headers={"content-type": "text/event-stream"})
    with SyncRateLimiter(CONFIG) as limiter:
        transport = LimitedTransport(httpx.MockTransport(lambda _: answer), limiter)
        with httpx.Client(transport=transport) as client:
            told = client.post(URL, json={**BODY, "stream": True})
        assert told.text == text.replace(f"data: {json.dumps(events[1])}\n\n", "") and used(limiter) == (1, 11)


@pytest.mark.parametrize("status", [302, 304])
def test_an_answer_that_leads_elsewhere_was_a_request(status: int) -> None:
    with SyncRateLimiter(CONFIG) as limiter:
        transport = LimitedTransport(httpx.MockTransport(lambda _: httpx.Response(status)), limiter)
        with httpx.Client(transport=transport) as client:
            assert client.post(URL, json=BODY).status_code == status
        assert used(limiter) == (1, 0)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (None, "must be a mapping"),
        ({"requests": 1, "pages": 1}, "tell all of these"),
        ({"requests": 1, "tokens": None}, "usage of 'tokens' must be an int or a float"),
        ({"requests": 1, "tokens": -5}, "it must not be negative"),
    ],
)
def test_a_usage_that_is_none_is_a_mistake_and_no_limit(told: Any, words: str) -> None:
    with SyncRateLimiter(CONFIG) as limiter:
        transport = LimitedTransport(httpx.MockTransport(lambda _: served(httpx)), limiter, usage=lambda _: told)
        with httpx.Client(transport=transport) as client, pytest.raises(ValueError, match=words):
            client.post(URL, json=BODY)
        assert used(limiter) == (0, 0)


def fails(_: Any) -> Any:
    raise KeyError("of the application")


@pytest.mark.parametrize("options", [{"usage": fails}, {}])
def test_errors_of_the_application_stay_what_they_are(options: Any) -> None:
    with SyncRateLimiter(CONFIG if options else fails) as limiter:
        transport = LimitedTransport(httpx.MockTransport(served), limiter, **options)
        with httpx.Client(transport=transport) as client, pytest.raises(KeyError, match="of the application"):
            client.post(URL, json=BODY)
        with pytest.raises((KeyError, openai.APIConnectionError)):
            wrap_openai(client_of(served), limiter, **options).chat.completions.create(model="gpt-4o", messages=HELLO)

    async def main() -> None:
        async with RateLimiter(CONFIG if options else fails) as limiter:
            transport = AsyncLimitedTransport(httpx.MockTransport(served), limiter, **options)
            async with httpx.AsyncClient(transport=transport) as client:
                with pytest.raises(KeyError, match="of the application"):
                    await client.post(URL, json=BODY)

    asyncio.run(main())


def test_images_sounds_and_moderations_are_requests() -> None:
    models: list[str] = []

    def config(model: str) -> PerModelConfig:
        models.append(model)
        return PerModelConfig(CONFIG.quotas, model_family="gpt-4o")

    answers: dict[str, Any] = {
        "/v1/moderations": {"json": {"id": "m", "model": "omni", "results": []}},
        "/v1/images/generations": {"json": {"created": 1, "data": [], "usage": {"input_tokens": 50, "output_tokens": 60, "total_tokens": 110}}},
        "/v1/audio/speech": {"content": b"{}" * 9, "headers": {"content-type": "audio/mpeg"}},
        "/v1/audio/transcriptions": {"json": {"text": "hi"}},
    }
    http = httpx2 if openai.DefaultHttpxClient.__mro__[-2].__module__.startswith("httpx2") else httpx
    transport = http.MockTransport(lambda request: http.Response(200, **answers[request.url.path]))
    with SyncRateLimiter(config) as limiter:
        client = openai.OpenAI(api_key="k", base_url="http://provider/v1", http_client=http.Client(transport=transport))
        wrap_openai(client, limiter)
        client.moderations.create(input="hi")
        assert used(limiter) == (1, 0)
        client.images.generate(prompt="a cat", model="gpt-image-1")
        assert used(limiter) == (2, 110)
        assert client.audio.speech.create(input="hi", model="tts-1", voice="alloy").content == b"{}" * 9
        assert client.audio.transcriptions.create(file=b"RIFF", model="whisper-2").text == "hi"
        assert used(limiter) == (4, 110)
        assert {*models} >= {"omni-moderation-latest", "gpt-image-1", "tts-1", "whisper-2"}
