"""The SDKs of OpenAI and Anthropic, and httpx, against the strict provider of `tallygate mock`."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest
import servers

from tallygate import (
    PerModelConfig,
    Quota,
    RateLimiter,
    RateLimiterCallbacks,
    SyncRateLimiter,
    SyncRateLimiterCallbacks,
    UsageQuotas,
)
from tallygate.clients import AsyncLimitedTransport, LimitedTransport, wrap_anthropic, wrap_openai

HELLO: list[Any] = [{"role": "user", "content": "Hello world"}]
"""Nine tokens of gpt-4o, so 9 + 64 are held."""

HELD = {"requests": 1, "tokens": 73}


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    with servers.mock("--output-tokens", "20") as url:
        yield url


def quotas(tokens: int = 100_000) -> PerModelConfig:
    return PerModelConfig(UsageQuotas([Quota("requests", 1_000, 3_600), Quota("tokens", tokens, 3_600)]))


class Books:
    """What a limiter's calls held and used."""

    def __init__(self) -> None:
        self.calls: list[tuple[dict[str, int], dict[str, int]]] = []
        self._lock = threading.Lock()

    def note(self, reserved_usage: Any, actual_usage: Any, **_: Any) -> None:
        with self._lock:
            self.calls.append((dict(reserved_usage), dict(actual_usage)))

    async def anote(self, reserved_usage: Any, actual_usage: Any, **_: Any) -> None:
        self.note(reserved_usage, actual_usage)

    def limiter(self, config: PerModelConfig | None = None) -> SyncRateLimiter:
        return SyncRateLimiter(config or quotas(), callbacks=SyncRateLimiterCallbacks(on_capacity_refunded=self.note))

    def alimiter(self, config: PerModelConfig | None = None) -> RateLimiter:
        return RateLimiter(config or quotas(), callbacks=RateLimiterCallbacks(on_capacity_refunded=self.anote))

    @property
    def last(self) -> tuple[dict[str, int], dict[str, int]]:
        return self.calls[-1]


def used(tokens: int, requests: int = 1) -> dict[str, int]:
    return {"requests": requests, "tokens": tokens}


def sync_openai(url: str, limiter: SyncRateLimiter, **options: Any) -> openai.OpenAI:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="sk-test", max_retries=options.pop("max_retries", 0))
    return wrap_openai(client, limiter, **options)


def async_openai(url: str, limiter: RateLimiter, **options: Any) -> openai.AsyncOpenAI:
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="sk-test", max_retries=options.pop("max_retries", 0))
    return wrap_openai(client, limiter, **options)


def admitted(url: str) -> int:
    """Calls that the provider let in so far."""
    accounts = httpx.get(f"{url}/mock/books").json()["accounts"]
    return sum(account["counts"]["admitted"] for account in accounts)


def test_a_chat_call_is_settled_with_its_usage(provider: str) -> None:
    books = Books()
    with books.limiter() as limiter:
        answer = sync_openai(provider, limiter).chat.completions.create(model="gpt-4o", messages=HELLO)
        assert answer.usage is not None and answer.choices[0].message.content
        assert books.calls == [(HELD, used(answer.usage.total_tokens))]
        assert answer.usage.total_tokens == 29


def test_a_stream_asks_for_its_usage_and_hides_that(provider: str) -> None:
    books = Books()
    with books.limiter() as limiter:
        client = sync_openai(provider, limiter)
        chunks = list(client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True))
        assert all(chunk.choices for chunk in chunks), "the chunk of the usage is not the caller's"
        assert books.last == (HELD, used(29))
        options: Any = {"include_usage": True}
        asked = list(client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True, stream_options=options))
        assert asked[-1].usage is not None and asked[-1].usage.total_tokens == 29, "who asked gets it"
        assert books.last == (HELD, used(29)) and len(books.calls) == 2


