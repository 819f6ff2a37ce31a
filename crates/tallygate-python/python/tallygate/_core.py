"""What both limiters do alike.

Operations of several steps are written once, as generators that yield each call to be made (:data:`Steps`): :func:`run` awaits what a
call answers, :func:`run_here` waits for it on its thread.
"""

from __future__ import annotations

import inspect
import logging
import threading
import time
import uuid
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from . import _waiting
from ._native import CapacityReservation, Engine, Family, Gate, Pending
from .backends import MemoryBackendBuilder, _StoreBuilder
from .callbacks import LifecycleEvent, keyword_names
from .errors import CardinalityLimitExceededError
from .quotas import (
    MAX_ALIAS_LENGTH,
    MAX_METRIC_LENGTH,
    MAX_MODEL_FAMILY_LENGTH,
    BucketId,
    Capacities,
    FrozenUsage,
    PerModelConfig,
    PerModelConfigGetter,
    Quota,
    UsageQuotas,
    checked_limit,
    checked_name,
    checked_window,
    frozen_usage,
    is_async_callable,
    resolve_config,
)

logger = logging.getLogger("tallygate")

_Answer = TypeVar("_Answer")
Steps = Generator[Callable[[], Any], Any, _Answer]


async def run(steps: Steps[_Answer]) -> _Answer:
    """Takes the steps, awaiting what is not there at once."""
    try:
        call = next(steps)
        while True:
            try:
                answer = call()
                if isinstance(answer, Pending):
                    answer = await _waiting.wait(answer)
                elif inspect.isawaitable(answer):
                    answer = await answer
            except BaseException as error:
                call = steps.throw(error)
            else:
                call = steps.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def run_here(steps: Steps[_Answer]) -> _Answer:
    """Takes the steps on this thread."""
    try:
        call = next(steps)
        while True:
            try:
                answer = _waiting.finish_here(call())
            except BaseException as error:
                call = steps.throw(error)
            else:
                call = steps.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Bounds:
    """How much a limiter keeps. A name or a number past a bound is refused with :class:`CardinalityLimitExceededError`."""

    max_model_families: int = 10_000
    max_metrics_per_family: int = 100
    max_aliases: int = 10_000
    max_in_flight_reservations: int = 100_000
    max_model_family_length: int = MAX_MODEL_FAMILY_LENGTH
    max_metric_length: int = MAX_METRIC_LENGTH
    max_alias_length: int = MAX_ALIAS_LENGTH

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number from 1, not {value!r}")


@dataclass
class _Known:
    """A family of models, and what limits it now."""

    config: PerModelConfig
    native: Family
    quotas: dict[BucketId, Quota]
    overrides: dict[BucketId, int] = field(default_factory=dict)
    models: set[str] = field(default_factory=set)
    is_fresh: bool = True

    def limit(self, bucket: BucketId) -> int:
        """What a quota lets through now."""
        return self.overrides.get(bucket, self.quotas[bucket].limit)


@dataclass(frozen=True)
class Ask:
    """A model as the configuration knows it; ``family`` is ``None`` where nothing is limited."""

    config: PerModelConfig
    model: str
    family: _Known | None


