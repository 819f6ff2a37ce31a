"""Backends of the application's own: what they must offer, and how a limiter runs over one.

A builder makes one backend for each family of models. The backend decides and keeps count; the limiter
checks what it is asked, remembers who holds what, and sees to it that each reservation is refunded
once. :mod:`tallygate.conformance` tells whether a backend does its part.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from .quotas import BucketId, FrozenUsage, PerModelConfig

if TYPE_CHECKING:
    from .callbacks import RateLimiterCallbacks, SyncRateLimiterCallbacks


@runtime_checkable
class RateLimiterBackend(Protocol):
    """The quotas of one family of models, for :class:`~tallygate.RateLimiter`.

    Taking is all or nothing: either each quota has room and all are charged at once, or none is. Use
    above what was reserved leaves a debt that later time repays.
    """

    @abstractmethod
    async def await_for_capacity(
        self,
        usage: FrozenUsage,
        *,
        timeout: float | None = None,
        reservation_id: str | None = None,
        reservation_lifetime_seconds: float | None = None,
    ) -> float | None:
        """Waits until ``usage`` fits and takes it; answers when that was, in seconds since 1970, or ``None``.

        ``timeout`` is in seconds: ``None`` waits for ever, ``0`` tries once. ``TimeoutError`` when the
        room did not come in time, ``ValueError`` at once when it never can. Neither, nor a
        cancellation, takes anything.
        """

    @abstractmethod
    async def consume_capacity(
        self,
        usage: FrozenUsage,
        *,
        reservation_id: str | None = None,
        reservation_lifetime_seconds: float | None = None,
    ) -> float | None:
        """Takes ``usage`` whether it fits or not; answers as :meth:`await_for_capacity` does."""

    @abstractmethod
    async def refund_capacity(self, reserved_usage: FrozenUsage, actual_usage: FrozenUsage) -> None:
        """Gives back what was reserved and not used; charges what was used beyond it."""

    async def refund_capacity_for_buckets(
        self,
        reserved_usage: FrozenUsage,
        actual_usage: FrozenUsage,
        *,
        bucket_ids: set[BucketId] | frozenset[BucketId] | None = None,
        reservation_id: str | None = None,
        reservation_model_family: str | None = None,
        reservation_bucket_ids: set[BucketId] | frozenset[BucketId] | None = None,
        reservation_reserved_usage: FrozenUsage | None = None,
    ) -> bool:
        """Refunds those quotas that the reservation was made of and that are still there.

        ``False`` when this reservation was refunded before. Unless a backend has its own, it refunds all.
        """
        await self.refund_capacity(reserved_usage, actual_usage)
        return True

    @abstractmethod
    async def set_max_capacity(self, metric: str, per_seconds: int, value: float) -> None:
        """Changes the limit of a quota; a full refill still takes one window, and waiters are served by it."""

    async def apply_configured_max_capacity(self, metric: str, per_seconds: int, value: float) -> None:
        """The same, when it is the configuration that changed."""
        await self.set_max_capacity(metric, per_seconds, value)

    async def prepare_reconfigured_backend(
        self, new_backend: RateLimiterBackend, _cfg: PerModelConfig, /
    ) -> RateLimiterBackend:
        """Hands what was counted to the backend that replaces this one, and answers which to use."""
        return new_backend

    def supports_metric_set_change(self) -> bool:
        """Whether metrics and windows may come and go without what was counted being lost."""
        return False

    def supports_durable_refund_dedup(self) -> bool:
        """Whether a second refund is known as such after a restart."""
        return False

    def supports_acquire_marker_authority(self) -> bool:
        """Whether a refund's ``reservation_id`` is known to be real even if another process acquired it."""
        return False


@runtime_checkable
class RateLimiterBackendBuilderInterface(Protocol):
    """Makes backends for :class:`~tallygate.RateLimiter`, and owns what they share."""

    @abstractmethod
    def build(self, cfg: PerModelConfig, *, callbacks: RateLimiterCallbacks | None = None) -> RateLimiterBackend:
        """A backend for the quotas of ``cfg``, whose ``model_family`` is given.

        ``callbacks`` are those of the application, each as the backend is to call it; they neither raise
        nor take longer than they may.
        """
        ...

    async def aclose(self) -> None:
        """Lets go of what the backends share."""
        return None

    def close(self) -> None:
        """Lets go of what the backends share, where nobody can wait."""
        return None


