"""Limiters for tests, and what tests ask of them."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any, TypeVar

from tallygate import PerModelConfig, Quota, RateLimiter, SyncRateLimiter, UsageQuotas, _waiting

_Limiter = TypeVar("_Limiter", RateLimiter, SyncRateLimiter)

MODEL = "demo"


def limiter(kind: type[_Limiter], *, requests: int = 10, tokens: int = 1000, seconds: int = 3600, **options: Any) -> _Limiter:
    """One with a quota of requests and one of tokens."""
    quotas = [Quota("requests", requests, seconds), Quota("tokens", tokens, seconds)]
    return kind(PerModelConfig(UsageQuotas(quotas)), **options)


def use(requests: int = 1, tokens: int = 1) -> dict[str, int]:
    """A usage of these quotas."""
    return {"requests": requests, "tokens": tokens}


def left(limiter: Any) -> dict[str, int]:
    """What is left of each quota, by metric; below zero: owed. Of limiters in memory."""
    family = limiter._models.ask(MODEL).family
    return {bucket[0]: int(rest) for bucket, rest in limiter._models.capacities(family, family.native.left()).items()}


async def until_waiting(limiter: Any, count: int) -> None:
    """Lets others run until so many stand in line."""
    deadline = time.monotonic() + 60
    sleep = sys.modules["trio"].sleep if _waiting._running_trio() else asyncio.sleep
    while limiter._engine.stats()["waiters"] != count:
        assert time.monotonic() < deadline, f"{limiter._engine.stats()} and not {count} waiters"
        await sleep(0.001)


def until_waiting_here(limiter: Any, count: int) -> None:
    """:func:`until_waiting` for threads."""
    deadline = time.monotonic() + 60
    while limiter._engine.stats()["waiters"] != count:
        assert time.monotonic() < deadline, f"{limiter._engine.stats()} and not {count} waiters"
        time.sleep(0.001)