def test_a_stream_that_is_closed_early_pays_what_passed(provider: str) -> None:
    books = Books()
    with books.limiter() as limiter:
        client = sync_openai(provider, limiter)
        with client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True, max_tokens=5_000) as stream:
            next(iter(stream))
        (reserved, actual), = books.calls
        assert reserved == HELD and 9 <= actual["tokens"] < 29
        assert limiter.snapshot_state()["in_flight_reservations"] == 0


def test_a_stream_that_is_forgotten_is_settled_too(provider: str) -> None:
    books = Books()
    with books.limiter() as limiter:
        for _ in sync_openai(provider, limiter).chat.completions.create(model="gpt-4o", messages=HELLO, stream=True):
            break
        gc.collect()
        assert limiter.snapshot_state()["in_flight_reservations"] == 0


def test_a_stream_that_the_provider_cuts_off_pays_what_passed(provider: str) -> None:
    books = Books()
    with books.limiter() as limiter:
        client = sync_openai(provider, limiter)
        stream = client.chat.completions.create(
            model="gpt-4o", messages=HELLO, stream=True, extra_headers={"x-mock-cut-after": "4"}
        )
        with pytest.raises((httpx.HTTPError, httpx2.HTTPError, openai.APIError)):
            list(stream)
        (_, actual), = books.calls
        assert 9 < actual["tokens"] < 29


def test_the_responses_api_and_embeddings(provider: str) -> None:
    books = Books()
    with books.limiter() as limiter:
        client = sync_openai(provider, limiter)
        answer = client.responses.create(model="gpt-4o", input="Hello world")
        assert answer.usage is not None and books.last[1] == used(answer.usage.total_tokens)
        events = list(client.responses.create(model="gpt-4o", input="Hello world", stream=True))
        assert events[-1].type == "response.completed" and books.last[1] == used(answer.usage.total_tokens)
        vector = client.embeddings.create(model="text-embedding-3-small", input="Hello world")
        assert vector.usage.total_tokens == 2 and books.last == (used(2), used(2))


def test_anthropics_messages_streamed_and_not(provider: str) -> None:
    books = Books()
    with books.limiter() as limiter:
        client = wrap_anthropic(anthropic.Anthropic(base_url=provider, api_key="sk-test", max_retries=0), limiter)
        answer = client.messages.create(model="claude-opus-4-7", max_tokens=100, messages=HELLO)
        total = answer.usage.input_tokens + answer.usage.output_tokens
        assert books.last[1] == used(total)
        with client.messages.stream(model="claude-opus-4-7", max_tokens=100, messages=HELLO) as stream:
            assert "".join(stream.text_stream)
        assert books.last[1] == used(total)
        client.messages.count_tokens(model="claude-opus-4-7", messages=HELLO)
        assert books.last == (used(0), used(0)), "counting takes a request and no tokens"


def test_other_requests_pass(provider: str) -> None:
    books = Books()
    with books.limiter() as limiter:
        assert sync_openai(provider, limiter)._client.get(f"{provider}/mock/books").status_code == 200
        assert books.calls == []


@pytest.mark.parametrize(
    ("status", "expected"), [("429", used(0, 0)), ("500", used(0, 0)), ("503", used(0, 0)), ("400", used(0)), ("404", used(0))]
)
def test_what_the_provider_did_not_serve_is_not_charged(provider: str, status: str, expected: dict[str, int]) -> None:
    books = Books()
    with books.limiter() as limiter, pytest.raises(openai.APIStatusError):
        sync_openai(provider, limiter).chat.completions.create(
            model="gpt-4o", messages=HELLO, extra_headers={"x-mock-status": status}
        )
    assert books.calls == [(HELD, expected)]