class Models:
    """Which model is of which family, and the rules that follow. Safe for threads."""

    def __init__(self, config: PerModelConfig | PerModelConfigGetter, engine: Engine, gate: Gate, bounds: Bounds) -> None:
        self._config = config
        self._engine = engine
        self._gate = gate
        self._bounds = bounds
        self._lock = threading.RLock()
        self._families: dict[str, _Known] = {}
        self._asks: dict[str, Ask] = {}

    def __len__(self) -> int:
        return len(self._families)

    def ask(self, model: object) -> Ask:
        """What holds for a model now.

        Raises ``ValueError`` for what is no model, and for a configuration that contradicts what the family is used with.
        """
        config, name = resolve_config(self._config, model, self._bounds.max_alias_length)
        known = self._asks.get(str(model))
        if known is not None and (known.config is config or _is_same(known.config, config)):
            return known
        with self._lock:
            ask = self._resolve(config, str(model), name)
            if len(self._asks) >= self._bounds.max_aliases and ask.model not in self._asks:
                raise CardinalityLimitExceededError(
                    f"max_aliases is {self._bounds.max_aliases}, and as many models are known; raise it"
                )
            self._asks[ask.model] = ask
            return ask

    def set_limit(self, model: object, metric: object, per_seconds: object, value: object) -> None:
        """Changes what one quota of the model's family lets through, here and now."""
        bucket = (checked_name(metric, "metric", self._bounds.max_metric_length), checked_window(per_seconds))
        limit = checked_limit(value, "value")
        with self._lock:
            family = self.ask(model).family
            if family is None:
                raise ValueError(f"model {model!r} is unlimited; there is no quota to change")
            if bucket not in family.quotas:
                there = ", ".join(f"{metric} per {window}" for metric, window in family.quotas)
                raise ValueError(f"there is no quota of {bucket[0]!r} per {bucket[1]} seconds; there is {there}")
            before = dict(family.overrides)
            family.overrides[bucket] = limit
            try:
                self._enforce()
            except BaseException:
                family.overrides = before
                raise

    def forget(self, unused_for: float) -> int:
        """Drops families that nobody uses and whose quotas are full; answers how many."""
        with self._lock:
            cutoff = self._engine.now() - unused_for
            idle = [name for name, family in self._families.items() if self._is_idle(family, cutoff)]
            for name in idle:
                for model in self._families.pop(name).models:
                    self._asks.pop(model, None)
            if idle:
                self._enforce()
            return len(idle)

    def clear(self) -> None:
        """Forgets all; the engine keeps its rules."""
        with self._lock:
            self._asks.clear()
            self._families.clear()

    def _is_idle(self, family: _Known, cutoff: float) -> bool:
        if family.native.open or family.native.touched > cutoff:
            return False
        left = family.native.left()
        if isinstance(left, Pending):
            # What a server remembers is there again when the family is.
            left.drop()
            return True
        return all(capacity == family.limit(bucket) for bucket, capacity in self.capacities(family, left).items())

    def capacities(self, family: _Known, left: Any) -> Capacities:
        """What is left of each quota."""
        buckets = {_rule_name(family.native.name, bucket): bucket for bucket in family.quotas}
        return Capacities({buckets[name]: float(rest - debt) for name, rest, debt in left if name in buckets})

    def _resolve(self, config: PerModelConfig, model: str, name: str) -> Ask:
        before = self._asks.get(model)
        if before is not None and before.family is not None and before.family.native.name != name:
            raise ValueError(
                f"the configuration moved model {model!r} from family {before.family.native.name!r} to {name!r}; make a new limiter"
            )
        if config.is_unlimited:
            if name in self._families and self._families[name].models - {model}:
                raise ValueError(f"model {model!r} is unlimited, other models of its family {name!r} are not; give it another")
            return Ask(config, model, None)
        family = self._families.get(name)
        if family is None:
            family = self._new(config, name)
        elif not _is_same(family.config, config):
            self._change(family, config, model)
        family.models.add(model)
        return Ask(config, model, family)

    def _new(self, config: PerModelConfig, name: str) -> _Known:
        checked_name(name, "model_family", self._bounds.max_model_family_length)
        if len(self._families) >= self._bounds.max_model_families:
            raise CardinalityLimitExceededError(
                f"max_model_families is {self._bounds.max_model_families}, and as many are known; raise it, "
                "or call clear_unused_model_families"
            )
        quotas = self._quotas(config.quotas)
        self._enforce({name: (quotas, {})})
        metrics = list(dict.fromkeys(metric for metric, _ in quotas))
        native = self._gate.family(name, _label(name), metrics, frozenset(quotas))
        family = self._families[name] = _Known(config, native, quotas)
        return family

    def _change(self, family: _Known, config: PerModelConfig, model: str) -> None:
        name = family.native.name
        for other in family.models - {model}:
            theirs, _ = resolve_config(self._config, other, self._bounds.max_alias_length)
            if not _is_same(theirs, config):
                raise ValueError(
                    f"models {model!r} and {other!r} share the family {name!r} and have different quotas; "
                    "give them the same, or different families"
                )
        quotas = self._quotas(config.quotas)
        overrides = {
            bucket: limit
            for bucket, limit in family.overrides.items()
            if bucket in quotas and quotas[bucket].limit == family.quotas[bucket].limit
        }
        self._enforce({name: (quotas, overrides)})
        metrics = list(dict.fromkeys(metric for metric, _ in quotas))
        if frozenset(quotas) != frozenset(family.quotas):
            family.native = self._gate.family(name, _label(name), metrics, frozenset(quotas))
        family.config, family.quotas, family.overrides = config, quotas, overrides

    def _quotas(self, quotas: UsageQuotas) -> dict[BucketId, Quota]:
        if len(quotas.names) > self._bounds.max_metrics_per_family:
            raise CardinalityLimitExceededError(
                f"max_metrics_per_family is {self._bounds.max_metrics_per_family}, and the quotas have {len(quotas.names)}"
            )
        for metric in quotas.names:
            checked_name(metric, "metric", self._bounds.max_metric_length)
        return {quota.bucket_id: quota for quota in quotas}

    def _enforce(self, changed: Mapping[str, tuple[dict[BucketId, Quota], dict[BucketId, int]]] | None = None) -> None:
        limits = {name: (family.quotas, family.overrides) for name, family in self._families.items()}
        limits.update(changed or {})
        self._engine.set_rules(
            [
                _rule(name, bucket, overrides.get(bucket, quota.limit))
                for name, (quotas, overrides) in limits.items()
                for bucket, quota in quotas.items()
            ]
        )


