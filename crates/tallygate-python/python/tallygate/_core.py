"""What both limiters do alike."""

from __future__ import annotations

import atexit
import os
import time
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from . import _log, _waiting
from ._models import Ask, Bounds, KnownFamily, Models
from ._native import CapacityReservation, Engine, Family, Gate, Pending, Retired
from ._steps import Steps
from .backends import MemoryBackendBuilder, _StoreBuilder
from .quotas import (
    Capacities,
    FrozenUsage,
    PerModelConfig,
    PerModelConfigGetter,
    checked_limit,
    checked_name,
    checked_window,
    difference,
    frozen_usage,
    is_async_callable,
    resolve_config,
)

if TYPE_CHECKING:
    from .diagnostics import RateLimiterDiagnostic

# Seconds, more than anybody waits; an int may be too large for a float.
_LONGEST = 2**62

# Stores that outlive the process: what is to be written is written before it ends.
_to_be_closed: weakref.WeakSet[Engine] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for engine in list(_to_be_closed):
        engine.close()


class LimiterCore:
    """A limiter but for how it waits."""

    _caller: Any
    _driver: Any

    def __init__(
        self,
        config: PerModelConfig | PerModelConfigGetter,
        backend: object,
        bounds: Bounds,
        lifetime: float | None,
    ) -> None:
        self._limiter_instance_id = os.urandom(16).hex()
        self._bounds = bounds
        self._lifetime = _checked_lifetime(lifetime)
        self._config = _checked_config(config)
        # What needs neither a configuration's nor a callback's say: models of a fixed configuration.
        self._known: dict[object, Family] = {}
        if backend is None:
            backend = MemoryBackendBuilder()
        if isinstance(backend, type):
            raise ValueError(f"backend must be a builder, not the class {backend.__name__}; call it: {backend.__name__}()")
        if isinstance(backend, (str, os.PathLike)):
            # It may be a URL with a password, so it is not repeated.
            raise ValueError(
                f"backend must be a builder, not {type(backend).__name__}: RedisBackendBuilder(url, key_prefix=...), or FolderBackendBuilder(path)"
            )
        self._backend = backend
        if isinstance(backend, _StoreBuilder):
            self._engine = backend.open()
            if self._engine.kind != "memory":
                _to_be_closed.add(self._engine)
            self._gate = Gate(self._engine, self._limiter_instance_id, bounds.max_in_flight_reservations, self._lifetime)
            self._models = Models(self._config, self._engine, self._gate, bounds)
            self._driver = None
        else:
            self._driver = self._drive(backend)

    def _drive(self, backend: object) -> Any:
        raise NotImplementedError

    def snapshot_state(self) -> dict[str, object]:
        """How the limiter stands, without names, addresses or amounts.

        ``in_flight_reservations`` counts those open and those waited for, ``model_families`` the families in use; ``backend_type`` is
        ``memory``, ``folder``, ``redis`` or ``custom``.
        """
        if self._driver is not None:
            state: dict[str, object] = self._driver.state()
            return state
        state = {
            "in_flight_reservations": self._gate.open,
            "model_families": len(self._models),
            "backend_type": self._engine.kind,
        }
        if self._engine.kind != "memory":
            state["marker_count_estimate"] = self._gate.open
            state["refund_dedup_count_estimate"] = 0
        return state

    def _steps_to_diagnose(self, limiter_type: str) -> Steps[RateLimiterDiagnostic]:
        from ._diagnosing import Diagnosis

        diagnosis = Diagnosis(self, limiter_type)
        return (yield from diagnosis.of_store() if self._driver is None else diagnosis.of_driver(self._driver))

    def clear_unused_model_families(self, unused_for_seconds: float) -> int:
        """Forgets families that were not used for so long, have no open reservation, and whose quotas are full again
        and as they are configured.

        Answers how many. What a family has used is never forgotten.
        """
        if isinstance(unused_for_seconds, bool) or not isinstance(unused_for_seconds, (int, float)) or not unused_for_seconds >= 0:
            raise ValueError(f"unused_for_seconds must be a number of seconds, 0 or more, not {unused_for_seconds!r}")
        if self._driver is not None:
            return 0
        forgotten = self._models.forget(float(min(unused_for_seconds, _LONGEST)))
        if forgotten:
            self._known.clear()
        return forgotten

    def _steps_to_acquire(
        self, usage: object, model: object, timeout: float | None, request_id: str | None = None
    ) -> Steps[Any]:
        if self._driver is not None:
            custom = self._custom_ask(usage, model, request_id)
            within = checked_timeout(timeout)
            return (yield lambda: self._driver.acquire(custom, within))
        ask = self._models.ask(model)
        while True:
            try:
                return (yield from self._acquire(usage, ask, timeout, request_id))
            except Retired:
                ask = self._models.ask_anew(model)

    def _acquire(self, usage: object, ask: Ask, timeout: float | None, request_id: str | None) -> Steps[Any]:
        if ask.family is None:
            return (yield from self._unlimited(usage, ask, request_id))
        family = ask.family
        if not self._caller:
            if isinstance(self._config, PerModelConfig):
                self._known[ask.model] = family.native
            return (yield lambda: family.native.acquire(usage, ask.model, timeout))
        return (yield from self._acquire_aloud(usage, ask, timeout, request_id))

    def _steps_to_record(self, usage: object, model: object) -> Steps[Any]:
        if self._driver is not None:
            custom = self._custom_ask(usage, model, None)
            return (yield lambda: self._driver.record(custom))
        ask = self._models.ask(model)
        while True:
            try:
                return (yield from self._record(usage, ask))
            except Retired:
                ask = self._models.ask_anew(model)

    def _record(self, usage: object, ask: Ask) -> Steps[Any]:
        if ask.family is None:
            return (yield from self._unlimited(usage, ask, None))
        family = ask.family
        if not self._caller:
            return (yield lambda: family.native.record(usage, ask.model))
        yield from self._tell_missing(family)
        reservation = yield lambda: family.native.record(usage, ask.model)
        yield from self._tell_consumed(reservation, family, None, None)
        return reservation

    def _steps_to_refund(self, actual_usage: Any, reservation: Any) -> Steps[None]:
        if isinstance(actual_usage, CapacityReservation) or hasattr(actual_usage, "reservation_id"):
            actual_usage, reservation = reservation, actual_usage
        if self._driver is not None:
            yield lambda: self._driver.refund(actual_usage, reservation)
            return
        if self._caller and isinstance(actual_usage, Mapping):
            # Read once: what is told is what was refunded.
            actual_usage = dict(actual_usage)
        yield lambda: self._gate.refund(actual_usage, reservation)
        if self._caller and not reservation.is_unlimited:
            yield from self._tell_refunded(reservation, actual_usage)

    def _steps_to_set(self, model: object, metric: object, per_seconds: object, value: object) -> Steps[None]:
        if self._driver is None:
            yield self._models.set_limit(model, metric, per_seconds, value)
            return
        config, family = resolve_config(self._config, model, self._bounds.max_alias_length)
        from ._custom_driver import Ask as CustomAsk

        ask = CustomAsk(config, family, str(model), FrozenUsage({}))
        bucket = (checked_name(metric, "metric", self._bounds.max_metric_length), checked_window(per_seconds))
        limit = checked_limit(value, bucket[0], "value")
        yield lambda: self._driver.set_max_capacity(ask, bucket, limit)

    def _steps_for_request(self, request: dict[str, Any], extra: object, timeout: float | None) -> Steps[Any]:
        more = {} if extra is None else frozen_usage(extra)
        for metric, amount in more.items():
            if amount < 0:
                raise ValueError(f"extra_usage[{metric!r}] must not be negative, not {amount!r}")
        if "model" not in request:
            near = next((name for name in ("model_name", "modelName", "model_id", "modelId") if name in request), None)
            raise ValueError("model is missing" + (f"; you gave {near!r}, call it model" if near else "; give it by keyword"))
        config, _ = resolve_config(self._config, request["model"], self._bounds.max_alias_length)
        usage = self._counted(config, request)
        for metric, amount in more.items():
            if metric not in usage and not config.is_unlimited:
                raise ValueError(f"extra_usage names {metric!r}, which usage_counter does not; there are {sorted(usage)}")
            usage[metric] = usage.get(metric, 0) + amount
        request_id = request.get("request_id")
        return (
            yield from self._steps_to_acquire(usage, request["model"], timeout, None if request_id is None else str(request_id))
        )

    def _counted(self, config: PerModelConfig, request: dict[str, Any]) -> dict[str, int | float]:
        counter = config.usage_counter
        if counter is None:
            if config.is_unlimited:
                return {}
            raise ValueError("the configuration has no usage_counter; give it one, or call acquire_capacity with the usage")
        from .callbacks import keyword_names

        names = keyword_names(counter)
        given = request if names is None else {name: value for name, value in request.items() if name in names}
        return dict(frozen_usage(counter(**given)))

    def _unlimited(self, usage: object, ask: Ask, request_id: str | None) -> Steps[Any]:
        for metric, amount in frozen_usage(usage).items():
            if amount < 0:
                raise ValueError(f"usage[{metric!r}] must not be negative, not {amount!r}")
        reservation: CapacityReservation = self._gate.unlimited(ask.model)
        if self._caller:
            yield from self._tell_event("capacity_consumed", reservation, request_id)
        return reservation

    def _custom_ask(self, usage: object, model: object, request_id: str | None) -> Any:
        from ._custom_driver import Ask as CustomAsk

        config, family = resolve_config(self._config, model, self._bounds.max_alias_length)
        return CustomAsk(config, family, str(model), frozen_usage(usage), request_id)

    def _acquire_aloud(
        self, usage: object, ask: Ask, timeout: float | None, request_id: str | None
    ) -> Steps[Any]:
        family = ask.family
        assert family is not None
        yield from self._tell_missing(family)
        started = time.monotonic()
        waited = False
        # Only a listener's sake is worth a try before the wait: over a server it is a round trip.
        if any(self._caller.has(slot) for slot in ("on_wait_start", "after_wait_end_consumption")):
            # Read once: callbacks and other tasks run before it is needed again.
            usage = dict(usage) if isinstance(usage, Mapping) else usage
            try:
                reservation = yield lambda: family.native.acquire(usage, ask.model, 0)
            except TimeoutError:
                if timeout == 0:
                    raise
                answer = family.native.acquire(usage, ask.model, timeout)
                reservation, waited = answer, isinstance(answer, Pending)
                if isinstance(answer, Pending):
                    reservation = yield from self._wait_aloud(answer, usage, ask, request_id)
        else:
            reservation = yield lambda: family.native.acquire(usage, ask.model, timeout)
        try:
            yield from self._tell_consumed(reservation, family, request_id, time.monotonic() - started if waited else None)
        except BaseException:
            _waiting.give_back(reservation)
            raise
        return reservation

    def _wait_aloud(self, pending: Pending, usage: Any, ask: Ask, request_id: str | None) -> Steps[Any]:
        """Tells of a wait that has begun: it keeps its place, and its timeout runs, while the callback does."""
        assert ask.family is not None
        pending.follow()
        try:
            yield from self._tell_wait(ask.family, FrozenUsage(usage), ask, request_id)
        except BaseException:
            pending.drop()
            raise
        return (yield lambda: pending)

    def _capacities(self, family: KnownFamily) -> Steps[Capacities | None]:
        """What is left of each quota, for callbacks; ``None`` where the store cannot be asked, which must not undo what was done."""
        try:
            left = yield family.native.left
        except Exception:
            _log.warn("callbacks are not told of, as the store could not be asked what is left", error=True)
            return None
        return self._models.capacities(family, left)

    def _tell_missing(self, family: KnownFamily) -> Steps[None]:
        if not family.is_fresh:
            return
        family.is_fresh = False
        if not self._caller.has("on_missing_consumption_data"):
            return
        capacities = yield from self._capacities(family)
        for bucket, capacity in (capacities or {}).items():
            if capacity == family.limit(bucket):
                yield _call(
                    self._caller,
                    "on_missing_consumption_data",
                    model_family=family.native.name,
                    usage_metric=bucket[0],
                    per_seconds=bucket[1],
                )

    def _tell_wait(self, family: KnownFamily, usage: FrozenUsage, ask: Ask, request_id: str | None) -> Steps[None]:
        if not self._caller.has("on_wait_start"):
            return
        capacities = yield from self._capacities(family)
        if capacities is None:
            return
        yield _call(
            self._caller,
            "on_wait_start",
            model_family=family.native.name,
            usage=usage,
            preconsumption_capacities=capacities,
            model_alias=ask.model,
            request_id=request_id,
            reservation_id=None,
        )

    def _tell_consumed(
        self, reservation: CapacityReservation, family: KnownFamily, request_id: str | None, waited: float | None
    ) -> Steps[None]:
        usage = reservation.usage
        due = ["on_capacity_consumed"] if waited is None else ["on_capacity_consumed", "after_wait_end_consumption"]
        slots = [slot for slot in due if self._caller.has(slot)]
        after = (yield from self._capacities(family)) if slots else None
        if after is not None:
            before = Capacities({bucket: difference(bucket[0], after[bucket], -usage.get(bucket[0], 0)) for bucket in after})
            fields: dict[str, Any] = {
                "model_family": family.native.name,
                "usage": usage,
                "preconsumption_capacities": before,
                "postconsumption_capacities": after,
            }
            if "on_capacity_consumed" in slots:
                yield _call(self._caller, "on_capacity_consumed", **fields, current_time=time.time())
            if waited is not None and "after_wait_end_consumption" in slots:
                named = {"model_alias": reservation.model, "request_id": request_id, "reservation_id": reservation.reservation_id}
                yield _call(self._caller, "after_wait_end_consumption", **fields, **named, wait_time_s=waited)
        yield from self._tell_event("capacity_consumed", reservation, request_id)

    def _tell_refunded(self, reservation: CapacityReservation, actual_usage: Any) -> Steps[None]:
        used = FrozenUsage(actual_usage)
        family = self._models.family(reservation.model_family) if self._caller.has("on_capacity_refunded") else None
        after = None if family is None else (yield from self._capacities(family))
        if after is not None:
            refunded = FrozenUsage(
                {metric: difference(metric, amount, used[metric]) for metric, amount in reservation.usage.items()}
            )
            yield _call(
                self._caller,
                "on_capacity_refunded",
                model_family=reservation.model_family,
                reserved_usage=reservation.usage,
                actual_usage=used,
                refunded_usage=refunded,
                prerefund_capacities=Capacities(
                    {bucket: difference(bucket[0], after[bucket], refunded.get(bucket[0], 0)) for bucket in after}
                ),
                postrefund_capacities=after,
            )
        yield from self._tell_event("capacity_refunded", reservation, None)

    def _tell_event(self, event_type: str, reservation: CapacityReservation, request_id: str | None) -> Steps[None]:
        if not self._caller.has("on_lifecycle_event"):
            return
        from .callbacks import event_of

        yield _call(self._caller, "on_lifecycle_event", event=event_of(event_type, reservation, request_id))

    def _say_closed(self) -> None:
        self._known.clear()
        if self._driver is None and self._gate.open:
            _log.warn("limiter closed with reservations open (%d): they cannot be refunded any more", self._gate.open)

    def __reduce__(self) -> Any:
        raise TypeError(f"{type(self).__name__} cannot be pickled; make one in each process")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._config!r}, backend={self._backend!r})"