def test_retries_of_the_sdk_are_calls_of_their_own(provider: str) -> None:
    books = Books()
    with books.limiter() as limiter:
        headers = {"x-mock-status": "429", "x-mock-retry-after-ms": "1", "x-mock-id": "twice", "x-mock-times": "2"}
        sync_openai(provider, limiter, max_retries=2).chat.completions.create(
            model="gpt-4o", messages=HELLO, extra_headers=headers
        )
    assert [actual for _, actual in books.calls] == [used(0, 0), used(0, 0), used(29)]


def test_a_provider_that_cannot_be_reached_is_not_charged() -> None:
    books = Books()
    with books.limiter() as limiter, pytest.raises(openai.APIConnectionError):
        sync_openai(f"http://127.0.0.1:{servers.free_port()}", limiter).chat.completions.create(
            model="gpt-4o", messages=HELLO
        )
    assert books.calls == [(HELD, used(0, 0))]


def test_a_provider_that_closes_without_an_answer_may_have_done_the_work(provider: str) -> None:
    books = Books()
    with books.limiter() as limiter, pytest.raises(openai.APIConnectionError):
        sync_openai(provider, limiter).chat.completions.create(
            model="gpt-4o", messages=HELLO, extra_headers={"x-mock-close": "before-headers"}
        )
    assert books.calls == [(HELD, HELD)]


@pytest.mark.parametrize(("lie", "tokens"), [("missing", 29), ("zero", 29)])
def test_an_answer_without_usage_is_counted(provider: str, lie: str, tokens: int) -> None:
    books = Books()
    with books.limiter() as limiter:
        sync_openai(provider, limiter).chat.completions.create(
            model="gpt-4o", messages=HELLO, extra_headers={"x-mock-usage": lie}
        )
    assert books.calls == [(HELD, used(tokens))]


def test_a_timeout_that_cannot_be_is_refused_when_it_is_given() -> None:
    with SyncRateLimiter(quotas()) as limiter, pytest.raises(ValueError, match="^timeout must be None or a finite number"):
        sync_openai("http://127.0.0.1", limiter, timeout=-1)


def test_what_has_no_room_in_time_is_refused_without_a_call(provider: str) -> None:
    with SyncRateLimiter(quotas(tokens=100)) as limiter:
        client = sync_openai(provider, limiter, timeout=0, max_retries=2)
        client.chat.completions.create(model="gpt-4o", messages=HELLO)
        before = admitted(provider)
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(model="gpt-4o", messages=[*HELLO, *HELLO], max_tokens=70)
        with pytest.raises(openai.RateLimitError, match="tokens"):
            client.chat.completions.create(model="gpt-4o", messages=HELLO, n=2)
        assert admitted(provider) == before


def test_a_waiting_call_goes_when_there_is_room(provider: str) -> None:
    config = PerModelConfig(UsageQuotas([Quota("requests", 1, 1)]))
    with SyncRateLimiter(config) as limiter:
        client = sync_openai(provider, limiter)
        for _ in range(2):
            assert client.chat.completions.create(model="gpt-4o", messages=HELLO).choices


def test_quotas_of_ones_own_metrics_are_told_by_the_application(provider: str) -> None:
    config = PerModelConfig(UsageQuotas([Quota("pages", 10, 3_600)]))
    with SyncRateLimiter(config) as limiter:
        client = sync_openai(provider, limiter)
        with pytest.raises(openai.BadRequestError, match="how much 'pages' a call takes is not known"):
            client.chat.completions.create(model="gpt-4o", messages=HELLO)
        with pytest.raises(ValueError, match="the quotas count .'pages'.: tell all of these"):
            sync_openai(provider, limiter, usage=lambda sized: {}).chat.completions.create(model="gpt-4o", messages=HELLO)
        client = sync_openai(provider, limiter, usage=lambda sized: {"pages": 6}, timeout=0)
        client.chat.completions.create(model="gpt-4o", messages=HELLO)
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(model="gpt-4o", messages=HELLO)


