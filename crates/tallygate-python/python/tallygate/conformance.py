"""Whether a backend of the application's own does what a limiter relies on.

:func:`conformance_test_for` runs every check of :data:`CHECKS` on a builder, each on a family of its own, and
raises one :class:`~tallygate.errors.BackendConformanceError` that says of each check that failed what the
backend did wrong. It takes about three seconds and needs a builder whose state nobody else uses::

    def test_my_backend():
        run_conformance_test_for(MyBackendBuilder())
"""

from __future__ import annotations

import asyncio
import inspect
import math
import os
import threading
import time
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import fields, replace
from typing import Any

from ._calling import CallbackCaller
from ._conformance_subject import ConformanceTiming as ConformanceTiming
from ._conformance_subject import Subject, Told, family_name, named, outcome, require
from ._custom_driver import Ask, Bounds, CustomDriver
from .custom import RateLimiterBackendBuilderInterface, SyncRateLimiterBackendBuilderInterface
from .errors import BackendConformanceError, DuplicateRefundError
from .quotas import FrozenUsage, PerModelConfig, Quota, UsageQuotas

_SCALE = "TALLYGATE_CONFORMANCE_TIMING_SCALE"

# How often what is lost on a machine that stalls is tried.
_LAPS = 5


async def conformance_test_for(
    backend_builder: RateLimiterBackendBuilderInterface, *, timing: ConformanceTiming | None = None
) -> None:
    """Checks the builder of a :class:`~tallygate.custom.RateLimiterBackend`, and closes it.

    Raises :class:`~tallygate.errors.BackendConformanceError` with a line for each check that failed.
    """
    await _check_all(Subject(backend_builder, timing or _default_timing(), plain=False))


def run_conformance_test_for(
    backend_builder: RateLimiterBackendBuilderInterface, *, timing: ConformanceTiming | None = None
) -> None:
    """:func:`conformance_test_for` from where no event loop runs."""
    asyncio.run(conformance_test_for(backend_builder, timing=timing))


def sync_conformance_test_for(
    backend_builder: SyncRateLimiterBackendBuilderInterface, *, timing: ConformanceTiming | None = None
) -> None:
    """Checks the builder of a :class:`~tallygate.custom.SyncRateLimiterBackend`, from several threads, and closes it.

    Raises :class:`~tallygate.errors.BackendConformanceError` with a line for each check that failed.
    """
    subject = Subject(backend_builder, timing or _default_timing(), plain=True)
    ran: list[BaseException | None] = []

    def run() -> None:
        try:
            asyncio.run(_check_all(subject))
            ran.append(None)
        except BaseException as error:
            ran.append(error)

    # A thread of its own, since the caller's may run a loop already.
    thread = threading.Thread(target=run, name="tallygate-conformance")
    thread.start()
    thread.join()
    if ran[0] is not None:
        raise ran[0]


async def _check_all(subject: Subject) -> None:
    failures = []
    try:
        for name, check in CHECKS.items():
            if name == "cancelled wait" and subject.plain:
                continue
            try:
                await check(subject)
            except BackendConformanceError as error:
                failures.append(f"{name}: {error}")
            except Exception as error:
                failures.append(f"{name}: the backend raised {named(error)}")
    finally:
        closing = await outcome(subject.close())
    if closing is not None:
        failures.append(f"close: the builder raised {named(closing)}")
    if failures:
        raise BackendConformanceError("\n".join([f"{len(failures)} of {len(CHECKS) + 1} checks failed", *failures]))


async def _check_shape(subject: Subject) -> None:
    kind = "a plain function" if subject.plain else "a coroutine function"
    backend = subject.backend_of(await subject.build([Quota("tokens", 10, 3_600)]))
    wait = "wait_for_capacity" if subject.plain else "await_for_capacity"
    for name in (wait, "consume_capacity", "refund_capacity", "set_max_capacity"):
        method = getattr(backend, name, None)
        require(callable(method), f"the backend has no method {name}")
        require(inspect.iscoroutinefunction(method) != subject.plain, f"{name} must be {kind}")
    for name in ("supports_metric_set_change", "supports_durable_refund_dedup", "supports_acquire_marker_authority"):
        claim = getattr(backend, name, lambda: False)()
        require(isinstance(claim, bool), f"{name} must answer a bool, not {claim!r}")