def _call(caller: Any, slot: str, **given: object) -> Callable[[], Any]:
    return lambda: caller.call(slot, **given)


def _checked_config(config: Any) -> Any:
    if isinstance(config, PerModelConfig):
        return config
    if not callable(config):
        raise ValueError(f"cfg must be a PerModelConfig, or a function from model name to one, not {type(config).__name__}")
    if is_async_callable(config):
        raise ValueError("cfg must be a plain function, not a coroutine function")
    return config


def _checked_lifetime(seconds: Any) -> float | None:
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < float("inf"):
        raise ValueError(f"max_reservation_lifetime_seconds must be a number of seconds above 0, or None, not {seconds!r}")
    return float(min(seconds, _LONGEST))


def checked_timeout(timeout: Any, argument: str = "timeout") -> float | None:
    """How long somebody waits, in seconds; ``None`` for ever."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 <= timeout < float("inf"):
        raise ValueError(f"{argument} must be None or a finite number of seconds, 0 or more (got {timeout!r})")
    return float(min(timeout, _LONGEST))


def check_unused(drain: Any, pid_check: Any) -> None:
    """Refuses what would have no meaning, though the limiter needs neither."""
    checked_timeout(drain, "close_drain_timeout_seconds")
    if not isinstance(pid_check, bool):
        raise ValueError(f"pid_check must be a bool, not {type(pid_check).__name__}")
