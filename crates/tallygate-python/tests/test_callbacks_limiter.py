"""What limiters tell their callbacks, and that telling changes nothing."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from limiters import until_waiting, until_waiting_here
from places import Place, place
from tallygate import (
    PerModelConfig,
    Quota,
    RateLimiter,
    RateLimiterCallbacks,
    SyncRateLimiter,
    SyncRateLimiterCallbacks,
    UsageQuotas,
)

__all__ = ["place"]

HOUR = 3_600
BUCKET = ("tokens", HOUR)


def config(_model: str = "m") -> PerModelConfig:
    return PerModelConfig(UsageQuotas([Quota("tokens", 10, HOUR)]), model_family="family")


class Told:
    """Callbacks for every slot, which note what they are given."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def awaited(self, *slots: str) -> RateLimiterCallbacks:
        def noting(slot: str) -> Any:
            async def note(**given: Any) -> None:
                self.calls.append((slot, given))

            return note

        return RateLimiterCallbacks(**{slot: noting(slot) for slot in slots})

    def plain(self, *slots: str) -> SyncRateLimiterCallbacks:
        def noting(slot: str) -> Any:
            return lambda **given: self.calls.append((slot, given))

        return SyncRateLimiterCallbacks(**{slot: noting(slot) for slot in slots})

    @property
    def slots(self) -> list[str]:
        return [slot for slot, _ in self.calls]


ALL = [
    "on_wait_start",
    "after_wait_end_consumption",
    "on_capacity_consumed",
    "on_capacity_refunded",
    "on_missing_consumption_data",
    "on_lifecycle_event",
]


def test_each_slot_is_told_what_happened(place: Place):
    told = Told()

    async def run():
        async with RateLimiter(config, backend=place.backend(), callbacks=told.awaited(*ALL)) as limiter:
            held = await limiter.acquire_capacity({"tokens": 8}, model="m")
            waiter = asyncio.ensure_future(limiter.acquire_capacity({"tokens": 5}, model="m"))
            while "on_wait_start" not in told.slots:
                await asyncio.sleep(0.001)
            await limiter.refund_capacity({"tokens": 3}, held)
            await waiter

    asyncio.run(asyncio.wait_for(run(), 60))
    assert sorted(told.slots) == sorted(
        [
            "on_missing_consumption_data",
            "on_capacity_consumed",
            "on_lifecycle_event",
            "on_wait_start",
            "on_capacity_refunded",
            "on_lifecycle_event",
            "on_capacity_consumed",
            "after_wait_end_consumption",
            "on_lifecycle_event",
        ]
    )
    first = {slot: given for slot, given in reversed(told.calls)}
    assert first["on_missing_consumption_data"] == {
        "model_family": "family",
        "usage_metric": "tokens",
        "per_seconds": HOUR,
    }
    consumed = first["on_capacity_consumed"]
    assert (consumed["model_family"], consumed["usage"]) == ("family", {"tokens": 8})
    assert (consumed["preconsumption_capacities"], consumed["postconsumption_capacities"]) == (
        {BUCKET: 10},
        {BUCKET: 2},
    )
    waiting = first["on_wait_start"]
    assert (waiting["usage"], waiting["preconsumption_capacities"], waiting["model_alias"]) == (
        {"tokens": 5},
        {BUCKET: 2},
        "m",
    )
    refunded = first["on_capacity_refunded"]
    assert [refunded[name] for name in ("reserved_usage", "actual_usage", "refunded_usage")] == [
        {"tokens": 8},
        {"tokens": 3},
        {"tokens": 5},
    ]
    assert 0 < first["after_wait_end_consumption"]["wait_time_s"] < 30


def test_a_refund_is_done_though_its_model_is_configured_no_more():
    told = Told()
    models = ["m"]

    def current(model: str) -> PerModelConfig:
        if model not in models:
            raise LookupError(model)
        return config()

    limiter = SyncRateLimiter(current, callbacks=told.plain("on_capacity_refunded"))
    held = limiter.acquire_capacity({"tokens": 10}, model="m")
    models.append("other")
    models.remove("m")
    limiter.refund_capacity({"tokens": 4}, held)
    assert told.slots == ["on_capacity_refunded"]
    limiter.acquire_capacity({"tokens": 6}, model="other", timeout=0)
    limiter.close()


