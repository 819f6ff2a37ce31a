"""How many reservations a limiter lets be open at once."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

import pytest
from limiters import MODEL, limiter, until_waiting_here, use
from places import Place, place

from tallygate import CardinalityLimitExceededError, SyncRateLimiter, UnknownReservationError

__all__ = ["place"]


def in_flight(rates: SyncRateLimiter) -> object:
    return rates.snapshot_state()["in_flight_reservations"]


def until_in_flight(rates: SyncRateLimiter, count: int) -> None:
    deadline = time.monotonic() + 60
    while in_flight(rates) != count:
        assert time.monotonic() < deadline, f"{in_flight(rates)} and not {count}"
        time.sleep(0.005)


def acquired_in_time(rates: SyncRateLimiter) -> Any:
    """A reservation, once there is a place for it."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return rates.acquire_capacity(use(), MODEL)
        except CardinalityLimitExceededError:
            assert time.monotonic() < deadline, "no place becomes free"
            time.sleep(0.005)


def test_a_reservation_past_its_lifetime_takes_no_place(place: Place) -> None:
    options: Any = {"max_reservation_lifetime_seconds": 0.5, "max_in_flight_reservations": 2}
    with limiter(SyncRateLimiter, backend=place.backend(), **options) as rates:
        over = [rates.acquire_capacity(use(), MODEL) for _ in range(2)]
        kept = [acquired_in_time(rates) for _ in range(2)]
        until_in_flight(rates, 0)
        for held in over + kept:
            # A server's clock may be a little behind.
            with contextlib.suppress(UnknownReservationError):
                rates.refund_capacity(use(0, 0), held)
        assert in_flight(rates) == 0, "what was taken off is not taken off again"


def test_places_are_counted_over_many_lifetimes() -> None:
    options: Any = {"max_reservation_lifetime_seconds": 0.02, "max_in_flight_reservations": 50}
    with limiter(SyncRateLimiter, requests=1_000_000, tokens=1_000_000, **options) as rates:
        kept = []
        for _ in range(300):
            for _ in range(5):
                held = acquired_in_time(rates)
                with contextlib.suppress(UnknownReservationError):
                    rates.refund_capacity(use(), held)
            kept.append(acquired_in_time(rates))
        until_in_flight(rates, 0)
        held = [rates.acquire_capacity(use(), MODEL)]
        del kept, held


def test_as_long_as_it_stands_it_has_its_place() -> None:
    with limiter(SyncRateLimiter, max_in_flight_reservations=2) as rates:
        held = [rates.acquire_capacity(use(), MODEL) for _ in range(2)]
        for _ in range(3):
            with pytest.raises(CardinalityLimitExceededError, match="max_in_flight_reservations"):
                rates.acquire_capacity(use(), MODEL)
            assert in_flight(rates) == 2
        rates.refund_capacity(use(), held[0])
        rates.acquire_capacity(use(), MODEL)


def test_one_that_waits_longer_than_a_lifetime_has_its_place() -> None:
    options: Any = {"max_reservation_lifetime_seconds": 0.05, "max_in_flight_reservations": 1}
    with limiter(SyncRateLimiter, **options) as rates:
        rates.record_usage(use(20), MODEL)
        waiting = threading.Thread(target=_refused, args=(rates,))
        waiting.start()
        until_waiting_here(rates, 1)
        until = time.monotonic() + 0.2
        while time.monotonic() < until:
            assert in_flight(rates) == 1
            with pytest.raises(CardinalityLimitExceededError):
                rates.acquire_capacity(use(), MODEL)
            time.sleep(0.01)
        rates.close()
        waiting.join()


def _refused(rates: SyncRateLimiter) -> None:
    with pytest.raises(RuntimeError, match="closed"):
        rates.acquire_capacity(use(), MODEL)
