"""What ``diagnose()`` answers: where every quota stands, what is held, who waits and for what.

All of it is plain data; :meth:`RateLimiterDiagnostic.as_dict` is for JSON. It names models, families and request sizes,
so it is for operators, not for callers. The parts are looked at one after the other, so a sum over them may be off by what
came between.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

from .quotas import FrozenUsage

WAITERS_TOLD = 50
"""The most waiters that are told of one by one, the first in line first."""


@dataclass(frozen=True)
class DiagnosticIssue:
    """Something that could not be found out, or is wrong. ``severity`` is ``info``, ``warning`` or ``error``."""

    severity: str
    component: str
    message: str
    model_family: str | None = None
    metric: str | None = None
    per_seconds: int | None = None


@dataclass(frozen=True)
class DiagnosticBucketKey:
    """Which quota."""

    model_family: str
    metric: str
    per_seconds: int


@dataclass(frozen=True)
class BucketDiagnostic:
    """Where one quota stands.

    ``current_capacity`` is what is left, below zero what is owed, ``None`` where the store cannot be asked (``status`` is then
    ``unavailable``, else ``ok``). ``runtime_override`` is what ``set_max_capacity`` put in the place of ``configured_limit``, and
    ``override_source`` says who knows of it: ``limiter``, ``backend`` (Redis, where it may be another process's) or ``none``.
    """

    model_family: str
    metric: str
    per_seconds: int
    backend_type: str
    current_capacity: float | None
    configured_limit: float
    effective_max_capacity: float
    refill_rate_per_second: float
    as_of_monotonic: float
    runtime_override: float | None = None
    override_source: str = "none"
    configured_to_effective_gap: float = 0.0
    status: str = "ok"


@dataclass(frozen=True)
class RuntimeOverrideDiagnostic:
    """A quota whose limit is another than its configuration says."""

    model_family: str
    metric: str
    per_seconds: int
    configured_limit: float
    override_capacity: float
    effective_max_capacity: float
    configured_to_override_gap: float
    source: str


@dataclass(frozen=True)
class ReservationGroupDiagnostic:
    """What one family has open or waits for. Reservations are counted, not listed: ids, ages and amounts are left empty."""

    model_family: str
    state: str
    outstanding_count: int
    metric: str | None = None
    total_reserved_usage: float | None = None
    oldest_age_seconds: float | None = None
    oldest_reservation_id: str | None = None
    reservation_ids: tuple[str, ...] = ()
    reservation_id_sample_limit: int = 0
    reservation_ids_truncated: bool = False


@dataclass(frozen=True)
class InFlightReservationsDiagnostic:
    """How many reservations the limiter has open, and how many are waited for."""

    as_of_monotonic: float
    total_count: int
    in_flight_count: int
    pending_acquire_count: int
    groups: tuple[ReservationGroupDiagnostic, ...]
    delivery_cleanup_count: int = 0
    oldest_age_seconds: float | None = None


@dataclass(frozen=True)
class WaitBucketDiagnostic:
    """A quota that has too little for a waiter.

    ``expected_refill_seconds`` is when it would have enough if nobody else took of it and nothing came back: who stands before in line
    makes it later, a refund sooner.
    """

    model_family: str
    metric: str
    per_seconds: int
    current_capacity: float | None
    required_capacity: float
    deficit: float
    refill_rate_per_second: float | None = None
    expected_refill_seconds: float | None = None
    effective_max_capacity: float | None = None


@dataclass(frozen=True)
class WaiterDiagnostic:
    """One who waits. ``state`` is ``waiting_for_capacity``, or ``pending_backend`` while nothing but the server is waited for.

    ``blocked_buckets`` is empty where all that is waited for is those before in line.
    """

    model_family: str
    state: str
    usage: FrozenUsage
    blocked_buckets: tuple[WaitBucketDiagnostic, ...]
    as_of_monotonic: float
    reservation_id: str | None = None
    model: str | None = None
    request_id: str | None = None
    wait_started_monotonic: float | None = None
    wait_age_seconds: float | None = None
    timeout_remaining_seconds: float | None = None
    primary_bottleneck: WaitBucketDiagnostic | None = None


@dataclass(frozen=True)
class CurrentWaitsDiagnostic:
    """Who waits, the first in line first, :data:`WAITERS_TOLD` at most."""

    as_of_monotonic: float
    total_waiter_count: int
    waiters: tuple[WaiterDiagnostic, ...]
    waiter_sample_limit: int = WAITERS_TOLD
    waiters_truncated: bool = False


@dataclass(frozen=True)
class MemoryBackendHealthDiagnostic:
    """A store of this process: in memory, or in a folder. Refunds are known by the reservation itself: there is nothing to keep of them."""

    model_family_count: int
    bucket_count: int
    acquired_reservation_id_count: int
    refund_dedup_count: int = 0
    refund_dedup_cap: int = 0


@dataclass(frozen=True)
class RedisBackendHealthDiagnostic:
    """A store on Redis or Valkey. All goes over one connection, so there is no pool to tell of."""

    model_family_count: int
    bucket_count: int
    local_marker_count_estimate: int
    local_refund_dedup_count_estimate: int = 0
    connection_pool_class: str | None = None
    connection_pool_max_connections: int | None = None
    connection_pool_in_use_connections: int | None = None
    connection_pool_available_connections: int | None = None
    pool_counts_observed_with_private_attrs: bool = False


@dataclass(frozen=True)
class CustomBackendHealthDiagnostic:
    """A backend of the application's own."""

    introspection_supported: bool
    backend_class_names: tuple[str, ...]


@dataclass(frozen=True)
class BackendHealthDiagnostic:
    """How the store is, under the name of its kind; ``is_up`` is ``None`` where nobody knows."""

    backend_type: str
    is_up: bool | None = None
    memory: MemoryBackendHealthDiagnostic | None = None
    folder: MemoryBackendHealthDiagnostic | None = None
    redis: RedisBackendHealthDiagnostic | None = None
    custom: CustomBackendHealthDiagnostic | None = None


@dataclass(frozen=True)
class RateLimiterDiagnostic:
    """A limiter and its store at one time. ``backend_type`` is ``memory``, ``folder``, ``redis`` or ``custom``."""

    limiter_type: str
    limiter_instance_id: str
    backend_type: str
    generated_at_unix_seconds: float
    as_of_monotonic: float
    closed: bool
    model_family_count: int
    bucket_count: int
    buckets: tuple[BucketDiagnostic, ...]
    runtime_overrides: tuple[RuntimeOverrideDiagnostic, ...]
    reservations: InFlightReservationsDiagnostic
    waits: CurrentWaitsDiagnostic
    backend_health: BackendHealthDiagnostic
    issues: tuple[DiagnosticIssue, ...] = ()
    schema_version: int = 1
    consistency: str = "eventually_consistent"
    closing: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The same in dicts and tuples, as JSON takes it."""
        return asdict(self)


@dataclass(frozen=True)
class BackendIntrospectionDiagnostic:
    """What a backend of the application's own tells of one family by a method ``introspect()``."""

    model_family: str
    backend_type: str
    as_of_monotonic: float
    buckets: tuple[BucketDiagnostic, ...]
    waits: tuple[WaiterDiagnostic, ...] = ()
    issues: tuple[DiagnosticIssue, ...] = ()


@runtime_checkable
class BackendIntrospectable(Protocol):
    """A backend that can tell where it stands."""

    async def introspect(self) -> BackendIntrospectionDiagnostic:
        """Looks, and changes nothing."""
        ...


@runtime_checkable
class SyncBackendIntrospectable(Protocol):
    """:class:`BackendIntrospectable` without an event loop."""

    def introspect(self) -> BackendIntrospectionDiagnostic:
        """Looks, and changes nothing."""
        ...
