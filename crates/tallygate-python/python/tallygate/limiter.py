"""The limiter for asyncio and trio."""

from __future__ import annotations

import warnings
from types import TracebackType
from typing import TYPE_CHECKING, Any

from . import _core, _scope, _steps, _waiting
from ._core import LimiterCore
from ._models import Bounds
from ._native import CapacityReservation, Retired
from .quotas import (
    MAX_ALIAS_LENGTH,
    MAX_METRIC_LENGTH,
    MAX_MODEL_FAMILY_LENGTH,
    PerModelConfig,
    PerModelConfigGetter,
    Usage,
)

if TYPE_CHECKING:
    from ._calling import CallbackCaller
    from .callbacks import RateLimiterCallbacks
    from .diagnostics import RateLimiterDiagnostic

_UNSET: Any = object()


class RateLimiter(LimiterCore):
    """Lets calls through while their quotas last, and has the others wait in order.

    ``cfg`` is the configuration of all models, or a function that tells the one of a model by its name. ``backend`` says where the
    counters are; the store is opened here, so make the limiter in the process that uses it. Any number of event loops and threads may.

    An acquisition that need not wait never leaves the calling thread. A reservation that is neither refunded nor referred to any more
    counts as used.

    ``callback_timeout`` bounds each callback, in seconds. The ``max_…`` arguments bound what the limiter keeps: past one of them
    :class:`~tallygate.CardinalityLimitExceededError` is raised. A reservation stands for ``max_reservation_lifetime_seconds``, a day
    unless given. ``close_drain_timeout_seconds`` and ``pid_check`` are taken for the sake of other packages' users: closing waits for
    nobody, and use after a fork is always refused.
    """

    def __init__(
        self,
        cfg: PerModelConfig | PerModelConfigGetter,
        /,
        backend: object = None,
        *,
        callbacks: RateLimiterCallbacks | None = None,
        callback_timeout: float | None = 30.0,
        close_drain_timeout_seconds: float | None = 5.0,
        max_model_families: int = 10_000,
        max_metrics_per_family: int = 100,
        max_aliases: int = 10_000,
        max_in_flight_reservations: int = 100_000,
        max_model_family_length: int = MAX_MODEL_FAMILY_LENGTH,
        max_metric_length: int = MAX_METRIC_LENGTH,
        max_alias_length: int = MAX_ALIAS_LENGTH,
        max_reservation_lifetime_seconds: float | None = None,
        pid_check: bool = True,
    ) -> None:
        _core.check_unused(close_drain_timeout_seconds, pid_check)
        self._callbacks = callbacks
        self._callback_timeout = _core.checked_timeout(callback_timeout, "callback_timeout")
        self._caller = _caller_of(callbacks, self._callback_timeout) if callbacks is not None else None
        bounds = Bounds(
            max_model_families=max_model_families,
            max_metrics_per_family=max_metrics_per_family,
            max_aliases=max_aliases,
            max_in_flight_reservations=max_in_flight_reservations,
            max_model_family_length=max_model_family_length,
            max_metric_length=max_metric_length,
            max_alias_length=max_alias_length,
        )
        super().__init__(cfg, backend, bounds, max_reservation_lifetime_seconds)

    def _drive(self, backend: object) -> Any:
        from ._custom_driver import Bounds as CustomBounds
        from ._custom_driver import CustomDriver

        bounds = CustomBounds(self._bounds.max_in_flight_reservations, self._bounds.max_model_families, self._lifetime)
        from ._calling import CallbackCaller

        caller = CallbackCaller(self._callbacks, self._callback_timeout)
        return CustomDriver(backend, self._limiter_instance_id, bounds, caller)

    async def acquire_capacity(self, usage: Usage, model: str, *, timeout: float | None = None) -> CapacityReservation:
        """Holds ``usage``, waiting in line for it as long as it takes, or up to ``timeout`` seconds.

        ``usage`` names the metrics of the model's quotas, all of them; what is finer than they count is rounded up. With ``timeout=0``
        nothing is waited for. Raises ``TimeoutError`` when there was no room in time, and ``ValueError`` for a usage that never fits,
        naming metric and window; neither has taken anything. A cancelled call has taken nothing either.
        """
        family = self._known.get(model) if model.__class__ is str else None
        if family is None:
            return await _steps.run(self._steps_to_acquire(usage, model, timeout))
        try:
            answer = family.acquire(usage, model, timeout)
        except Retired:
            return await _steps.run(self._steps_to_acquire(usage, model, timeout))
        if isinstance(answer, CapacityReservation):
            return answer
        return await _waiting.wait(answer)  # type: ignore[no-any-return]

    async def refund_capacity(self, actual_usage: Usage, reservation: CapacityReservation) -> None:
        """Replaces what a reservation holds by what was used, which may be more; once.

        The arguments may come in either order. Raises :class:`~tallygate.DuplicateRefundError` for a second refund, and
        :class:`~tallygate.UnknownReservationError` for a reservation of another limiter or past its lifetime.
        """
        if self._caller or self._driver is not None:
            return await _steps.run(self._steps_to_refund(actual_usage, reservation))
        answer = self._gate.refund(actual_usage, reservation)
        if answer is not None:
            await _waiting.wait(answer)

    async def acquire_capacity_for_request(
        self, *, extra_usage: Usage | None = None, timeout: float | None = None, **request: Any
    ) -> CapacityReservation:
        """Has the configuration's ``usage_counter`` size a request given by keyword, ``model`` among it, and acquires that.

        ``extra_usage`` is added to what was counted; it may name no other metrics.
        """
        return await _steps.run(self._steps_for_request(request, extra_usage, timeout))

    async def refund_capacity_from_response(
        self, reservation: CapacityReservation, response: object = None, *, usage: object = _UNSET
    ) -> None:
        """Refunds with the usage that a provider's answer tells, an object or a mapping.

        The quotas may be of ``requests`` (one), ``tokens``, ``input_tokens`` and ``output_tokens``; for others use
        :meth:`refund_capacity`. Instead of a whole ``response`` its ``usage`` may be given.
        """
        reservation, actual = _scope.used_by_response(reservation, response, usage, _UNSET)
        await self.refund_capacity(actual, reservation)

    async def record_usage(self, usage: Usage, model: str) -> CapacityReservation:
        """Charges what was used already, without asking; quotas may be owed then.

        The answer can be refunded like another one, if there was room for it; what is owed stays.
        """
        return await _steps.run(self._steps_to_record(usage, model))

    def reserve(
        self, usage: Usage, model: str, *, timeout: float | None = None, usage_on_error: Usage | None = None
    ) -> ReservationScope:
        """``async with`` this: holds ``usage`` inside, and refunds at the end with what :meth:`ReservationScope.set_actual_usage` said.

        If the block raises, ``usage_on_error`` counts as used, and without it all that was held. A scope is entered once.
        """
        return ReservationScope(self, (usage, model, timeout), usage_on_error)

    async def set_max_capacity(self, model: str, metric: str, per_seconds: int, value: float) -> None:
        """Changes what one quota lets through, at once for those who wait, too.

        In memory and in a folder it holds until the limiter is closed, or the configuration changes that quota; on Redis for a week, for
        all that share the key prefix. Who waits for more than can come now is told so by ``ValueError``.
        """
        await _steps.run(self._steps_to_set(model, metric, per_seconds, value))

    async def diagnose(self) -> RateLimiterDiagnostic:
        """Where every quota stands, what is held, who waits and what they lack. Changes nothing.

        For operators, when something waits and should not: unlike ``snapshot_state`` it asks the store, and names models and amounts.
        """
        return await _steps.run(self._steps_to_diagnose("async"))

    async def aclose(self) -> None:
        """Closes the limiter: who waits gets :class:`~tallygate.ClosedError`, and so does every later call. May be repeated."""
        self._say_closed()
        if self._driver is not None:
            await self._driver.aclose()
        elif self._engine.kind == "memory":
            self._engine.close()
        else:
            await _waiting.in_thread(self._engine.close)

    def close(self) -> None:
        """:meth:`aclose` for callers that cannot wait; the store's last words may keep the thread for a moment."""
        self._say_closed()
        (self._driver or self._engine).close()

    async def __aenter__(self) -> RateLimiter:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()