async def _check_what_fits(subject: Subject) -> None:
    backend = await subject.build([Quota("tokens", 10, 3_600)])
    when = await backend.take(4)
    require(
        when is None or (isinstance(when, (int, float)) and abs(when - time.time()) < 86_400),
        f"await_for_capacity must answer None or the time in seconds since 1970, not {when!r}",
    )
    await backend.take(6)
    await backend.refuse(1, "10 of 10 were taken, and 1 more was admitted")


async def _check_refusal(subject: Subject) -> None:
    backend = await subject.build([Quota("tokens", 10, 3_600)])
    await backend.take(6)
    for _ in range(3):
        await backend.refuse(5, "6 of 10 were taken, and 5 more were admitted")
    await backend.fits(4, "4 of 10 were left, but after refusals 4 no longer fitted: a refusal must take nothing")


async def _check_all_or_nothing(subject: Subject) -> None:
    # Whichever quota a backend looks at first, the other is the one that refuses once.
    for full, other in (("requests", "tokens"), ("tokens", "requests")):
        backend = await subject.build([Quota("requests", 10, 3_600), Quota("tokens", 10, 3_600)])
        await backend.take({full: 10, other: 1})
        await backend.refuse({full: 1, other: 5}, f"none of {full} was left, and one was admitted")
        await backend.fits(
            {full: 0, other: 9},
            f"a call refused for its {full} took {other}: what is refused must take nothing of any quota",
        )


async def _check_windows(subject: Subject) -> None:
    backend = await subject.build([Quota("tokens", 100, 60), Quota("tokens", 10, 3_600)])
    await backend.take(10)
    await backend.refuse(1, "the longer of two windows of one metric was full, and 1 more was admitted")


async def _check_never(subject: Subject) -> None:
    backend = await subject.build([Quota("tokens", 10, 3_600)])
    error = await backend.prompt(
        outcome(backend.take(11, timeout=None)), "11 of at most 10 was asked for without a timeout"
    )
    require(isinstance(error, ValueError), f"11 of at most 10 must raise ValueError at once, not {named(error)}")
    await backend.fits(10, "a use that can never fit took something")


async def _check_wait(subject: Subject) -> None:
    backend = await subject.build([Quota("tokens", 10, 1)])
    # From before what is to be refilled was taken: a machine that stalls makes it later, and never earlier.
    began = time.monotonic()
    await backend.take(10)
    error = await outcome(backend.take(5, timeout=subject.timing.wait_budget_seconds))
    waited = time.monotonic() - began
    require(error is None, f"half of a window of 1 s was waited for, and {named(error)} was raised")
    # A tenth is left for clocks that are read at different times.
    require(waited >= 0.4, f"half of a window of 1 s was admitted after {waited:.3f} s: too early")


async def _check_timeout(subject: Subject) -> None:
    backend = await subject.build([Quota("tokens", 10, 3_600)])
    await backend.take(10)
    began = time.monotonic()
    error = await backend.prompt(outcome(backend.take(5, timeout=0.2)), "a timeout of 0.2 s")
    waited = time.monotonic() - began
    require(isinstance(error, TimeoutError), f"a timeout that passes must raise TimeoutError, not {named(error)}")
    require(waited >= 0.15, f"a timeout of 0.2 s ended after {waited:.3f} s, though a refund could have come")
    await backend.refund(10, 0)
    await backend.fits(10, "a wait that timed out took something")


async def _check_cancelled_wait(subject: Subject) -> None:
    backend = await subject.build([Quota("tokens", 10, 3_600)])
    await backend.take(10)
    waiting = asyncio.ensure_future(backend.take(5, timeout=None))
    await asyncio.sleep(0.05)
    waiting.cancel()
    error = await backend.prompt(outcome(waiting), "a cancelled wait")
    require(isinstance(error, asyncio.CancelledError), f"a cancelled wait must be cancelled, not {named(error)}")
    await backend.refund(10, 0)
    await asyncio.sleep(0.05)
    await backend.fits(10, "a wait that was cancelled took something")


async def _check_refund(subject: Subject) -> None:
    backend = await subject.build([Quota("tokens", 10, 3_600)])
    await backend.take(10)
    await backend.refund(10, 4)
    await backend.refuse(7, "6 of 10 were refunded, and 7 were admitted")
    await backend.fits(6, "6 of 10 were refunded, and 6 did not fit")


