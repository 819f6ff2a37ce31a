"""What type checkers make of checks, clients and decorators: read by mypy, never run."""

from __future__ import annotations

from typing_extensions import assert_type

import anthropic
import httpx
import openai

from tallygate import (
    DualLimiter,
    RateLimiter,
    SyncRateLimiter,
    TokenBucket,
    count_tokens,
    estimate_total_tokens,
    limited,
    wrap_anthropic,
    wrap_openai,
)
from tallygate.clients import AsyncLimitedTransport, LimitedTransport
from tallygate.simple import Check, Held


def clients(blocks: SyncRateLimiter, waits: RateLimiter) -> None:
    assert_type(wrap_openai(openai.OpenAI(), blocks), openai.OpenAI)
    assert_type(wrap_anthropic(anthropic.AsyncAnthropic(), waits), anthropic.AsyncAnthropic)
    httpx.Client(transport=LimitedTransport(httpx.HTTPTransport(), blocks))
    httpx.AsyncClient(transport=AsyncLimitedTransport(httpx.AsyncHTTPTransport(), waits))


async def functions(blocks: SyncRateLimiter, waits: RateLimiter) -> None:
    @limited(blocks, model="gpt-4o", usage={"requests": 1})
    def ask(prompt: str) -> int:
        return len(prompt)

    @limited(waits, model="gpt-4o", usage={"requests": 1})
    async def wait(prompt: str) -> int:
        return len(prompt)

    assert_type(ask("x"), int)
    assert_type(await wait("x"), int)
    ask(1)  # type: ignore[arg-type]


async def checks() -> None:
    assert_type(DualLimiter().check("alice", 1), Check)
    assert_type(await DualLimiter().areserve("alice", 1), Held)
    with TokenBucket(1, 1) as bucket:
        assert_type(bucket, TokenBucket)
    assert_type(count_tokens("x"), int)
    assert_type(estimate_total_tokens(1), int)
