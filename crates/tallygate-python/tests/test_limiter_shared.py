"""Limiters that share their counters on Valkey: from several processes, and when one of them is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from limiters import MODEL, limiter, use
from servers import patient

from tallygate import DuplicateRefundError, RateLimiter, RedisBackendBuilder, SyncRateLimiter, SyncRedisBackendBuilder


@pytest.fixture
def prefix() -> str:
    """Keys of one test's own."""
    return uuid.uuid4().hex[:12]


def shared(kind: Any, url: object, prefix: str, **options: Any) -> Any:
    """A limiter of those that share this prefix."""
    builder = RedisBackendBuilder if kind is RateLimiter else SyncRedisBackendBuilder
    return limiter(kind, backend=builder(patient(url) if isinstance(url, str) else url, key_prefix=prefix), **options)


def test_two_limiters_share_their_quotas(valkey_url: str, prefix: str) -> None:
    one, other = (shared(SyncRateLimiter, valkey_url, prefix) for _ in range(2))
    held = one.acquire_capacity(use(6), MODEL)
    with pytest.raises(TimeoutError, match="requests per 1h has 4 of 10 left"):
        other.acquire_capacity(use(5), MODEL, timeout=0)
    one.refund_capacity(use(1), held)
    with pytest.raises(DuplicateRefundError):
        one.refund_capacity(use(1), held)
    # A refusal is believed until the store's message of the refund is here.
    other.acquire_capacity(use(5), MODEL, timeout=10)
    assert one.snapshot_state()["backend_type"] == "redis"
    one.close()
    other.close()


def test_a_refund_of_one_wakes_who_waits_at_the_other(valkey_url: str, prefix: str) -> None:
    async def scenario() -> None:
        one, other = (shared(RateLimiter, valkey_url, prefix) for _ in range(2))
        held = await one.acquire_capacity(use(10), MODEL)
        waiting = asyncio.create_task(other.acquire_capacity(use(5), MODEL, timeout=20))
        while other._engine.stats()["waiters"] == 0:
            await asyncio.sleep(0.001)
        await one.refund_capacity(use(1), held)
        assert (await waiting).usage["requests"] == 5
        await one.aclose()
        await other.aclose()

    asyncio.run(asyncio.wait_for(scenario(), 90))


def test_what_is_cancelled_or_late_takes_nothing(valkey_url: str, prefix: str) -> None:
    async def scenario() -> None:
        rates = shared(RateLimiter, valkey_url, prefix)
        held = await rates.acquire_capacity(use(8), MODEL)
        waiting = asyncio.create_task(rates.acquire_capacity(use(5), MODEL))
        while rates._engine.stats()["waiters"] == 0:
            await asyncio.sleep(0.001)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        for timeout in (0, 0.05):
            with pytest.raises(TimeoutError):
                await rates.acquire_capacity(use(5), MODEL, timeout=timeout)
        await rates.refund_capacity(use(0, 0), held)
        await _until_all_fits(rates)
        await rates.aclose()

    asyncio.run(asyncio.wait_for(scenario(), 90))


def test_calls_cancelled_at_any_moment_leak_nothing(valkey_url: str, prefix: str) -> None:
    async def scenario() -> None:
        rates = shared(RateLimiter, valkey_url, prefix, requests=50)
        for turn in range(60):
            task = asyncio.create_task(rates.acquire_capacity(use(), MODEL))
            for _ in range(turn % 6):
                await asyncio.sleep(0)
            await asyncio.sleep((turn % 10) / 5000)
            task.cancel()
            try:
                await rates.refund_capacity(use(0, 0), await task)
            except asyncio.CancelledError:
                pass
        await _until_all_fits(rates, 50)
        assert rates.snapshot_state()["in_flight_reservations"] == 0
        await rates.aclose()

    asyncio.run(asyncio.wait_for(scenario(), 90))


async def _until_all_fits(rates: RateLimiter, requests: int = 10) -> None:
    """What is given back without anybody waiting for it arrives a little later."""
    held = await rates.acquire_capacity(use(requests), MODEL, timeout=10)
    await rates.refund_capacity(use(0, 0), held)


def test_recorded_use_is_of_all(valkey_url: str, prefix: str) -> None:
    one, other = (shared(SyncRateLimiter, valkey_url, prefix) for _ in range(2))
    one.record_usage(use(25), MODEL)
    with pytest.raises(TimeoutError):
        other.acquire_capacity(use(), MODEL, timeout=0)
    other.set_max_capacity(MODEL, "requests", 3600, 100)
    other.acquire_capacity(use(60), MODEL, timeout=0)
    one.close()
    other.close()


@pytest.mark.parametrize("module", ["redis", "redis.asyncio"])
def test_a_client_of_redis_py_names_the_server(valkey_url: str, prefix: str, module: str) -> None:
    redis = pytest.importorskip(module)
    rates = shared(SyncRateLimiter, redis.from_url(valkey_url), prefix)
    rates.acquire_capacity(use(10), MODEL)
    other = shared(SyncRateLimiter, valkey_url, prefix)
    with pytest.raises(TimeoutError):
        other.acquire_capacity(use(), MODEL, timeout=0)
    rates.close()
    other.close()


