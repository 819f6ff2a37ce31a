"""The steps of token-aware rate limiting, each one call.

Every check is one atomic decision: it takes all that was asked for, or nothing. What is refused changes no counter, so nothing need
be rolled back, and two callers can never both take the last tokens. The same code runs in one process, on a folder that outlives
it, or on Redis or Valkey for many processes:

    >>> limiter = TokenLimiter(100_000, window=60)
    >>> limiter.check("alice", 1_200).allowed
    True

Windows slide (never more than the limit in any span of the window) unless ``shape`` says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from html import escape
from typing import Any, TypeVar

from . import _native
from ._texts import checked_text
from ._waiting import finish, finish_here
from .rules import CALENDAR, Limit, Shape, checked_seconds, written
from .stores import Store, StoreLike, open_store

__all__ = ["Check", "DualLimiter", "Held", "Level", "TokenBucket", "TokenLimiter"]

HELD_SECONDS = 600.0
"""How long a reservation is held that nobody settles."""


@dataclass(frozen=True)
class Level:
    """Where one limit of one identifier stands after a check."""

    metric: str
    limit: int
    """How much can be used at once: the amount of the window, or the bucket's capacity."""
    used: int
    remaining: int
    reset_after: float
    """Seconds until nothing of it is used if nothing else comes."""


@dataclass(frozen=True)
class Check:
    """What a check decided. It is true where the call may go."""

    allowed: bool
    blocked_by: str | None
    """The metric without room: ``requests`` or ``tokens``; ``None`` where it is allowed."""
    retry_after: float | None
    """Seconds until this very check could be allowed if nothing else came; 0 where it is, ``None`` where it never can be."""
    levels: Mapping[str, Level]
    """Where each limit stands, by its metric. What was refused took nothing."""

    @property
    def requests(self) -> Level:
        """Where the limit of requests stands."""
        return self.levels["requests"]

    @property
    def tokens(self) -> Level:
        """Where the limit of tokens stands."""
        return self.levels["tokens"]

    @property
    def used(self) -> int:
        """Tokens used."""
        return self.tokens.used

    @property
    def remaining(self) -> int:
        """Tokens left."""
        return self.tokens.remaining

    @property
    def limit(self) -> int:
        """Tokens a window."""
        return self.tokens.limit

    def __bool__(self) -> bool:
        return self.allowed

    def _repr_html_(self) -> str:
        """A table, for notebooks."""
        head = "".join(f"<th>{name}</th>" for name in ("", "used", "remaining", "limit", "full again in"))
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{level.used:,}</td><td>{level.remaining:,}</td>"
            f"<td>{level.limit:,}</td><td>{level.reset_after:.1f} s</td></tr>"
            for name, level in self.levels.items()
        )
        return f"<b>{escape(self._verdict())}</b><table><tr>{head}</tr>{rows}</table>"

    def _verdict(self) -> str:
        if self.allowed:
            return "allowed"
        when = "never fits" if self.retry_after is None else f"fits in {self.retry_after:.1f} s"
        return f"refused by {self.blocked_by}: {when}"

    def as_dict(self) -> dict[str, Any]:
        """The decision as JSON can write it."""
        levels = {
            name: {"limit": level.limit, "used": level.used, "remaining": level.remaining, "reset_after": level.reset_after}
            for name, level in self.levels.items()
        }
        return {"allowed": self.allowed, "blocked_by": self.blocked_by, "retry_after": self.retry_after, **levels}


@dataclass(frozen=True)
class Held(Check):
    """A check whose tokens are held until the real use is known. False where nothing is held.

    It counts as used when it is forgotten, and after ``hold`` seconds.
    """

    _reservation: _native.Reservation | None = field(repr=False, compare=False)

    def settle(self, tokens: int) -> None:
        """Replaces what is held by what was really used. More than was held is charged too, as debt."""
        if self._reservation is not None:
            finish_here(self._reservation.settle({"tokens": tokens}))

    def cancel(self) -> None:
        """Gives all back, the request too."""
        if self._reservation is not None:
            finish_here(self._reservation.cancel())

    async def asettle(self, tokens: int) -> None:
        """As :meth:`settle`, in an event loop."""
        if self._reservation is not None:
            await finish(self._reservation.settle({"tokens": tokens}))

    async def acancel(self) -> None:
        """As :meth:`cancel`, in an event loop."""
        if self._reservation is not None:
            await finish(self._reservation.cancel())

    def _final(self) -> Check:
        """The decision alone: what it took counts as used."""
        return Check(self.allowed, self.blocked_by, self.retry_after, self.levels)


