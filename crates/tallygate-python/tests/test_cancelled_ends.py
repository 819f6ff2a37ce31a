"""Refunds and settlements whose caller was cancelled while the store had not answered: they come all the same, once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from limiters import MODEL, limiter, use
from places import place_of
from servers import paused

from tallygate import CapacityReservation, DuplicateRefundError, FolderBackendBuilder, RateLimiter, _native
from tallygate.rules import Limit, written


@dataclass(frozen=True)
class Slow:
    """A store that does not answer an end at once."""

    backend: Any
    hold_up: Callable[[], contextlib.AbstractContextManager[None]]


@pytest.fixture(params=["folder", "valkey"])
def slow(request: pytest.FixtureRequest, tmp_path: Path) -> Slow:
    """Each kind in turn: a folder that waits for its disk, and a server that answers nothing for a while."""
    if request.param == "folder":
        return Slow(FolderBackendBuilder(tmp_path / "data", durability="sync"), contextlib.nullcontext)
    place = place_of("valkey", request, tmp_path)
    return Slow(place.backend(), lambda: paused(place.at))


def test_a_cancelled_refund_is_made(slow: Slow) -> None:
    async def scenario() -> None:
        rates = limiter(RateLimiter, backend=slow.backend)
        held = await _cancelled(slow, rates)
        again = await _until_ended(lambda: rates.refund_capacity(use(0, 0), held))
        assert again.reason == "already_refunded"
        assert rates.snapshot_state()["in_flight_reservations"] == 0
        await rates.acquire_capacity(use(10), MODEL, timeout=60)
        await rates.aclose()

    asyncio.run(asyncio.wait_for(scenario(), 200))


def test_a_cancelled_refund_leaves_no_place_taken(slow: Slow) -> None:
    async def scenario() -> None:
        rates = limiter(RateLimiter, backend=slow.backend, max_in_flight_reservations=1)
        for _ in range(3):
            held = await _cancelled(slow, rates)
            await _until_ended(lambda held=held: rates.refund_capacity(use(0, 0), held))
        await rates.aclose()

    asyncio.run(asyncio.wait_for(scenario(), 600))


def test_what_is_ended_by_a_dropped_operation_has_ended(slow: Slow) -> None:
    engine = slow.backend.open()
    engine.change_rules([written(Limit("calls", requests=10, every=3600))])
    held = _dropped(slow, engine.subject({"user": "alice"}))
    deadline = time.monotonic() + 60
    while True:
        with pytest.raises(DuplicateRefundError) as caught:
            held.settle({"requests": 0})
        if caught.value.reason == "already_refunded":
            break
        assert time.monotonic() < deadline, "it is under way for ever"
        time.sleep(0.001)
    engine.close()


async def _cancelled(slow: Slow, rates: RateLimiter) -> CapacityReservation:
    """A reservation whose refund was cancelled on its way. A quick disk may have answered by then: it is tried again."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        held = await rates.acquire_capacity(use(10), MODEL, timeout=60)
        with slow.hold_up():
            task = asyncio.ensure_future(rates.refund_capacity(use(0, 0), held))
            await asyncio.sleep(0)
            if not task.done():
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                return held
        await task
    pytest.skip("the store always answers at once here")


def _dropped(slow: Slow, subject: _native.Subject) -> _native.Reservation:
    """As :func:`_cancelled`, by the native module alone."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        held: _native.Reservation = _now(subject.reserve({"requests": 10}, 60.0, 60.0))
        with slow.hold_up():
            pending = held.settle({"requests": 0})
            if isinstance(pending, _native.Pending):
                pending.drop()
                return held
    pytest.skip("the store always answers at once here")


def _now(answer: Any) -> Any:
    return answer.block(60.0) if isinstance(answer, _native.Pending) else answer


async def _until_ended(refund: Any) -> DuplicateRefundError:
    """The error of who ends it again, once the first end is through."""
    deadline = time.monotonic() + 60
    while True:
        with pytest.raises(DuplicateRefundError) as caught:
            await refund()
        if caught.value.reason != "in_progress":
            return caught.value
        assert time.monotonic() < deadline, "it is under way for ever"
        await asyncio.sleep(0.001)
