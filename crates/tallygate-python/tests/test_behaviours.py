"""What a limiter promises, over every store.

Windows are an hour where nothing is to refill during a test, and fractions of a second where something is.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import threading
import time

import pytest
from places import Place, lasting, place
from tallygate import (
    CapacityReservation,
    DuplicateRefundError,
    PerModelConfig,
    Quota,
    RateLimiter,
    SyncRateLimiter,
    UnknownReservationError,
    UsageQuotas,
)

HOUR = 3_600

__all__ = ["lasting", "place"]


def tokens(amount: float) -> dict[str, float]:
    return {"tokens": amount}


def config(limit: int, window: int = HOUR) -> PerModelConfig:
    return PerModelConfig(UsageQuotas([Quota("tokens", limit, window)]))


def limiter_of(place: Place, limit: int, window: int = HOUR) -> RateLimiter:
    return RateLimiter(config(limit, window), backend=place.backend())


def sync_limiter_of(place: Place, limit: int, window: int = HOUR) -> SyncRateLimiter:
    return SyncRateLimiter(config(limit, window), backend=place.backend())


async def taken(limiter: RateLimiter, amount: float) -> CapacityReservation | None:
    """Tries once."""
    try:
        return await limiter.acquire_capacity(tokens(amount), model="m", timeout=0)
    except TimeoutError:
        return None


async def left(limiter: RateLimiter) -> int:
    """How much fits now, found by trying; what is tried is given back."""
    low, high = 0, 1 << 20
    while high - low > 1:
        middle = (low + high) // 2
        try:
            probe = await limiter.acquire_capacity(tokens(middle), model="m", timeout=0)
        except (TimeoutError, ValueError):
            high = middle
        else:
            low = middle
            await limiter.refund_capacity(tokens(0), probe)
    return low


async def in_line(limiter: RateLimiter, amount: float, timeout: float | None = 30) -> asyncio.Task[CapacityReservation]:
    """Somebody who waits for ``amount``, and is known to stand in line."""
    waiters = limiter._engine.stats()["waiters"]
    task = asyncio.ensure_future(limiter.acquire_capacity(tokens(amount), model="m", timeout=timeout))
    began = time.monotonic()
    while limiter._engine.stats()["waiters"] == waiters:
        assert not task.done(), f"{amount} did not have to wait: {task}"
        assert time.monotonic() - began < 20, f"{amount} does not stand in line"
        await asyncio.sleep(0.001)
    return task


def test_tasks_spend_nothing_twice(place: Place):
    async def run():
        async with limiter_of(place, 100) as limiter:
            outcomes = await asyncio.gather(*(taken(limiter, 3) for _ in range(200)))
            assert sum(each is not None for each in outcomes) == 33
            assert await left(limiter) == 1

    asyncio.run(run())


def test_threads_spend_nothing_twice(place: Place):
    limiter = sync_limiter_of(place, 100)
    begin = threading.Barrier(8)

    def spend() -> int:
        begin.wait()
        spent = 0
        for _ in range(25):
            try:
                limiter.acquire_capacity(tokens(3), model="m", timeout=0)
            except TimeoutError:
                continue
            spent += 3
        return spent

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        spent = sum(each.result() for each in [pool.submit(spend) for _ in range(8)])
    assert spent == 99
    limiter.close()


def test_a_timeout_of_zero_is_a_try(place: Place):
    async def run():
        async with limiter_of(place, 10) as limiter:
            assert await taken(limiter, 10) is not None
            began = time.monotonic()
            for _ in range(20):
                assert await taken(limiter, 1) is None
            assert time.monotonic() - began < 20

    asyncio.run(run())


def test_a_try_does_not_pass_those_who_wait(place: Place):
    async def run():
        async with limiter_of(place, 10) as limiter:
            held = await limiter.acquire_capacity(tokens(5), model="m")
            waiter = await in_line(limiter, 8)
            assert await taken(limiter, 1) is None
            await limiter.refund_capacity(tokens(0), held)
            await waiter

    asyncio.run(run())


def test_a_timeout_consumes_nothing(place: Place):
    async def run():
        async with limiter_of(place, 10) as limiter:
            held = await limiter.acquire_capacity(tokens(6), model="m")
            began = time.monotonic()
            with pytest.raises(TimeoutError):
                await limiter.acquire_capacity(tokens(5), model="m", timeout=0.1)
            assert 0.09 <= time.monotonic() - began < 20
            assert await left(limiter) == 4
            await limiter.refund_capacity(tokens(0), held)
            assert await left(limiter) == 10

    asyncio.run(run())


def test_a_timeout_of_threads_consumes_nothing(place: Place):
    limiter = sync_limiter_of(place, 10)
    limiter.acquire_capacity(tokens(6), model="m")
    with pytest.raises(TimeoutError):
        limiter.acquire_capacity(tokens(5), model="m", timeout=0.1)
    limiter.acquire_capacity(tokens(4), model="m", timeout=0)
    limiter.close()


def test_a_cancelled_wait_consumes_nothing(place: Place):
    async def run():
        async with limiter_of(place, 10) as limiter:
            held = await limiter.acquire_capacity(tokens(6), model="m")
            waiters = [await in_line(limiter, 5) for _ in range(3)]
            for waiter in waiters:
                waiter.cancel()
            outcomes = await asyncio.gather(*waiters, return_exceptions=True)
            assert all(isinstance(each, asyncio.CancelledError) for each in outcomes)
            assert await left(limiter) == 4
            await limiter.refund_capacity(tokens(0), held)
            assert await left(limiter) == 10
            assert limiter.snapshot_state()["in_flight_reservations"] == 0

    asyncio.run(run())


def test_a_cancelled_waiter_lets_the_next_one_go(place: Place):
    async def run():
        async with limiter_of(place, 10) as limiter:
            held = await limiter.acquire_capacity(tokens(6), model="m")
            large = await in_line(limiter, 9)
            small = await in_line(limiter, 4)
            large.cancel()
            await asyncio.wait_for(small, 20)
            await limiter.refund_capacity(tokens(6), held)

    asyncio.run(run())


def test_what_is_admitted_to_a_cancelled_task_comes_back(place: Place):
    """The refund that admits a waiter and the cancellation of that waiter come in one turn of the loop."""

    async def run():
        async with limiter_of(place, 10) as limiter:
            for _ in range(20):
                held = await limiter.acquire_capacity(tokens(10), model="m")
                waiter = await in_line(limiter, 5)
                refund = asyncio.ensure_future(limiter.refund_capacity(tokens(0), held))
                await asyncio.sleep(0)
                waiter.cancel()
                await refund
                outcome = (await asyncio.gather(waiter, return_exceptions=True))[0]
                if isinstance(outcome, CapacityReservation):
                    await limiter.refund_capacity(tokens(0), outcome)
                while await left(limiter) != 10:
                    # Over a server the cancellation may be on its way.
                    await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(run(), 60))


def test_a_task_group_that_fails_leaks_nothing(place: Place):
    async def run():
        async with limiter_of(place, 10) as limiter:

            async def work(amount: int) -> None:
                async with limiter.reserve(tokens(amount), model="m", usage_on_error=tokens(0)):
                    await asyncio.sleep(60)

            tasks = [asyncio.ensure_future(work(amount)) for amount in (4, 6, 8)]
            await asyncio.sleep(0.05)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert await left(limiter) == 10

    asyncio.run(run())


def test_a_second_refund_credits_nothing(place: Place):
    async def run():
        async with limiter_of(place, 10) as limiter:
            other = await limiter.acquire_capacity(tokens(5), model="m")
            held = await limiter.acquire_capacity(tokens(5), model="m")
            await limiter.refund_capacity(tokens(2), held)
            for again in (held, copy.copy(held)):
                with pytest.raises(DuplicateRefundError):
                    await limiter.refund_capacity(tokens(0), again)
            assert await left(limiter) == 3
            await limiter.refund_capacity(tokens(5), other)

    asyncio.run(run())


def test_refunds_at_once_credit_once(place: Place):
    async def run():
        async with limiter_of(place, 10) as limiter:
            await limiter.acquire_capacity(tokens(5), model="m")
            held = await limiter.acquire_capacity(tokens(5), model="m")
            refunds = [limiter.refund_capacity(tokens(0), held) for _ in range(50)]
            outcomes = await asyncio.gather(*refunds, return_exceptions=True)
            assert outcomes.count(None) == 1
            assert sum(isinstance(each, DuplicateRefundError) for each in outcomes) == 49
            assert await left(limiter) == 5

    asyncio.run(run())


def test_refunds_of_threads_at_once_credit_once(place: Place):
    limiter = sync_limiter_of(place, 10)
    limiter.acquire_capacity(tokens(5), model="m")
    held = limiter.acquire_capacity(tokens(5), model="m")
    begin = threading.Barrier(8)

    def refund() -> str:
        begin.wait()
        try:
            limiter.refund_capacity(tokens(0), held)
        except DuplicateRefundError as error:
            return error.reason
        return "refunded"

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        outcomes = [each.result() for each in [pool.submit(refund) for _ in range(8)]]
    assert outcomes.count("refunded") == 1
    limiter.acquire_capacity(tokens(5), model="m", timeout=0)
    with pytest.raises(TimeoutError):
        limiter.acquire_capacity(tokens(1), model="m", timeout=0)
    limiter.close()


def test_forged_reservations_change_nothing(place: Place):
    async def run():
        async with limiter_of(place, 10) as limiter, RateLimiter(config(10)) as other:
            held = await limiter.acquire_capacity(tokens(10), model="m")
            foreign = await other.acquire_capacity(tokens(10), model="m")
            forged = CapacityReservation(
                usage={"tokens": 10},
                model_family=held.model_family,
                limiter_instance_id=held.limiter_instance_id,
                reservation_id=held.reservation_id,
                bucket_ids=held.bucket_ids,
                model="m",
            )
            unlimited = CapacityReservation(
                usage={}, model_family="m", limiter_instance_id=held.limiter_instance_id, is_unlimited=True
            )
            for wrong in (foreign, forged, unlimited):
                with pytest.raises((UnknownReservationError, ValueError)):
                    await limiter.refund_capacity(tokens(0), wrong)
            with pytest.raises((TypeError, ValueError)):
                await limiter.refund_capacity(tokens(0), {"reservation_id": held.reservation_id})
            assert await left(limiter) == 0
            await limiter.refund_capacity(tokens(0), held)
            await other.refund_capacity(tokens(0), foreign)

    asyncio.run(run())


@pytest.mark.parametrize("wrong", [{"tokens": -1}, {"tokens": float("nan")}, {"other": 1}, {}, {"tokens": "1"}, None])
def test_a_refund_that_cannot_be_changes_nothing(place: Place, wrong: object):
    async def run():
        async with limiter_of(place, 10) as limiter:
            held = await limiter.acquire_capacity(tokens(10), model="m")
            with pytest.raises((ValueError, TypeError)):
                await limiter.refund_capacity(wrong, held)  # type: ignore[arg-type]
            assert await left(limiter) == 0
            await limiter.refund_capacity(tokens(4), held)
            assert await left(limiter) == 6

    asyncio.run(run())


def test_use_beyond_the_reservation_is_owed(place: Place):
    async def run():
        async with limiter_of(place, 10) as limiter:
            others = await limiter.acquire_capacity(tokens(8), model="m")
            held = await limiter.acquire_capacity(tokens(2), model="m")
            await limiter.refund_capacity(tokens(7), held)
            assert await left(limiter) == 0
            await limiter.refund_capacity(tokens(0), others)
            assert await left(limiter) == 3

    asyncio.run(run())


def test_recorded_use_is_owed(place: Place):
    async def run():
        async with limiter_of(place, 10) as limiter:
            held = await limiter.acquire_capacity(tokens(8), model="m")
            await limiter.record_usage(tokens(7), model="m")
            await limiter.refund_capacity(tokens(0), held)
            assert await left(limiter) == 3

    asyncio.run(run())


def test_a_refund_of_what_has_refilled_credits_nothing(place: Place):
    async def run() -> bool:
        async with limiter_of(place, 100, 1) as limiter:
            held = await limiter.acquire_capacity(tokens(50), model="m")
            # The quota is full again by itself, and then used up by others.
            others = await limiter.acquire_capacity(tokens(100), model="m")
            others_since = time.monotonic()
            await limiter.refund_capacity(tokens(0), held)
            await limiter.acquire_capacity(tokens(50), model="m")
            waited = time.monotonic() - others_since
            await limiter.refund_capacity(tokens(100), others)
            return waited > 0.45

    # The clock is read late on a machine that does much else.
    assert any(asyncio.run(run()) for _ in range(5))


def test_debt_is_repaid_in_full(place: Place):
    async def run():
        async with limiter_of(place, 100, 1) as limiter:
            since = time.monotonic()
            held = await limiter.acquire_capacity(tokens(10), model="m")
            await limiter.refund_capacity(tokens(250), held)
            await limiter.acquire_capacity(tokens(10), model="m")
            # 250 of 100 were used, and 10 more are to fit: 160 have to refill.
            assert time.monotonic() - since > 1.5

    asyncio.run(run())


def test_debt_outlives_the_limiter(lasting: Place):
    async def run():
        async with limiter_of(lasting, 10) as limiter:
            await limiter.record_usage(tokens(14), model="m")
        async with limiter_of(lasting, 10) as limiter:
            assert await left(limiter) == 0
            # With twice the limit a window's worth refills twice as fast: what is owed shows in what fits.
            await limiter.set_max_capacity("m", "tokens", HOUR, 20)
            assert await left(limiter) <= 6

    asyncio.run(run())


def test_a_refund_wakes_who_waits(place: Place):
    async def run():
        async with limiter_of(place, 10) as limiter:
            held = await limiter.acquire_capacity(tokens(10), model="m")
            waiters = [await in_line(limiter, 5, timeout=None) for _ in range(2)]
            await limiter.refund_capacity(tokens(0), held)
            await asyncio.wait_for(asyncio.gather(*waiters), 20)

    asyncio.run(run())


def test_a_raised_limit_wakes_who_waits(place: Place):
    async def run():
        async with limiter_of(place, 10) as limiter:
            await limiter.acquire_capacity(tokens(10), model="m")
            waiter = await in_line(limiter, 5, timeout=None)
            await limiter.set_max_capacity("m", "tokens", HOUR, 100)
            await asyncio.wait_for(waiter, 20)

    asyncio.run(run())


def test_a_limit_lowered_below_a_waiters_need_ends_its_wait(place: Place):
    async def run():
        async with limiter_of(place, 10) as limiter:
            await limiter.acquire_capacity(tokens(10), model="m")
            waiter = await in_line(limiter, 8, timeout=None)
            await limiter.set_max_capacity("m", "tokens", HOUR, 5)
            with pytest.raises(ValueError, match="tokens"):
                await asyncio.wait_for(waiter, 20)

    asyncio.run(run())


def test_what_never_fits_fails_at_once(place: Place):
    async def run():
        quotas = UsageQuotas([Quota("requests", 5, 60), Quota("tokens", 10, HOUR), Quota("tokens", 100, 60)])
        async with RateLimiter(PerModelConfig(quotas), backend=place.backend()) as limiter:
            began = time.monotonic()
            with pytest.raises(ValueError, match="at most 10 of tokens per 1h"):
                await limiter.acquire_capacity({"requests": 1, "tokens": 11}, model="m")
            assert time.monotonic() - began < 20
            await limiter.acquire_capacity({"requests": 5, "tokens": 10}, model="m", timeout=0)

    asyncio.run(run())


def test_two_thousand_at_once_finish(place: Place):
    async def run():
        async with limiter_of(place, 1_000, 1) as limiter:

            async def work() -> None:
                reservation = await limiter.acquire_capacity(tokens(2), model="m")
                await limiter.refund_capacity(tokens(1), reservation)

            await asyncio.gather(*(work() for _ in range(2_000)))
            assert limiter.snapshot_state()["in_flight_reservations"] == 0

    asyncio.run(asyncio.wait_for(run(), 180))


def test_a_large_request_is_served_in_turn(place: Place):
    """Small requests that come after a large one do not go before it."""

    async def run():
        async with limiter_of(place, 100, 1) as limiter:
            await limiter.record_usage(tokens(100), model="m")
            served: list[str] = []

            async def ask(name: str, amount: int) -> None:
                await limiter.acquire_capacity(tokens(amount), model="m")
                served.append(name)

            small = [asyncio.ensure_future(ask("early", 5)) for _ in range(4)]
            await asyncio.sleep(0)
            large = asyncio.ensure_future(ask("large", 80))
            await asyncio.sleep(0.02)
            late = [asyncio.ensure_future(ask("late", 5)) for _ in range(10)]
            began = time.monotonic()
            await large
            # 100 were owed, 20 are early, 80 its own: two windows of a second, less what passed before.
            assert time.monotonic() - began < 20
            await asyncio.gather(*small, *late)
            assert served.index("large") == 4, served

    asyncio.run(asyncio.wait_for(run(), 60))


def test_models_of_a_family_share_and_others_do_not(place: Place):
    async def run():
        def families(model: str) -> PerModelConfig:
            return PerModelConfig(UsageQuotas([Quota("tokens", 10, HOUR)]), model_family=model[0])

        async with RateLimiter(families, backend=place.backend()) as limiter:
            await limiter.acquire_capacity(tokens(10), model="a1")
            with pytest.raises(TimeoutError):
                await limiter.acquire_capacity(tokens(1), model="a2", timeout=0)
            await limiter.acquire_capacity(tokens(10), model="b1", timeout=0)

    asyncio.run(run())
