"""What can go wrong, by name.

``TimeoutError`` (no room in time), ``ValueError`` (an argument that cannot be right, among them a use
that no wait can make fit) and ``ConnectionError`` (the store could not be asked) are Python's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._custom_driver import CustomReservation
    from ._native import CapacityReservation

_DUPLICATES: dict[str, str] = {
    "already_refunded": "this reservation was refunded before",
    "in_progress": "this reservation is being refunded by another call",
    "duplicate_acquire": "this reservation was acquired before",
}


class CardinalityLimitExceededError(ValueError):
    """A name is too long, or there are more names than the limiter was told to keep."""

    reason = "cardinality_limit_exceeded"


class DuplicateRefundError(ValueError):
    """The reservation was refunded before, or is being refunded now. Nothing was changed.

    ``reason`` is ``already_refunded``, ``in_progress`` or ``duplicate_acquire``.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        reason: str = "already_refunded",
        reservation_id: str | None = None,
        model_family: str | None = None,
    ) -> None:
        if reason not in _DUPLICATES:
            raise ValueError(f"reason must be one of {sorted(_DUPLICATES)}, not {reason!r}")
        self.reason: str = reason
        self.reservation_id = reservation_id
        self.model_family = model_family
        super().__init__(_placed(message or _DUPLICATES[reason], reservation_id, model_family))


class UnknownReservationError(ValueError):
    """The limiter never gave this reservation, or its lifetime has ended. Nothing was changed."""

    reason = "unknown_reservation"

    def __init__(
        self,
        message: str = "this reservation is not held here",
        *,
        reservation_id: str | None = None,
        model_family: str | None = None,
    ) -> None:
        self.reservation_id = reservation_id
        self.model_family = model_family
        super().__init__(_placed(message, reservation_id, model_family))


class ClosedError(RuntimeError):
    """The limiter is closed; make a new one."""


class BackendConformanceError(Exception):
    """A backend broke a rule of :mod:`tallygate.conformance`; the message says which and how."""

    reason = "backend_conformance_error"


class BackendLockContentionError(Exception):
    """A backend of the application could not get hold of its own state in time.

    None of the built-in stores raises it: they wait for no lock.
    """

    reason = "backend_lock_contention"

    def __init__(self, message: str = "the backend's lock was not had in time; nothing was changed") -> None:
        super().__init__(message)


class AcquireRefundFailedError(Exception):
    """A task was cancelled just when its capacity came, and giving it back failed.

    ``reservation`` is what it holds, to be refunded or used; ``interrupted_by`` is the cancellation
    and ``refund_error`` what the store said.
    """

    reason = "acquire_refund_failed"

    def __init__(
        self,
        reservation: CapacityReservation | CustomReservation,
        interrupted_by: BaseException | None = None,
        refund_error: BaseException | None = None,
    ) -> None:
        super().__init__("interrupted after capacity was reserved, and it could not be given back; see .reservation")
        self.reservation = reservation
        self.interrupted_by = interrupted_by
        self.refund_error = refund_error

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.reservation, self.interrupted_by, self.refund_error))


def _placed(message: str, reservation_id: str | None, model_family: str | None) -> str:
    named = {"reservation_id": reservation_id, "model_family": model_family}
    context = ", ".join(f"{name}={value!r}" for name, value in named.items() if value is not None)
    return f"{message} ({context})" if context else message