@runtime_checkable
class SyncRateLimiterBackend(Protocol):
    """:class:`RateLimiterBackend` for :class:`~tallygate.SyncRateLimiter`: any thread may call it."""

    @abstractmethod
    def wait_for_capacity(
        self,
        usage: FrozenUsage,
        *,
        timeout: float | None = None,
        reservation_id: str | None = None,
        reservation_lifetime_seconds: float | None = None,
    ) -> float | None:
        """As :meth:`RateLimiterBackend.await_for_capacity`."""

    @abstractmethod
    def consume_capacity(
        self,
        usage: FrozenUsage,
        *,
        reservation_id: str | None = None,
        reservation_lifetime_seconds: float | None = None,
    ) -> float | None:
        """As :meth:`RateLimiterBackend.consume_capacity`."""

    @abstractmethod
    def refund_capacity(self, reserved_usage: FrozenUsage, actual_usage: FrozenUsage) -> None:
        """As :meth:`RateLimiterBackend.refund_capacity`."""

    def refund_capacity_for_buckets(
        self,
        reserved_usage: FrozenUsage,
        actual_usage: FrozenUsage,
        *,
        bucket_ids: set[BucketId] | frozenset[BucketId] | None = None,
        reservation_id: str | None = None,
        reservation_model_family: str | None = None,
        reservation_bucket_ids: set[BucketId] | frozenset[BucketId] | None = None,
        reservation_reserved_usage: FrozenUsage | None = None,
    ) -> bool:
        """As :meth:`RateLimiterBackend.refund_capacity_for_buckets`."""
        self.refund_capacity(reserved_usage, actual_usage)
        return True

    @abstractmethod
    def set_max_capacity(self, metric: str, per_seconds: int, value: float) -> None:
        """As :meth:`RateLimiterBackend.set_max_capacity`."""

    def apply_configured_max_capacity(self, metric: str, per_seconds: int, value: float) -> None:
        """As :meth:`RateLimiterBackend.apply_configured_max_capacity`."""
        self.set_max_capacity(metric, per_seconds, value)

    def prepare_reconfigured_backend(
        self, new_backend: SyncRateLimiterBackend, _cfg: PerModelConfig, /
    ) -> SyncRateLimiterBackend:
        """As :meth:`RateLimiterBackend.prepare_reconfigured_backend`."""
        return new_backend

    def supports_metric_set_change(self) -> bool:
        """As :meth:`RateLimiterBackend.supports_metric_set_change`."""
        return False

    def supports_durable_refund_dedup(self) -> bool:
        """As :meth:`RateLimiterBackend.supports_durable_refund_dedup`."""
        return False

    def supports_acquire_marker_authority(self) -> bool:
        """As :meth:`RateLimiterBackend.supports_acquire_marker_authority`."""
        return False


@runtime_checkable
class SyncRateLimiterBackendBuilderInterface(Protocol):
    """:class:`RateLimiterBackendBuilderInterface` for :class:`~tallygate.SyncRateLimiter`."""

    @abstractmethod
    def build(
        self, cfg: PerModelConfig, *, callbacks: SyncRateLimiterCallbacks | None = None
    ) -> SyncRateLimiterBackend:
        """As :meth:`RateLimiterBackendBuilderInterface.build`."""
        ...

    def close(self) -> None:
        """Lets go of what the backends share."""
        return None


def checked_builder(builder: object) -> object:
    """``builder``, when it can build backends; else ``ValueError``."""
    if isinstance(builder, type):
        raise ValueError(f"backend must be a builder, not the class {builder.__name__}; call it: {builder.__name__}()")
    if not callable(getattr(builder, "build", None)):
        raise ValueError(f"backend must have a method build(cfg, *, callbacks=None); {type(builder).__name__} has none")
    return builder


def checked_usage(usage: Mapping[str, object], metrics: frozenset[str], argument: str) -> None:
    """``ValueError`` unless ``usage`` names just ``metrics``."""
    if usage.keys() != metrics:
        raise ValueError(f"{argument} must name the metrics {sorted(metrics)}, not {sorted(usage)}")
