"""Threads, signals, forks and the end of the interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from custom_backends import SyncBuilder
from limiters import MODEL, left, limiter, until_waiting_here, use

from tallygate import ClosedError, RateLimiter, SyncMemoryBackendBuilder, SyncRateLimiter


def test_threads_never_spend_a_quota_twice() -> None:
    rates = limiter(SyncRateLimiter, requests=100)
    got: list[int] = []

    def work() -> None:
        count = 0
        for _ in range(50):
            try:
                reservation = rates.acquire_capacity(use(), MODEL, timeout=0)
            except TimeoutError:
                continue
            count += 1
            rates.refund_capacity(use(), reservation)
        got.append(count)

    _in_threads(work, 8)
    assert sum(got) == 100


def test_threads_that_wait_are_all_served() -> None:
    rates = limiter(SyncRateLimiter, requests=50, seconds=1)
    began = time.monotonic()
    _in_threads(lambda: [rates.acquire_capacity(use(), MODEL) for _ in range(10)], 10)
    assert time.monotonic() - began > 0.99


def test_a_refund_that_races_others_is_credited_once() -> None:
    rates = limiter(SyncRateLimiter)
    reservation = rates.acquire_capacity(use(10, 500), MODEL)
    start = threading.Barrier(8)
    refused: list[Exception] = []

    def work() -> None:
        start.wait()
        try:
            rates.refund_capacity(use(4, 100), reservation)
        except ValueError as error:
            refused.append(error)

    _in_threads(work, 8)
    assert len(refused) == 7
    assert left(rates) == {"requests": 6, "tokens": 900}


def test_closing_answers_threads_that_wait() -> None:
    rates = limiter(SyncRateLimiter)
    rates.acquire_capacity(use(10), MODEL)
    errors: list[Exception] = []

    def work() -> None:
        try:
            rates.acquire_capacity(use(5), MODEL)
        except ClosedError as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    until_waiting_here(rates, 3)
    rates.close()
    for thread in threads:
        thread.join(60)
    assert len(errors) == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no process forks here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("backend", [SyncMemoryBackendBuilder, SyncBuilder])
def test_a_limiter_of_before_a_fork_is_refused_after_it(backend: Callable[[], Any]) -> None:
    rates = limiter(SyncRateLimiter, backend=backend())
    held = rates.acquire_capacity(use(), MODEL)
    child = os.fork()
    if child == 0:
        os._exit(_child_of_a_fork(rates, held))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    rates.refund_capacity(use(0, 0), held)
    rates.acquire_capacity(use(10, 1000), MODEL, timeout=0)


def _child_of_a_fork(rates: SyncRateLimiter, held: object) -> int:
    refused = 0
    for operation in (
        lambda: rates.acquire_capacity(use(), MODEL),
        lambda: rates.refund_capacity(use(), held),  # type: ignore[arg-type]
        lambda: rates.acquire_capacity(use(), "another"),
        lambda: rates.record_usage(use(), MODEL),
        lambda: rates.set_max_capacity(MODEL, "requests", 3600, 20),
    ):
        try:
            operation()
        except RuntimeError as error:
            refused += "make it in each worker, after the fork" in str(error)
    own = limiter(SyncRateLimiter, requests=10, seconds=1)
    own.acquire_capacity(use(10), MODEL)
    own.acquire_capacity(use(1), MODEL)
    own.close()
    rates.close()
    return 0 if refused == 5 else 1


SCRIPT = """
import asyncio, os, signal, sys, threading
sys.path.insert(0, {tests!r})
from limiters import MODEL, limiter, until_waiting, until_waiting_here, use
from tallygate import RateLimiter, SyncRateLimiter
rates = limiter(SyncRateLimiter)
rates.acquire_capacity(use(10), MODEL)
"""


def test_an_interrupt_ends_a_wait_and_leaves_the_line() -> None:
    _passes(
        """
def interrupt():
    until_waiting_here(rates, 1)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    rates.acquire_capacity(use(5), MODEL)
except KeyboardInterrupt:
    assert rates._engine.stats()["waiters"] == 0
    print("interrupted")
""",
        "interrupted",
    )


def test_the_interpreter_ends_with_threads_and_tasks_waiting() -> None:
    _passes(
        """
threading.Thread(target=lambda: rates.acquire_capacity(use(5), MODEL), daemon=True).start()
until_waiting_here(rates, 1)
async def main():
    quick = limiter(RateLimiter)
    await quick.acquire_capacity(use(10), MODEL)
    global task
    task = asyncio.create_task(quick.acquire_capacity(use(5), MODEL))
    await until_waiting(quick, 1)
asyncio.run(main())
held = rates.record_usage(use(1), MODEL)
print("ended")
""",
        "ended",
    )


def _passes(script: str, said: str) -> None:
    tests = str(Path(__file__).parent)
    command = [sys.executable, "-X", "faulthandler", "-c", SCRIPT.format(tests=tests) + script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert (done.returncode, done.stdout.strip()) == (0, said), done.stderr
    assert "panicked" not in done.stderr


def _in_threads(work: object, count: int) -> None:
    failed: list[BaseException] = []

    def guarded() -> None:
        try:
            work()  # type: ignore[operator]
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=guarded) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed and not any(thread.is_alive() for thread in threads)


def test_an_async_limiter_serves_threads_with_loops_of_their_own() -> None:
    import asyncio

    rates = limiter(RateLimiter, requests=20, seconds=1)
    _in_threads(lambda: asyncio.run(_some(rates)), 4)


async def _some(rates: RateLimiter) -> None:
    for _ in range(8):
        await rates.acquire_capacity(use(), MODEL)


def test_threads_that_race_with_changes_and_the_end_never_hang() -> None:
    for _ in range(20):
        rates = limiter(SyncRateLimiter, requests=5, seconds=1)
        refused: list[str] = []

        def work(rates: SyncRateLimiter = rates, refused: list[str] = refused) -> None:
            try:
                for turn in range(10_000):
                    rates.refund_capacity(use(0, 0), rates.acquire_capacity(use(), MODEL))
                    if turn % 10 == 0:
                        rates.set_max_capacity(MODEL, "tokens", 1, 1000 + turn)
            except ClosedError as error:
                refused.append(str(error))

        threads = [threading.Thread(target=work, daemon=True) for _ in range(6)]
        for thread in threads:
            thread.start()
        rates.snapshot_state()
        time.sleep(0.005)
        rates.close()
        for thread in threads:
            thread.join(60)
        assert len(refused) == 6
