"""Waiting under asyncio: it costs nothing where it is not needed, and loses nothing where it is broken off."""

from __future__ import annotations

import asyncio
import gc
import threading
import time

import pytest
from limiters import MODEL, left, limiter, until_waiting, use

from tallygate import ClosedError, RateLimiter, _waiting


def test_what_need_not_wait_touches_no_loop_and_no_thread() -> None:
    rates = limiter(RateLimiter)
    threads = threading.active_count()
    rings = len(_waiting._rings)
    reservation = None
    for coroutine in (
        lambda: rates.acquire_capacity(use(), MODEL),
        lambda: rates.acquire_capacity(use(), MODEL, timeout=5),
        lambda: rates.refund_capacity(use(), reservation),  # type: ignore[arg-type]
        lambda: rates.record_usage(use(), MODEL),
        lambda: rates.set_max_capacity(MODEL, "tokens", 3600, 500),
    ):
        # No loop runs here: a coroutine that wanted one would raise.
        with pytest.raises(StopIteration) as end:
            coroutine().send(None)
        reservation = end.value.value or reservation
    assert threading.active_count() == threads
    assert len(_waiting._rings) == rings


def test_a_cancelled_waiter_leaves_the_line_and_takes_nothing() -> None:
    async def scenario() -> None:
        rates = limiter(RateLimiter)
        held = await rates.acquire_capacity(use(8), MODEL)
        waiting = asyncio.create_task(rates.acquire_capacity(use(5), MODEL))
        await until_waiting(rates, 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert rates._engine.stats()["waiters"] == 0
        assert left(rates) == {"requests": 2, "tokens": 999}
        await rates.refund_capacity(use(0, 0), held)
        assert left(rates) == {"requests": 10, "tokens": 1000}
        assert rates.snapshot_state()["in_flight_reservations"] == 0

    asyncio.run(scenario())


def test_what_comes_just_as_its_task_is_cancelled_is_given_back() -> None:
    async def scenario() -> None:
        rates = limiter(RateLimiter)
        held = await rates.acquire_capacity(use(10), MODEL)
        waiting = asyncio.create_task(rates.acquire_capacity(use(7), MODEL))
        await until_waiting(rates, 1)
        await rates.refund_capacity(use(0, 0), held)
        # The loop hears of it, and the task is cancelled before it goes on.
        _waiting._rings[asyncio.get_running_loop()].rung()
        assert left(rates) == {"requests": 3, "tokens": 999}
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert left(rates) == {"requests": 10, "tokens": 1000}
        assert rates.snapshot_state()["in_flight_reservations"] == 0

    asyncio.run(scenario())


def test_what_came_and_was_not_heard_of_is_given_back() -> None:
    async def scenario() -> None:
        rates = limiter(RateLimiter)
        held = await rates.acquire_capacity(use(10), MODEL)
        waiting = asyncio.create_task(rates.acquire_capacity(use(7), MODEL))
        await until_waiting(rates, 1)
        await rates.refund_capacity(use(0, 0), held)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert left(rates) == {"requests": 10, "tokens": 1000}

    asyncio.run(scenario())


def test_timeouts_take_nothing_and_zero_is_a_true_try() -> None:
    async def scenario() -> None:
        rates = limiter(RateLimiter)
        await rates.acquire_capacity(use(8), MODEL, timeout=0)
        before = left(rates)
        for timeout in (0, 0.0, 0.02):
            began = time.monotonic()
            with pytest.raises(TimeoutError, match=r"requests per 1h has 2 of 10 left"):
                await rates.acquire_capacity(use(3), MODEL, timeout=timeout)
            assert time.monotonic() - began >= timeout or timeout == 0.02
        assert left(rates) == before
        assert rates._engine.stats()["waiters"] == 0
        await rates.acquire_capacity(use(2), MODEL, timeout=0)

    asyncio.run(scenario())


def test_a_refund_within_the_timeout_serves_who_waits() -> None:
    async def scenario() -> None:
        rates = limiter(RateLimiter)
        held = await rates.acquire_capacity(use(10), MODEL)
        # By itself the quota has none for minutes, yet a refund may come.
        waiting = asyncio.create_task(rates.acquire_capacity(use(4), MODEL, timeout=30))
        await until_waiting(rates, 1)
        await rates.refund_capacity(use(1), held)
        assert (await waiting).usage == {"requests": 4, "tokens": 1}

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_waiters_are_served_in_order_and_a_large_one_is_not_overtaken() -> None:
    async def scenario() -> list[int]:
        rates = limiter(RateLimiter, requests=20)
        held = await rates.acquire_capacity(use(20), MODEL)
        served: list[int] = []

        async def one(requests: int) -> None:
            reservation = await rates.acquire_capacity(use(requests), MODEL)
            served.append(requests)
            await rates.refund_capacity(use(0, 0), reservation)

        tasks = []
        for place, requests in enumerate((3, 18, 1, 2)):
            tasks.append(asyncio.create_task(one(requests)))
            await until_waiting(rates, place + 1)
        # 17 are left beside the first, where 1 and 2 would fit and 18 does not.
        await rates.refund_capacity(use(0, 0), held)
        await asyncio.gather(*tasks)
        return served

    assert asyncio.run(asyncio.wait_for(scenario(), 60)) == [3, 18, 1, 2]


def test_two_thousand_at_once_all_finish_and_none_too_early() -> None:
    async def scenario() -> float:
        rates = limiter(RateLimiter, requests=1000, tokens=10**6, seconds=1)
        began = time.monotonic()
        reservations = await asyncio.gather(*(rates.acquire_capacity(use(), MODEL) for _ in range(2000)))
        assert len({each.reservation_id for each in reservations}) == 2000
        return time.monotonic() - began

    took = asyncio.run(asyncio.wait_for(scenario(), 60))
    assert took > 0.99


def test_many_answers_wake_the_loop_once() -> None:
    async def scenario() -> int:
        rates = limiter(RateLimiter)
        await rates.acquire_capacity(use(10), MODEL)
        waiting = [asyncio.create_task(rates.acquire_capacity(use(), MODEL)) for _ in range(500)]
        await until_waiting(rates, 500)
        loop = asyncio.get_running_loop()
        ring = _waiting._rings[loop]
        rings = 0

        def counted() -> None:
            nonlocal rings
            rings += 1
            ring.rung()

        loop.add_reader(ring.bell.fileno(), counted)
        await rates.set_max_capacity(MODEL, "requests", 3600, 10_000)
        await asyncio.gather(*waiting)
        return rings

    assert asyncio.run(asyncio.wait_for(scenario(), 60)) == 1


def test_changed_limits_reach_who_waits() -> None:
    async def scenario() -> None:
        rates = limiter(RateLimiter)
        await rates.acquire_capacity(use(10), MODEL)
        waiting = asyncio.create_task(rates.acquire_capacity(use(8), MODEL))
        await until_waiting(rates, 1)
        await rates.set_max_capacity(MODEL, "requests", 3600, 7)
        with pytest.raises(ValueError, match=r"at most 7 of requests per 1h"):
            await waiting
        waiting = asyncio.create_task(rates.acquire_capacity(use(7), MODEL))
        await until_waiting(rates, 1)
        await rates.set_max_capacity(MODEL, "requests", 3600, 1000)
        await waiting

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_a_closed_limiter_answers_who_waits_and_who_comes() -> None:
    async def scenario() -> None:
        rates = limiter(RateLimiter)
        held = await rates.acquire_capacity(use(10), MODEL)
        waiting = asyncio.create_task(rates.acquire_capacity(use(8), MODEL))
        await until_waiting(rates, 1)
        await rates.aclose()
        await rates.aclose()
        for refused in (
            waiting,
            rates.acquire_capacity(use(), MODEL),
            rates.acquire_capacity(use(), "another"),
            rates.refund_capacity(use(), held),
            rates.record_usage(use(), MODEL),
            rates.set_max_capacity(MODEL, "requests", 3600, 7),
        ):
            with pytest.raises(ClosedError, match="make a new one"):
                await refused

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_each_loop_has_its_own_bell() -> None:
    rates = limiter(RateLimiter, requests=100, seconds=1)
    counts: list[int] = []

    async def scenario() -> None:
        got = await asyncio.gather(*(rates.acquire_capacity(use(), MODEL) for _ in range(60)))
        counts.append(len(got))

    threads = [threading.Thread(target=lambda: asyncio.run(asyncio.wait_for(scenario(), 60))) for _ in range(3)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [60, 60, 60]
    assert time.monotonic() - began > 0.79


def test_a_loop_that_ends_with_waiters_leaves_nothing_behind() -> None:
    rates = limiter(RateLimiter)

    async def scenario() -> None:
        await rates.acquire_capacity(use(10), MODEL)
        rates.waiting = asyncio.create_task(rates.acquire_capacity(use(8), MODEL))  # type: ignore[attr-defined]
        await until_waiting(rates, 1)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(scenario())
    rates.waiting.get_coro().close()  # type: ignore[attr-defined]
    del rates.waiting  # type: ignore[attr-defined]
    loop.close()
    gc.collect()
    assert rates._engine.stats()["waiters"] == 0
    # A bell of a closed loop goes as soon as another loop needs one.
    asyncio.run(asyncio.wait_for(_waits_and_is_served(), 60))
    assert all(not other.is_closed() for other in _waiting._rings)


async def _waits_and_is_served() -> None:
    rates = limiter(RateLimiter, requests=10, seconds=1)
    await rates.acquire_capacity(use(10), MODEL)
    await rates.acquire_capacity(use(1), MODEL)
    assert left(rates)["requests"] >= 0


class _WithoutReaders(asyncio.SelectorEventLoop):
    def add_reader(self, *_arguments: object) -> None:
        raise NotImplementedError


def test_a_loop_that_watches_no_pipes_is_called_by_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.SelectorEventLoop()
    refuse = _WithoutReaders.add_reader
    # The loop's own pipe is there already.
    monkeypatch.setattr(loop, "add_reader", refuse.__get__(loop), raising=False)
    try:
        loop.run_until_complete(asyncio.wait_for(_waits_and_is_served(), 60))
        loop.run_until_complete(asyncio.wait_for(_waits_and_is_served(), 60))
    finally:
        loop.close()


def test_uvloop_wakes() -> None:
    uvloop = pytest.importorskip("uvloop")
    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(asyncio.wait_for(_waits_and_is_served(), 60))
    finally:
        loop.close()


def test_a_large_batch_may_stand_in_line_all_at_once() -> None:
    async def scenario() -> int:
        rates = limiter(RateLimiter, tokens=10**6)
        await rates.acquire_capacity(use(10), MODEL)
        waiting = [asyncio.create_task(rates.acquire_capacity(use(), MODEL)) for _ in range(12_000)]
        await until_waiting(rates, 12_000)
        await rates.set_max_capacity(MODEL, "requests", 3600, 100_000)
        return len(await asyncio.gather(*waiting))

    assert asyncio.run(asyncio.wait_for(scenario(), 60)) == 12_000


def test_who_waits_on_a_closed_loop_takes_nothing_from_others() -> None:
    rates = limiter(RateLimiter)
    dead = asyncio.new_event_loop()
    held = dead.run_until_complete(rates.acquire_capacity(use(10), MODEL))
    lost = dead.create_task(rates.acquire_capacity(use(10), MODEL))
    dead.run_until_complete(until_waiting(rates, 1))
    dead.close()

    async def take() -> None:
        await rates.refund_capacity(use(0, 0), held)
        await rates.acquire_capacity(use(10), MODEL, timeout=10)

    asyncio.run(take())
    assert not lost.done()


def test_a_wait_without_end_has_none_though_a_debt_is_paid_in_twenty_years() -> None:
    async def scene() -> None:
        rates = limiter(RateLimiter, requests=1, seconds=366 * 86_400)
        await rates.record_usage(use(20), MODEL)
        task = asyncio.create_task(rates.acquire_capacity(use(1), MODEL))
        await until_waiting(rates, 1)
        task.cancel()

    asyncio.run(scene())
