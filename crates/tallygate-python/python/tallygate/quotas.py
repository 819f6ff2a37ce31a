"""What may be used: quotas, sets of them, and the configuration of a model.

All classes here are values: they check what they are given when they are made, and never change
afterwards (:class:`UsageQuotas` until it is part of a :class:`PerModelConfig`). Every refusal is a
``ValueError`` that names the argument and says what to give instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import Any, ClassVar, NoReturn, Protocol, TypeVar, runtime_checkable

from .errors import CardinalityLimitExceededError

MAX_METRIC_LENGTH = 64
"""The longest name of a metric, in characters."""
MAX_MODEL_FAMILY_LENGTH = 256
"""The longest name of a model family, in characters."""
MAX_ALIAS_LENGTH = 256
"""The longest name of a model, in characters."""
MAX_KEY_PREFIX_LENGTH = 128
"""The longest prefix of the keys on Redis, in characters."""
MAX_RESERVATION_ID_LENGTH = 128
"""The longest name of a reservation, in characters."""
MAX_QUOTAS = 1000
"""The most quotas that one :class:`UsageQuotas` takes."""
MAX_PER_SECONDS = 366 * 86_400
"""The longest window, in seconds: 366 days."""
MAX_AMOUNT = 2**53
"""The largest limit or use, in units of its metric."""
WHOLE_METRICS = frozenset({"requests", "input_tokens", "output_tokens", "tokens", "cost", "concurrency"})
"""Metrics that are whole by nature; ``cost`` is in micro-dollars."""
FINEST = 1_000_000
"""Any other metric is counted in so many parts of one, if its limits leave room for that."""

MetricName = str
PerSeconds = int
BucketId = tuple[MetricName, PerSeconds]
Usage = Mapping[MetricName, int | float]
UsageCounter = Callable[..., Mapping[str, int | float]]
"""Takes the fields of a request by keyword, answers what it will use. Runs where the request is made,
so it must be quick, and must not be a coroutine function."""

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class FrozenDict(dict[_Key, _Value]):
    """A ``dict`` that cannot be changed and can be hashed."""

    __slots__ = ()

    def _refuse(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} cannot be changed; make a dict of it first: dict(…)")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __repr__(self) -> str:
        return dict.__repr__(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (dict(self),))

    def __copy__(self) -> FrozenDict[_Key, _Value]:
        return self


class FrozenUsage(FrozenDict[MetricName, int | float]):
    """How much of each metric, as callbacks and counters get it."""

    __slots__ = ()


class Capacities(FrozenDict[BucketId, float]):
    """How much is left of each quota (below zero: owed), as callbacks get it."""

    __slots__ = ()


class SecondsIn(IntEnum):
    """Windows by name, in seconds."""

    MINUTE = 60
    HOUR = 3_600
    DAY = 86_400


@dataclass(frozen=True, repr=False)
class Quota:
    """At most ``limit`` of ``metric`` in each ``per_seconds``, refilled evenly.

    ``limit`` is at most 2^53. Of requests, tokens and ``cost`` it is a whole number of units from 1, of any
    other metric a number of millionths; what is finer is dropped, so that never more is let through than
    was asked for. ``per_seconds`` is a whole number of seconds up to 366 days, 60 unless it is given.
    """

    DEFAULT_SECONDS: ClassVar[int] = 60
    """``per_seconds``, unless it is given."""

    metric: str
    limit: float
    per_seconds: int = DEFAULT_SECONDS

    def __init__(self, metric: str, limit: float, per_seconds: int = DEFAULT_SECONDS) -> None:
        object.__setattr__(self, "metric", checked_name(metric, "metric", MAX_METRIC_LENGTH))
        if self.metric == "concurrency":
            raise ValueError("metric 'concurrency' counts calls at once, not in a window; bound those by a semaphore")
        object.__setattr__(self, "limit", checked_limit(limit, self.metric))
        object.__setattr__(self, "per_seconds", checked_window(per_seconds))

    def __repr__(self) -> str:
        return f"Quota({self.metric!r}, limit={self.limit:_}, per_seconds={self.per_seconds})"

    @property
    def bucket_id(self) -> BucketId:
        """The metric and the window, by which callbacks name a quota."""
        return (self.metric, self.per_seconds)


class UsageQuotas:
    """The quotas of a model: a call goes when each of them lets it.

    At least one, unless :meth:`unlimited` made it, and at most one for a metric and window.
    """

    __slots__ = ("_by_bucket", "_frozen")

    def __init__(self, quotas: Iterable[Quota], /) -> None:
        self._by_bucket: dict[BucketId, Quota] = {}
        self._frozen = False
        for quota in _each_quota(quotas):
            self.add_metric(quota)
        if not self._by_bucket:
            raise ValueError("quotas is empty; give at least one Quota, or UsageQuotas.unlimited() to limit nothing")

    @classmethod
    def unlimited(cls) -> UsageQuotas:
        """The set that limits nothing."""
        unlimited = cls.__new__(cls)
        unlimited._by_bucket = {}
        unlimited._frozen = False
        return unlimited

    @property
    def is_unlimited(self) -> bool:
        """Whether nothing is limited."""
        return not self._by_bucket

    @property
    def names(self) -> list[str]:
        """The metrics that are limited, each once, in the order given."""
        return list(dict.fromkeys(metric for metric, _ in self._by_bucket))

    def get_quotas(self, metric: str, /) -> list[Quota]:
        """The quotas of one metric, a window each."""
        return [quota for quota in self if quota.metric == metric]

    def add_metric(self, quota: Quota) -> None:
        """Adds one quota.

        Raises ``ValueError`` for a metric and window that are there, and ``TypeError`` when the set is
        part of a configuration already.
        """
        if self._frozen:
            raise TypeError("these quotas are part of a configuration; make a new UsageQuotas instead")
        if not isinstance(quota, Quota):
            raise ValueError(f"quotas must hold Quota objects, not {type(quota).__name__}")
        known = self._by_bucket.setdefault(quota.bucket_id, quota)
        if known is not quota:
            raise ValueError(
                f"metric {quota.metric!r} has two quotas for {quota.per_seconds} seconds "
                f"(limits {known.limit} and {quota.limit}); keep one of them"
            )

    def frozen_snapshot(self) -> UsageQuotas:
        """These quotas, in a set that cannot grow."""
        snapshot = UsageQuotas.unlimited()
        snapshot._by_bucket = dict(self._by_bucket)
        snapshot._frozen = True
        return snapshot

    def __iter__(self) -> Iterator[Quota]:
        return iter(tuple(self._by_bucket.values()))

    def __len__(self) -> int:
        return len(self._by_bucket)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UsageQuotas) and self._by_bucket == other._by_bucket

    # A set that may still grow has no lasting hash.
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        if self.is_unlimited:
            return "UsageQuotas.unlimited()"
        return f"UsageQuotas([{', '.join(map(repr, self))}])"


@dataclass(frozen=True, repr=False)
class PerModelConfig:
    """What limits a model, how its requests are sized, and which models it shares its quotas with.

    ``usage_counter`` is needed by ``acquire_capacity_for_request`` alone. ``model_family`` is the
    model's own name unless it is given; models of one family must have the same quotas.
    """

    quotas: UsageQuotas
    usage_counter: UsageCounter | None = None
    model_family: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.quotas, UsageQuotas):
            raise ValueError(f"quotas must be UsageQuotas, not {type(self.quotas).__name__}")
        object.__setattr__(self, "quotas", self.quotas.frozen_snapshot())
        _check_counter(self.usage_counter)
        if self.model_family is not None:
            family = checked_name(self.model_family, "model_family", MAX_MODEL_FAMILY_LENGTH)
            object.__setattr__(self, "model_family", family)

    @property
    def is_unlimited(self) -> bool:
        """Whether nothing is limited."""
        return self.quotas.is_unlimited

    def get_model_family(self) -> str:
        """The family; ``ValueError`` where none was given."""
        if self.model_family is None:
            raise ValueError("model_family was not given")
        return self.model_family

    def __repr__(self) -> str:
        parts = [repr(self.quotas)]
        if self.usage_counter is not None:
            parts.append(f"usage_counter={self.usage_counter!r}")
        if self.model_family is not None:
            parts.append(f"model_family={self.model_family!r}")
        return f"PerModelConfig({', '.join(parts)})"


@runtime_checkable
class PerModelConfigGetter(Protocol):
    """Tells the configuration of a model by its name."""

    def __call__(self, model_name: str, /) -> PerModelConfig:
        """The configuration of ``model_name``."""
        ...


def resolve_config(
    config: PerModelConfig | PerModelConfigGetter, model: object, max_length: int = MAX_ALIAS_LENGTH
) -> tuple[PerModelConfig, str]:
    """The configuration of ``model`` and the name of its family.

    Raises ``ValueError`` when ``model`` is no name, or the getter answers something else than a
    :class:`PerModelConfig`. What the getter itself raises goes through.
    """
    name = checked_name(model, "model", max_length)
    found = config if isinstance(config, PerModelConfig) else config(name)
    if not isinstance(found, PerModelConfig):
        _close(found)
        raise ValueError(f"the configuration of model {name!r} must be a PerModelConfig, not {type(found).__name__}")
    return found, found.model_family or name


def frozen_usage(usage: object) -> FrozenUsage:
    """A use that cannot be changed, its names and amounts checked.

    Raises ``ValueError`` for what is no mapping from names of metrics to finite numbers.
    """
    if not isinstance(usage, Mapping):
        raise ValueError(f"usage must be a mapping from metric to amount, not {type(usage).__name__}")
    checked = {
        checked_name(metric, "metric", MAX_METRIC_LENGTH): _finite(amount, f"usage of {metric!r}")
        for metric, amount in usage.items()
    }
    if len(checked) < len(usage):
        raise ValueError("usage names a metric twice")
    return FrozenUsage(checked)


def checked_name(value: object, argument: str, max_length: int) -> str:
    """A name of a model, a family or a metric: no spaces, no control characters, not too long.

    Raises ``ValueError`` that names ``argument``, for one too long the
    :class:`CardinalityLimitExceededError` among them.
    """
    if not isinstance(value, str):
        raise ValueError(f"{argument} must be a str, not {type(value).__name__}")
    name = value if type(value) is str and value.isascii() else _composed(value)
    if not name:
        raise ValueError(f"{argument} must not be empty")
    if len(name) > max_length:
        raise CardinalityLimitExceededError(
            f"{argument} must have at most {max_length} characters, not {len(name)}: {name[:40]!r}…"
        )
    for char in name:
        if char.isspace() or not char.isprintable():
            raise ValueError(f"{argument} must not contain {char!r}: {name!r}")
    return name


def _composed(text: str) -> str:
    import unicodedata

    return unicodedata.normalize("NFC", text)


def checked_prefix(value: object) -> str:
    """A prefix of keys on Redis: a name without ``:``, ``{`` and ``}``, which part keys."""
    prefix = checked_name(value, "key_prefix", MAX_KEY_PREFIX_LENGTH)
    for char in ":{}":
        if char in prefix:
            raise ValueError(f"key_prefix must not contain {char!r}: {prefix!r}")
    return prefix


def checked_limit(value: object, metric: str, argument: str = "limit") -> int | float:
    """A limit: a number to 2^53, in whole units or in millionths as its metric is counted, the rest dropped."""
    number = _finite(value, argument)
    if metric in WHOLE_METRICS and number < 1:
        raise ValueError(
            f"{argument} must be at least 1, not {value!r}; amounts of {metric!r} are whole numbers: "
            "count in a smaller unit, or take a longer window"
        )
    if number < 1 / FINEST:
        raise ValueError(f"{argument} must be at least 0.000001, not {value!r}; count in a smaller unit, or take a longer window")
    if number > MAX_AMOUNT:
        raise ValueError(f"{argument} must be at most 2**53, not {value!r}")
    scale = _finest(metric)
    return amount_of(counts_of(number, scale), scale)


def scales_of(quotas: Iterable[Quota]) -> dict[str, int]:
    """How many counts make one of each metric. It follows from the quotas alone, so that all who share them count alike.

    Raises ``ValueError`` for a limit below one beside a limit too large for fractions.
    """
    limits: dict[str, list[float]] = {}
    for quota in quotas:
        limits.setdefault(quota.metric, []).append(quota.limit)
    scales = {}
    for metric, amounts in limits.items():
        fits = counts_of(max(amounts), FINEST) <= MAX_AMOUNT
        if not fits and min(amounts) < 1:
            raise ValueError(
                f"metric {metric!r} has the limits {min(amounts)} and {max(amounts)}; "
                f"beside one above {MAX_AMOUNT // FINEST} each must be at least 1: count in a smaller unit"
            )
        scales[metric] = _finest(metric) if fits else 1
    return scales


def counts_of(amount: float, scale: int) -> int:
    """A limit as the engine counts it, rounded down. The float nearest to a decimal fraction stands for that."""
    near = round(amount * scale)
    return near if near / scale == amount else math.floor(amount * scale)


def amount_of(counts: int, scale: int) -> int | float:
    """What the engine counts, in units of its metric."""
    return counts // scale if counts % scale == 0 else counts / scale


def difference(metric: str, amount: float, less: float) -> float:
    """``amount - less`` of a metric, without the dust of binary fractions."""
    return amount - less if metric in WHOLE_METRICS else round(amount - less, 6)


def _finest(metric: str) -> int:
    return 1 if metric in WHOLE_METRICS else FINEST


def checked_window(value: object, argument: str = "per_seconds") -> int:
    """A window: a whole number of seconds from 1 to 366 days."""
    number = _finite(value, argument)
    if number != int(number):
        raise ValueError(f"{argument} must be a whole number of seconds, not {value!r}")
    if not 1 <= number <= MAX_PER_SECONDS:
        raise ValueError(f"{argument} must be from 1 to {MAX_PER_SECONDS} seconds (366 days), not {value!r}")
    return int(number)


def is_async_callable(value: object) -> bool:
    """Whether calling ``value`` answers a coroutine or an asynchronous generator."""
    call = getattr(type(value), "__call__", None)
    return any(iscoroutinefunction(each) or isasyncgenfunction(each) for each in (value, call))


def _each_quota(quotas: object) -> Iterator[Quota]:
    if isinstance(quotas, Mapping):
        quotas = quotas.values()
    if not isinstance(quotas, Iterable) or isinstance(quotas, (str, bytes)):
        raise ValueError(f"quotas must be an iterable of Quota, not {type(quotas).__name__}")
    for count, quota in enumerate(quotas):
        if count == MAX_QUOTAS:
            raise CardinalityLimitExceededError(f"quotas must be at most {MAX_QUOTAS}; use several limiters")
        yield quota


def _finite(value: object, argument: str) -> int | float:
    # A bool is an int to Python, and hardly ever meant as one.
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{argument} must be an int or a float, not {type(value).__name__}")
    # Every int is finite, and some are too large to be asked.
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{argument} must be finite, not {value!r}")
    return value


def _check_counter(counter: Any) -> None:
    if counter is None:
        return
    if not callable(counter):
        raise ValueError(f"usage_counter must be callable, not {type(counter).__name__}")
    if is_async_callable(counter):
        raise ValueError("usage_counter must be a plain function, not a coroutine function")


def _close(value: Any) -> None:
    # A coroutine that nobody awaits would warn beside the error that says why.
    close = getattr(value, "close", None)
    if callable(close):
        close()
