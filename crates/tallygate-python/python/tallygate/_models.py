"""Which models share which quotas, and the rules that follow."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ._native import Engine, Family, Gate, Pending, Standing
from .errors import CardinalityLimitExceededError
from .quotas import (
    MAX_ALIAS_LENGTH,
    MAX_AMOUNT,
    MAX_METRIC_LENGTH,
    MAX_MODEL_FAMILY_LENGTH,
    BucketId,
    Capacities,
    PerModelConfig,
    PerModelConfigGetter,
    Quota,
    UsageQuotas,
    amount_of,
    checked_limit,
    checked_name,
    checked_window,
    counts_of,
    resolve_config,
    scales_of,
)


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
class KnownFamily:
    """A family of models, and what limits it now."""

    config: PerModelConfig
    native: Family
    quotas: dict[BucketId, Quota]
    scales: dict[str, int]
    overrides: dict[BucketId, float] = field(default_factory=dict)
    models: set[str] = field(default_factory=set)
    is_fresh: bool = True

    def limit(self, bucket: BucketId) -> float:
        """What a quota lets through now."""
        scale = self.scales[bucket[0]]
        return amount_of(counts_of(self.overrides.get(bucket, self.quotas[bucket].limit), scale), scale)

    def rules(self) -> list[str]:
        """The names of its rules."""
        return [_rule_name(self.native.name, bucket, self.scales[bucket[0]]) for bucket in self.quotas]


@dataclass(frozen=True)
class Ask:
    """A model as the configuration knows it; ``family`` is ``None`` where nothing is limited."""

    config: PerModelConfig
    model: str
    family: KnownFamily | None


class Models:
    """Which model is of which family, and the rules that follow. Safe for threads."""

    def __init__(self, config: PerModelConfig | PerModelConfigGetter, engine: Engine, gate: Gate, bounds: Bounds) -> None:
        self._config = config
        self._engine = engine
        self._gate = gate
        self._bounds = bounds
        self._lock = threading.RLock()
        self._families: dict[str, KnownFamily] = {}
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

    def ask_anew(self, model: object) -> Ask:
        """:meth:`ask` after a family was found to be retired: waits until who retired it is done."""
        with self._lock:
            ask = self.ask(model)
            if ask.family is not None:
                # That nothing was known was told once; a listener that clears would otherwise be told for ever.
                ask.family.is_fresh = False
            return ask

    def family(self, name: str) -> KnownFamily | None:
        """A family by its name, if it is in use."""
        return self._families.get(name)

    def known(self) -> list[KnownFamily]:
        """The families that are in use."""
        with self._lock:
            return list(self._families.values())

    def standings(self, family: KnownFamily) -> list[Standing] | Pending:
        """Where the quotas of a family stand."""
        return self._engine.subject({"model_family": _label(family.native.name)}).peek()

    def by_bucket(self, family: KnownFamily, standings: list[Standing]) -> dict[BucketId, Standing]:
        """The standings that are of the family's quotas."""
        names = {_rule_name(family.native.name, bucket, family.scales[bucket[0]]): bucket for bucket in family.quotas}
        return {names[standing.name]: standing for standing in standings if standing.name in names}

    def set_limit(self, model: object, metric: object, per_seconds: object, value: object) -> Callable[[], Any]:
        """Changes what one quota of the model's family lets through, at once; answers the call that is left to be made."""
        bucket = (checked_name(metric, "metric", self._bounds.max_metric_length), checked_window(per_seconds))
        limit = checked_limit(value, bucket[0], "value")
        with self._lock:
            family = self.ask(model).family
            if family is None:
                raise ValueError(f"model {model!r} is unlimited; there is no quota to change")
            if bucket not in family.quotas:
                there = ", ".join(f"{metric} per {window}" for metric, window in family.quotas)
                raise ValueError(f"there is no quota of {bucket[0]!r} per {bucket[1]} seconds; there is {there}")
            scale = family.scales[bucket[0]]
            counts = counts_of(limit, scale)
            if not 1 <= counts <= MAX_AMOUNT:
                least, most = amount_of(1, scale), amount_of(MAX_AMOUNT, scale)
                raise ValueError(f"value must be from {least} to {most}, as {bucket[0]!r} is counted, not {value!r}")
            if self._engine.kind == "redis":
                rule = _rule_name(family.native.name, bucket, scale)
                return lambda: self._engine.override_limit(rule, bucket[0], counts)
            self._engine.change_rules([_rule(family.native.name, bucket, limit, scale)])
            family.overrides[bucket] = limit
            return lambda: None

    def forget(self, unused_for: float) -> int:
        """Drops families that nobody uses, whose quotas are full and as configured; answers how many."""
        with self._lock:
            cutoff = self._engine.now() - unused_for
            # What is retired under the engine's lock is used by nobody when its rules go.
            idle = [
                name
                for name, family in self._families.items()
                if self._is_idle(family, cutoff) and family.native.retire(cutoff)
            ]
            gone: list[str] = []
            for name in idle:
                family = self._families.pop(name)
                gone += family.rules()
                for model in family.models:
                    self._asks.pop(model, None)
            if gone:
                self._engine.change_rules([], gone)
            return len(idle)

    def clear(self) -> None:
        """Forgets all; the engine keeps its rules."""
        with self._lock:
            self._asks.clear()
            self._families.clear()

    def _is_idle(self, family: KnownFamily, cutoff: float) -> bool:
        if family.overrides or family.native.open or family.native.touched > cutoff:
            return False
        left = family.native.left()
        if isinstance(left, Pending):
            # What a server remembers is there again when the family is.
            left.drop()
            return True
        return all(capacity == family.limit(bucket) for bucket, capacity in self.capacities(family, left).items())

    def capacities(self, family: KnownFamily, left: Any) -> Capacities:
        """What is left of each quota."""
        scales = family.scales
        buckets = {_rule_name(family.native.name, bucket, scales[bucket[0]]): bucket for bucket in family.quotas}
        return Capacities(
            {buckets[name]: (rest - debt) / scales[buckets[name][0]] for name, rest, debt in left if name in buckets}
        )

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

    def _new(self, config: PerModelConfig, name: str) -> KnownFamily:
        checked_name(name, "model_family", self._bounds.max_model_family_length)
        if len(self._families) >= self._bounds.max_model_families:
            raise CardinalityLimitExceededError(
                f"max_model_families is {self._bounds.max_model_families}, and as many are known; raise it, "
                "or call clear_unused_model_families"
            )
        quotas = self._quotas(config.quotas)
        scales = scales_of(quotas.values())
        self._engine.change_rules(*self._changed(name, _rules(name, quotas, scales, {}), []))
        native = self._gate.family(name, _label(name), [*scales.items()], frozenset(quotas))
        family = self._families[name] = KnownFamily(config, native, quotas, scales)
        return family

    def _change(self, family: KnownFamily, config: PerModelConfig, model: str) -> None:
        name = family.native.name
        for other in family.models - {model}:
            theirs, _ = resolve_config(self._config, other, self._bounds.max_alias_length)
            if not _is_same(theirs, config):
                raise ValueError(
                    f"models {model!r} and {other!r} share the family {name!r} and have different quotas; "
                    "give them the same, or different families"
                )
        quotas = self._quotas(config.quotas)
        scales = scales_of(quotas.values())
        overrides = {
            (metric, window): limit
            for (metric, window), limit in family.overrides.items()
            if quotas.get((metric, window)) == family.quotas[metric, window] and scales[metric] == family.scales[metric]
        }
        put, gone = self._changed(name, _rules(name, quotas, scales, overrides), family.rules())
        if frozenset(quotas) == frozenset(family.quotas) and scales == family.scales:
            self._engine.change_rules(put, gone)
        else:
            # Who has the former one in hand is told so at the instant at which its rules go, and waits for this lock.
            self._engine.change_rules(put, gone, family.native)
            family.native = self._gate.family_after(family.native, _label(name), [*scales.items()], frozenset(quotas))
        family.config, family.quotas, family.scales, family.overrides = config, quotas, scales, overrides

    def _quotas(self, quotas: UsageQuotas) -> dict[BucketId, Quota]:
        if len(quotas.names) > self._bounds.max_metrics_per_family:
            raise CardinalityLimitExceededError(
                f"max_metrics_per_family is {self._bounds.max_metrics_per_family}, and the quotas have {len(quotas.names)}"
            )
        for metric in quotas.names:
            checked_name(metric, "metric", self._bounds.max_metric_length)
        return {quota.bucket_id: quota for quota in quotas}

    def _changed(self, family: str, rules: list[Any], former: list[str]) -> tuple[list[Any], list[str]]:
        """The rules of a family, and the names of those that it had, a process before included, and has no longer."""
        names = {rule[0] for rule in rules}
        had = [*former, *self._engine.kept_rules("model_family", _label(family))]
        return rules, [name for name in had if name not in names]