def test_a_budget_counts_money(provider: str) -> None:
    books = Books()
    with books.limiter(PerModelConfig(UsageQuotas([Quota("cost", 1_000_000, 3_600)]))) as limiter:
        client = sync_openai(provider, limiter)
        client.chat.completions.create(model="gpt-4o", messages=HELLO)
        (reserved, actual), = books.calls
        assert reserved == {"cost": 663} and actual == {"cost": 223}, "9 at 2.50 and 64 or 20 at 10 dollars a million, rounded up"
        with pytest.raises(openai.BadRequestError, match="no price of 'house-blend'"):
            client.chat.completions.create(model="house-blend", messages=HELLO)


def test_async_clients(provider: str) -> None:
    async def main() -> None:
        books = Books()
        async with books.alimiter() as limiter:
            client = async_openai(provider, limiter)
            await client.chat.completions.create(model="gpt-4o", messages=HELLO)
            assert books.last == (HELD, used(29))
            stream = await client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
            assert [chunk async for chunk in stream]
            assert books.last == (HELD, used(29)) and len(books.calls) == 2
            async with await client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True) as stream:
                await anext(aiter(stream))
            assert 9 <= books.last[1]["tokens"] < 29 and len(books.calls) == 3
            claude = wrap_anthropic(anthropic.AsyncAnthropic(base_url=provider, api_key="sk-test"), limiter)
            answer = await claude.messages.create(model="claude-opus-4-7", max_tokens=100, messages=HELLO)
            assert books.last[1] == used(answer.usage.input_tokens + answer.usage.output_tokens)
            assert limiter.snapshot_state()["in_flight_reservations"] == 0

    asyncio.run(main())


def test_a_cancelled_task_pays_what_passed_and_leaves_nothing_open(provider: str) -> None:
    async def main() -> None:
        books = Books()
        async with books.alimiter() as limiter:
            client = async_openai(provider, limiter)
            begun = asyncio.Event()

            async def read() -> None:
                headers = {"x-mock-stall-after": "3"}
                stream = await client.chat.completions.create(
                    model="gpt-4o", messages=HELLO, stream=True, extra_headers=headers
                )
                async for _ in stream:
                    begun.set()

            task = asyncio.ensure_future(read())
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            (reserved, actual), = books.calls
            assert reserved == HELD and 9 <= actual["tokens"] < 29
            assert limiter.snapshot_state()["in_flight_reservations"] == 0

    asyncio.run(main())


def test_a_task_cancelled_before_its_answer_pays_what_was_held_and_one_in_line_nothing(provider: str) -> None:
    async def main() -> None:
        books = Books()
        config = PerModelConfig(UsageQuotas([Quota("requests", 1, 3_600)]))
        async with books.alimiter(config) as limiter:
            client = async_openai(provider, limiter)
            slow = {"x-mock-first-token-ms": "60000"}
            first = asyncio.ensure_future(
                client.chat.completions.create(model="gpt-4o", messages=HELLO, extra_headers=slow)
            )
            while not limiter.snapshot_state()["in_flight_reservations"]:
                await asyncio.sleep(0)
            second = asyncio.ensure_future(client.chat.completions.create(model="gpt-4o", messages=HELLO))
            while limiter.snapshot_state()["in_flight_reservations"] != 2:
                await asyncio.sleep(0)
            for task in (second, first):
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert books.calls == [({"requests": 1}, {"requests": 1})]
            assert limiter.snapshot_state()["in_flight_reservations"] == 0

    asyncio.run(main())


def test_a_strict_provider_of_the_same_size_never_refuses() -> None:
    async def main(url: str) -> None:
        config = PerModelConfig(UsageQuotas([Quota("tokens", 2_000, 60)]))
        async with RateLimiter(config) as limiter:
            client = async_openai(url, limiter, timeout=0)
            calls = (client.chat.completions.create(model="gpt-4o", messages=HELLO, max_tokens=91) for _ in range(40))
            answers = await asyncio.gather(*calls, return_exceptions=True)
        served = [answer for answer in answers if not isinstance(answer, BaseException)]
        refused = {type(answer) for answer in answers if isinstance(answer, BaseException)}
        assert refused <= {openai.RateLimitError} and len(served) >= 20

    with servers.mock("--tokens-per-minute", "2000", "--charging", "true-usage", "--output-tokens", "60") as url:
        asyncio.run(main(url))
        assert httpx.get(f"{url}/mock/books").json()["accounts"][0]["counts"]["refused"] == 0


