"""Backends as an application might write them: right ones, and the same with one fault each."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable

from tallygate.custom import (
    RateLimiterBackend,
    RateLimiterBackendBuilderInterface,
    SyncRateLimiterBackend,
    SyncRateLimiterBackendBuilderInterface,
)


class Level:
    """What is left of one quota."""

    def __init__(self, limit: float, window: int) -> None:
        self.limit, self.window = limit, window
        self.left, self.at = float(limit), time.monotonic()
        self.keeps_more = False

    def refill(self) -> float:
        now = time.monotonic()
        refilled = min(self.limit, self.left + (now - self.at) * self.limit / self.window)
        self.left = max(self.left, refilled) if self.keeps_more else refilled
        self.at = now
        return self.left


class Levels:
    """The quotas of a family, without any waiting."""

    def __init__(self, cfg, fault: str = "") -> None:
        self.family = cfg.model_family
        self.fault = fault
        self.by_bucket = {quota.bucket_id: Level(quota.limit, quota.per_seconds) for quota in cfg.quotas}
        self.refunded: set[str] = set()

    def left(self):
        return {bucket: level.refill() for bucket, level in self.by_bucket.items()}

    def never(self, usage) -> str | None:
        if self.fault == "waits for what never fits":
            return None
        over = [metric for (metric, _), level in self.by_bucket.items() if usage[metric] > level.limit]
        return f"{over[0]} can never fit" if over else None

    def fits(self, usage) -> bool:
        if self.fault == "looks at one window":
            return all(level.refill() >= usage[metric] for (metric, _), level in [*self.by_bucket.items()][:1])
        if self.fault == "takes piece by piece":
            for (metric, _), level in self.by_bucket.items():
                if level.refill() < usage[metric]:
                    return False
                level.left -= usage[metric]
            for (metric, _), level in self.by_bucket.items():
                level.left += usage[metric]
            return True
        return all(level.refill() >= usage[metric] for (metric, _), level in self.by_bucket.items())

    def take(self, usage) -> None:
        for (metric, _), level in self.by_bucket.items():
            level.refill()
            level.left -= usage[metric]

    def refund(self, reserved, actual) -> None:
        for (metric, _), level in self.by_bucket.items():
            level.refill()
            level.left += reserved[metric] - actual[metric]
            level.keeps_more = self.fault == "refunds beyond the limit"
            level.refill()
            if self.fault == "forgives debt":
                level.left = max(0, level.left)

    def set_limit(self, metric, per_seconds, value) -> None:
        level = self.by_bucket[metric, per_seconds]
        level.refill()
        level.limit = value


class Backend(RateLimiterBackend):
    def __init__(self, levels: Levels, callbacks) -> None:
        self.levels, self.callbacks = levels, callbacks
        self.changed = asyncio.Event()

    async def await_for_capacity(self, usage, *, timeout=None, reservation_id=None, reservation_lifetime_seconds=None):
        fault, began, told = self.levels.fault, time.monotonic(), False
        if fault == "takes before it waits":
            self.levels.take(usage)
        while True:
            if (why := self.levels.never(usage)) is not None:
                raise ValueError(why)
            before = self.levels.left()
            if self.levels.fits(usage):
                break
            passed = time.monotonic() - began
            if timeout is not None and passed >= timeout:
                if fault == "takes on timeout" and timeout:
                    self.levels.take(usage)
                if fault == "refusal takes":
                    self.levels.take({metric: min(1, amount) for metric, amount in usage.items()})
                if fault == "answers a refusal with an error of its own":
                    raise RuntimeError("full")
                raise TimeoutError("no room in time")
            if fault == "never waits" and timeout is not None:
                raise TimeoutError("no room")
            if not told and self.callbacks and self.callbacks.on_wait_start and fault != "tells of no wait":
                told = True
                await self.callbacks.on_wait_start(
                    model_family=self.levels.family, usage=usage, preconsumption_capacities=before
                )
            await self.pause(None if timeout is None else timeout - passed)
        if fault == "decides and then takes":
            await asyncio.sleep(0)
        self.levels.take(usage)
        await self.consumed(usage, before, time.monotonic() - began if told else None)
        return "now" if fault == "answers a word" else time.time()

    async def pause(self, left: float | None) -> None:
        fault = self.levels.fault
        if fault == "polls seldom":
            await asyncio.sleep(5 if left is None else min(5, left))
            return
        if fault == "cancelled waits take":
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                next(iter(self.levels.by_bucket.values())).left -= 5
                raise
            return
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.changed.wait(), 0.01 if left is None else max(0, min(0.01, left)))
        self.changed.clear()

    async def consumed(self, usage, before, waited: float | None) -> None:
        if not self.callbacks or self.levels.fault == "calls nobody":
            return
        given = {"model_family": self.levels.family, "usage": usage, "preconsumption_capacities": before}
        given["postconsumption_capacities"] = self.levels.left()
        if self.callbacks.on_capacity_consumed:
            await self.callbacks.on_capacity_consumed(**given, current_time=time.time())
        if waited is not None and self.callbacks.after_wait_end_consumption:
            await self.callbacks.after_wait_end_consumption(**given, wait_time_s=waited)

    async def consume_capacity(self, usage, *, reservation_id=None, reservation_lifetime_seconds=None):
        if self.levels.fault == "records only what fits" and not self.levels.fits(usage):
            raise TimeoutError("no room")
        before = self.levels.left()
        self.levels.take(usage)
        await self.consumed(usage, before, None)
        return None

    async def refund_capacity(self, reserved_usage, actual_usage):
        if self.levels.fault == "hangs in refunds":
            await asyncio.sleep(3_600)
        if self.levels.fault == "cannot refund":
            raise ConnectionError("gone")
        before = self.levels.left()
        if self.levels.fault != "refunds nothing":
            self.levels.refund(reserved_usage, actual_usage)
        self.changed.set()
        if self.callbacks and self.callbacks.on_capacity_refunded:
            await self.callbacks.on_capacity_refunded(
                model_family=self.levels.family,
                reserved_usage=reserved_usage,
                actual_usage=actual_usage,
                refunded_usage={metric: reserved_usage[metric] - actual_usage[metric] for metric in reserved_usage},
                prerefund_capacities=before,
                postrefund_capacities=self.levels.left(),
            )

    async def refund_capacity_for_buckets(self, reserved_usage, actual_usage, *, reservation_id=None, **_more):
        if reservation_id in self.levels.refunded and self.levels.fault != "refunds twice":
            return False
        self.levels.refunded.add(reservation_id)
        await self.refund_capacity(reserved_usage, actual_usage)
        return True

    def supports_durable_refund_dedup(self):
        return "sure" if self.levels.fault == "claims a word" else True

    def supports_metric_set_change(self):
        return True

    async def prepare_reconfigured_backend(self, new_backend, _cfg):
        if self.levels.fault != "forgets when metrics change":
            for bucket in new_backend.levels.by_bucket.keys() & self.levels.by_bucket.keys():
                new_backend.levels.by_bucket[bucket] = self.levels.by_bucket[bucket]
        return new_backend

    async def set_max_capacity(self, metric, per_seconds, value):
        if self.levels.fault != "keeps its first limit":
            self.levels.set_limit(metric, per_seconds, value)
        self.changed.set()


class Builder(RateLimiterBackendBuilderInterface):
    """Makes right backends, or such with a fault."""

    def __init__(self, fault: str = "") -> None:
        self.fault = fault
        self.closed = 0
        self.one: Backend | None = None

    def build(self, cfg, *, callbacks=None):
        if self.fault == "builds nothing":
            return None
        if self.fault == "cannot build":
            raise OSError("no disk")
        backend = Backend(Levels(cfg, self.fault), callbacks)
        if self.fault == "one for all":
            backend = self.one = self.one or backend
        return backend

    async def aclose(self):
        self.closed += 1
        if self.fault == "cannot close":
            raise OSError("no disk")


class SyncBackend(SyncRateLimiterBackend):
    def __init__(self, levels: Levels, callbacks) -> None:
        self.levels, self.callbacks = levels, callbacks
        self.changed = threading.Condition()

    def wait_for_capacity(self, usage, *, timeout=None, reservation_id=None, reservation_lifetime_seconds=None):
        began, told = time.monotonic(), False
        lock: Callable = self.changed if self.levels.fault != "has no lock" else threading.Condition()
        with lock:
            while True:
                if (why := self.levels.never(usage)) is not None:
                    raise ValueError(why)
                before = self.levels.left()
                if self.levels.fits(usage):
                    break
                passed = time.monotonic() - began
                if timeout is not None and passed >= timeout:
                    raise TimeoutError("no room in time")
                if not told and self.callbacks and self.callbacks.on_wait_start:
                    told = True
                    self.callbacks.on_wait_start(
                        model_family=self.levels.family, usage=usage, preconsumption_capacities=before
                    )
                lock.wait(0.01 if timeout is None else max(0, min(0.01, timeout - passed)))
            if self.levels.fault == "has no lock":
                time.sleep(0.01)
            self.levels.take(usage)
        self.consumed(usage, before, time.monotonic() - began if told else None)
        return time.time()

    def consumed(self, usage, before, waited):
        if not self.callbacks:
            return
        given = {"model_family": self.levels.family, "usage": usage, "preconsumption_capacities": before}
        given["postconsumption_capacities"] = self.levels.left()
        if self.callbacks.on_capacity_consumed:
            self.callbacks.on_capacity_consumed(**given, current_time=time.time())
        if waited is not None and self.callbacks.after_wait_end_consumption:
            self.callbacks.after_wait_end_consumption(**given, wait_time_s=waited)

    def consume_capacity(self, usage, *, reservation_id=None, reservation_lifetime_seconds=None):
        with self.changed:
            self.levels.take(usage)

    def refund_capacity(self, reserved_usage, actual_usage):
        if self.levels.fault == "hangs in refunds":
            threading.Event().wait()
        with self.changed:
            before = self.levels.left()
            self.levels.refund(reserved_usage, actual_usage)
            after = self.levels.left()
            self.changed.notify_all()
        if self.callbacks and self.callbacks.on_capacity_refunded:
            self.callbacks.on_capacity_refunded(
                model_family=self.levels.family,
                reserved_usage=reserved_usage,
                actual_usage=actual_usage,
                refunded_usage={metric: reserved_usage[metric] - actual_usage[metric] for metric in reserved_usage},
                prerefund_capacities=before,
                postrefund_capacities=after,
            )

    def set_max_capacity(self, metric, per_seconds, value):
        with self.changed:
            self.levels.set_limit(metric, per_seconds, value)
            self.changed.notify_all()


class SyncBuilder(SyncRateLimiterBackendBuilderInterface):
    """:class:`Builder` without an event loop."""

    def __init__(self, fault: str = "") -> None:
        self.fault = fault
        self.closed = 0

    def build(self, cfg, *, callbacks=None):
        return SyncBackend(Levels(cfg, self.fault), callbacks)

    def close(self):
        self.closed += 1