class _Limiter:
    """Checks identifiers against one rule.

    ``check`` decides at once, or after standing in line for up to ``max_wait`` seconds. ``reserve`` does the same and holds what it
    takes until it is settled. The methods that begin with ``a`` are for event loops; with a store in this process they never wait
    for one.
    """

    def __init__(self, limit: Limit, store: StoreLike, key_prefix: str | None) -> None:
        self._name = limit.name
        self._owns_store = not isinstance(store, Store)
        self._store = open_store(store, key_prefix=key_prefix)
        self._store._add_rules([written(limit, {"limiter": limit.name})])

    def check(self, identifier: str, tokens: int, *, max_wait: float = 0.0) -> Check:
        """Takes ``tokens`` for ``identifier``, or nothing."""
        return self._held(identifier, tokens, max_wait, HELD_SECONDS)._final()

    async def acheck(self, identifier: str, tokens: int, *, max_wait: float = 0.0) -> Check:
        """As :meth:`check`, in an event loop."""
        return (await self._aheld(identifier, tokens, max_wait, HELD_SECONDS))._final()

    def reserve(self, identifier: str, tokens: int, *, max_wait: float = 0.0, hold: float = HELD_SECONDS) -> Held:
        """Holds ``tokens`` for ``identifier``, or nothing, until the call's real use is settled."""
        return self._held(identifier, tokens, max_wait, hold)

    async def areserve(
        self, identifier: str, tokens: int, *, max_wait: float = 0.0, hold: float = HELD_SECONDS
    ) -> Held:
        """As :meth:`reserve`, in an event loop."""
        return await self._aheld(identifier, tokens, max_wait, hold)

    def peek(self, identifier: str) -> Mapping[str, Level]:
        """Where each limit of ``identifier`` stands, by its metric. Changes nothing."""
        return _levels(finish_here(self._subject(identifier).peek()))

    async def apeek(self, identifier: str) -> Mapping[str, Level]:
        """As :meth:`peek`, in an event loop."""
        return _levels(await finish(self._subject(identifier).peek()))

    def close(self) -> None:
        """Closes the store, unless it was given open."""
        if self._owns_store:
            self._store.close()

    def __enter__(self: L) -> L:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self._name!r}, store={self._store.kind!r})"

    def _usage(self, tokens: int) -> dict[str, int]:
        """What a check takes."""
        return {"tokens": tokens}

    def _held(self, identifier: str, tokens: int, max_wait: float, hold: float) -> Held:
        subject = self._subject(identifier)
        answer = finish_here(subject.reserve(self._usage(tokens), *_checked(hold, max_wait)))
        refused = isinstance(answer, _native.Denial)
        standings = finish_here(subject.peek()) if refused else answer.standings
        return self._decided(answer, standings)

    async def _aheld(self, identifier: str, tokens: int, max_wait: float, hold: float) -> Held:
        subject = self._subject(identifier)
        answer = await finish(subject.reserve(self._usage(tokens), *_checked(hold, max_wait)))
        refused = isinstance(answer, _native.Denial)
        standings = await finish(subject.peek()) if refused else answer.standings
        return self._decided(answer, standings)

    def _decided(self, answer: _native.Reservation | _native.Denial, standings: list[_native.Standing]) -> Held:
        levels = _levels(standings)
        if isinstance(answer, _native.Denial):
            return Held(False, answer.blocked_by[0].metric, answer.retry_after, levels, None)
        return Held(True, None, 0.0, levels, answer)

    def _subject(self, identifier: str) -> _native.Subject:
        if not isinstance(identifier, str):
            raise TypeError(f"identifier must be a str, not {type(identifier).__name__}")
        return self._store._subject({"limiter": self._name, "identifier": checked_text(identifier, "identifier")})


L = TypeVar("L", bound=_Limiter)


