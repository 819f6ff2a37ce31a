"""Runs a limiter over a backend of the application's own.

What is done is the same with and without an event loop; only who is called differs. So it is written once
as generators that yield each call to be made (:class:`_Steps`), and :class:`CustomDriver` awaits what the
calls answer where :class:`SyncCustomDriver` takes it.
"""

from __future__ import annotations

import math
import os
import threading
import time
import uuid
import weakref
from collections import OrderedDict
from collections.abc import Callable, Generator
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, TypeVar

from . import _waiting
from ._calling import CallbackCaller, SyncCallbackCaller
from .callbacks import RateLimiterCallbacks, SyncRateLimiterCallbacks, event_of
from .custom import checked_builder, checked_usage
from .errors import (
    AcquireRefundFailedError,
    CardinalityLimitExceededError,
    ClosedError,
    DuplicateRefundError,
    UnknownReservationError,
)
from .quotas import WHOLE_METRICS, BucketId, FrozenUsage, PerModelConfig, frozen_usage

_Answer = TypeVar("_Answer")
_Steps = Generator[Callable[[], Any], Any, _Answer]


@dataclass(frozen=True)
class CustomReservation:
    """What a limiter over a custom backend gives, with the fields of ``CapacityReservation``."""

    reservation_id: str
    usage: FrozenUsage
    model_family: str
    bucket_ids: frozenset[BucketId] | None
    model: str | None
    limiter_instance_id: str
    created_at_seconds: float | None
    is_unlimited: bool = False

    def get_usage(self) -> FrozenUsage:
        """What was reserved."""
        return self.usage


@dataclass(frozen=True)
class Ask:
    """One request as a limiter has resolved it."""

    config: PerModelConfig
    family: str
    model: str
    usage: FrozenUsage
    request_id: str | None = None


@dataclass(frozen=True)
class Bounds:
    """How much a limiter keeps, and how long. ``lifetime`` is in seconds, ``None`` for ever."""

    reservations: int = 100_000
    families: int = 10_000
    lifetime: float | None = None


@dataclass
class _Family:
    config: PerModelConfig
    backend: Any
    pending: int = 0