def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    began = time.monotonic()
    with pytest.raises(ConnectionError, match="127.0.0.1:1 cannot be reached") as refused:
        shared(SyncRateLimiter, "redis://user:secret-word@127.0.0.1:1", "p")
    assert "secret-word" not in str(refused.value)
    assert time.monotonic() - began < 15
    for wrong, words in (("http://x", "begins with none of redis"), (5, "must be a URL or a client of redis-py")):
        with pytest.raises((ValueError, TypeError), match=words):
            shared(SyncRateLimiter, wrong, "p")
    for prefix in ("", "a:b", "a{b", None):
        with pytest.raises(ValueError, match="key_prefix"):
            RedisBackendBuilder("redis://127.0.0.1:1", key_prefix=prefix)  # type: ignore[arg-type]


WORKER = """
import asyncio, sys, time
sys.path.insert(0, {tests!r})
from limiters import MODEL, limiter, use
from tallygate import RateLimiter, RedisBackendBuilder, SyncRateLimiter, SyncRedisBackendBuilder
url, prefix = {url!r}, {prefix!r}
def shared(kind, **options):
    builder = RedisBackendBuilder if kind is RateLimiter else SyncRedisBackendBuilder
    return limiter(kind, backend=builder(url, key_prefix=prefix), **options)
"""


def worker(script: str, url: str, prefix: str) -> subprocess.Popen[str]:
    """Another process with limiters of this prefix."""
    source = WORKER.format(tests=str(Path(__file__).parent), url=url, prefix=prefix) + script
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", source], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, env=environment
    )


def test_processes_never_spend_a_quota_twice(valkey_url: str, prefix: str) -> None:
    script = """
async def main():
    rates = shared(RateLimiter, requests=200)
    print("ready", flush=True); sys.stdin.readline()
    async def one():
        try:
            reservation = await rates.acquire_capacity(use(), MODEL, timeout=0)
        except TimeoutError:
            return 0
        await rates.refund_capacity(use(), reservation)
        return 1
    print(sum(await asyncio.gather(*(one() for _ in range(100)))))
    await rates.aclose()
asyncio.run(main())
"""
    workers = [worker(script, patient(valkey_url), prefix) for _ in range(4)]
    for each in workers:
        assert each.stdout is not None and each.stdout.readline().strip() == "ready"
    counts = [int(each.communicate("go\n", timeout=90)[0]) for each in workers]
    assert sum(counts) == 200


def test_a_killed_worker_stalls_nobody(valkey_url: str, prefix: str) -> None:
    script = """
rates = shared(SyncRateLimiter, requests=20, seconds=1)
print("ready", flush=True)
while True:
    rates.refund_capacity(use(), rates.acquire_capacity(use(), MODEL))
"""
    victim = worker(script, patient(valkey_url), prefix)
    assert victim.stdout is not None and victim.stdout.readline().strip() == "ready"
    rates = shared(SyncRateLimiter, valkey_url, prefix, requests=20, seconds=1)
    for _ in range(5):
        rates.acquire_capacity(use(), MODEL, timeout=10)
    victim.send_signal(signal.SIGKILL)
    victim.wait(30)
    victim.stdout.close()
    assert victim.stdin is not None
    victim.stdin.close()
    longest = 0.0
    for _ in range(20):
        began = time.monotonic()
        rates.acquire_capacity(use(), MODEL, timeout=10)
        longest = max(longest, time.monotonic() - began)
    # One comes every 50 ms; what the victim stood in line for is nobody's any more.
    assert longest < 10
    rates.close()


def test_a_changed_limit_reaches_every_limiter_and_who_waits_there(valkey_url: str, prefix: str) -> None:
    async def scenario() -> None:
        one, other = (shared(RateLimiter, valkey_url, prefix) for _ in range(2))
        await other.acquire_capacity(use(10), MODEL)
        waiting = asyncio.create_task(other.acquire_capacity(use(9), MODEL))
        while other._engine.stats()["waiters"] == 0:
            await asyncio.sleep(0.001)
        await one.set_max_capacity(MODEL, "requests", 3600, 100)
        await waiting
        later = shared(RateLimiter, valkey_url, prefix)
        # It knows from its first decision on.
        await later.acquire_capacity(use(70), MODEL, timeout=0)
        waiting = asyncio.create_task(other.acquire_capacity(use(90), MODEL))
        while other._engine.stats()["waiters"] == 0:
            await asyncio.sleep(0.001)
        await later.set_max_capacity(MODEL, "requests", 3600, 80)
        with pytest.raises(ValueError, match="at most 80 of requests per 1h"):
            await waiting
        with pytest.raises(ValueError, match="no quota of 'cost'"):
            await one.set_max_capacity(MODEL, "cost", 3600, 5)
        for each in (one, other, later):
            await each.aclose()

    asyncio.run(asyncio.wait_for(scenario(), 90))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no process forks here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_has_limiters_of_its_own(valkey_url: str, prefix: str) -> None:
    parent = shared(SyncRateLimiter, valkey_url, prefix)
    held = parent.acquire_capacity(use(4), MODEL)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with pytest.raises(RuntimeError, match="after the fork"):
                parent.acquire_capacity(use(), MODEL)
            own = shared(SyncRateLimiter, valkey_url, prefix)
            own.acquire_capacity(use(6), MODEL, timeout=0)
            own.close()
            parent.close()
            del parent, held
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with pytest.raises(TimeoutError):
        parent.acquire_capacity(use(), MODEL, timeout=0)
    parent.refund_capacity(use(0, 0), held)
    parent.close()
