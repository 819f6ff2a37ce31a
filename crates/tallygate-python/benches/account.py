"""Whether an account is kept: how long the next request waits after refunds and overruns, in seconds, beside how long it should.

All of it over a quota of 100 tokens a second in memory.
"""

from __future__ import annotations

import asyncio
import logging
import time
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

MODEL = "demo-model"


def limiter_of(lib: Any) -> Any:
    quotas = lib.UsageQuotas([lib.Quota(metric="tokens", limit=100, per_seconds=1)])
    return lib.RateLimiter(lib.PerModelConfig(quotas=quotas), backend=lib.MemoryBackendBuilder())


async def refilled(lib: Any) -> float:
    """50 are held while the quota refills, 100 are taken, and the 50 are refunded: they have refilled already."""
    limiter = limiter_of(lib)
    held = await limiter.acquire_capacity({"tokens": 50}, MODEL)
    await asyncio.sleep(1.1)
    taken = await limiter.acquire_capacity({"tokens": 100}, MODEL)
    since = time.perf_counter()
    await limiter.refund_capacity({"tokens": 0}, held)
    return await until_admitted(limiter, 50, since, taken)


async def overrun(lib: Any) -> float:
    """10 are held, and 310 were used."""
    limiter = limiter_of(lib)
    held = await limiter.acquire_capacity({"tokens": 10}, MODEL)
    since = time.perf_counter()
    await limiter.refund_capacity({"tokens": 310}, held)
    return await until_admitted(limiter, 10, since, held)


async def recorded(lib: Any) -> float:
    """400 are recorded."""
    limiter = limiter_of(lib)
    since = time.perf_counter()
    kept = await limiter.record_usage({"tokens": 400}, MODEL)
    return await until_admitted(limiter, 10, since, kept)


async def until_admitted(limiter: Any, tokens: int, since: float, _kept: object) -> float:
    await limiter.acquire_capacity({"tokens": tokens}, MODEL, timeout=10)
    waited = time.perf_counter() - since
    await limiter.aclose()
    return waited


SCENES: dict[str, tuple[Callable[[Any], Awaitable[float]], float]] = {
    "50 after a refund of what had refilled": (refilled, 0.5),
    "10 after an overrun of 300": (overrun, 2.2),
    "10 after 400 recorded": (recorded, 3.1),
}


def measured(lib: Any, scene: Callable[[Any], Awaitable[float]]) -> float:
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return asyncio.run(scene(lib))  # type: ignore[arg-type]