class ReservationScope:
    """What :meth:`RateLimiter.reserve` holds inside an ``async with``.

    ``reservation`` is what was acquired, ``None`` before the block.
    """

    def __init__(self, limiter: RateLimiter, asked: tuple[Usage, str, float | None], usage_on_error: Usage | None) -> None:
        self._limiter = limiter
        self._account = _scope.ScopeAccount(asked, usage_on_error)

    @property
    def reservation(self) -> CapacityReservation | None:
        """What was acquired."""
        acquired: CapacityReservation | None = self._account.reservation
        return acquired

    def set_actual_usage(self, actual_usage: Usage) -> None:
        """Says what was really used. The last word counts."""
        self._account.actual_usage = actual_usage

    async def __aenter__(self) -> ReservationScope:
        usage, model, timeout = self._account.enter()
        self._account.reservation = await self._limiter.acquire_capacity(usage, model, timeout=timeout)
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if await _steps.run(self._account.leave(self._limiter, error)):
            warnings.warn(_scope.NO_ACTUAL_USAGE, RuntimeWarning, stacklevel=2)


def _caller_of(callbacks: object, timeout: float | None) -> CallbackCaller | None:
    """What calls the callbacks; none if there are none. Imported here, since most limiters have none."""
    from ._calling import CallbackCaller
    from .callbacks import RateLimiterCallbacks, given_slots

    if not isinstance(callbacks, RateLimiterCallbacks):
        raise TypeError(f"callbacks must be RateLimiterCallbacks or None, not {type(callbacks).__name__}")
    return CallbackCaller(callbacks, timeout) if given_slots(callbacks) else None