class Counted:
    """A family that notes how it is asked."""

    def __init__(self, native: Any, timeouts: list[float | None]) -> None:
        self._native, self._timeouts = native, timeouts

    def acquire(self, usage: Any, model: str, timeout: float | None = None) -> Any:
        self._timeouts.append(timeout)
        return self._native.acquire(usage, model, timeout)

    def left(self) -> Any:
        raise ConnectionError("gone")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._native, name)


@pytest.mark.parametrize(
    ("slot", "timeouts"),
    [("on_lifecycle_event", [5]), ("on_missing_consumption_data", [5]), ("after_wait_end_consumption", [0])],
)
def test_nothing_is_tried_first_where_nobody_listens_to_waits(slot: str, timeouts: list[float]):
    limiter = SyncRateLimiter(config, callbacks=Told().plain(slot))
    limiter.acquire_capacity({"tokens": 1}, model="m")
    family = limiter._models.ask("m").family
    assert family is not None
    seen: list[float | None] = []
    native, family.native = family.native, Counted(family.native, seen)  # type: ignore[assignment]
    limiter.acquire_capacity({"tokens": 1}, model="m", timeout=5)
    assert seen == timeouts
    family.native = native
    limiter.close()


def test_what_is_done_stays_done_though_the_store_cannot_be_asked_after_it(caplog: pytest.LogCaptureFixture):
    told = Told()
    limiter = SyncRateLimiter(config, callbacks=told.plain(*ALL))
    limiter.record_usage({"tokens": 1}, model="m")
    family = limiter._models.ask("m").family
    assert family is not None
    native, family.native = family.native, Counted(family.native, [])  # type: ignore[assignment]
    told.calls.clear()
    family.is_fresh = True
    held = limiter.acquire_capacity({"tokens": 7}, model="m")
    limiter.record_usage({"tokens": 1}, model="m")
    with pytest.raises(TimeoutError):
        limiter.acquire_capacity({"tokens": 7}, model="m", timeout=0.01)
    limiter.refund_capacity({"tokens": 4}, held)
    family.native = native
    assert told.slots == ["on_lifecycle_event"] * 3, "what needs no answer of the store is told"
    assert "not told of" in caplog.text
    limiter.acquire_capacity({"tokens": 4}, model="m", timeout=0)
    with pytest.raises(TimeoutError):
        limiter.acquire_capacity({"tokens": 1}, model="m", timeout=0)
    limiter.close()


def test_who_waits_stands_in_line_while_its_callback_runs(place: Place):
    async def run() -> tuple[list[int], bool]:
        release, begun, order = asyncio.Event(), asyncio.Event(), []

        async def slow(**given: Any) -> None:
            if given["usage"]["tokens"] == 9:
                begun.set()
                await release.wait()

        callbacks = RateLimiterCallbacks(on_wait_start=slow)
        async with RateLimiter(config, backend=place.backend(), callbacks=callbacks) as limiter:

            async def take(usage: dict[str, int]) -> None:
                held = await limiter.acquire_capacity(usage, model="m")
                order.append(held.usage["tokens"])

            held = await limiter.acquire_capacity({"tokens": 10}, model="m")
            usage = {"tokens": 9}
            large = asyncio.ensure_future(take(usage))
            await begun.wait()
            usage["tokens"] = 1
            small = asyncio.ensure_future(take({"tokens": 5}))
            await until_waiting(limiter, 2)
            await limiter.refund_capacity({"tokens": 0}, held)
            await until_waiting(limiter, 1)
            release.set()
            await large
            is_served = small.done()
            small.cancel()
            return order, is_served

    assert asyncio.run(asyncio.wait_for(run(), 60)) == ([9], False)


def test_a_thread_stands_in_line_while_its_callback_runs(place: Place):
    seen: list[bool] = []

    def slow(**_given: Any) -> None:
        until_waiting_here(limiter, 1)
        with pytest.raises(TimeoutError):
            # A try does not pass a line.
            limiter.acquire_capacity({"tokens": 1}, model="m", timeout=0)
        seen.append(True)

    callbacks = SyncRateLimiterCallbacks(on_wait_start=slow)
    with SyncRateLimiter(config, backend=place.backend(), callbacks=callbacks) as limiter:
        held = limiter.acquire_capacity({"tokens": 9}, model="m")
        waiter = threading.Thread(target=limiter.acquire_capacity, args=({"tokens": 9}, "m"), daemon=True)
        waiter.start()
        deadline = time.monotonic() + 30
        while not seen:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        until_waiting_here(limiter, 1)
        limiter.refund_capacity({"tokens": 0}, held)
        waiter.join(30)
        assert not waiter.is_alive()


