"""The middleware over an application's lives, and before requests that are out of all bounds."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from tallygate.asgi import RateLimitMiddleware, by_header
from tallygate.rules import Limit
from tallygate.stores import open_store

App = Callable[[Any, Any, Any], Awaitable[None]]


async def no_lifespan(scope: Any) -> None: ...


async def no_lifespan_and_says_so(scope: Any) -> None:
    raise NotImplementedError(scope["type"])


def app_of(lifespan: Callable[[Any], Awaitable[None]], **options: Any) -> RateLimitMiddleware:
    """An application that answers "ok", for ten requests a minute of each user."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return await lifespan(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    options.setdefault("limits", [Limit("one", requests=10, tokens=1_000, every=60)])
    return RateLimitMiddleware(app, identify=by_header("x-user"), **options)


async def post(app: Any, body: Any = "{}", path: str = "/", **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        return await client.post(path, content=body, headers={"x-user": "alice", **headers})


async def receive() -> Any:
    return {"type": "lifespan.startup"}


async def send(_: Any) -> None: ...


@pytest.mark.parametrize("lifespan", [no_lifespan, no_lifespan_and_says_so])
def test_an_application_without_lifespan_is_limited_for_ever(lifespan: Callable[[Any], Awaitable[None]]) -> None:
    async def main() -> None:
        app = app_of(lifespan)
        try:
            await app({"type": "lifespan"}, receive, send)
        except NotImplementedError:
            pass
        assert (await post(app)).status_code == 200

    asyncio.run(main())


@pytest.mark.parametrize("in_folder", [False, True])
def test_an_application_may_be_started_again(tmp_path: Path, in_folder: bool) -> None:
    app = FastAPI()
    store = tmp_path / "data" if in_folder else None
    limit = Limit("one", requests=2, every=3_600)
    app.add_middleware(RateLimitMiddleware, identify=by_header("x-user"), limits=[limit], store=store)

    @app.get("/")
    def root() -> str:
        return "ok"

    statuses = []
    for _ in range(3):
        with TestClient(app) as client:
            statuses.append(client.get("/", headers={"x-user": "alice"}).status_code)
        if store:
            open_store(store).close()
    assert statuses == ([200, 200, 429] if in_folder else [200] * 3), "a folder remembers, a process's own store is of one life"


def test_a_request_after_the_end_opens_the_store_again(tmp_path: Path) -> None:
    app = FastAPI()
    app.add_middleware(
        RateLimitMiddleware, identify=by_header("x-user"), limits=[Limit("one", requests=2, every=3_600)], store=tmp_path / "data"
    )
    client = TestClient(app)
    with client:
        assert client.get("/", headers={"x-user": "alice"}).status_code == 404
    assert client.get("/", headers={"x-user": "alice"}).status_code == 404


FORKING = """
import asyncio, os, sys
sys.path.insert(0, {tests!r})
from test_asgi_lives import Limit, app_of, no_lifespan, post

def statuses(count):
    return [asyncio.run(post(app)).status_code for _ in range(count)]

app = app_of(no_lifespan, limits=[Limit("one", requests=2, every=3_600)])
assert statuses(1) == [200]
child = os.fork()
if child == 0:
    os._exit(0 if statuses(3) == [200, 200, 429] else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert statuses(2) == [200, 429]
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no process forks here")
def test_a_worker_that_was_forked_after_it_was_made_has_a_store_of_its_own() -> None:
    script = FORKING.format(tests=str(Path(__file__).parent))
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr


def test_a_start_that_fails_closes_the_store(tmp_path: Path) -> None:
    folder = tmp_path / "data"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "lifespan.startup.failed"})
        raise RuntimeError("no database")

    async def main() -> None:
        limited = RateLimitMiddleware(app, identify=by_header("x-user"), limits=[Limit("one", requests=1)], store=folder)
        with pytest.raises(RuntimeError, match="no database"):
            await limited({"type": "lifespan"}, receive, send)
        open_store(folder).close()

    asyncio.run(main())


@pytest.mark.parametrize("digits", ["9" * 400, "9" * 5_000])
def test_a_patience_without_end_is_no_error(digits: str) -> None:
    answer = asyncio.run(post(app_of(no_lifespan), **{"x-tallygate-max-wait-ms": digits}))
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("limit", "n"), [(Limit("tokens", tokens=1_000), 2**53), (Limit("tokens", tokens=1_000), 2**63), (Limit("money", dollars=1), 2**46)]
)
def test_a_body_that_asks_for_more_than_can_be_counted_is_refused(limit: Limit, n: int) -> None:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 500, "n": n}
    answer = asyncio.run(post(app_of(no_lifespan, limits=[limit]), json.dumps(body), "/v1/chat/completions"))
    assert answer.status_code == 429 and answer.headers["x-should-retry"] == "false", answer.text
