"""Finds out what ``diagnose()`` tells."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .diagnostics import (
    WAITERS_TOLD,
    BackendHealthDiagnostic,
    BucketDiagnostic,
    CurrentWaitsDiagnostic,
    CustomBackendHealthDiagnostic,
    DiagnosticIssue,
    InFlightReservationsDiagnostic,
    MemoryBackendHealthDiagnostic,
    RateLimiterDiagnostic,
    RedisBackendHealthDiagnostic,
    ReservationGroupDiagnostic,
    RuntimeOverrideDiagnostic,
    WaitBucketDiagnostic,
    WaiterDiagnostic,
)
from .quotas import BucketId, FrozenUsage, amount_of, counts_of

if TYPE_CHECKING:
    from ._core import LimiterCore
    from ._models import KnownFamily
    from ._native import Standing
    from ._steps import Steps


class Diagnosis:
    """What is found out of one limiter, piece by piece."""

    def __init__(self, limiter: LimiterCore, limiter_type: str) -> None:
        self._limiter = limiter
        self._type = limiter_type
        self._now = time.monotonic()
        self._buckets: list[BucketDiagnostic] = []
        self._groups: list[ReservationGroupDiagnostic] = []
        self._issues: list[DiagnosticIssue] = []

    def of_store(self) -> Steps[RateLimiterDiagnostic]:
        """Of a limiter over a store of Tallygate's."""
        limiter = self._limiter
        families = limiter._models.known()
        waiting, waiters = limiter._gate.waiting(WAITERS_TOLD)
        for family in families:
            standings = yield from self._standings(family)
            self._buckets += [self._bucket(family, bucket, standings) for bucket in family.quotas]
            self._groups.append(_group(family.native.name, "all", family.native.open))
        reservations = self._reservations(limiter._gate.open, waiting)
        told = tuple(self._waiter(*waiter) for waiter in waiters)
        waits = CurrentWaitsDiagnostic(self._now, waiting, told, waiters_truncated=waiting > len(told))
        return self._told((reservations, waits), self._health(len(families)), limiter._engine.closed)

    def of_driver(self, driver: Any) -> Steps[RateLimiterDiagnostic]:
        """Of a limiter over a backend of the application's own, which tells what it likes."""
        backends = {name: family.backend for name, family in driver.families().items()}
        waits: list[WaiterDiagnostic] = []
        for name, backend in backends.items():
            introspect = getattr(backend, "introspect", None)
            if not callable(introspect):
                self._issue("info", "the backend has no method introspect(), so nothing is known of its quotas", name)
                continue
            try:
                found = yield introspect
            except Exception as error:
                self._issue("error", f"introspect() raised {type(error).__name__}", name)
                continue
            self._buckets += found.buckets
            waits += found.waits
            self._issues += found.issues
        for name, family in driver.families().items():
            self._groups.append(_group(name, "pending_acquire", family.pending))
        state = driver.state()
        kinds = tuple(sorted({type(backend).__name__ for backend in backends.values()}))
        can = bool(backends) and all(hasattr(backend, "introspect") for backend in backends.values())
        health = BackendHealthDiagnostic("custom", custom=CustomBackendHealthDiagnostic(can, kinds))
        pending = sum(group.outstanding_count for group in self._groups)
        reservations = self._reservations(state["in_flight_reservations"], pending)
        shown = tuple(waits[:WAITERS_TOLD])
        told = CurrentWaitsDiagnostic(self._now, pending, shown, waiters_truncated=pending > len(shown))
        return self._told((reservations, told), health, driver.closed)

    def _standings(self, family: KnownFamily) -> Steps[dict[BucketId, Standing] | None]:
        limiter = self._limiter
        try:
            standings = yield lambda: limiter._models.standings(family)
        except Exception as error:
            self._issue("error", f"the store cannot be asked: {type(error).__name__}", family.native.name)
            return None
        return limiter._models.by_bucket(family, standings)

    def _bucket(
        self, family: KnownFamily, bucket: BucketId, standings: Mapping[BucketId, Standing] | None
    ) -> BucketDiagnostic:
        (metric, window), scale = bucket, family.scales[bucket[0]]
        configured = amount_of(counts_of(family.quotas[bucket].limit, scale), scale)
        standing = None if standings is None else standings.get(bucket)
        limit = family.limit(bucket) if standing is None else amount_of(standing.limit, scale)
        found = BucketDiagnostic(
            model_family=family.native.name,
            metric=metric,
            per_seconds=window,
            backend_type=self._limiter._engine.kind,
            current_capacity=None if standing is None else (standing.remaining - standing.debt) / scale,
            configured_limit=configured,
            effective_max_capacity=limit,
            refill_rate_per_second=limit / window,
            as_of_monotonic=time.monotonic(),
            status="unavailable" if standing is None else "ok",
        )
        if limit == configured:
            return found
        source = "limiter" if bucket in family.overrides else "backend"
        return replace(
            found, runtime_override=limit, override_source=source, configured_to_effective_gap=limit - configured
        )

    def _waiter(
        self, family: str, model: str, usage: dict[str, int | float], waited: float, left: float | None
    ) -> WaiterDiagnostic:
        lacking = [_lack(bucket, usage) for bucket in self._buckets if bucket.model_family == family]
        blocked = tuple(each for each in lacking if each is not None)
        is_known = bool(blocked) or self._limiter._engine.kind != "redis"
        return WaiterDiagnostic(
            model_family=family,
            model=model,
            state="waiting_for_capacity" if is_known else "pending_backend",
            usage=FrozenUsage(usage),
            blocked_buckets=blocked,
            primary_bottleneck=max(blocked, key=lambda each: each.expected_refill_seconds or 0.0, default=None),
            wait_started_monotonic=self._now - waited,
            wait_age_seconds=waited,
            timeout_remaining_seconds=left,
            as_of_monotonic=self._now,
        )

    def _reservations(self, total: int, waiting: int) -> InFlightReservationsDiagnostic:
        groups = tuple(group for group in self._groups if group.outstanding_count)
        return InFlightReservationsDiagnostic(self._now, total, max(0, total - waiting), waiting, groups)

    def _health(self, families: int) -> BackendHealthDiagnostic:
        engine, open_now, buckets = self._limiter._engine, self._limiter._gate.open, len(self._buckets)
        is_up = None if engine.closed else engine.health() is None
        if is_up is False:
            self._issue("error", "the store is down; limits are as configured for that")
        if engine.kind == "redis":
            redis = RedisBackendHealthDiagnostic(families, buckets, open_now)
            return BackendHealthDiagnostic("redis", is_up, redis=redis)
        here = MemoryBackendHealthDiagnostic(families, buckets, open_now)
        if engine.kind == "folder":
            return BackendHealthDiagnostic("folder", is_up, folder=here)
        return BackendHealthDiagnostic("memory", is_up, memory=here)

    def _issue(self, severity: str, message: str, family: str | None = None) -> None:
        self._issues.append(DiagnosticIssue(severity, f"{self._kind}_backend", message, family))

    @property
    def _kind(self) -> str:
        return "custom" if self._limiter._driver is not None else self._limiter._engine.kind

    def _told(
        self,
        held: tuple[InFlightReservationsDiagnostic, CurrentWaitsDiagnostic],
        health: BackendHealthDiagnostic,
        closed: bool,
    ) -> RateLimiterDiagnostic:
        reservations, waits = held
        return RateLimiterDiagnostic(
            limiter_type=self._type,
            limiter_instance_id=self._limiter._limiter_instance_id,
            backend_type=self._kind,
            generated_at_unix_seconds=time.time(),
            as_of_monotonic=self._now,
            closed=closed,
            model_family_count=len({bucket.model_family for bucket in self._buckets} | {one.model_family for one in self._groups}),
            bucket_count=len(self._buckets),
            buckets=tuple(self._buckets),
            runtime_overrides=tuple(_override(bucket) for bucket in self._buckets if bucket.runtime_override is not None),
            reservations=reservations,
            waits=waits,
            backend_health=health,
            issues=tuple(self._issues),
        )


