"""What an application can be told while a limiter works, and helpers that log it.

A bundle has a slot for each occasion; a slot left ``None`` costs nothing. Callbacks get their fields
by keyword, run outside the decision, and cannot disturb it: what they raise is logged and warned of
as ``RuntimeWarning``, and one that takes longer than the limiter's ``callback_timeout`` is left behind.

=============================== =====================================================================
slot                            fields
=============================== =====================================================================
``on_wait_start``               model_family, usage, preconsumption_capacities
``after_wait_end_consumption``  the same, postconsumption_capacities, wait_time_s
``on_capacity_consumed``        model_family, usage, preconsumption_capacities,
                                postconsumption_capacities, current_time
``on_capacity_refunded``        model_family, reserved_usage, actual_usage, refunded_usage,
                                prerefund_capacities, postrefund_capacities
``on_missing_consumption_data`` model_family, usage_metric, per_seconds
``on_lifecycle_event``          event, a :class:`LifecycleEvent`
=============================== =====================================================================

The first two also offer ``model_alias``, ``request_id`` and ``reservation_id`` to a callback that has
parameters of these names (or ``**fields``).
"""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from .quotas import BucketId, Capacities, FrozenUsage, is_async_callable

if TYPE_CHECKING:
    from ._custom_driver import CustomReservation
    from ._native import CapacityReservation

_logger = logging.getLogger("tallygate")

_FIELDS: dict[str, frozenset[str]] = {
    "on_wait_start": frozenset({"model_family", "usage", "preconsumption_capacities"}),
    "after_wait_end_consumption": frozenset(
        {"model_family", "usage", "preconsumption_capacities", "postconsumption_capacities", "wait_time_s"}
    ),
    "on_capacity_consumed": frozenset(
        {"model_family", "usage", "preconsumption_capacities", "postconsumption_capacities", "current_time"}
    ),
    "on_capacity_refunded": frozenset(
        {
            "model_family",
            "reserved_usage",
            "actual_usage",
            "refunded_usage",
            "prerefund_capacities",
            "postrefund_capacities",
        }
    ),
    "on_missing_consumption_data": frozenset({"model_family", "usage_metric", "per_seconds"}),
    "on_lifecycle_event": frozenset({"event"}),
}

_MESSAGES: dict[str, str] = {
    "on_wait_start": "waiting for capacity",
    "after_wait_end_consumption": "capacity came after a wait",
    "on_capacity_consumed": "capacity consumed",
    "on_capacity_refunded": "capacity refunded",
    "on_missing_consumption_data": "no record of earlier use, the quota counts as full",
}


@dataclass(frozen=True)
class LifecycleEvent:
    """One thing that happened to a reservation.

    ``event_type`` is ``capacity_consumed`` or ``capacity_refunded``, ``timestamp`` seconds since 1970.
    ``model_alias`` and ``request_id`` are what the caller gave.
    """

    event_type: str
    model_family: str
    timestamp: float
    reservation_id: str | None = None
    request_id: str | None = None
    model_alias: str | None = None
    bucket_ids: frozenset[BucketId] | None = None
    usage: FrozenUsage | None = None


def event_of(
    event_type: str, reservation: CapacityReservation | CustomReservation, request_id: str | None = None
) -> LifecycleEvent:
    """What happened to a reservation, now."""
    return LifecycleEvent(
        event_type=event_type,
        model_family=reservation.model_family,
        timestamp=time.time(),
        reservation_id=reservation.reservation_id,
        request_id=request_id,
        model_alias=reservation.model,
        bucket_ids=reservation.bucket_ids,
        usage=reservation.usage,
    )


@runtime_checkable
class OnWaitStartCallback(Protocol):
    """Called when a request begins to wait."""

    async def __call__(
        self, *, model_family: str, usage: FrozenUsage, preconsumption_capacities: Capacities
    ) -> None: ...


@runtime_checkable
class OnWaitEndCallback(Protocol):
    """Called when a request that waited has its capacity."""

    async def __call__(
        self,
        *,
        model_family: str,
        usage: FrozenUsage,
        preconsumption_capacities: Capacities,
        postconsumption_capacities: Capacities,
        wait_time_s: float,
    ) -> None: ...


@runtime_checkable
class OnCapacityConsumedCallback(Protocol):
    """Called when capacity was taken, after a wait or without."""

    async def __call__(
        self,
        *,
        model_family: str,
        usage: FrozenUsage,
        preconsumption_capacities: Capacities,
        postconsumption_capacities: Capacities,
        current_time: float,
    ) -> None: ...


@runtime_checkable
class OnCapacityRefundedCallback(Protocol):
    """Called when a reservation was settled with what was really used."""

    async def __call__(
        self,
        *,
        model_family: str,
        reserved_usage: FrozenUsage,
        actual_usage: FrozenUsage,
        refunded_usage: FrozenUsage,
        prerefund_capacities: Capacities,
        postrefund_capacities: Capacities,
    ) -> None: ...


@runtime_checkable
class OnMissingConsumptionDataCallback(Protocol):
    """Called for each quota that begins full because nothing is known of its use."""

    async def __call__(self, *, model_family: str, usage_metric: str, per_seconds: int) -> None: ...