class _Book:
    """Who holds what. Its lock is never held while a backend is called."""

    _caller: CallbackCaller | SyncCallbackCaller
    _waits: str
    """The method that waits, which is called otherwise in backends of the other kind."""

    def __init__(self, builder: Any, instance_id: str, bounds: Bounds) -> None:
        self._builder = checked_builder(builder)
        self._instance_id = instance_id
        self._bounds = bounds
        self._lock = threading.RLock()
        self._families: dict[str, _Family] = {}
        # One that nobody refers to any more cannot be refunded: it counts as used, and takes no room.
        self._held: weakref.WeakValueDictionary[str, CustomReservation] = weakref.WeakValueDictionary()
        self._ending: set[str] = set()
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._closed = False
        self._process = os.getpid()

    @property
    def closed(self) -> bool:
        """Whether the limiter is closed."""
        return self._closed

    def families(self) -> dict[str, _Family]:
        """The families that are in use, by name."""
        with self._lock:
            return dict(self._families)

    def state(self) -> dict[str, object]:
        """What ``snapshot_state`` tells."""
        with self._lock:
            return {
                "in_flight_reservations": len(self._held),
                "model_families": len(self._families),
                "backend_type": "custom",
                "marker_count_estimate": len(self._held),
                "refund_dedup_count_estimate": len(self._ended),
            }

    def _take(self, ask: Ask, take: str, **options: object) -> _Steps[CustomReservation]:
        self._check_process()
        if ask.config.is_unlimited:
            return (yield from self._unlimited(ask))
        checked_usage(ask.usage, frozenset(ask.config.quotas.names), "usage")
        usage = _whole(ask.usage, "usage")
        family = yield from self._family(ask)
        reservation = self._new(ask, usage)
        options["reservation_id"] = reservation.reservation_id
        options["reservation_lifetime_seconds"] = self._bounds.lifetime
        family.pending += 1
        try:
            when = yield lambda: getattr(family.backend, take)(usage, **options)
        except BaseException:
            self._forget(reservation)
            raise
        finally:
            family.pending -= 1
        if isinstance(when, (int, float)):
            reservation = replace(reservation, created_at_seconds=float(when))
        self._hold(reservation)
        try:
            yield from self._tell("capacity_consumed", reservation, ask.request_id)
        except BaseException as interrupted:
            yield from self._give_back(reservation, interrupted)
            raise
        return reservation

    def _unlimited(self, ask: Ask) -> _Steps[CustomReservation]:
        _whole(ask.usage, "usage")
        self._check_open()
        reservation = replace(self._made(ask, FrozenUsage()), bucket_ids=None, is_unlimited=True)
        yield from self._tell("capacity_consumed", reservation, ask.request_id)
        return reservation

    def _give_back(self, reservation: CustomReservation, interrupted: BaseException) -> _Steps[None]:
        """Nobody will learn of the reservation, so nothing of it was used."""
        try:
            yield lambda: self.refund(dict.fromkeys(reservation.usage, 0), reservation)
        except Exception as error:
            raise AcquireRefundFailedError(reservation, interrupted, error) from error

    def _refund(self, reservation: CustomReservation, actual: object) -> _Steps[None]:
        self._check_process()
        if not isinstance(reservation, CustomReservation):
            raise ValueError(f"reservation must be what acquire_capacity answered, not {type(reservation).__name__}")
        if reservation.is_unlimited:
            return
        used = _whole(frozen_usage(actual), "actual_usage")
        checked_usage(used, frozenset(reservation.usage), "actual_usage")
        with self._lock:
            self._check_open()
            backend = self._claim(reservation)
        try:
            credited = yield self._refund_call(backend, reservation, used)
        except (DuplicateRefundError, UnknownReservationError):
            self._end(reservation)
            raise
        except BaseException:
            # What became of it is unknown; it may be tried again.
            self._ending.discard(reservation.reservation_id)
            raise
        self._end(reservation)
        if credited is False:
            raise _duplicate(reservation, "already_refunded")
        yield from self._tell("capacity_refunded", reservation, None)

    def _refund_call(self, family: _Family, reservation: CustomReservation, used: FrozenUsage) -> Callable[[], Any]:
        backend = family.backend
        scoped = getattr(backend, "refund_capacity_for_buckets", None)
        if scoped is None:
            return lambda: backend.refund_capacity(reservation.usage, used)
        buckets = reservation.bucket_ids or frozenset()
        return lambda: scoped(
            reservation.usage,
            used,
            bucket_ids=buckets & _limits(family.config).keys(),
            reservation_id=reservation.reservation_id,
            reservation_model_family=reservation.model_family,
            reservation_bucket_ids=buckets,
            reservation_reserved_usage=reservation.usage,
        )

    def _claim(self, reservation: CustomReservation) -> _Family:
        name = reservation.reservation_id
        family = self._families.get(reservation.model_family)
        if name in self._ended:
            raise _duplicate(reservation, "already_refunded")
        if name in self._ending:
            raise _duplicate(reservation, "in_progress")
        held = self._held.get(name)
        if family is None or (held != reservation and not _knows_all(family.backend, held)):
            raise UnknownReservationError(reservation_id=name, model_family=reservation.model_family)
        if held is not None and self._is_over(held):
            self._end(held)
            raise UnknownReservationError(
                "this reservation's lifetime is over, and what it held counts as used",
                reservation_id=name,
                model_family=reservation.model_family,
            )
        self._ending.add(name)
        return family

    def _is_over(self, reservation: CustomReservation) -> bool:
        lifetime, made = self._bounds.lifetime, reservation.created_at_seconds
        return lifetime is not None and made is not None and time.time() > made + lifetime

    def _family(self, ask: Ask) -> _Steps[_Family]:
        """The backend of a family, told of what changed in its configuration."""
        config = replace(ask.config, model_family=ask.family)
        with self._lock:
            self._check_open()
            family = self._families.get(ask.family)
            if family is None:
                return self._build(config)
            known, family.config = family.config, config
        try:
            yield from self._reconfigure(family, known)
        except BaseException:
            family.config = known
            raise
        return family

    def _build(self, config: PerModelConfig) -> _Family:
        if len(self._families) >= self._bounds.families:
            raise CardinalityLimitExceededError(f"max_model_families is {self._bounds.families}, and all are in use")
        backend = self._builder.build(config, callbacks=self._bundle())  # type: ignore[attr-defined]
        if backend is None:
            raise ValueError("backend.build() answered None; it must answer a backend")
        if not hasattr(backend, self._waits):
            raise ValueError(
                f"backend.build() answered a {type(backend).__name__} without {self._waits}: RateLimiter runs over a "
                "RateLimiterBackend, SyncRateLimiter over a SyncRateLimiterBackend"
            )
        family = self._families[config.get_model_family()] = _Family(config, backend)
        return family

    def _reconfigure(self, family: _Family, known: PerModelConfig) -> _Steps[None]:
        before, after = _limits(known), _limits(family.config)
        if before == after:
            return
        if before.keys() != after.keys():
            family.backend = yield from self._replaced(family)
        for (metric, window), limit in after.items():
            if before.get((metric, window), limit) != limit:
                yield partial(family.backend.apply_configured_max_capacity, metric, window, float(limit))

    def _replaced(self, family: _Family) -> _Steps[Any]:
        name = family.config.get_model_family()
        old = family.backend
        if not old.supports_metric_set_change():
            raise ValueError(f"the metrics or windows of family {name!r} changed, which its backend cannot follow")
        if family.pending:
            raise ValueError(f"the metrics or windows of family {name!r} changed while {family.pending} calls wait")
        new = self._builder.build(family.config, callbacks=self._bundle())  # type: ignore[attr-defined]
        return (yield lambda: old.prepare_reconfigured_backend(new, family.config))

    def _set_limit(self, ask: Ask, bucket: BucketId, value: float) -> _Steps[None]:
        self._check_process()
        metric, window = bucket
        if bucket not in _limits(ask.config):
            raise ValueError(f"family {ask.family!r} has no quota of {metric!r} for {window} seconds")
        with self._lock:
            self._check_open()
            if ask.family not in self._families:
                raise ValueError(f"nothing was acquired for family {ask.family!r} yet; acquire first")
        family = yield from self._family(ask)
        yield lambda: family.backend.set_max_capacity(metric, window, float(value))

    def _new(self, ask: Ask, usage: FrozenUsage) -> CustomReservation:
        reservation = self._made(ask, usage)
        with self._lock:
            self._make_room()
            self._held[reservation.reservation_id] = reservation
        return reservation

    def _made(self, ask: Ask, usage: FrozenUsage) -> CustomReservation:
        return CustomReservation(
            reservation_id=uuid.uuid4().hex,
            usage=usage,
            model_family=ask.family,
            bucket_ids=frozenset(_limits(ask.config)),
            model=ask.model,
            limiter_instance_id=self._instance_id,
            created_at_seconds=time.time(),
        )

    def _make_room(self) -> None:
        if len(self._held) < self._bounds.reservations:
            return
        for held in list(self._held.values()):
            if self._is_over(held):
                self._end(held)
        if len(self._held) >= self._bounds.reservations:
            raise CardinalityLimitExceededError(
                f"max_in_flight_reservations is {self._bounds.reservations}, and all are held; refund some"
            )

    def _hold(self, reservation: CustomReservation) -> None:
        with self._lock:
            self._held[reservation.reservation_id] = reservation

    def _forget(self, reservation: CustomReservation) -> None:
        with self._lock:
            self._held.pop(reservation.reservation_id, None)

    def _end(self, reservation: CustomReservation) -> None:
        with self._lock:
            self._held.pop(reservation.reservation_id, None)
            self._ending.discard(reservation.reservation_id)
            self._ended[reservation.reservation_id] = None
            if len(self._ended) > _ENDED_KEPT:
                self._ended.popitem(last=False)

    def _check_process(self) -> None:
        """Not under the lock: after a fork it may be held by a thread that is not here."""
        if not self._is_here():
            raise RuntimeError("this limiter was made in another process: make it in each worker, after the fork")

    def _is_here(self) -> bool:
        return self._process == os.getpid()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the limiter is closed: make a new one")

    def _closes(self) -> bool:
        """Closes it; whether it was open. After a fork it is the parent's, to be closed there."""
        if not self._is_here():
            return False
        with self._lock:
            was_closed, self._closed = self._closed, True
        return not was_closed

    def _tell(self, event_type: str, reservation: CustomReservation, request_id: str | None) -> _Steps[None]:
        if not self._hears("on_lifecycle_event"):
            return
        event = event_of(event_type, reservation, request_id)
        yield lambda: self._call("on_lifecycle_event", event=event)

    def _hears(self, slot: str) -> bool:
        return self._caller.has(slot)

    def _call(self, slot: str, **given: object) -> Any:
        return self._caller.call(slot, **given)

    def refund(self, actual: object, reservation: CustomReservation) -> Any:
        """Replaces what is held by what was used."""
        raise NotImplementedError

    def _bundle(self) -> Any:
        raise NotImplementedError


