"""What ``diagnose()`` tells of limiters over every store."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace
from typing import Any

import pytest
from custom_backends import Backend, Builder, Levels, SyncBuilder
from limiters import MODEL, limiter, until_waiting, until_waiting_here, use
from places import Place, place

import tallygate
from tallygate import (
    BackendIntrospectionDiagnostic,
    BucketDiagnostic,
    DiagnosticIssue,
    PerModelConfig,
    Quota,
    RateLimiter,
    SyncRateLimiter,
    UsageQuotas,
    WaitBucketDiagnostic,
)

__all__ = ["place"]

HOUR = 3_600


def test_it_tells_who_waits_and_for_what(place: Place) -> None:
    async def scenario() -> None:
        async with limiter(RateLimiter, backend=place.backend()) as rates:
            taken = await rates.acquire_capacity(use(9, 100), MODEL)
            waiting = asyncio.ensure_future(rates.acquire_capacity(use(5, 10), MODEL, timeout=3_000))
            await until_waiting(rates, 1)
            behind = asyncio.ensure_future(rates.acquire_capacity(use(1, 1), MODEL))
            await until_waiting(rates, 2)
            found = await rates.diagnose()
            assert (found.limiter_type, found.backend_type, found.closed) == ("async", rates._engine.kind, False)
            requests, tokens = found.buckets
            assert (requests.metric, requests.per_seconds, requests.current_capacity) == ("requests", HOUR, 1)
            assert tokens.current_capacity is not None and 900 <= tokens.current_capacity < 1000
            assert found.buckets[0].refill_rate_per_second == 10 / HOUR
            held = found.reservations
            assert (held.total_count, held.in_flight_count, held.pending_acquire_count) == (3, 1, 2)
            assert [(group.model_family, group.outstanding_count) for group in held.groups] == [(MODEL, 3)]
            first, second = found.waits.waiters
            assert (first.usage, first.model, first.state) == (use(5, 10), MODEL, "waiting_for_capacity")
            assert first.primary_bottleneck == WaitBucketDiagnostic(
                MODEL, "requests", HOUR, 1, 5, 4, 10 / HOUR, 4 / (10 / HOUR), 10
            )
            assert first.wait_age_seconds is not None and first.wait_age_seconds > 0
            assert first.timeout_remaining_seconds is not None and 0 < first.timeout_remaining_seconds < 3_000
            assert (second.usage, second.timeout_remaining_seconds, second.blocked_buckets) == (use(1, 1), None, ())
            assert found.backend_health.is_up is True
            assert found.issues == ()
            written = json.loads(json.dumps(found.as_dict()))
            assert written["waits"]["waiters"][0]["primary_bottleneck"]["deficit"] == 4
            await rates.refund_capacity(use(9, 100), taken)
            for task in (waiting, behind):
                task.cancel()
            await until_waiting(rates, 0)
            after = await rates.diagnose()
            assert (after.waits.total_waiter_count, after.reservations.pending_acquire_count) == (0, 0)

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_a_limit_that_was_changed_is_told_of(place: Place) -> None:
    with limiter(SyncRateLimiter, backend=place.backend()) as rates:
        rates.record_usage(use(12, 0), MODEL)
        rates.set_max_capacity(MODEL, "requests", HOUR, 20)
        found = rates.diagnose()
        (override,) = found.runtime_overrides
        assert (override.metric, override.configured_limit, override.override_capacity) == ("requests", 10, 20)
        assert override.source == ("backend" if rates._engine.kind == "redis" else "limiter")
        assert found.buckets[0].effective_max_capacity == 20
        assert found.buckets[0].configured_to_effective_gap == 10


def test_amounts_are_in_units_of_their_metric_and_debt_is_below_zero() -> None:
    with SyncRateLimiter(PerModelConfig(UsageQuotas([Quota("dollars", 5.5, HOUR)]))) as rates:
        rates.record_usage({"dollars": 6.25}, "m")
        (bucket,) = rates.diagnose().buckets
        assert (bucket.configured_limit, bucket.effective_max_capacity) == (5.5, 5.5)
        assert bucket.current_capacity == pytest.approx(-0.75, abs=0.1)


def test_so_many_waiters_are_told_of_and_no_more() -> None:
    async def scenario() -> None:
        async with limiter(RateLimiter) as rates:
            await rates.acquire_capacity(use(10), MODEL)
            tasks = [asyncio.ensure_future(rates.acquire_capacity(use(1, number), MODEL)) for number in range(60)]
            await until_waiting(rates, 60)
            waits = (await rates.diagnose()).waits
            assert (waits.total_waiter_count, waits.waiters_truncated) == (60, True)
            assert [waiter.usage["tokens"] for waiter in waits.waiters] == list(range(50))
            for task in tasks:
                task.cancel()

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_threads_that_wait_are_told_of_too() -> None:
    rates = limiter(SyncRateLimiter)
    held = rates.acquire_capacity(use(10), MODEL)
    thread = threading.Thread(target=rates.acquire_capacity, args=(use(10), MODEL), daemon=True)
    thread.start()
    until_waiting_here(rates, 1)
    found = rates.diagnose()
    assert (found.limiter_type, found.waits.total_waiter_count) == ("sync", 1)
    rates.refund_capacity(use(0, 0), held)
    thread.join(30)
    assert rates.diagnose().waits.total_waiter_count == 0
    rates.close()


def test_a_closed_limiter_can_still_be_looked_at() -> None:
    rates = limiter(SyncRateLimiter)
    rates.acquire_capacity(use(), MODEL)
    rates.close()
    found = rates.diagnose()
    assert found.closed and found.backend_health.is_up is None
    assert {bucket.status for bucket in found.buckets} == {"unavailable"}
    assert found.issues == (DiagnosticIssue("error", "memory_backend", "the store cannot be asked: ClosedError", MODEL),)


class Told(Backend):
    def __init__(self, levels: Levels, callbacks: Any, error: Exception | None) -> None:
        super().__init__(levels, callbacks)
        self.error = error

    async def introspect(self) -> BackendIntrospectionDiagnostic:
        if self.error is not None:
            raise self.error
        bucket = BucketDiagnostic("m", "tokens", HOUR, "custom", 3.0, 10.0, 10.0, 10 / HOUR, 0.0)
        return BackendIntrospectionDiagnostic("m", "custom", 0.0, (replace(bucket, status="ok"),))


class Telling(Builder):
    error: Exception | None = None

    def build(self, cfg: Any, *, callbacks: Any = None) -> Any:
        return Told(Levels(cfg), callbacks, self.error)


def test_a_backend_of_ones_own_tells_what_it_likes() -> None:
    config = PerModelConfig(UsageQuotas([Quota("tokens", 10, HOUR)]))

    async def scenario(builder: Builder) -> Any:
        async with RateLimiter(config, backend=builder) as rates:
            held = await rates.acquire_capacity({"tokens": 7}, "m")
            found = await rates.diagnose()
            await rates.refund_capacity({"tokens": 0}, held)
            return found

    found = asyncio.run(scenario(Telling()))
    assert [bucket.current_capacity for bucket in found.buckets] == [3.0]
    assert found.backend_health.custom.introspection_supported
    assert (found.reservations.in_flight_count, found.issues) == (1, ())
    broken = Telling()
    broken.error = OSError("no disk")
    assert [issue.message for issue in asyncio.run(scenario(broken)).issues] == ["introspect() raised OSError"]
    silent = asyncio.run(scenario(Builder()))
    assert silent.buckets == () and silent.issues[0].severity == "info"
    assert silent.backend_health.custom.backend_class_names == ("Backend",)
    with SyncRateLimiter(config, backend=SyncBuilder()) as rates:
        rates.acquire_capacity({"tokens": 1}, "m")
        assert rates.diagnose().issues[0].component == "custom_backend"


@pytest.mark.parametrize("name", sorted(tallygate._ELSEWHERE))
def test_a_name_that_token_throttle_has_says_what_is_here(name: str) -> None:
    with pytest.raises(ImportError, match=f"^there is no {name} in tallygate: "):
        exec(f"from tallygate import {name}")
    assert name not in tallygate.__all__


def test_the_word_for_sqlite_names_both_ways() -> None:
    with pytest.raises(ImportError, match="FolderBackendBuilder.path. .* one process .* RedisBackendBuilder"):
        from tallygate import SqliteBackendBuilder  # type: ignore[attr-defined] # noqa: F401