def _group(family: str, state: str, count: int) -> ReservationGroupDiagnostic:
    return ReservationGroupDiagnostic(family, state, count, reservation_ids_truncated=count > 0)


def _override(bucket: BucketDiagnostic) -> RuntimeOverrideDiagnostic:
    return RuntimeOverrideDiagnostic(
        model_family=bucket.model_family,
        metric=bucket.metric,
        per_seconds=bucket.per_seconds,
        configured_limit=bucket.configured_limit,
        override_capacity=bucket.effective_max_capacity,
        effective_max_capacity=bucket.effective_max_capacity,
        configured_to_override_gap=bucket.configured_to_effective_gap,
        source=bucket.override_source,
    )


def _lack(bucket: BucketDiagnostic, usage: Mapping[str, float]) -> WaitBucketDiagnostic | None:
    """What a quota lacks for a usage; ``None`` where it has enough, or nobody knows."""
    required = usage.get(bucket.metric, 0)
    if bucket.current_capacity is None or bucket.current_capacity >= required:
        return None
    lacking = required - bucket.current_capacity
    return WaitBucketDiagnostic(
        model_family=bucket.model_family,
        metric=bucket.metric,
        per_seconds=bucket.per_seconds,
        current_capacity=bucket.current_capacity,
        required_capacity=required,
        deficit=lacking,
        refill_rate_per_second=bucket.refill_rate_per_second,
        expected_refill_seconds=lacking / bucket.refill_rate_per_second,
        effective_max_capacity=bucket.effective_max_capacity,
    )
