"""The middleware, under Starlette and FastAPI and by itself."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import servers
from fastapi import FastAPI, Request
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

from tallygate.asgi import RateLimitMiddleware, by_api_key, by_header
from tallygate.rules import Limit
from tallygate.simple import Level
from tallygate.stores import Store, open_store

CHAT = {"model": "gpt-4o", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello world"}]}
"""Nine tokens of input, and up to a hundred of output."""

TOKENS = Limit("user-minute", requests=10, tokens=1_000, every=60, shape="sliding")


def usage(input_tokens: int, output_tokens: int) -> dict[str, int]:
    return {"prompt_tokens": input_tokens, "completion_tokens": output_tokens, "total_tokens": input_tokens + output_tokens}


async def complete(request: Request) -> JSONResponse:
    assert (await request.json())["model"] == "gpt-4o", "the application reads the body that was sized"
    return JSONResponse({"choices": [], "usage": usage(9, 30)})


def app_of(endpoint: Callable[[Any], Awaitable[Any]], **options: Any) -> Starlette:
    options.setdefault("identify", by_header("x-user"))
    options.setdefault("limits", [TOKENS])
    return Starlette(
        routes=[Route("/v1/chat/completions", endpoint, methods=["POST"]), Route("/{rest:path}", endpoint)],
        middleware=[Middleware(RateLimitMiddleware, **options)],
    )


def client_of(app: Any, user: str | None = "alice") -> httpx.AsyncClient:
    headers = {"x-user": user} if user else {}
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test", headers=headers)


async def used(store: Store, user: str = "alice", **labels: str) -> dict[str, int]:
    from tallygate._waiting import finish

    standings = await finish(store._subject({"user": user, "limiter": "asgi", **labels}).peek())
    return {one.metric: one.used for one in standings}


def test_a_call_is_held_before_and_settled_after() -> None:
    async def main() -> None:
        store, seen = open_store(), {}

        async def endpoint(request: Request) -> JSONResponse:
            seen.update(await used(store))
            return await complete(request)

        async with client_of(app_of(endpoint, store=store)) as client:
            answer = await client.post("/v1/chat/completions", json=CHAT)
        assert answer.status_code == 200 and answer.json()["usage"]["total_tokens"] == 39
        assert seen == {"requests": 1, "tokens": 9 + 64}, "counted input and estimated output"
        assert await used(store) == {"requests": 1, "tokens": 39}
        assert answer.headers["x-ratelimit-limit-tokens"] == "1000"
        assert answer.headers["x-ratelimit-remaining-tokens"] == str(1_000 - 73)
        assert answer.headers["x-ratelimit-remaining-requests"] == "9"
        assert answer.headers["x-ratelimit-reset-requests"].endswith("s")

    asyncio.run(main())


def test_a_refusal_reads_as_the_providers() -> None:
    async def main() -> None:
        limit = Limit("user-minute", tokens=100, every=60, shape="sliding")
        async with client_of(app_of(complete, limits=[limit])) as client:
            assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200
            answer = await client.post("/v1/chat/completions", json=CHAT)
            assert answer.status_code == 429
            error = answer.json()["error"]
            assert (error["type"], error["code"]) == ("tokens", "rate_limit_exceeded")
            assert error["message"].startswith(
                "Rate limit reached for gpt-4o in limit user-minute on tokens per min (TPM): Limit 100, Used 39, Requested 73. "
                "Please try again in "
            )
            millis = int(answer.headers["retry-after-ms"])
            assert 50_000 < millis <= 60_250 and int(answer.headers["retry-after"]) == -(-millis // 1000)
            assert answer.headers["x-ratelimit-remaining-tokens"] == "61"
            never = await client.post("/v1/chat/completions", json={**CHAT, "max_tokens": 60, "n": 2})
            assert never.status_code == 429 and never.headers["x-should-retry"] == "false"
            assert "retry-after" not in never.headers
            assert "At most 100 tokens are possible." in never.json()["error"]["message"]

    asyncio.run(main())


def test_a_long_wait_is_not_to_be_retried_and_speaks_anthropics_tongue() -> None:
    async def main() -> None:
        limit = Limit("day", tokens=100, every="day")
        app = Starlette(
            routes=[Route("/v1/messages", lambda _: JSONResponse({"usage": {"input_tokens": 50, "output_tokens": 50}}), methods=["POST"])],
            middleware=[Middleware(RateLimitMiddleware, identify=by_header("x-user"), limits=[limit])],
        )
        body = {**CHAT, "model": "claude-sonnet-4-5"}
        async with client_of(app) as client:
            assert (await client.post("/v1/messages", json=body)).status_code == 200
            answer = await client.post("/v1/messages", json=body)
        assert answer.status_code == 429 and answer.headers["x-should-retry"] == "false"
        assert answer.json()["type"] == "error" and answer.json()["error"]["type"] == "rate_limit_error"

    asyncio.run(main())


def test_every_user_has_limits_of_its_own_and_nobody_unknown_gets_in() -> None:
    async def main() -> None:
        limit = Limit("one", requests=1, every=60)
        app = app_of(complete, limits=[limit])
        async with client_of(app) as alice, client_of(app, "bob") as bob, client_of(app, None) as nobody:
            assert (await alice.post("/v1/chat/completions", json=CHAT)).status_code == 200
            assert (await alice.get("/")).status_code == 429
            assert (await bob.post("/v1/chat/completions", json=CHAT)).status_code == 200
            answer = await nobody.get("/")
            assert answer.status_code == 401 and answer.json()["error"]["code"] == "invalid_api_key"

    asyncio.run(main())


def test_keys_are_known_by_their_hashes() -> None:
    key = "sk-of-alice"
    keys = {f"sha256:{hashlib.sha256(key.encode()).hexdigest()}": {"user": "alice", "tenant": "acme"}}
    identify = by_api_key(keys)

    def scope(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
        return {"headers": list(headers)}

    assert identify(scope((b"authorization", f"Bearer {key}".encode()))) == {"user": "alice", "tenant": "acme"}
    assert identify(scope((b"x-api-key", key.encode()))) == {"user": "alice", "tenant": "acme"}
    assert identify(scope((b"x-api-key", b"sk-of-bob"))) is None
    assert identify(scope()) is None
    with pytest.raises(ValueError, match="named by their hashes"):
        by_api_key({key: {}})


def test_tiers_have_limits_of_their_own() -> None:
    async def main() -> None:
        tiers = {"free": [Limit("free", requests=1, every=60)], "pro": [Limit("pro", requests=2, every=60)]}

        def identify(scope: Any) -> dict[str, str]:
            user = dict(scope["headers"])[b"x-user"].decode()
            return {"user": user, "tier": user.split("-")[0]}

        app = app_of(complete, identify=identify, limits=(), tiers=tiers)
        statuses = {}
        for user in ("free-1", "pro-1", "other-1"):
            async with client_of(app, user) as client:
                answers = [await client.post("/v1/chat/completions", json=CHAT) for _ in range(3)]
                statuses[user] = [answer.status_code for answer in answers]
        assert statuses == {"free-1": [200, 429, 429], "pro-1": [200, 200, 429], "other-1": [403, 403, 403]}
        app = app_of(complete, identify=identify, limits=(), tiers=tiers, default_tier="free")
        async with client_of(app, "other-1") as client:
            answers = [await client.post("/v1/chat/completions", json=CHAT) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 429]

    asyncio.run(main())


def sse(*contents: str, tail: str = "data: [DONE]\n\n") -> list[bytes]:
    chunks = [{"choices": [{"index": 0, "delta": {"content": content}}]} for content in contents]
    return [f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks] + [tail.encode()]


def test_a_stream_passes_as_it_comes_and_is_settled_by_its_usage() -> None:
    async def main() -> None:
        store, go_on = open_store(), asyncio.Event()

        async def events() -> AsyncIterator[bytes]:
            yield sse("Hello")[0]
            await go_on.wait()
            yield b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":40}}\n\ndata: [DONE]\n\n'

        async def endpoint(_: Request) -> StreamingResponse:
            return StreamingResponse(events(), media_type="text/event-stream")

        sent: list[Any] = []
        app = app_of(endpoint, store=store)
        scope = chat_scope()
        scope.update({"query_string": b"", "root_path": "", "http_version": "1.1", "asgi": {"spec_version": "2.3"}})
        body = json.dumps({**CHAT, "stream": True}).encode()
        messages = iter([{"type": "http.request", "body": body[:20], "more_body": True}, {"type": "http.request", "body": body[20:]}])
        forever = asyncio.Event()

        async def receive() -> Any:
            message = next(messages, None)
            return message if message else await forever.wait()

        async def send(message: Any) -> None:
            sent.append(message)
            if message.get("body"):
                go_on.set()

        await app(scope, receive, send)
        assert sent[1]["body"] == sse("Hello")[0], "the first event went on before the second was there"
        assert b"".join(message.get("body", b"") for message in sent).endswith(b"[DONE]\n\n")
        assert await used(store) == {"requests": 1, "tokens": 49}

    asyncio.run(main())


@pytest.mark.parametrize("end", ["cancel", "raise"])
def test_a_stream_that_ends_early_is_settled_at_what_passed(end: str) -> None:
    async def main() -> None:
        store, passed = open_store(), asyncio.Event()

        async def endpoint(scope: Any, receive: Any, send: Any) -> None:
            headers = [(b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            for event in sse("Hello world", " and more")[:2]:
                await send({"type": "http.response.body", "body": event, "more_body": True})
            passed.set()
            if end == "raise":
                raise OSError("the caller hung up")
            await asyncio.Event().wait()

        app = RateLimitMiddleware(endpoint, identify=by_header("x-user"), limits=[TOKENS], store=store)
        task = asyncio.ensure_future(app(chat_scope(), body_of(CHAT), ignore))
        await passed.wait()
        task.cancel()
        with pytest.raises((asyncio.CancelledError, OSError)):
            await task
        assert await used(store) == {"requests": 1, "tokens": 9 + 4}

    asyncio.run(main())


def chat_scope() -> dict[str, Any]:
    return {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": [(b"x-user", b"alice")]}


def body_of(request: dict[str, Any]) -> Callable[[], Awaitable[Any]]:
    async def receive() -> Any:
        return {"type": "http.request", "body": json.dumps(request).encode(), "more_body": False}

    return receive


async def ignore(_: Any) -> None: ...


@pytest.mark.parametrize(
    ("status", "expected"), [(500, (0, 0)), (429, (0, 0)), (503, (0, 0)), (404, (1, 0)), (400, (1, 0)), (302, (1, 0)), (304, (1, 0))]
)
def test_what_was_not_served_is_not_charged(status: int, expected: tuple[int, int]) -> None:
    async def main() -> None:
        store = open_store()

        async def endpoint(_: Request) -> PlainTextResponse:
            return PlainTextResponse("no", status)

        async with client_of(app_of(endpoint, store=store)) as client:
            await client.post("/v1/chat/completions", json=CHAT)
        assert tuple((await used(store)).values()) == expected

    asyncio.run(main())


def test_an_application_that_fails_before_it_answers_is_not_charged() -> None:
    async def main() -> None:
        store = open_store()

        async def endpoint(_: Request) -> PlainTextResponse:
            raise RuntimeError("broken")

        async with client_of(app_of(endpoint, store=store)) as client:
            with pytest.raises(RuntimeError, match="broken"):
                await client.post("/v1/chat/completions", json=CHAT)
        assert await used(store) == {"requests": 0, "tokens": 0}

    asyncio.run(main())


def test_a_caller_that_leaves_before_the_answer_pays_what_was_held() -> None:
    async def main() -> None:
        store, there = open_store(), asyncio.Event()

        async def endpoint(scope: Any, receive: Any, send: Any) -> None:
            there.set()
            await asyncio.Event().wait()

        app = RateLimitMiddleware(endpoint, identify=by_header("x-user"), limits=[TOKENS], store=store)
        task = asyncio.ensure_future(app(chat_scope(), body_of(CHAT), ignore))
        await there.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await used(store) == {"requests": 1, "tokens": 73}
        assert store._engine.stats()["reservations"] == 0, "nothing is left open"

    asyncio.run(main())


def test_an_application_of_its_own_sizes_and_tells_its_use() -> None:
    async def main() -> None:
        store = open_store()
        app = FastAPI()
        options: dict[str, Any] = {
            "identify": by_header("x-user"),
            "limits": [Limit("pages", requests=10, metrics={"pages": 100}, every=60)],
            "size": lambda scope, body: {"requests": 1, "pages": json.loads(body)["pages"]},
            "store": store,
        }
        app.add_middleware(RateLimitMiddleware, **options)

        @app.post("/summaries")
        async def summaries(request: Request) -> dict[str, Any]:
            admission = request.scope["tallygate"]
            assert admission.usage["requests"] == 1 and admission.usage["pages"] in (60, 75)
            admission.set_actual_usage({"pages": 25})
            return {"labels": dict(admission.labels)}

        async with client_of(app) as client:
            answer = await client.post("/summaries", json={"pages": 60})
            assert answer.json() == {"labels": {"user": "alice"}}
            assert await used(store) == {"requests": 1, "pages": 25}
            assert (await client.post("/summaries", json={"pages": 76})).status_code == 429
            assert (await client.post("/summaries", json={"pages": 75})).status_code == 200

    asyncio.run(main())


def test_usage_that_an_answer_tells_counts_where_nobody_sized_the_request() -> None:
    async def main() -> None:
        store = open_store()

        async def endpoint(_: Request) -> JSONResponse:
            return JSONResponse({"answer": "…", "usage": usage(100, 20)})

        async with client_of(app_of(endpoint, store=store)) as client:
            await client.get("/ask")
        assert await used(store) == {"requests": 1, "tokens": 120}

    asyncio.run(main())


def test_a_long_answer_is_not_kept_where_nobody_sized_the_request() -> None:
    async def main() -> None:
        store = open_store()

        async def endpoint(request: Request) -> JSONResponse:
            return JSONResponse({"text": "x" * int(request.query_params["n"]), "usage": usage(100, 20)})

        async with client_of(app_of(endpoint, store=store)) as client:
            await client.get("/ask", params={"n": 2 * 1024 * 1024})
            assert await used(store) == {"requests": 1, "tokens": 0}
            await client.get("/ask", params={"n": 1024})
            assert await used(store) == {"requests": 2, "tokens": 120}

    asyncio.run(main())


def test_bodies_are_bounded_and_must_be_what_they_say() -> None:
    async def main() -> None:
        store = open_store()
        async with client_of(app_of(complete, max_body=200, store=store)) as client:
            large = await client.post("/v1/chat/completions", json={**CHAT, "user": "x" * 200})
            assert large.status_code == 413 and large.json()["error"]["code"] == "request_too_large"
            malformed = await client.post("/v1/chat/completions", content=b'{"model": }')
            assert malformed.status_code == 400 and "line 1, column 11" in malformed.json()["error"]["message"]
            squeezed = await client.post("/v1/chat/completions", content=b"x", headers={"content-encoding": "gzip"})
            assert squeezed.status_code == 400
        assert await used(store) == {"requests": 0, "tokens": 0}

    asyncio.run(main())


def test_requests_that_it_does_not_apply_to_pass() -> None:
    async def main() -> None:
        app = app_of(fine, limits=[Limit("one", requests=1, every=60)], applies=lambda scope: scope["path"] != "/healthz")
        async with client_of(app, None) as client:
            assert [(await client.get("/healthz")).status_code for _ in range(3)] == [200] * 3
            assert (await client.get("/other")).status_code == 401

    async def fine(_: Request) -> PlainTextResponse:
        return PlainTextResponse("ok")

    asyncio.run(main())


def test_names_that_callers_choose_are_bounded() -> None:
    async def main() -> None:
        store = open_store()
        async with client_of(app_of(complete, store=store)) as client:
            answer = await client.post("/v1/chat/completions", json={**CHAT, "model": "x" * 257})
            assert answer.status_code == 400 and "longer than 256" in answer.json()["error"]["message"]
        async with client_of(app_of(complete, store=store), "u" * 600) as client:
            assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200
        assert not any("u" * 600 in dict(labels).values() for labels in store._subjects), "nobody fills the memory with names"

    asyncio.run(main())


def test_under_trio(tmp_path: Path) -> None:
    import trio

    async def main(url: str) -> None:
        with open_store(url) as store:
            app = RateLimitMiddleware(usage_app, identify=by_header("x-user"), limits=[TOKENS], store=store, max_wait=1.0)
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(app, chat_scope(), body_of(CHAT), ignore)
            assert await used(store) == {"requests": 5, "tokens": 5 * 39}

    with servers.valkey(tmp_path) as url:
        trio.run(main, servers.patient(url))


async def usage_app(scope: Any, receive: Any, send: Any) -> None:
    await JSONResponse({"usage": usage(9, 30)})(scope, receive, send)


def test_a_budget_is_of_money_and_an_unknown_price_is_not_free() -> None:
    async def main() -> None:
        store = open_store()
        limit = Limit("spend", dollars="0.01", every="month")
        async with client_of(app_of(complete, limits=[limit], store=store)) as client:
            assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200
            assert await used(store) == {"cost": -(-(9 * 5 // 2 + 30 * 10) // 1) + 1}
            unknown = await client.post("/v1/chat/completions", json={**CHAT, "model": "house-blend"})
            assert unknown.status_code == 400 and unknown.json()["error"]["code"] == "model_not_priced"
            large = await client.post("/v1/chat/completions", json={**CHAT, "n": 50})
            assert large.status_code == 429 and "dollars" in large.json()["error"]["message"]

    asyncio.run(main())


def test_a_provider_behind_it_keeps_its_headers_under_another_name() -> None:
    async def main() -> None:
        async def endpoint(_: Request) -> JSONResponse:
            return JSONResponse({}, headers={"x-ratelimit-remaining-tokens": "7", "x-other": "kept"})

        async with client_of(app_of(endpoint)) as client:
            answer = await client.post("/v1/chat/completions", json=CHAT)
        assert answer.headers.get_list("x-ratelimit-remaining-tokens") == [str(1_000 - 73)]
        assert answer.headers["x-upstream-ratelimit-remaining-tokens"] == "7" and answer.headers["x-other"] == "kept"

    asyncio.run(main())


def test_an_answer_that_an_application_keeps_is_left_as_it_is() -> None:
    """It may send the same message again and again."""
    start = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start)
        await send({"type": "http.response.body", "body": b"hello"})

    async def main() -> None:
        async with client_of(RateLimitMiddleware(app, identify=by_header("x-user"), limits=[TOKENS])) as client:
            for rest in ("9", "8", "7"):
                answer = await client.get("/")
                assert answer.headers.get_list("x-ratelimit-remaining-requests") == [rest]

    asyncio.run(main())
    assert start == {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}


def test_a_caller_whose_name_is_no_text_is_told_so() -> None:
    async def main() -> None:
        app = RateLimitMiddleware(usage_app, identify=lambda _: {"user": "\udcff"}, limits=[TOKENS])
        async with client_of(app) as client:
            assert (await client.get("/")).status_code == 400

    asyncio.run(main())


def test_a_request_may_stand_in_line() -> None:
    async def main() -> None:
        limit = Limit("fast", requests=1, every=0.05)
        async with client_of(app_of(complete, limits=[limit], max_wait=5.0)) as client:
            answers = await asyncio.gather(*(client.post("/v1/chat/completions", json=CHAT) for _ in range(4)))
            assert [answer.status_code for answer in answers] == [200] * 4
        limit = Limit("slow", requests=1, every=60)
        async with client_of(app_of(complete, limits=[limit], max_wait=120.0)) as client:
            assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200
            answer = await client.get("/", headers={"x-tallygate-max-wait-ms": "0"})
            assert answer.status_code == 429, "a caller may ask for less patience"

    asyncio.run(main())


def test_many_at_once_never_take_more_than_there_is(tmp_path: Path) -> None:
    async def main(url: str | None) -> None:
        with open_store(url) as store:
            limit = Limit("user-minute", tokens=1_000, every=60, shape="sliding")

            async def endpoint(_: Request) -> JSONResponse:
                return JSONResponse({"usage": usage(120, 100)})

            async with client_of(app_of(endpoint, limits=[limit], store=store)) as client:
                body = {**CHAT, "max_tokens": 211, "n": 1, "messages": [{"role": "user", "content": "word " * 200}]}
                answers = await asyncio.gather(*(client.post("/v1/chat/completions", json=body) for _ in range(20)))
            statuses = [answer.status_code for answer in answers]
            assert statuses.count(200) == (await used(store))["tokens"] // 220 <= 4
            assert set(statuses) == {200, 429}

    asyncio.run(main(None))
    with servers.valkey(tmp_path) as url:
        asyncio.run(main(servers.patient(url)))


def test_a_store_that_is_away_is_answered_503(tmp_path: Path) -> None:
    async def main() -> None:
        with servers.valkey(tmp_path) as url:
            app = RateLimitMiddleware(complete_app, identify=by_header("x-user"), limits=[TOKENS], store=servers.patient(url))
            async with client_of(app) as client:
                assert (await client.get("/")).status_code == 200
        async with client_of(app) as client:
            answer = await client.get("/")
            assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
        app._store.close()

    asyncio.run(main())


async def complete_app(scope: Any, receive: Any, send: Any) -> None:
    await PlainTextResponse("ok")(scope, receive, send)


def test_the_end_of_the_application_closes_its_store(tmp_path: Path) -> None:
    async def main() -> None:
        folder = tmp_path / "data"
        app = RateLimitMiddleware(complete_app_of_lifespan, identify=by_header("x-user"), limits=[TOKENS], store=folder)
        await app({"type": "lifespan"}, shut_down, ignore)
        with open_store(folder):
            pass

    asyncio.run(main())


async def complete_app_of_lifespan(scope: Any, receive: Any, send: Any) -> None:
    assert (await receive())["type"] == "lifespan.shutdown"


async def shut_down() -> Any:
    return {"type": "lifespan.shutdown"}


def test_a_folder_remembers_and_forgets_a_limit_that_is_taken_away(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    day, week = Limit("day", tokens=1_000, every="day"), Limit("week", requests=1, every="week")

    async def call(limits: list[Limit]) -> tuple[int, dict[str, int]]:
        with open_store(folder) as store:
            async with client_of(app_of(complete, limits=limits, store=store)) as client:
                answer = await client.post("/v1/chat/completions", json=CHAT)
            return answer.status_code, await used(store)

    assert asyncio.run(call([day, week])) == (200, {"tokens": 39, "requests": 1})
    assert asyncio.run(call([day, week])) == (429, {"tokens": 39, "requests": 1})
    assert asyncio.run(call([day])) == (200, {"tokens": 78}), "a limit that is gone denies nobody"
    assert asyncio.run(call([day])) == (200, {"tokens": 117})


def test_what_cannot_be_is_refused_when_it_is_made() -> None:
    def made(**options: Any) -> RateLimitMiddleware:
        return RateLimitMiddleware(complete_app, identify=by_header("x-user"), **options)

    for argument in ("hold", "max_wait"):
        for wrong in (-1, float("nan"), "5", None):
            with pytest.raises(ValueError, match=f"^{argument} must be a number of seconds, 0 or more, not {wrong!r}"):
                made(**{argument: wrong})
    with pytest.raises(ValueError, match="^max_body must be a whole number of bytes, 0 or more, not -1"):
        made(max_body=-1)
    with pytest.raises(ValueError, match="default_tier 'gold' is none of tiers: free"):
        made(tiers={"free": []}, default_tier="gold")
    with pytest.raises(ValueError, match="how much 'pages' a request takes is not known: give size="):
        made(limits=[Limit("pages", metrics={"pages": 1})])
    with pytest.raises(ValueError, match="another limit named 'user-minute'"):
        made(limits=[TOKENS], tiers={"free": [TOKENS]})
    with pytest.raises(ValueError, match="bounds nothing"):
        Limit("empty")
    with pytest.raises(TypeError, match="must be a sequence of labels"):
        Limit("per", requests=1, per="user")
    with pytest.raises(TypeError, match="not a float"):
        Limit("money", dollars=1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="more than six decimals"):
        Limit("money", dollars="0.0000001")
    with pytest.raises(ValueError, match="burst of the limit"):
        Limit("burst", requests=1, shape="sliding", burst=5)
    for wrong in ("slidng", "Sliding", "", 5):
        with pytest.raises(ValueError, match="shape of the limit 'shape' must be one of bucket, strict, sliding, fixed, not"):
            Limit("shape", requests=1, shape=wrong)  # type: ignore[arg-type]


def test_levels_are_values() -> None:
    assert Level("tokens", 1, 0, 1, 0.0) == Level("tokens", 1, 0, 1, 0.0)