def test_a_task_of_trio_stands_in_line_while_its_callback_runs(place: Place):
    trio = pytest.importorskip("trio")
    order: list[int] = []

    async def scenario() -> None:
        begun = trio.Event()

        async def slow(**given: Any) -> None:
            if given["usage"]["tokens"] == 9:
                await until_waiting(limiter, 1)
                begun.set()
                await until_waiting(limiter, 2)
                await limiter.refund_capacity({"tokens": 0}, held)

        async def take(tokens: int) -> None:
            await limiter.acquire_capacity({"tokens": tokens}, model="m")
            order.append(tokens)
            if tokens == 9:
                nursery.cancel_scope.cancel()

        callbacks = RateLimiterCallbacks(on_wait_start=slow)
        async with RateLimiter(config, backend=place.backend(), callbacks=callbacks) as limiter:
            held = await limiter.acquire_capacity({"tokens": 10}, model="m")
            with trio.fail_after(30):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(take, 9)
                    await begun.wait()
                    nursery.start_soon(take, 5)

    trio.run(scenario)
    assert order == [9]


def test_a_wait_that_is_interrupted_in_its_callback_leaves_the_line(place: Place):
    class Stop(BaseException):
        pass

    def stops(**_given: Any) -> None:
        until_waiting_here(limiter, 1)
        raise Stop

    callbacks = SyncRateLimiterCallbacks(on_wait_start=stops)
    with SyncRateLimiter(config, backend=place.backend(), callbacks=callbacks) as limiter:
        held = limiter.acquire_capacity({"tokens": 10}, model="m")
        with pytest.raises(Stop):
            limiter.acquire_capacity({"tokens": 9}, model="m")
        until_waiting_here(limiter, 0)
        limiter.refund_capacity({"tokens": 0}, held)
        limiter.acquire_capacity({"tokens": 10}, model="m", timeout=5)


def test_a_timeout_runs_while_the_callback_does():
    async def run() -> None:
        async def slow(**_given: Any) -> None:
            await until_waiting(limiter, 1)
            await until_waiting(limiter, 0)
            await limiter.refund_capacity({"tokens": 0}, held)

        async with RateLimiter(config, callbacks=RateLimiterCallbacks(on_wait_start=slow)) as limiter:
            held = await limiter.acquire_capacity({"tokens": 10}, model="m")
            with pytest.raises(TimeoutError):
                await limiter.acquire_capacity({"tokens": 1}, model="m", timeout=1)
            await limiter.acquire_capacity({"tokens": 10}, model="m", timeout=0)

    asyncio.run(asyncio.wait_for(run(), 60))


def test_a_wait_whose_callback_is_interrupted_leaves_the_line():
    async def run() -> None:
        async def slow(**_given: Any) -> None:
            await asyncio.Event().wait()

        async with RateLimiter(config, callbacks=RateLimiterCallbacks(on_wait_start=slow)) as limiter:
            held = await limiter.acquire_capacity({"tokens": 10}, model="m")
            waiter = asyncio.ensure_future(limiter.acquire_capacity({"tokens": 10}, model="m"))
            await until_waiting(limiter, 1)
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter
            await until_waiting(limiter, 0)
            await limiter.refund_capacity({"tokens": 0}, held)
            await limiter.acquire_capacity({"tokens": 10}, model="m", timeout=0)

    asyncio.run(asyncio.wait_for(run(), 60))


@pytest.mark.parametrize("slot", ["on_capacity_consumed", "on_lifecycle_event"])
def test_who_is_cancelled_while_a_callback_hears_of_his_capacity_gives_it_back(place: Place, slot: str):
    async def run() -> None:
        begun = asyncio.Event()

        async def slow(**_given: Any) -> None:
            begun.set()
            await asyncio.Event().wait()

        callbacks = RateLimiterCallbacks(**{slot: slow})
        async with RateLimiter(config, backend=place.backend(), callbacks=callbacks, callback_timeout=None) as limiter:
            taking = asyncio.ensure_future(limiter.acquire_capacity({"tokens": 10}, model="m"))
            await begun.wait()
            taking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await taking
            assert limiter.snapshot_state()["in_flight_reservations"] == 0
            begun.clear()
            again = asyncio.ensure_future(limiter.acquire_capacity({"tokens": 10}, model="m", timeout=50))
            await begun.wait()
            again.cancel()

    asyncio.run(asyncio.wait_for(run(), 120))