# What a second refund is told for: the last so many reservations that ended.
_ENDED_KEPT = 65_536


class CustomDriver(_Book):
    """The custom backend of a :class:`~tallygate.RateLimiter`.

    ``acquire`` and ``record`` answer a :class:`CustomReservation`. All raise what the limiter's methods
    promise; what the backend itself raises goes through.
    """

    _waits = "await_for_capacity"

    def __init__(self, builder: Any, instance_id: str, bounds: Bounds, caller: CallbackCaller) -> None:
        super().__init__(builder, instance_id, bounds)
        self._caller: CallbackCaller = caller

    async def acquire(self, ask: Ask, timeout: float | None) -> CustomReservation:
        """Waits for capacity and holds it."""
        return await _awaited(self._take(ask, self._waits, timeout=timeout))

    async def record(self, ask: Ask) -> CustomReservation:
        """Charges what was used already."""
        return await _awaited(self._take(ask, "consume_capacity"))

    async def refund(self, actual: object, reservation: CustomReservation) -> None:
        """Replaces what is held by what was used. Once begun it is carried out, though its caller be cancelled."""
        await _waiting.carry_out(lambda: _awaited(self._refund(reservation, actual)))

    async def set_max_capacity(self, ask: Ask, bucket: BucketId, value: float) -> None:
        """Changes a limit of the family of ``ask``."""
        await _awaited(self._set_limit(ask, bucket, value))

    async def aclose(self) -> None:
        """Ends all use, and closes the builder once."""
        close = getattr(self._builder, "aclose", None) or getattr(self._builder, "close", None)
        if self._closes() and close is not None:
            await _waiting.carry_out(lambda: _closed(close))

    def close(self) -> None:
        """Ends all use, where nobody can wait."""
        close = getattr(self._builder, "close", None)
        if self._closes() and close is not None:
            close()

    def _bundle(self) -> RateLimiterCallbacks | None:
        def guarded(slot: str) -> Any:
            async def callback(**given: object) -> None:
                await self._caller.call(slot, **given)

            return callback if self._caller.has(slot) else None

        return RateLimiterCallbacks(**{each.name: guarded(each.name) for each in fields(RateLimiterCallbacks)})


