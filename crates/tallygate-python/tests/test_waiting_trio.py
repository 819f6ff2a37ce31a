"""Waiting under trio, by itself and through anyio."""

from __future__ import annotations

import time

import pytest
from limiters import MODEL, left, limiter, use

from tallygate import RateLimiter

trio = pytest.importorskip("trio")


def test_trio_waits_and_is_served() -> None:
    async def scenario() -> None:
        rates = limiter(RateLimiter, requests=50, seconds=1)
        began = time.monotonic()
        async with trio.open_nursery() as nursery:
            for _ in range(75):
                nursery.start_soon(rates.acquire_capacity, use(), MODEL)
        assert time.monotonic() - began > 0.49
        await rates.aclose()

    with_deadline(scenario)


def test_a_cancelled_scope_leaves_the_line() -> None:
    async def scenario() -> None:
        rates = limiter(RateLimiter)
        held = await rates.acquire_capacity(use(10), MODEL)
        with trio.move_on_after(0.05) as scope:
            await rates.acquire_capacity(use(5), MODEL)
        assert scope.cancelled_caught
        assert rates._engine.stats()["waiters"] == 0
        await rates.refund_capacity(use(0, 0), held)
        assert left(rates) == {"requests": 10, "tokens": 1000}

    with_deadline(scenario)


def test_errors_reach_who_waits() -> None:
    async def scenario() -> None:
        rates = limiter(RateLimiter)
        await rates.acquire_capacity(use(10), MODEL)
        with pytest.raises(TimeoutError):
            await rates.acquire_capacity(use(5), MODEL, timeout=0.05)

        async def lowers() -> None:
            await rates.set_max_capacity(MODEL, "requests", 3600, 2)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(_refused, rates)
            while rates._engine.stats()["waiters"] != 1:
                await trio.sleep(0.001)
            nursery.start_soon(lowers)

    with_deadline(scenario)


async def _refused(rates: RateLimiter) -> None:
    with pytest.raises(ValueError, match="at most 2 of requests"):
        await rates.acquire_capacity(use(5), MODEL)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_anyio_task_groups_and_timeouts_work(backend: str) -> None:
    anyio = pytest.importorskip("anyio")

    async def scenario() -> None:
        rates = limiter(RateLimiter, requests=50, seconds=1)
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for _ in range(60):
                    group.start_soon(rates.acquire_capacity, use(), MODEL)
            await rates.record_usage(use(1000), MODEL)
            with anyio.move_on_after(0.02) as scope:
                await rates.acquire_capacity(use(), MODEL)
            assert scope.cancelled_caught
        assert rates._engine.stats()["waiters"] == 0

    anyio.run(scenario, backend=backend)


def with_deadline(scenario: object) -> None:
    async def within() -> None:
        with trio.fail_after(60):
            await scenario()  # type: ignore[operator]

    trio.run(within)
