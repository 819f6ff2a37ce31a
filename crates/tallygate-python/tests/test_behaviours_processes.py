"""What limiters of several processes promise each other, over a server."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time

from places import Place, shared
from tallygate import PerModelConfig, Quota, RateLimiter, RedisBackendBuilder, SyncRateLimiter, UsageQuotas

__all__ = ["shared"]

LIMITER = """
import sys
from tallygate import *
url, prefix, limit, window = sys.argv[1:5]
config = PerModelConfig(UsageQuotas([Quota("tokens", int(limit), int(window))]))
limiter = SyncRateLimiter(config, backend=SyncRedisBackendBuilder(url, key_prefix=prefix))
"""


def process(place: Place, limit: int, window: int, work: str) -> subprocess.Popen[str]:
    """Another process with a limiter, which does ``work``."""
    arguments = [place.url, place.prefix, str(limit), str(window)]
    command = [sys.executable, "-c", LIMITER + work, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def line(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    return worker.stdout.readline().strip()


def go(worker: subprocess.Popen[str]) -> None:
    assert worker.stdin is not None
    worker.stdin.write("go\n")
    worker.stdin.flush()


def config(limit: int, window: int) -> PerModelConfig:
    return PerModelConfig(UsageQuotas([Quota("tokens", limit, window)]))


SPEND = """
print("ready", flush=True)
sys.stdin.readline()
spent = 0
for _ in range(100):
    try:
        limiter.acquire_capacity({"tokens": 3}, model="m", timeout=0)
    except TimeoutError:
        continue
    spent += 3
limiter.close()
print(spent, flush=True)
"""


def test_processes_spend_nothing_twice(shared: Place):
    workers = [process(shared, 300, 3_600, SPEND) for _ in range(4)]
    try:
        assert [line(worker) for worker in workers] == ["ready"] * 4
        for worker in workers:
            go(worker)
        spent = [int(line(worker)) for worker in workers]
        assert [worker.wait(90) for worker in workers] == [0] * 4
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    assert 290 <= sum(spent) <= 300, spent


WAIT = """
import threading
print("ready", flush=True)
sys.stdin.readline()
threading.Timer(0.2, lambda: print("waiting", flush=True)).start()
limiter.acquire_capacity({"tokens": 60}, model="m")
print("served", flush=True)
"""


def test_a_killed_waiter_stalls_nobody(shared: Place):
    """The head of the line is killed; who comes after it is served as if it had never been there."""
    worker = process(shared, 100, 100_000, WAIT)
    try:
        assert line(worker) == "ready"

        async def run() -> float:
            builder = RedisBackendBuilder(shared.url, key_prefix=shared.prefix)
            async with RateLimiter(config(100, 100_000), backend=builder) as limiter:
                held = await limiter.acquire_capacity({"tokens": 100}, model="m")
                go(worker)
                assert await asyncio.to_thread(line, worker) == "waiting"
                worker.send_signal(signal.SIGKILL)
                worker.wait(30)
                await limiter.refund_capacity({"tokens": 50}, held)
                began = time.monotonic()
                await limiter.acquire_capacity({"tokens": 10}, model="m", timeout=30)
                return time.monotonic() - began

        stalled = asyncio.run(run())
    finally:
        worker.kill()
        worker.communicate()
    assert stalled < 15, f"the next one waited {stalled:.1f} s for a process that was dead"


HOLD = """
limiter.acquire_capacity({"tokens": 90}, model="m")
print("held", flush=True)
sys.stdin.readline()
"""


def test_a_killed_holder_stalls_nobody(shared: Place):
    """What a dead process held counts as used, and refills as it would have; others go on with what is left."""
    worker = process(shared, 100, 100_000, HOLD)
    try:
        assert line(worker) == "held"
        worker.send_signal(signal.SIGKILL)
        worker.wait(30)
    finally:
        worker.kill()
        worker.communicate()
    builder = RedisBackendBuilder(shared.url, key_prefix=shared.prefix)
    limiter = SyncRateLimiter(config(100, 100_000), backend=builder)
    began = time.monotonic()
    limiter.acquire_capacity({"tokens": 10}, model="m", timeout=30)
    assert time.monotonic() - began < 15
    limiter.close()


def test_a_refund_in_one_process_wakes_another(shared: Place):
    worker = process(shared, 100, 100_000, WAIT)
    try:
        assert line(worker) == "ready"
        builder = RedisBackendBuilder(shared.url, key_prefix=shared.prefix)
        limiter = SyncRateLimiter(config(100, 100_000), backend=builder)
        held = limiter.acquire_capacity({"tokens": 100}, model="m")
        go(worker)
        assert line(worker) == "waiting"
        began = time.monotonic()
        limiter.refund_capacity({"tokens": 0}, held)
        assert line(worker) == "served"
        assert time.monotonic() - began < 15
        limiter.close()
    finally:
        worker.kill()
        worker.communicate()
