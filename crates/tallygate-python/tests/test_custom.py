"""Limiters over a backend of the application's own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import threading
import time

import pytest
from custom_backends import Backend, Builder, Levels, SyncBuilder
from tallygate import (
    AcquireRefundFailedError,
    CardinalityLimitExceededError,
    ClosedError,
    DuplicateRefundError,
    PerModelConfig,
    Quota,
    RateLimiter,
    RateLimiterCallbacks,
    SyncRateLimiter,
    UnknownReservationError,
    UsageQuotas,
)

HOUR = 3_600


def config(limit: int = 10, **more) -> PerModelConfig:
    return PerModelConfig(UsageQuotas([Quota("tokens", limit, HOUR)]), **more)


def tokens(amount: float) -> dict[str, float]:
    return {"tokens": amount}


def test_an_asyncio_limiter_runs_over_it():
    async def run():
        builder = Builder()
        async with RateLimiter(config(usage_counter=lambda **_request: tokens(2)), backend=builder) as limiter:
            reservation = await limiter.acquire_capacity(tokens(9.5), model="m")
            assert (reservation.usage, reservation.model_family, reservation.model) == (tokens(10), "m", "m")
            assert reservation.bucket_ids == {("tokens", HOUR)}
            assert limiter.snapshot_state()["in_flight_reservations"] == 1
            with pytest.raises(TimeoutError):
                await limiter.acquire_capacity(tokens(1), model="m", timeout=0)
            await limiter.refund_capacity(tokens(4), reservation)
            with pytest.raises(DuplicateRefundError):
                await limiter.refund_capacity(reservation, tokens(0))  # type: ignore[arg-type]
            async with limiter.reserve(tokens(6), model="m", timeout=0) as call:
                call.set_actual_usage(tokens(1))
            counted = await limiter.acquire_capacity_for_request(model="m", timeout=0)
            await limiter.refund_capacity_from_response(counted, usage={"total_tokens": 1})
            await limiter.record_usage(tokens(14), model="m")
            await limiter.set_max_capacity("m", "tokens", HOUR, 5)
            with pytest.raises(ValueError, match="can never fit"):
                await limiter.acquire_capacity(tokens(6), model="m")
        assert builder.closed == 1
        with pytest.raises(ClosedError):
            await limiter.acquire_capacity(tokens(1), model="m")

    asyncio.run(run())


def test_a_plain_limiter_runs_over_it():
    builder = SyncBuilder()
    with SyncRateLimiter(config(), backend=builder) as limiter:
        reservation = limiter.acquire_capacity(tokens(10), model="m")
        with pytest.raises(TimeoutError):
            limiter.acquire_capacity(tokens(1), model="m", timeout=0)
        limiter.refund_capacity(tokens(4), reservation)
        with pytest.raises(DuplicateRefundError):
            limiter.refund_capacity(tokens(4), reservation)
        with limiter.reserve(tokens(6), model="m", timeout=0) as call:
            call.set_actual_usage(tokens(1))
        limiter.record_usage(tokens(14), model="m")
        limiter.set_max_capacity("m", "tokens", HOUR, 5)
        with pytest.raises(ValueError, match="can never fit"):
            limiter.acquire_capacity(tokens(6), model="m")
    assert builder.closed == 1
    with pytest.raises(ClosedError):
        limiter.refund_capacity(tokens(4), reservation)


def test_threads_spend_nothing_twice():
    limiter = SyncRateLimiter(config(20), backend=SyncBuilder())
    begin = threading.Barrier(8)

    def spend() -> int:
        begin.wait()
        spent = 0
        for _ in range(10):
            try:
                limiter.acquire_capacity(tokens(1), model="m", timeout=0)
            except TimeoutError:
                continue
            spent += 1
        return spent

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert sum(each.result() for each in [pool.submit(spend) for _ in range(8)]) == 20


def test_what_is_wrongly_asked_does_not_reach_the_backend():
    async def run():
        async with RateLimiter(config(), backend=Builder()) as limiter:
            for wrong in ({"requests": 1}, {}, tokens(-1), tokens(float("nan")), {"tokens": True}, None):
                with pytest.raises(ValueError):
                    await limiter.acquire_capacity(wrong, model="m")
            reservation = await limiter.acquire_capacity(tokens(10), model="m", timeout=0)
            for wrong in ({"requests": 1}, {}, tokens(-1), None):
                with pytest.raises(ValueError):
                    await limiter.refund_capacity(wrong, reservation)
            with pytest.raises(ValueError, match="must be what acquire_capacity answered"):
                await limiter.refund_capacity(tokens(1), object())
            await limiter.refund_capacity(tokens(0), reservation)

    asyncio.run(run())


def test_reservations_of_another_limiter_are_unknown():
    async def run():
        async with RateLimiter(config(), backend=Builder()) as one, RateLimiter(config(), backend=Builder()) as other:
            reservation = await one.acquire_capacity(tokens(10), model="m")
            await other.acquire_capacity(tokens(10), model="m")
            with pytest.raises(UnknownReservationError):
                await other.refund_capacity(tokens(0), reservation)
            await one.refund_capacity(tokens(0), reservation)

    asyncio.run(run())


def test_refunds_at_once_credit_once():
    async def run():
        async with RateLimiter(config(), backend=Builder()) as limiter:
            reservation = await limiter.acquire_capacity(tokens(5), model="m")
            await limiter.acquire_capacity(tokens(5), model="m")
            refunds = [limiter.refund_capacity(tokens(0), reservation) for _ in range(10)]
            outcomes = await asyncio.gather(*refunds, return_exceptions=True)
            assert outcomes.count(None) == 1
            await limiter.acquire_capacity(tokens(5), model="m", timeout=0)
            with pytest.raises(TimeoutError):
                await limiter.acquire_capacity(tokens(1), model="m", timeout=0)

    asyncio.run(run())


def test_a_refund_that_the_backend_fails_may_be_tried_again():
    class Failing(Backend):
        failures = 1

        async def refund_capacity_for_buckets(self, *given, **named):
            if self.failures:
                self.failures -= 1
                raise ConnectionError("gone")
            return await super().refund_capacity_for_buckets(*given, **named)

    class FailingBuilder(Builder):
        def build(self, cfg, *, callbacks=None):
            return Failing(Levels(cfg), callbacks)

    async def run():
        async with RateLimiter(config(), backend=FailingBuilder()) as limiter:
            reservation = await limiter.acquire_capacity(tokens(10), model="m")
            with pytest.raises(ConnectionError):
                await limiter.refund_capacity(tokens(0), reservation)
            await limiter.refund_capacity(tokens(0), reservation)
            await limiter.acquire_capacity(tokens(10), model="m", timeout=0)

    asyncio.run(run())


def test_capacity_of_a_task_cancelled_after_admission_comes_back():
    async def run(fault: str):
        begun = asyncio.Event()

        async def slow(**_fields):
            begun.set()
            await asyncio.Event().wait()

        callbacks = RateLimiterCallbacks(on_lifecycle_event=slow)
        builder = Builder(fault)
        limiter = RateLimiter(config(), backend=builder, callbacks=callbacks, callback_timeout=None)
        task = asyncio.ensure_future(limiter.acquire_capacity(tokens(10), model="m"))
        await begun.wait()
        task.cancel()
        return (await asyncio.gather(task, return_exceptions=True))[0]

    # The refund's own event would wait for ever, too; the cancellation ends it.
    outcome = asyncio.run(asyncio.wait_for(run("cannot refund"), 60))
    assert isinstance(outcome, AcquireRefundFailedError)
    assert isinstance(outcome.interrupted_by, asyncio.CancelledError)
    assert isinstance(outcome.refund_error, ConnectionError)
    assert outcome.reservation.usage == tokens(10)


def test_waits_that_are_cancelled_leave_nothing_behind():
    async def run():
        async with RateLimiter(config(), backend=Builder()) as limiter:
            held = await limiter.acquire_capacity(tokens(10), model="m")
            task = asyncio.ensure_future(limiter.acquire_capacity(tokens(5), model="m"))
            await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert limiter.snapshot_state()["in_flight_reservations"] == 1
            await limiter.refund_capacity(tokens(0), held)
            assert limiter.snapshot_state()["in_flight_reservations"] == 0

    asyncio.run(run())


def test_a_changed_configuration_reaches_the_backend():
    quotas = [[Quota("tokens", 10, HOUR)]]

    def current(_model: str) -> PerModelConfig:
        return PerModelConfig(UsageQuotas(quotas[-1]), model_family="family")

    async def run():
        async with RateLimiter(current, backend=Builder()) as limiter:
            await limiter.acquire_capacity(tokens(6), model="m")
            quotas.append([Quota("tokens", 5, HOUR)])
            with pytest.raises(ValueError, match="can never fit"):
                await limiter.acquire_capacity(tokens(6), model="m")
            quotas.append([Quota("tokens", 10, HOUR), Quota("requests", 1, HOUR)])
            with pytest.raises(TimeoutError):
                await limiter.acquire_capacity({"tokens": 5, "requests": 1}, model="m", timeout=0)
            await limiter.acquire_capacity({"tokens": 4, "requests": 1}, model="m", timeout=0)

    asyncio.run(run())


def test_a_backend_that_cannot_follow_says_so_and_goes_on():
    quotas = [[Quota("tokens", 10, HOUR)]]

    class Fixed(SyncBuilder):
        pass

    limiter = SyncRateLimiter(lambda _model: PerModelConfig(UsageQuotas(quotas[-1])), backend=Fixed())
    limiter.acquire_capacity(tokens(6), model="m")
    quotas.append([Quota("requests", 1, HOUR)])
    with pytest.raises(ValueError, match="its backend cannot follow"):
        limiter.acquire_capacity({"requests": 1}, model="m")
    quotas.pop()
    limiter.acquire_capacity(tokens(4), model="m", timeout=0)
    limiter.close()


def test_bounds_hold():
    limiter = SyncRateLimiter(config(), backend=SyncBuilder(), max_in_flight_reservations=2, max_model_families=1)
    held = [limiter.acquire_capacity(tokens(1), model="m") for _ in range(2)]
    with pytest.raises(CardinalityLimitExceededError, match="max_in_flight_reservations is 2"):
        limiter.acquire_capacity(tokens(1), model="m")
    with pytest.raises(CardinalityLimitExceededError, match="max_model_families is 1"):
        limiter.acquire_capacity(tokens(1), model="other")
    limiter.refund_capacity(tokens(1), held[0])
    limiter.acquire_capacity(tokens(1), model="m")
    limiter.close()


def test_a_reservation_that_nobody_refers_to_counts_as_used_and_takes_no_room():
    limiter = SyncRateLimiter(config(), backend=SyncBuilder(), max_in_flight_reservations=2)
    held = limiter.acquire_capacity(tokens(1), model="m")
    for _ in range(4):
        limiter.acquire_capacity(tokens(1), model="m")
        gc.collect()
        assert limiter.snapshot_state()["in_flight_reservations"] == 1
    limiter.refund_capacity(tokens(0), held)
    del held
    limiter.acquire_capacity(tokens(6), model="m", timeout=0)
    with pytest.raises(TimeoutError):
        limiter.acquire_capacity(tokens(1), model="m", timeout=0)
    limiter.close()


def test_a_lifetime_ends():
    limiter = SyncRateLimiter(config(), backend=SyncBuilder(), max_reservation_lifetime_seconds=0.001)
    held = limiter.acquire_capacity(tokens(1), model="m")
    while time.time() <= held.created_at_seconds + 0.001:
        pass
    with pytest.raises(UnknownReservationError, match="lifetime is over"):
        limiter.refund_capacity(tokens(0), held)
    limiter.close()


def test_unlimited_models_never_reach_the_backend():
    limiter = SyncRateLimiter(PerModelConfig(UsageQuotas.unlimited()), backend=SyncBuilder())
    reservation = limiter.acquire_capacity(tokens(10**9), model="m")
    assert reservation.is_unlimited
    assert not reservation.usage
    limiter.refund_capacity(tokens(1), reservation)
    limiter.close()


def test_callbacks_of_the_application_reach_the_backend_guarded():
    told = []

    async def failing(**_fields):
        raise LookupError("no")

    async def event(*, event):
        told.append((event.event_type, event.model_family, event.usage))

    async def run():
        callbacks = RateLimiterCallbacks(on_capacity_consumed=failing, on_lifecycle_event=event)
        async with RateLimiter(config(), backend=Builder(), callbacks=callbacks) as limiter:
            with pytest.warns(RuntimeWarning, match="on_capacity_consumed raised LookupError"):
                reservation = await limiter.acquire_capacity(tokens(3), model="m")
            await limiter.refund_capacity(tokens(1), reservation)

    asyncio.run(run())
    assert told == [("capacity_consumed", "m", tokens(3)), ("capacity_refunded", "m", tokens(3))]


@pytest.mark.parametrize("backend", [object(), Builder, "redis"])
def test_what_is_no_builder_is_refused(backend):
    with pytest.raises(ValueError, match="backend must"):
        RateLimiter(config(), backend=backend)


def test_a_backend_of_the_other_kind_is_refused_by_what_it_lacks():
    async def run():
        async with RateLimiter(config(), backend=SyncBuilder()) as limiter:
            with pytest.raises(ValueError, match="answered a SyncBackend without await_for_capacity: RateLimiter runs over a"):
                await limiter.acquire_capacity(tokens(1), model="m")
            assert limiter.snapshot_state()["model_families"] == 0

    asyncio.run(run())
    with SyncRateLimiter(config(), backend=Builder()) as limiter:
        with pytest.raises(ValueError, match="answered a Backend without wait_for_capacity"):
            limiter.acquire_capacity(tokens(1), model="m")