@runtime_checkable
class OnLifecycleEventCallback(Protocol):
    """Called for everything that happens to a reservation, in one form."""

    async def __call__(self, *, event: LifecycleEvent) -> None: ...


@runtime_checkable
class SyncOnWaitStartCallback(Protocol):
    """:class:`OnWaitStartCallback` as a plain function."""

    def __call__(self, *, model_family: str, usage: FrozenUsage, preconsumption_capacities: Capacities) -> None: ...


@runtime_checkable
class SyncOnWaitEndCallback(Protocol):
    """:class:`OnWaitEndCallback` as a plain function."""

    def __call__(
        self,
        *,
        model_family: str,
        usage: FrozenUsage,
        preconsumption_capacities: Capacities,
        postconsumption_capacities: Capacities,
        wait_time_s: float,
    ) -> None: ...


@runtime_checkable
class SyncOnCapacityConsumedCallback(Protocol):
    """:class:`OnCapacityConsumedCallback` as a plain function."""

    def __call__(
        self,
        *,
        model_family: str,
        usage: FrozenUsage,
        preconsumption_capacities: Capacities,
        postconsumption_capacities: Capacities,
        current_time: float,
    ) -> None: ...


@runtime_checkable
class SyncOnCapacityRefundedCallback(Protocol):
    """:class:`OnCapacityRefundedCallback` as a plain function."""

    def __call__(
        self,
        *,
        model_family: str,
        reserved_usage: FrozenUsage,
        actual_usage: FrozenUsage,
        refunded_usage: FrozenUsage,
        prerefund_capacities: Capacities,
        postrefund_capacities: Capacities,
    ) -> None: ...


@runtime_checkable
class SyncOnMissingConsumptionDataCallback(Protocol):
    """:class:`OnMissingConsumptionDataCallback` as a plain function."""

    def __call__(self, *, model_family: str, usage_metric: str, per_seconds: int) -> None: ...


@runtime_checkable
class SyncOnLifecycleEventCallback(Protocol):
    """:class:`OnLifecycleEventCallback` as a plain function."""

    def __call__(self, *, event: LifecycleEvent) -> None: ...


@dataclass(frozen=True)
class RateLimiterCallbacks:
    """Coroutine functions for :class:`~tallygate.RateLimiter`.

    ``ValueError`` for a callback that is none, or that lacks a parameter of its slot.
    """

    on_wait_start: OnWaitStartCallback | None = None
    after_wait_end_consumption: OnWaitEndCallback | None = None
    on_capacity_consumed: OnCapacityConsumedCallback | None = None
    on_capacity_refunded: OnCapacityRefundedCallback | None = None
    on_missing_consumption_data: OnMissingConsumptionDataCallback | None = None
    on_lifecycle_event: OnLifecycleEventCallback | None = None

    def __post_init__(self) -> None:
        for slot, callback in given_slots(self).items():
            _check_callback(slot, callback)
            if not is_async_callable(callback):
                raise ValueError(f"{slot} must be a coroutine function; plain ones go into SyncRateLimiterCallbacks")


@dataclass(frozen=True)
class SyncRateLimiterCallbacks:
    """Plain functions for :class:`~tallygate.SyncRateLimiter`.

    ``ValueError`` for a coroutine function, or one that lacks a parameter of its slot.
    """

    on_wait_start: SyncOnWaitStartCallback | None = None
    after_wait_end_consumption: SyncOnWaitEndCallback | None = None
    on_capacity_consumed: SyncOnCapacityConsumedCallback | None = None
    on_capacity_refunded: SyncOnCapacityRefundedCallback | None = None
    on_missing_consumption_data: SyncOnMissingConsumptionDataCallback | None = None
    on_lifecycle_event: SyncOnLifecycleEventCallback | None = None

    def __post_init__(self) -> None:
        for slot, callback in given_slots(self).items():
            _check_callback(slot, callback)
            if is_async_callable(callback):
                raise ValueError(f"{slot} must be a plain function; coroutine functions go into RateLimiterCallbacks")


_Bundle = TypeVar("_Bundle", RateLimiterCallbacks, SyncRateLimiterCallbacks)


def merge_callbacks(own: _Bundle | None, defaults: _Bundle) -> _Bundle:
    """The callbacks of ``own``, and those of ``defaults`` in the slots that it leaves open."""
    if own is None:
        return defaults
    return type(defaults)(**{**given_slots(defaults), **given_slots(own)})


def create_logging_callbacks(
    *,
    wait_start: str | None = "DEBUG",
    wait_end_consumption: str | None = "DEBUG",
    capacity_consumed: str | None = "DEBUG",
    capacity_refunded: str | None = "DEBUG",
    missing_consumption_data: str | None = "DEBUG",
) -> RateLimiterCallbacks:
    """Callbacks that write to the logger ``tallygate`` of the standard library.

    Each argument is the level of one slot, ``None`` leaves it open. The fields are in the message and
    are attributes of the record.
    """
    levels = [wait_start, wait_end_consumption, capacity_consumed, capacity_refunded, missing_consumption_data]
    return RateLimiterCallbacks(**_awaited(_writers(levels, _standard_writer)))