def _is_same(one: PerModelConfig, other: PerModelConfig) -> bool:
    return one.quotas == other.quotas and one.model_family == other.model_family


def _rule(family: str, bucket: BucketId, limit: int) -> Any:
    metric, window = bucket
    return (_rule_name(family, bucket), {"model_family": [_label(family)]}, [], [(metric, limit, f"bucket {window}s")])


def _rule_name(family: str, bucket: BucketId) -> str:
    return f"{family}/{bucket[0]}/{bucket[1]}s"


def _label(family: str) -> str:
    """A family as rules write it, where ``*`` would stand for any text."""
    return family.replace("%", "%25").replace("*", "%2A")


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
        self._limiter_instance_id = uuid.uuid4().hex
        self._bounds = bounds
        self._lifetime = _checked_lifetime(lifetime)
        self._config = _checked_config(config)
        # What needs neither a configuration's nor a callback's say: models of a fixed configuration.
        self._known: dict[object, Family] = {}
        if backend is None:
            backend = MemoryBackendBuilder()
        if isinstance(backend, type):
            raise ValueError(f"backend must be a builder, not the class {backend.__name__}; call it: {backend.__name__}()")
        self._backend = backend
        if isinstance(backend, _StoreBuilder):
            self._engine = backend.open()
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

    def clear_unused_model_families(self, unused_for_seconds: float) -> int:
        """Forgets families that were not used for so long, have no open reservation, and whose quotas are full again.

        Answers how many. What a family has used is never forgotten.
        """
        if isinstance(unused_for_seconds, bool) or not isinstance(unused_for_seconds, (int, float)) or not unused_for_seconds >= 0:
            raise ValueError(f"unused_for_seconds must be a number of seconds, 0 or more, not {unused_for_seconds!r}")
        if self._driver is not None:
            return 0
        forgotten = self._models.forget(unused_for_seconds)
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
        yield lambda: self._gate.refund(actual_usage, reservation)
        if self._caller and not reservation.is_unlimited:
            yield from self._tell_refunded(reservation, actual_usage)

    def _steps_to_set(self, model: object, metric: object, per_seconds: object, value: object) -> Steps[None]:
        if self._driver is None:
            self._models.set_limit(model, metric, per_seconds, value)
            return
        config, family = resolve_config(self._config, model, self._bounds.max_alias_length)
        from ._custom_driver import Ask as CustomAsk

        ask = CustomAsk(config, family, str(model), FrozenUsage({}))
        bucket = (checked_name(metric, "metric", self._bounds.max_metric_length), checked_window(per_seconds))
        limit = checked_limit(value, "value")
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
        names = keyword_names(counter)
        given = request if names is None else {name: value for name, value in request.items() if name in names}
        return dict(frozen_usage(counter(**given)))

    def _unlimited(self, usage: object, ask: Ask, request_id: str | None) -> Steps[Any]:
        for metric, amount in frozen_usage(usage).items():
            if amount < 0:
                raise ValueError(f"usage[{metric!r}] must not be negative, not {amount!r}")
        reservation: CapacityReservation = self._gate.unlimited(ask.model)
        if self._caller:
            yield from self._tell_event("capacity_consumed", reservation, FrozenUsage({}), request_id)
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
        try:
            reservation = yield lambda: family.native.acquire(usage, ask.model, 0)
        except TimeoutError:
            if timeout == 0:
                raise
            waited = True
            yield from self._tell_wait(family, frozen_usage(usage), ask, request_id)
            reservation = yield lambda: family.native.acquire(usage, ask.model, timeout)
        try:
            yield from self._tell_consumed(reservation, family, request_id, time.monotonic() - started if waited else None)
        except BaseException:
            _waiting.give_back(reservation)
            raise
        return reservation

    def _tell_missing(self, family: _Known) -> Steps[None]:
        if not family.is_fresh:
            return
        family.is_fresh = False
        if not self._caller.has("on_missing_consumption_data"):
            return
        left = yield family.native.left
        for bucket, capacity in self._models.capacities(family, left).items():
            if capacity == family.limit(bucket):
                yield _call(
                    self._caller,
                    "on_missing_consumption_data",
                    model_family=family.native.name,
                    usage_metric=bucket[0],
                    per_seconds=bucket[1],
                )

    def _tell_wait(self, family: _Known, usage: FrozenUsage, ask: Ask, request_id: str | None) -> Steps[None]:
        if not self._caller.has("on_wait_start"):
            return
        left = yield family.native.left
        yield _call(
            self._caller,
            "on_wait_start",
            model_family=family.native.name,
            usage=usage,
            preconsumption_capacities=self._models.capacities(family, left),
            model_alias=ask.model,
            request_id=request_id,
            reservation_id=None,
        )

    def _tell_consumed(
        self, reservation: CapacityReservation, family: _Known, request_id: str | None, waited: float | None
    ) -> Steps[None]:
        usage = reservation.usage
        slots = [slot for slot in ("on_capacity_consumed", "after_wait_end_consumption") if self._caller.has(slot)]
        if slots:
            left = yield family.native.left
            after = self._models.capacities(family, left)
            before = Capacities({bucket: after[bucket] + usage.get(bucket[0], 0) for bucket in after})
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
        yield from self._tell_event("capacity_consumed", reservation, usage, request_id)

    def _tell_refunded(self, reservation: CapacityReservation, actual_usage: object) -> Steps[None]:
        used = frozen_usage(actual_usage)
        if self._caller.has("on_capacity_refunded"):
            family = self._models.ask(reservation.model).family
            assert family is not None
            left = yield family.native.left
            after = self._models.capacities(family, left)
            refunded = FrozenUsage({metric: amount - used[metric] for metric, amount in reservation.usage.items()})
            yield _call(
                self._caller,
                "on_capacity_refunded",
                model_family=reservation.model_family,
                reserved_usage=reservation.usage,
                actual_usage=used,
                refunded_usage=refunded,
                prerefund_capacities=Capacities({bucket: after[bucket] - refunded.get(bucket[0], 0) for bucket in after}),
                postrefund_capacities=after,
            )
        yield from self._tell_event("capacity_refunded", reservation, used, None)

    def _tell_event(
        self, event_type: str, reservation: CapacityReservation, usage: FrozenUsage, request_id: str | None
    ) -> Steps[None]:
        if not self._caller.has("on_lifecycle_event"):
            return
        event = LifecycleEvent(
            event_type=event_type,
            model_family=reservation.model_family,
            timestamp=time.time(),
            reservation_id=reservation.reservation_id,
            request_id=request_id,
            model_alias=reservation.model,
            bucket_ids=reservation.bucket_ids,
            usage=usage,
        )
        yield _call(self._caller, "on_lifecycle_event", event=event)

    def _say_closed(self) -> None:
        self._known.clear()
        if self._driver is None and self._gate.open:
            logger.warning("limiter closed with %d reservations open; they cannot be refunded any more", self._gate.open)

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
    return float(seconds)


