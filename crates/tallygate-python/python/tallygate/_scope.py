"""What happens inside a ``reserve()`` scope, and what a provider's answer says was used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from . import _log
from ._native import CapacityReservation
from ._steps import Steps
from .errors import ClosedError, DuplicateRefundError, UnknownReservationError


class Refunds(Protocol):
    """A limiter, as far as a scope needs it."""

    def _steps_to_refund(self, actual_usage: Any, reservation: Any) -> Steps[None]: ...


NO_ACTUAL_USAGE = (
    "the reserve() block ended without set_actual_usage, so all that was reserved counts as used; "
    "call handle.set_actual_usage(...) in the block to give the rest back"
)


# A reservation that is over: no other usage can be refunded either.
_ENDED = (ClosedError, DuplicateRefundError, UnknownReservationError)


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

    def leave(self, limiter: Refunds, error: BaseException | None) -> Steps[bool]:
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
        except _ENDED:
            raise
        except Exception:
            # The block's caller hears of it, and nothing stays open.
            yield from self._refund_quietly(limiter, reserved, reserved)
            raise
        return False

    def _refund_quietly(self, limiter: Refunds, usage: Any, reserved: Any) -> Steps[None]:
        """A refund that fails hides no error of the block: all that was held counts as used then."""
        for used in (usage, reserved):
            try:
                yield from limiter._steps_to_refund(used, self.reservation)
            except _ENDED as ended:
                _log.warn("reservation %s was not refunded: %s", self.reservation.reservation_id, ended)
                return
            except Exception:
                _log.warn("refund of reservation %s failed", self.reservation.reservation_id, error=True)
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