def _is_same(one: PerModelConfig, other: PerModelConfig) -> bool:
    return one.quotas == other.quotas and one.model_family == other.model_family


def _rules(
    family: str, quotas: Mapping[BucketId, Quota], scales: Mapping[str, int], overrides: Mapping[BucketId, float]
) -> list[Any]:
    return [_rule(family, bucket, overrides.get(bucket, quota.limit), scales[bucket[0]]) for bucket, quota in quotas.items()]


def _rule(family: str, bucket: BucketId, limit: float, scale: int) -> Any:
    metric, window = bucket
    limits = [(metric, counts_of(limit, scale), f"bucket {window}s")]
    return (_rule_name(family, bucket, scale), {"model_family": [_label(family)]}, [], limits)


def _rule_name(family: str, bucket: BucketId, scale: int) -> str:
    """What is counted otherwise goes by another name, so that no counter is taken for what it is not."""
    # A family may have a slash in its name; the metric's own parts nothing, so that no two name one rule.
    metric = bucket[0].replace("%", "%25").replace("/", "%2F")
    name = f"{family}/{metric}/{bucket[1]}s"
    return name if scale == 1 else f"{name}/{scale}"


def _label(family: str) -> str:
    """A family as rules write it, where ``*`` would stand for any text."""
    return family.replace("%", "%25").replace("*", "%2A")