class SyncCustomDriver(_Book):
    """The custom backend of a :class:`~tallygate.SyncRateLimiter`; see :class:`CustomDriver`."""

    _waits = "wait_for_capacity"

    def __init__(self, builder: Any, instance_id: str, bounds: Bounds, caller: SyncCallbackCaller) -> None:
        super().__init__(builder, instance_id, bounds)
        self._caller: SyncCallbackCaller = caller

    def acquire(self, ask: Ask, timeout: float | None) -> CustomReservation:
        """Waits for capacity and holds it."""
        return _taken(self._take(ask, self._waits, timeout=timeout))

    def record(self, ask: Ask) -> CustomReservation:
        """Charges what was used already."""
        return _taken(self._take(ask, "consume_capacity"))

    def refund(self, actual: object, reservation: CustomReservation) -> None:
        """Replaces what is held by what was used."""
        _taken(self._refund(reservation, actual))

    def set_max_capacity(self, ask: Ask, bucket: BucketId, value: float) -> None:
        """Changes a limit of the family of ``ask``."""
        _taken(self._set_limit(ask, bucket, value))

    def close(self) -> None:
        """Ends all use, and closes the builder once."""
        close = getattr(self._builder, "close", None)
        if self._closes() and close is not None:
            close()

    def _bundle(self) -> SyncRateLimiterCallbacks | None:
        def guarded(slot: str) -> Any:
            def callback(**given: object) -> None:
                self._caller.call(slot, **given)

            return callback if self._caller.has(slot) else None

        return SyncRateLimiterCallbacks(**{each.name: guarded(each.name) for each in fields(SyncRateLimiterCallbacks)})


async def _closed(close: Callable[[], Any]) -> None:
    answer = close()
    if hasattr(answer, "__await__"):
        await answer


async def _awaited(steps: _Steps[_Answer]) -> _Answer:
    try:
        call = next(steps)
        while True:
            try:
                answer = await call()
            except BaseException as error:
                call = steps.throw(error)
            else:
                call = steps.send(answer)
    except StopIteration as end:
        answer_of: _Answer = end.value
        return answer_of


def _taken(steps: _Steps[_Answer]) -> _Answer:
    try:
        call = next(steps)
        while True:
            try:
                answer = call()
            except BaseException as error:
                call = steps.throw(error)
            else:
                call = steps.send(answer)
    except StopIteration as end:
        answer_of: _Answer = end.value
        return answer_of


def _limits(config: PerModelConfig) -> dict[BucketId, float]:
    return {quota.bucket_id: quota.limit for quota in config.quotas}


def _knows_all(backend: Any, held: CustomReservation | None) -> bool:
    """Whether a reservation that is not held here may be another process's."""
    knows = getattr(backend, "supports_acquire_marker_authority", None)
    return held is None and knows is not None and knows() is True


def _whole(usage: FrozenUsage, argument: str) -> FrozenUsage:
    for metric, amount in usage.items():
        if amount < 0:
            raise ValueError(f"{argument}[{metric!r}] must not be negative, not {amount!r}")
    return FrozenUsage({metric: math.ceil(amount) if metric in WHOLE_METRICS else amount for metric, amount in usage.items()})


def _duplicate(reservation: CustomReservation, reason: Any) -> DuplicateRefundError:
    return DuplicateRefundError(
        reason=reason, reservation_id=reservation.reservation_id, model_family=reservation.model_family
    )