async def _check_full_refund(subject: Subject) -> None:
    for _ in range(_LAPS):
        backend = await subject.build([Quota("tokens", 10, 1)])
        await backend.take(5)
        await asyncio.sleep(1.1)
        await backend.refund(5, 0)
        began = time.monotonic()
        await backend.take(10)
        error = await backend.prompt(outcome(backend.take(4)), "timeout=0")
        # On a machine that stalls 4 of 10 refill by themselves meanwhile, which tells nothing.
        if error is not None or time.monotonic() - began < 0.35:
            break
    else:
        return
    require(error is not None, "a quota that was full again was refunded beyond its limit")
    require(isinstance(error, TimeoutError), f"a try that fails must raise TimeoutError, not {named(error)}")


async def _check_overuse(subject: Subject) -> None:
    backend = await subject.build([Quota("tokens", 10, 3_600)])
    await backend.take(2)
    await backend.refund(2, 12)
    await backend.refuse(1, "12 of 10 were used, and 1 more was admitted")
    await backend.refund(5, 0)
    await backend.refuse(4, "12 of 10 were used and 5 came back, and 4 were admitted: the debt was forgiven")
    await backend.fits(3, "12 of 10 were used and 5 came back, and 3 did not fit")


async def _check_record(subject: Subject) -> None:
    backend = await subject.build([Quota("tokens", 10, 3_600)])
    error = await backend.prompt(outcome(backend.consume(15)), "consume_capacity of more than is left")
    require(error is None, f"consume_capacity must take what does not fit too; it raised {named(error)}")
    await backend.refund(8, 0)
    await backend.refuse(4, "15 of 10 were recorded and 8 came back, and 4 were admitted: the debt was forgiven")
    await backend.fits(3, "15 of 10 were recorded and 8 came back, and 3 did not fit")


async def _check_refund_wakes(subject: Subject) -> None:
    backend = await subject.build([Quota("tokens", 10, 3_600)])
    await backend.take(10)
    await subject.woken_by(backend, 5, lambda: backend.refund(10, 0), "a refund")


async def _check_limits_change(subject: Subject) -> None:
    backend = await subject.build([Quota("tokens", 10, 3_600)])
    await backend.set_limit(20)
    error = await backend.prompt(outcome(backend.take(15)), "timeout=0")
    require(
        error is None or isinstance(error, TimeoutError),
        f"15 of a limit raised from 10 to 20 may be admitted or have to wait; it raised {named(error)}",
    )
    await backend.set_limit(5)
    error = await backend.prompt(outcome(backend.take(6, timeout=None)), "6 of a limit lowered to 5")
    require(isinstance(error, ValueError), f"6 of a limit lowered to 5 must raise ValueError, not {named(error)}")


async def _check_raise_wakes(subject: Subject) -> None:
    backend = await subject.build([Quota("tokens", 10, 1)])
    await backend.consume(100)
    await subject.woken_by(backend, 5, lambda: backend.set_limit(100_000), "a raised limit")


async def _check_races(subject: Subject) -> None:
    backend = await subject.build([Quota("tokens", 20, 3_600)])
    outcomes = await asyncio.gather(*(outcome(backend.take(1)) for _ in range(50)))
    admitted = outcomes.count(None)
    require(admitted == 20, f"of 50 calls at once for 20 tokens {admitted} were admitted")
    others = {type(each).__name__ for each in outcomes if not isinstance(each, (TimeoutError, type(None)))}
    require(not others, f"the calls that were refused raised {sorted(others)} instead of TimeoutError")


async def _check_apart(subject: Subject) -> None:
    one = await subject.build([Quota("tokens", 10, 3_600)])
    other = await subject.build([Quota("tokens", 10, 3_600)])
    await one.take(10)
    await other.fits(10, "a family was full because another one was")


async def _check_callbacks(subject: Subject) -> None:
    told = Told()
    backend = await subject.build([Quota("tokens", 10, 1)], told)
    began = time.monotonic()
    await backend.take(10)
    await backend.take(5, timeout=subject.timing.wait_budget_seconds)
    both = time.monotonic() - began
    await backend.refund(5, 1)
    slots = [slot for slot, _ in told.calls if slot != "on_missing_consumption_data"]
    expected = [
        "on_capacity_consumed",
        "on_wait_start",
        "on_capacity_consumed",
        "after_wait_end_consumption",
        "on_capacity_refunded",
    ]
    require(
        sorted(slots) == sorted(expected), f"an acquire, a waited one and a refund must call {expected}, not {slots}"
    )
    given = dict(reversed(told.calls))
    for slot, call in given.items():
        require(call.get("model_family") == backend.family, f"{slot} was called for another model_family")
    usages = [given["on_capacity_consumed"].get("usage"), given["on_capacity_refunded"].get("reserved_usage")]
    require(
        usages == [{"tokens": 10}, {"tokens": 5}],
        f"on_capacity_consumed and on_capacity_refunded were told of the uses {usages}",
    )
    waited = given["after_wait_end_consumption"].get("wait_time_s")
    # Half a window, less what passed between the calls.
    least = 0.3 if both < 0.7 else 0.0
    require(
        isinstance(waited, (int, float)) and least < waited < both + 0.1,
        f"after_wait_end_consumption was told of a wait of {waited!r} s",
    )


