"""Limits that count callers apart: by user, tenant, tier or any label.

:class:`~tallygate.RateLimiter` limits models; these rules limit *whom*. They are what :mod:`tallygate.asgi` takes, and mean the
same as a rule of the gateway's configuration.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Literal, TypeAlias, get_args

from ._texts import checked_text

__all__ = ["Limit"]

Shape: TypeAlias = Literal["bucket", "strict", "sliding", "fixed"]
"""How a limit refills.

``bucket``: continuously; up to its burst at once. ``strict``: the same, and never more than the amount in any window.
``sliding``: never more than the amount in any window. ``fixed``: by the calendar.
"""

CALENDAR = ("second", "minute", "hour", "day", "week", "month")
"""The words that ``every`` may be."""

_LENGTH = re.compile(r"[0-9]+(ms|s|m|h|d)")


@dataclass(frozen=True)
class Limit:
    """At most so much in each window, counted apart ``per`` these labels.

    One limit may bound several metrics; a call must fit all of them. ``every`` is seconds (60), a length (``"5m"``) or a word of
    the calendar (``"day"``); ``dollars`` bounds money; ``metrics`` names metrics of your own (four at most in a store).
    ``when`` says which callers it applies to: each label named must match one of its patterns, in which ``*`` stands for any text.

        >>> Limit("free-day", every="day", tokens=10_000, when={"tier": "free"})
    """

    name: str
    every: float | str = 60
    requests: int | None = None
    tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    dollars: int | str | Decimal | None = None
    concurrency: int | None = None
    metrics: Mapping[str, int] = field(default_factory=dict)
    per: Sequence[str] = ("user",)
    when: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    shape: Shape | None = None
    burst: int | None = None
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"name of a limit must be a str, not {type(self.name).__name__}")
        checked_text(self.name, "name of a limit")
        if isinstance(self.per, str):
            raise TypeError(f"per of the limit {self.name!r} must be a sequence of labels, such as ({self.per!r},)")
        twice = sorted(set(self.metrics) & self._named().keys())
        if twice:
            raise ValueError(f"metrics of the limit {self.name!r} name {twice[0]!r}, which has an argument of its own: give it there")
        if not self.amounts:
            raise ValueError(f"the limit {self.name!r} bounds nothing: give it requests=, tokens= or another metric")
        for metric, amount in self.amounts.items():
            if isinstance(amount, bool) or not isinstance(amount, int) or amount < 1:
                raise ValueError(f"{metric} of the limit {self.name!r} must be a whole number from 1, not {amount!r}")
        shape_text(self)

    @property
    def amounts(self) -> dict[str, int]:
        """The amount of each metric; money in micro-dollars."""
        named = {**self._named(), **self.metrics}
        return {metric: amount for metric, amount in named.items() if amount is not None}

    def _named(self) -> dict[str, int | None]:
        return {
            "requests": self.requests,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "tokens": self.tokens,
            "cost": None if self.dollars is None else _micros(self.name, self.dollars),
            "concurrency": self.concurrency,
        }


Written: TypeAlias = tuple[str, dict[str, list[str]], list[str], list[tuple[str, int, str]]]
"""A rule as the native module takes it."""


def written(limit: Limit, when: Mapping[str, str | Sequence[str]] | None = None) -> Written:
    """The limit as the native module takes it, bound to ``when`` besides its own."""
    patterns = {**limit.when, **(when or {})}
    text = shape_text(limit)
    return (
        limit.name,
        {label: [told] if isinstance(told, str) else list(told) for label, told in patterns.items()},
        list(limit.per),
        [(metric, amount, "concurrency" if metric == "concurrency" else text) for metric, amount in limit.amounts.items()],
    )


def shape_text(limit: Limit) -> str:
    """The window and shape of a limit in words.

    Raises ``ValueError`` naming limit and mend where they do not fit each other.
    """
    if limit.shape is not None and limit.shape not in get_args(Shape):
        shapes = ", ".join(get_args(Shape))
        raise ValueError(f"shape of the limit {limit.name!r} must be one of {shapes}, not {limit.shape!r}")
    by_calendar = limit.every in CALENDAR
    shape = limit.shape or ("fixed" if by_calendar else "bucket")
    if by_calendar != (shape == "fixed"):
        raise ValueError(
            f"the limit {limit.name!r} is {shape} every {limit.every!r}: a fixed window is one of {', '.join(CALENDAR)}, "
            "any other a length such as 60 or '5m'"
        )
    if limit.burst is not None and shape not in ("bucket", "strict"):
        raise ValueError(f"burst of the limit {limit.name!r} means nothing to a {shape} one: leave it out")
    if shape == "fixed":
        return f"fixed {limit.every} {limit.timezone}"
    length = window_text(limit.name, limit.every)
    if shape == "sliding":
        return f"sliding {length}"
    words = ["bucket", length]
    if limit.burst is not None:
        words.append(f"burst={limit.burst}")
    if shape == "strict":
        words.append("strict")
    return " ".join(words)


def window_text(name: str, every: float | str) -> str:
    """A length as the native module takes it: seconds are written out, to the millisecond."""
    if isinstance(every, str) and _LENGTH.fullmatch(every):
        return every
    if isinstance(every, bool) or not isinstance(every, (int, float)) or not 0.001 <= every <= MOST_SECONDS:
        words = ", ".join(CALENDAR)
        raise ValueError(f"every of the limit {name!r} must be seconds, a length such as '5m', or one of {words}, not {every!r}")
    return f"{every}s" if isinstance(every, int) else f"{round(every * 1000)}ms"


def checked_seconds(value: object, argument: str) -> float:
    """A length of time, 0 or more."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise ValueError(f"{argument} must be a number of seconds, 0 or more, not {value!r}")
    # An int may be too large for a float; so long waits nobody.
    return float(min(value, 2**62))


MOST_SECONDS = 366 * 24 * 3600
"""The longest window there is."""


def _micros(name: str, dollars: int | str | Decimal) -> int:
    if isinstance(dollars, float):
        raise TypeError(f"dollars of the limit {name!r} must be an int, a Decimal or a text such as '12.50', not a float")
    try:
        micros = Decimal(dollars).scaleb(6)
    except InvalidOperation:
        micros = Decimal("NaN")
    if not micros.is_finite():
        raise ValueError(f"dollars of the limit {name!r} must be a number such as '12.50', not {dollars!r}")
    if micros != micros.to_integral_value():
        raise ValueError(f"dollars of the limit {name!r} has more than six decimals: {dollars}")
    return int(micros)
