"""The limiters of both packages, made by the same words: what is measured is told apart by the module alone."""

from __future__ import annotations

from typing import Any

PLENTY = 1_000_000_000
USAGE = {"requests": 1, "tokens": 500}
ACTUAL = {"requests": 1, "tokens": 320}
MODEL = "demo-model"


def config(lib: Any, quotas: list[tuple[str, int, int]]) -> Any:
    made = [lib.Quota(metric=metric, limit=limit, per_seconds=seconds) for metric, limit, seconds in quotas]
    return lib.PerModelConfig(quotas=lib.UsageQuotas(made))


def plenty(lib: Any) -> Any:
    return config(lib, [("requests", PLENTY, 60), ("tokens", PLENTY, 60)])


def asynchronous(lib: Any, cfg: Any, url: str | None, prefix: str) -> Any:
    if url is None:
        return lib.RateLimiter(cfg, backend=lib.MemoryBackendBuilder())
    import redis.asyncio

    client = redis.asyncio.from_url(url)
    return lib.RateLimiter(cfg, backend=lib.RedisBackendBuilder(client, key_prefix=prefix))


def synchronous(lib: Any, cfg: Any, url: str | None, prefix: str) -> Any:
    if url is None:
        return lib.SyncRateLimiter(cfg, backend=lib.SyncMemoryBackendBuilder())
    import redis

    client = redis.Redis.from_url(url)
    return lib.SyncRateLimiter(cfg, backend=lib.SyncRedisBackendBuilder(client, key_prefix=prefix))


def contention(lib: Any) -> tuple[type[Exception], ...]:
    """What the peer raises when its lock is not to be had in its time."""
    error = getattr(lib, "BackendLockContentionError", None)
    return () if error is None else (error,)