async def _check_metrics_change(subject: Subject) -> None:
    backend = await subject.build([Quota("tokens", 10, 3_600)])
    if not backend.claims("supports_metric_set_change"):
        return
    await backend.take(6)
    changed = await backend.reconfigured([Quota("tokens", 10, 3_600), Quota("requests", 1, 3_600)])
    await changed.refuse(
        {"tokens": 5, "requests": 1},
        "a metric was added, and what was counted of another was lost: supports_metric_set_change must answer False",
    )
    await changed.fits({"tokens": 4, "requests": 1}, "a metric was added, and what was left of another did not fit")


async def _check_dedup(subject: Subject) -> None:
    backend = await subject.build([Quota("tokens", 10, 3_600)])
    if not backend.claims("supports_durable_refund_dedup"):
        return
    name = uuid.uuid4().hex
    await backend.take(10, reservation_id=name)
    await backend.refund(3, 0, reservation_id=name)
    again = await outcome(backend.refund(3, 0, reservation_id=name))
    require(
        again is None or isinstance(again, ValueError),
        f"a second refund must be answered False or raise DuplicateRefundError, not {named(again)}",
    )
    await backend.refuse(4, "a reservation was refunded twice, and credited twice")


async def _check_limiter(subject: Subject) -> None:
    config = PerModelConfig(UsageQuotas([Quota("tokens", 10, 3_600)]))
    family = family_name()
    driver = CustomDriver(subject.driven(), "conformance", Bounds(), CallbackCaller(None, None))
    ask = Ask(config, family, family, FrozenUsage({"tokens": 10}))

    async def run() -> None:
        reservation = await driver.acquire(ask, 0)
        await driver.refund({"tokens": 4}, reservation)
        error = await outcome(driver.refund({"tokens": 0}, reservation))
        require(isinstance(error, DuplicateRefundError), f"a second refund must be a duplicate, not {named(error)}")
        error = await outcome(driver.acquire(replace(ask, usage=FrozenUsage({"tokens": 7})), 0))
        require(isinstance(error, TimeoutError), f"4 of 10 were used, and 7 more ended with {named(error)}")
        await driver.acquire(replace(ask, usage=FrozenUsage({"tokens": 6})), 0)

    await subject.within(run(), "a limiter's acquire and refund")


CHECKS: dict[str, Callable[[Subject], Coroutine[Any, Any, None]]] = {
    "shape": _check_shape,
    "what fits": _check_what_fits,
    "refusal takes nothing": _check_refusal,
    "all or nothing": _check_all_or_nothing,
    "several windows": _check_windows,
    "what never fits": _check_never,
    "wait": _check_wait,
    "timeout": _check_timeout,
    "cancelled wait": _check_cancelled_wait,
    "refund": _check_refund,
    "refund of a full quota": _check_full_refund,
    "use beyond the reservation": _check_overuse,
    "recorded use": _check_record,
    "refund wakes": _check_refund_wakes,
    "limit changes": _check_limits_change,
    "raised limit wakes": _check_raise_wakes,
    "races": _check_races,
    "families apart": _check_apart,
    "callbacks": _check_callbacks,
    "metrics change": _check_metrics_change,
    "refund once": _check_dedup,
    "under a limiter": _check_limiter,
}
"""Every check by its name, in the order they run."""


def _default_timing() -> ConformanceTiming:
    written = os.environ.get(_SCALE, "1")
    try:
        scale = float(written)
    except ValueError:
        scale = math.nan
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"{_SCALE} must be a number above 0, not {written!r}")
    defaults = ConformanceTiming()
    return ConformanceTiming(**{each.name: getattr(defaults, each.name) * scale for each in fields(defaults)})