@pytest.mark.parametrize("http", [httpx, httpx2])
def test_transports_of_either_httpx(provider: str, http: Any) -> None:
    books = Books()
    body = {"model": "gpt-4o", "messages": HELLO}
    url, key = f"{provider}/v1/chat/completions", {"authorization": "Bearer sk-test"}
    with books.limiter() as limiter:
        with http.Client(transport=LimitedTransport(http.HTTPTransport(), limiter)) as client:
            assert client.post(url, json=body, headers=key).json()["usage"]["total_tokens"] == 29
            with client.stream("POST", url, json={**body, "stream": True}, headers=key) as answer:
                assert answer.read().endswith(b"data: [DONE]\n\n") and b'"choices":[]' not in answer.content
            wrong = client.post(url, content=b"{", headers={**key, "content-type": "application/json"})
            assert wrong.status_code == 400 and "line 1, column" in wrong.json()["error"]["message"]
        assert books.calls == [(HELD, used(29))] * 2

    async def main() -> None:
        async with books.alimiter() as limiter:
            transport = AsyncLimitedTransport(http.AsyncHTTPTransport(), limiter)
            async with http.AsyncClient(transport=transport) as client:

                async def parts() -> Any:
                    yield json.dumps(body).encode()

                headers = {**key, "content-type": "application/json"}
                assert (await client.post(url, content=parts(), headers=headers)).status_code == 200
        assert books.last == (HELD, used(29))

    asyncio.run(main())


def test_an_answer_outlives_its_limiter(provider: str, caplog: pytest.LogCaptureFixture) -> None:
    limiter = SyncRateLimiter(quotas())
    stream = sync_openai(provider, limiter).chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
    limiter.close()
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert "a call could not be settled" in caplog.text


def test_under_trio(provider: str) -> None:
    import trio

    async def main() -> None:
        books = Books()
        url, key = f"{provider}/v1/chat/completions", {"authorization": "Bearer sk-test"}
        async with books.alimiter() as limiter:
            transport = AsyncLimitedTransport(httpx.AsyncHTTPTransport(), limiter)
            async with httpx.AsyncClient(transport=transport, headers=key) as client:
                body = {"model": "gpt-4o", "messages": HELLO, "stream": True}
                assert (await client.post(url, json=body)).status_code == 200
                with trio.CancelScope() as scope:
                    headers = {"x-mock-stall-after": "3"}
                    async with client.stream("POST", url, json=body, headers=headers) as answer:
                        async for _ in answer.aiter_bytes():
                            scope.cancel()
                assert scope.cancelled_caught
        assert books.calls[0] == (HELD, used(29)) and 9 <= books.last[1]["tokens"] < 29

    trio.run(main)


def test_client_and_limiter_must_fit(provider: str) -> None:
    with SyncRateLimiter(quotas()) as limiter:
        with pytest.raises(TypeError, match="an asynchronous client needs a RateLimiter, not SyncRateLimiter"):
            wrap_openai(openai.AsyncOpenAI(api_key="x"), limiter)
        with pytest.raises(TypeError, match="client must be a client of openai or anthropic, not dict"):
            wrap_openai({}, limiter)
        limited = RateLimiter(quotas())
        with pytest.raises(TypeError, match="a synchronous client needs a SyncRateLimiter, not RateLimiter"):
            wrap_anthropic(anthropic.Anthropic(api_key="x"), limited)