class TokenLimiter(_Limiter):
    """At most ``limit`` tokens a ``window`` for each identifier.

    ``window`` is seconds, a length (``"5m"``) or a calendar word (``"day"``). ``shape`` is ``sliding`` unless it says ``bucket``
    (refills all the time), ``strict`` or, of calendar words, ``fixed``. Limiters of one ``name`` on one server share their
    counters; the name is made of the numbers unless it is given.
    """

    def __init__(
        self,
        limit: int = 100_000,
        window: float | str = 60,
        store: StoreLike = None,
        *,
        shape: Shape | None = None,
        name: str | None = None,
        key_prefix: str | None = None,
    ) -> None:
        shape = shape or _usual(window)
        name = name or f"tokens-{limit}-{window}-{shape}"
        rule = Limit(name, every=window, tokens=limit, per=("identifier",), shape=shape)
        super().__init__(rule, store, key_prefix)


class DualLimiter(_Limiter):
    """At most ``max_requests`` *and* at most ``max_tokens`` a ``window`` for each identifier, decided together.

    A check that either limit refuses takes from neither. ``blocked_by`` says which it was.
    """

    def __init__(
        self,
        max_requests: int = 60,
        max_tokens: int = 100_000,
        window: float | str = 60,
        store: StoreLike = None,
        *,
        shape: Shape | None = None,
        name: str | None = None,
        key_prefix: str | None = None,
    ) -> None:
        shape = shape or _usual(window)
        name = name or f"dual-{max_requests}-{max_tokens}-{window}-{shape}"
        rule = Limit(
            name, every=window, requests=max_requests, tokens=max_tokens, per=("identifier",), shape=shape
        )
        super().__init__(rule, store, key_prefix)

    def _usage(self, tokens: int) -> dict[str, int]:
        return {"requests": 1, "tokens": tokens}


class TokenBucket(_Limiter):
    """A bucket of ``capacity`` tokens for each identifier, full at first, refilled by ``rate`` tokens a second all the time."""

    def __init__(
        self,
        rate: float | Fraction,
        capacity: int,
        store: StoreLike = None,
        *,
        name: str | None = None,
        key_prefix: str | None = None,
    ) -> None:
        amount, seconds = _whole_rate(rate)
        name = name or f"bucket-{amount}-{seconds}-{capacity}"
        rule = Limit(name, every=seconds, tokens=amount, per=("identifier",), shape="bucket", burst=capacity)
        super().__init__(rule, store, key_prefix)

    def check(self, identifier: str = "", tokens: int = 1, *, max_wait: float = 0.0) -> Check:
        """Takes ``tokens`` from the bucket of ``identifier``, or nothing."""
        return super().check(identifier, tokens, max_wait=max_wait)

    async def acheck(self, identifier: str = "", tokens: int = 1, *, max_wait: float = 0.0) -> Check:
        """As :meth:`check`, in an event loop."""
        return await super().acheck(identifier, tokens, max_wait=max_wait)


def _usual(window: float | str) -> Shape:
    return "fixed" if window in CALENDAR else "sliding"


def _whole_rate(rate: float | Fraction) -> tuple[int, int]:
    """Whole tokens in whole seconds: rates are never "per token", whose rounding would add up."""
    if isinstance(rate, bool) or not isinstance(rate, (int, float, Fraction)) or not 0 < rate <= MOST_RATE:
        raise ValueError(f"rate must be tokens a second, over 0 and at most {MOST_RATE}, not {rate!r}")
    exact = Fraction(str(rate) if isinstance(rate, float) else rate).limit_denominator(MOST_SECONDS)
    if not exact:
        raise ValueError(f"rate is less than a token in {MOST_SECONDS} seconds: {rate!r}")
    return exact.numerator, exact.denominator


MOST_RATE = 10**12
MOST_SECONDS = 10**6


def _levels(standings: list[_native.Standing]) -> Mapping[str, Level]:
    return {
        one.metric: Level(one.metric, one.burst, one.used, one.remaining, one.reset_seconds) for one in standings
    }


def _checked(hold: object, max_wait: object) -> tuple[float, float | None]:
    return checked_seconds(hold, "hold"), None if max_wait is None else checked_seconds(max_wait, "max_wait")