def create_sync_logging_callbacks(
    *,
    wait_start: str | None = "DEBUG",
    wait_end_consumption: str | None = "DEBUG",
    capacity_consumed: str | None = "DEBUG",
    capacity_refunded: str | None = "DEBUG",
    missing_consumption_data: str | None = "DEBUG",
) -> SyncRateLimiterCallbacks:
    """:func:`create_logging_callbacks` for :class:`~tallygate.SyncRateLimiter`."""
    levels = [wait_start, wait_end_consumption, capacity_consumed, capacity_refunded, missing_consumption_data]
    return SyncRateLimiterCallbacks(**_writers(levels, _standard_writer))


def create_loguru_callbacks(
    *,
    wait_start: str | None = "DEBUG",
    wait_end_consumption: str | None = "DEBUG",
    capacity_consumed: str | None = "DEBUG",
    capacity_refunded: str | None = "DEBUG",
    missing_consumption_data: str | None = "DEBUG",
) -> RateLimiterCallbacks:
    """Callbacks that write to loguru's logger, the fields bound to the record.

    ``ImportError`` where loguru is not installed.
    """
    levels = [wait_start, wait_end_consumption, capacity_consumed, capacity_refunded, missing_consumption_data]
    return RateLimiterCallbacks(**_awaited(_writers(levels, _loguru_writer)))


def create_sync_loguru_callbacks(
    *,
    wait_start: str | None = "DEBUG",
    wait_end_consumption: str | None = "DEBUG",
    capacity_consumed: str | None = "DEBUG",
    capacity_refunded: str | None = "DEBUG",
    missing_consumption_data: str | None = "DEBUG",
) -> SyncRateLimiterCallbacks:
    """:func:`create_loguru_callbacks` for :class:`~tallygate.SyncRateLimiter`."""
    levels = [wait_start, wait_end_consumption, capacity_consumed, capacity_refunded, missing_consumption_data]
    return SyncRateLimiterCallbacks(**_writers(levels, _loguru_writer))


def given_slots(callbacks: RateLimiterCallbacks | SyncRateLimiterCallbacks | None) -> dict[str, Any]:
    """The slots that have a callback, by name."""
    if callbacks is None:
        return {}
    given = {each.name: getattr(callbacks, each.name) for each in fields(callbacks)}
    return {slot: callback for slot, callback in given.items() if callback is not None}


def _check_callback(slot: str, callback: Any) -> None:
    if not callable(callback):
        raise ValueError(f"{slot} must be callable, not {type(callback).__name__}")
    call = getattr(type(callback), "__call__", None)  # noqa: B004
    for each in (callback, call):
        if inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each):
            raise ValueError(f"{slot} must not be a generator, its body would never run")
    names = keyword_names(callback)
    missing = _FIELDS[slot] - names if names is not None else frozenset()
    if missing:
        raise ValueError(f"{slot} lacks the keyword parameters {sorted(missing)}; add them or **fields")


def keyword_names(callback: Callable[..., object]) -> frozenset[str] | None:
    """The names that ``callback`` takes by keyword; ``None`` where it takes any."""
    try:
        parameters = inspect.signature(callback).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return None
    return frozenset(each.name for each in parameters if each.kind in (each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD))


_Writer = Callable[..., None]


def _writers(levels: list[str | None], writer_of: Callable[[str, str], _Writer]) -> dict[str, Any]:
    chosen = zip(_MESSAGES.items(), levels, strict=True)
    return {slot: writer_of(_checked_level(slot, level), text) for (slot, text), level in chosen if level is not None}


def _awaited(writers: dict[str, _Writer]) -> dict[str, Any]:
    def awaited(writer: _Writer) -> Callable[..., Awaitable[None]]:
        async def callback(**given: object) -> None:
            writer(**given)

        return callback

    return {slot: awaited(writer) for slot, writer in writers.items()}


def _checked_level(slot: str, level: object) -> str:
    if not isinstance(level, str):
        raise TypeError(f"the level of {slot} must be a str or None, not {type(level).__name__}")
    return level.upper()


def _standard_writer(level: str, message: str) -> _Writer:
    number = logging.getLevelName(level)
    if not isinstance(number, int):
        raise ValueError(f"unknown log level {level!r}; use DEBUG, INFO, WARNING, ERROR or CRITICAL")

    def write(**given: object) -> None:
        if _logger.isEnabledFor(number):
            _logger.log(number, "%s | %s", message, _listed(given), extra=given)

    return write


def _loguru_writer(level: str, message: str) -> _Writer:
    try:
        from loguru import logger
    except ImportError as error:
        raise ImportError("loguru is not installed; `pip install loguru`, or use create_logging_callbacks") from error
    try:
        logger.level(level)
    except ValueError:
        raise ValueError(f"unknown log level {level!r} of loguru") from None

    def write(**given: object) -> None:
        logger.bind(**given).log(level, f"{message} | {_listed(given)}")

    return write


def _listed(given: dict[str, object]) -> str:
    return " ".join(f"{name}={value!r}" for name, value in given.items())
