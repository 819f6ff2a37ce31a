"""Backends of the application's own under trio and anyio, where who is cancelled is cancelled at every step that waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tallygate import (
    AcquireRefundFailedError,
    FolderBackendBuilder,
    PerModelConfig,
    Quota,
    RateLimiter,
    RateLimiterBackend,
    RateLimiterBackendBuilderInterface,
    RateLimiterCallbacks,
    UsageQuotas,
    _waiting,
)

anyio = pytest.importorskip("anyio")
trio = pytest.importorskip("trio")

CONFIG = PerModelConfig(UsageQuotas([Quota("tokens", 10, 3_600)]))
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class House(RateLimiterBackend):
    """A budget that waits at every step, as one over a network does."""

    def __init__(self) -> None:
        self.left = 10.0
        self.changed = anyio.Event()
        self.hangs = False
        self.error: Exception | None = None

    async def await_for_capacity(self, usage: Any, **_more: Any) -> None:
        while self.left < usage["tokens"]:
            await self.changed.wait()
        self.left -= usage["tokens"]

    async def consume_capacity(self, usage: Any, **_more: Any) -> None:
        self.left -= usage["tokens"]

    async def refund_capacity(self, reserved_usage: Any, actual_usage: Any) -> None:
        await anyio.sleep(0)
        if self.hangs:
            await anyio.sleep_forever()
        if self.error is not None:
            raise self.error
        self.left += reserved_usage["tokens"] - actual_usage["tokens"]
        self.changed.set()
        self.changed = anyio.Event()

    async def set_max_capacity(self, metric: str, per_seconds: int, value: float) -> None:
        raise ValueError("a budget is not changed")


class Builder(RateLimiterBackendBuilderInterface):
    def __init__(self) -> None:
        self.is_closed = False

    def build(self, cfg: PerModelConfig, *, callbacks: Any = None) -> House:
        self.house = House()
        return self.house

    async def aclose(self) -> None:
        await anyio.sleep(0)
        self.is_closed = True


def run(backend: str, scenario: Callable[[], Awaitable[None]]) -> None:
    async def within() -> None:
        with anyio.fail_after(30):
            await scenario()

    anyio.run(within, backend=backend)


async def until(happened: Callable[[], bool]) -> None:
    while not happened():
        await anyio.sleep(0.001)


@BACKENDS
def test_a_cancelled_wait_holds_nothing(backend: str) -> None:
    async def scenario() -> None:
        builder = Builder()
        limiter = RateLimiter(CONFIG, backend=builder)
        held = await limiter.acquire_capacity({"tokens": 8}, model="m")
        async with anyio.create_task_group() as group:
            group.start_soon(limiter.acquire_capacity, {"tokens": 5}, "m")
            await until(lambda: limiter.snapshot_state()["in_flight_reservations"] == 2)
            group.cancel_scope.cancel()
        assert limiter.snapshot_state()["in_flight_reservations"] == 1
        await limiter.refund_capacity({"tokens": 0}, held)
        assert builder.house.left == 10

    run(backend, scenario)


@BACKENDS
def test_a_cancelled_block_is_refunded(backend: str) -> None:
    async def scenario() -> None:
        builder = Builder()
        limiter = RateLimiter(CONFIG, backend=builder)
        with anyio.CancelScope() as scope:
            async with limiter.reserve({"tokens": 8}, "m", usage_on_error={"tokens": 3}):
                scope.cancel()
                await anyio.sleep_forever()
        await until(lambda: builder.house.left == 7)
        await until(lambda: limiter.snapshot_state()["in_flight_reservations"] == 0)

    run(backend, scenario)


@BACKENDS
def test_what_nobody_hears_of_is_given_back(backend: str) -> None:
    async def scenario() -> None:
        builder, begun = Builder(), anyio.Event()

        async def slow(**_given: Any) -> None:
            begun.set()
            await anyio.sleep_forever()

        limiter = RateLimiter(CONFIG, backend=builder, callbacks=RateLimiterCallbacks(on_lifecycle_event=slow))
        async with anyio.create_task_group() as group:
            group.start_soon(limiter.acquire_capacity, {"tokens": 8}, "m")
            await begun.wait()
            group.cancel_scope.cancel()
        await until(lambda: builder.house.left == 10)

    run(backend, scenario)


@BACKENDS
def test_a_limiter_is_closed_though_its_task_was_cancelled(backend: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        builder = Builder()
        for place in (builder, FolderBackendBuilder(tmp_path / "data")):
            with anyio.CancelScope() as scope:
                async with RateLimiter(CONFIG, backend=place) as limiter:
                    await limiter.acquire_capacity({"tokens": 8}, model="m")
                    scope.cancel()
                    await anyio.sleep_forever()
        await until(lambda: builder.is_closed)
        while True:
            try:
                await RateLimiter(CONFIG, backend=FolderBackendBuilder(tmp_path / "data")).aclose()
                break
            except OSError:
                # Under asyncio a thread may still be about to close it.
                assert backend == "asyncio"
                await anyio.sleep(0.001)

    run(backend, scenario)


def test_a_refund_that_fails_after_the_cancellation_is_told_of() -> None:
    async def scenario() -> None:
        builder, begun = Builder(), anyio.Event()

        async def slow(**_given: Any) -> None:
            begun.set()
            await anyio.sleep_forever()

        limiter = RateLimiter(CONFIG, backend=builder, callbacks=RateLimiterCallbacks(on_lifecycle_event=slow))
        errors: list[AcquireRefundFailedError] = []

        async def acquire() -> None:
            try:
                await limiter.acquire_capacity({"tokens": 8}, "m")
            except AcquireRefundFailedError as error:
                errors.append(error)

        async with anyio.create_task_group() as group:
            group.start_soon(acquire)
            await begun.wait()
            builder.house.error = ConnectionError("gone")
            group.cancel_scope.cancel()
        assert [type(error.refund_error) for error in errors] == [ConnectionError]
        builder.house.error = None
        await limiter.refund_capacity({"tokens": 0}, errors[0].reservation)  # type: ignore[arg-type]
        assert builder.house.left == 10

    run("trio", scenario)


def test_a_backend_that_hangs_in_a_refund_keeps_no_cancelled_task_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_waiting, "GRACE", 0.01)

    async def scenario() -> None:
        builder = Builder()
        limiter = RateLimiter(CONFIG, backend=builder)
        held = await limiter.acquire_capacity({"tokens": 8}, model="m")
        builder.house.hangs = True
        with trio.move_on_after(0.01) as scope:
            await limiter.refund_capacity({"tokens": 0}, held)
        assert scope.cancelled_caught

    run("trio", scenario)


def test_a_cancelled_refund_goes_on_under_asyncio(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        builder = Builder()
        limiter = RateLimiter(CONFIG, backend=builder)
        for error in (None, ConnectionError("gone")):
            held = await limiter.acquire_capacity({"tokens": 8}, model="m")
            builder.house.error = error
            refund = asyncio.ensure_future(limiter.refund_capacity({"tokens": 0}, held))
            await asyncio.sleep(0)
            refund.cancel()
            with pytest.raises(asyncio.CancelledError):
                await refund
            await until(lambda: not _waiting._carried)
        assert builder.house.left == 2
        assert "what a cancelled task had begun failed: gone" in caplog.text

    asyncio.run(scenario())