def checked_timeout(timeout: Any, argument: str = "timeout") -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 <= timeout < float("inf"):
        raise ValueError(f"{argument} must be None or a finite number of seconds, 0 or more (got {timeout!r})")
    return float(timeout)


def check_unused(drain: Any, pid_check: Any) -> None:
    """Refuses what would have no meaning, though the limiter needs neither."""
    checked_timeout(drain, "close_drain_timeout_seconds")
    if not isinstance(pid_check, bool):
        raise ValueError(f"pid_check must be a bool, not {type(pid_check).__name__}")


NO_ACTUAL_USAGE = (
    "the reserve() block ended without set_actual_usage, so all that was reserved counts as used; "
    "call handle.set_actual_usage(...) in the block to give the rest back"
)


class ScopeAccount:
    """What happened inside a scope, and what follows from it."""

    def __init__(self, asked: tuple[Any, str, float | None], usage_on_error: Any) -> None:
        self._asked = asked
        self._usage_on_error = usage_on_error
        self._entered = False
        self.reservation: Any = None
        self.actual_usage: Any = None

    def enter(self) -> tuple[Any, str, float | None]:
        """What to acquire, once."""
        if self._entered:
            raise RuntimeError("a reserve() scope is entered once; call limiter.reserve(...) again")
        self._entered = True
        return self._asked

    def leave(self, limiter: LimiterCore, error: BaseException | None) -> Steps[bool]:
        """Refunds. Answers whether nobody said what was used."""
        reserved = self.reservation.get_usage()
        if error is not None:
            yield from self._refund_quietly(limiter, reserved if self._usage_on_error is None else self._usage_on_error, reserved)
            return False
        if self.actual_usage is None:
            yield from limiter._steps_to_refund(reserved, self.reservation)
            return True
        try:
            yield from limiter._steps_to_refund(self.actual_usage, self.reservation)
        except Exception:
            # The block's caller hears of it, and nothing stays open.
            yield from self._refund_quietly(limiter, reserved, reserved)
            raise
        return False

    def _refund_quietly(self, limiter: LimiterCore, usage: Any, reserved: Any) -> Steps[None]:
        """A refund that fails hides no error of the block: all that was held counts as used then."""
        for used in (usage, reserved):
            try:
                yield from limiter._steps_to_refund(used, self.reservation)
            except Exception:
                logger.warning("refund of reservation %s failed", self.reservation.reservation_id, exc_info=True)
            else:
                return


