"""A decorator that reserves before a function runs and settles after it."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast, overload

from ._core import checked_timeout

if TYPE_CHECKING:
    from .limiter import RateLimiter
    from .sync_limiter import SyncRateLimiter

__all__ = ["limited"]

_log = logging.getLogger("tallygate")

P = ParamSpec("P")
R = TypeVar("R")

Amounts = Mapping[str, float]
"""How much of each metric."""


@overload
def limited(
    limiter: SyncRateLimiter,
    *,
    usage: Amounts | Callable[..., Amounts],
    model: str | Callable[..., str],
    actual: Callable[[Any], Amounts | None] | None = None,
    usage_on_error: Amounts | None = None,
    timeout: float | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


@overload
def limited(
    limiter: RateLimiter,
    *,
    usage: Amounts | Callable[..., Amounts],
    model: str | Callable[..., str],
    actual: Callable[[Any], Amounts | None] | None = None,
    usage_on_error: Amounts | None = None,
    timeout: float | None = None,
) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Awaitable[R]]]: ...


def limited(
    limiter: RateLimiter | SyncRateLimiter,
    *,
    usage: Amounts | Callable[..., Amounts],
    model: str | Callable[..., str],
    actual: Callable[[Any], Amounts | None] | None = None,
    usage_on_error: Amounts | None = None,
    timeout: float | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Lets each call of a function wait for capacity, and settles it afterwards with what it really used.

    ``usage`` is what a call reserves, ``model`` whose quotas it counts on; each may be a function of the call's own arguments.
    ``actual`` reads the real use from what the function returns; without it, or where it answers ``None``, what was reserved
    counts as used. An ``actual`` that fails or tells nonsense costs nobody the answer: the log says so, and what was reserved
    counts. When the function raises, ``usage_on_error`` counts (by default all that was reserved).
    ``timeout`` is how long a call waits at most, in seconds; ``None`` is as long as it takes.

    A plain function needs a :class:`~tallygate.SyncRateLimiter`, a coroutine function a :class:`~tallygate.RateLimiter`;
    ``TypeError`` says so where they do not fit.

        >>> @limited(limiter, model="gpt-4o", usage={"requests": 1, "tokens": 2_000},
        ...          actual=lambda answer: {"requests": 1, "tokens": answer.usage.total_tokens})
        ... async def ask(prompt): ...
    """
    terms = _Terms(usage, model, actual, usage_on_error, timeout)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        _check_kind(function, limiter)
        if inspect.iscoroutinefunction(function):
            return _asynchronous(function, cast("RateLimiter", limiter), terms)
        return _synchronous(function, cast("SyncRateLimiter", limiter), terms)

    return decorate


class _Terms:
    """What a decorated function was told to reserve, and how it is settled."""

    __slots__ = ("_actual", "_model", "_usage", "timeout", "usage_on_error")

    def __init__(
        self,
        usage: Amounts | Callable[..., Amounts],
        model: str | Callable[..., str],
        actual: Callable[[Any], Amounts | None] | None,
        usage_on_error: Amounts | None,
        timeout: float | None,
    ) -> None:
        self._usage = usage
        self._model = model
        self._actual = actual
        self.usage_on_error = usage_on_error
        self.timeout = checked_timeout(timeout)

    def asked(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Amounts, str]:
        """What the call with these arguments reserves, on which model."""
        usage = self._usage(*args, **kwargs) if callable(self._usage) else self._usage
        model = self._model(*args, **kwargs) if callable(self._model) else self._model
        return usage, model

    def used(self, answer: Any, reserved: Amounts) -> Amounts:
        """What the call that answered so used; all that was reserved where ``actual`` fails."""
        try:
            told = None if self._actual is None else self._actual(answer)
        except Exception:
            _log.warning("`actual` could not read an answer: all that was reserved counts as used", exc_info=True)
            return reserved
        return reserved if told is None else told


def _synchronous(function: Callable[..., Any], limiter: SyncRateLimiter, terms: _Terms) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        usage, model = terms.asked(args, kwargs)
        answers = []
        try:
            with limiter.reserve(usage, model, timeout=terms.timeout, usage_on_error=terms.usage_on_error) as held:
                answers.append(function(*args, **kwargs))
                held.set_actual_usage(terms.used(answers[0], usage))
        except Exception as error:
            if not answers:
                raise
            _tell_late(function, error)
        return answers[0]

    return call


def _asynchronous(function: Callable[..., Any], limiter: RateLimiter, terms: _Terms) -> Callable[..., Any]:
    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        usage, model = terms.asked(args, kwargs)
        answers = []
        try:
            async with limiter.reserve(usage, model, timeout=terms.timeout, usage_on_error=terms.usage_on_error) as held:
                answers.append(await function(*args, **kwargs))
                held.set_actual_usage(terms.used(answers[0], usage))
        except Exception as error:
            if not answers:
                raise
            _tell_late(function, error)
        return answers[0]

    return call


def _tell_late(function: Callable[..., Any], error: Exception) -> None:
    """Logs what went wrong when the function had answered: a usage that is none, a store that is away, a closed limiter."""
    _log.warning("what %s used could not be settled as it is", function.__qualname__, exc_info=error)


def _check_kind(function: Callable[..., Any], limiter: object) -> None:
    """Raises ``TypeError`` where function and limiter do not fit."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"{function.__name__} is a generator, which uses its capacity after it has returned: "
            "use `with limiter.reserve(...)` inside it"
        )
    waits = inspect.iscoroutinefunction(getattr(limiter, "acquire_capacity", None))
    if inspect.iscoroutinefunction(function) and not waits:
        raise TypeError(f"{function.__name__} is a coroutine function: give `limited` a RateLimiter")
    if waits and not inspect.iscoroutinefunction(function):
        raise TypeError(f"{function.__name__} is a plain function: give `limited` a SyncRateLimiter")