def used_by_response(reservation: Any, response: Any, usage: Any, unset: Any) -> tuple[Any, dict[str, int | float]]:
    """A reservation and what a provider's answer says was used of its metrics."""
    if isinstance(response, CapacityReservation) and not isinstance(reservation, CapacityReservation):
        reservation, response = response, reservation
    if not hasattr(reservation, "get_usage"):
        raise ValueError(f"reservation must be a CapacityReservation, not {type(reservation).__name__}")
    if reservation.is_unlimited:
        return reservation, {}
    if response is not None:
        usage = _field(response, "usage")
        if usage is None:
            raise ValueError("response has no usage (a stream may not tell it); give it to refund_capacity")
    elif usage is unset:
        raise ValueError("response is missing; give it, or usage=")
    metrics = reservation.get_usage()
    other = sorted(set(metrics) - _TOLD.keys())
    if other:
        raise ValueError(f"an answer does not tell how much {other[0]!r} was used; give the usage to refund_capacity")
    return reservation, {metric: _TOLD[metric](usage) for metric in metrics}


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def _amount(usage: Any, *names: str) -> int | float | None:
    for name in names:
        amount = _field(usage, name)
        if amount is None:
            continue
        if isinstance(amount, bool) or not isinstance(amount, (int, float)) or not 0 <= amount < float("inf"):
            raise ValueError(f"usage.{name} must be a finite number, 0 or more, not {amount!r}")
        return amount
    return None


def _needed(amount: int | float | None, names: str) -> int | float:
    if amount is None:
        raise ValueError(f"usage tells no {names}; give the usage to refund_capacity")
    return amount


def _input(usage: Any) -> int | float | None:
    plain = _amount(usage, "prompt_tokens")
    if plain is not None:
        return plain
    read = _amount(usage, "input_tokens")
    if read is None:
        return None
    # Anthropic counts what was cached apart; nobody else has these fields here.
    return read + (_amount(usage, "cache_read_input_tokens") or 0) + (_amount(usage, "cache_creation_input_tokens") or 0)


def _output(usage: Any) -> int | float | None:
    return _amount(usage, "completion_tokens", "output_tokens")


def _total(usage: Any) -> int | float | None:
    total, read, written = _amount(usage, "total_tokens"), _input(usage), _output(usage)
    return total if total is not None or read is None or written is None else read + written


_TOLD: dict[str, Callable[[Any], int | float]] = {
    "requests": lambda _usage: 1,
    "tokens": lambda usage: _needed(_total(usage), "total_tokens"),
    "input_tokens": lambda usage: _needed(_input(usage), "input_tokens"),
    "output_tokens": lambda usage: _needed(_output(usage), "output_tokens"),
}
