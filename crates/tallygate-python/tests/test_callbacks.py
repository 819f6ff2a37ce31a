"""Callbacks: which are taken, how they are called, and that they cannot disturb a request."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import threading
import time
import warnings

import pytest
from tallygate._calling import MOST_LEFT_BEHIND, CallbackCaller, SyncCallbackCaller
from tallygate.callbacks import (
    LifecycleEvent,
    OnWaitStartCallback,
    RateLimiterCallbacks,
    SyncRateLimiterCallbacks,
    create_logging_callbacks,
    create_loguru_callbacks,
    create_sync_logging_callbacks,
    create_sync_loguru_callbacks,
    merge_callbacks,
)

SLOTS = [
    "on_wait_start",
    "after_wait_end_consumption",
    "on_capacity_consumed",
    "on_capacity_refunded",
    "on_missing_consumption_data",
    "on_lifecycle_event",
]
MISSING = {"model_family": "gpt-4o", "usage_metric": "tokens", "per_seconds": 60}


async def anything(**_fields):
    pass


def anything_plain(**_fields):
    pass


def missing(callback) -> CallbackCaller:
    return CallbackCaller(RateLimiterCallbacks(on_missing_consumption_data=callback), 30.0)


def missing_plain(callback, timeout: float | None = 30.0) -> SyncCallbackCaller:
    return SyncCallbackCaller(SyncRateLimiterCallbacks(on_missing_consumption_data=callback), timeout)


@pytest.mark.parametrize("slot", SLOTS)
def test_each_slot_takes_its_own_kind(slot: str):
    assert getattr(RateLimiterCallbacks(**{slot: anything}), slot) is anything
    assert getattr(SyncRateLimiterCallbacks(**{slot: anything_plain}), slot) is anything_plain
    with pytest.raises(ValueError, match=f"{slot} must be a coroutine function"):
        RateLimiterCallbacks(**{slot: anything_plain})
    with pytest.raises(ValueError, match=f"{slot} must be a plain function"):
        SyncRateLimiterCallbacks(**{slot: anything})
    with pytest.raises(ValueError, match=f"{slot} must be callable"):
        RateLimiterCallbacks(**{slot: 3})


@pytest.mark.parametrize("slot", SLOTS)
def test_a_callback_that_lacks_a_field_is_refused_when_it_is_given(slot: str):
    async def lacking(*, model_family):
        pass

    with pytest.raises(ValueError, match=f"{slot} lacks the keyword parameters"):
        RateLimiterCallbacks(**{slot: lacking})


def test_generators_are_refused():
    async def async_generator(**_fields):
        yield

    def generator(**_fields):
        yield

    with pytest.raises(ValueError, match="must not be a generator"):
        RateLimiterCallbacks(on_wait_start=async_generator)
    with pytest.raises(ValueError, match="must not be a generator"):
        SyncRateLimiterCallbacks(on_wait_start=generator)


def test_partials_and_objects_are_callbacks():
    class Callback:
        async def __call__(self, *, model_family, usage, preconsumption_capacities):
            pass

    assert isinstance(RateLimiterCallbacks(on_wait_start=Callback()).on_wait_start, OnWaitStartCallback)
    RateLimiterCallbacks(on_wait_start=functools.partial(anything, more=1))
    SyncRateLimiterCallbacks(on_wait_start=functools.partial(anything_plain, more=1))


def test_a_caller_knows_who_listens():
    caller = missing(anything)
    assert [slot for slot in SLOTS if caller.has(slot)] == ["on_missing_consumption_data"]
    assert not CallbackCaller(None, 30.0).has("on_wait_start")
    asyncio.run(CallbackCaller(None, 30.0).call("on_wait_start", model_family="x"))
    SyncCallbackCaller(None, 30.0).call("on_wait_start", model_family="x")


@pytest.mark.parametrize("timeout", [None, 30.0])
def test_a_callback_gets_the_fields_that_it_takes(timeout: float | None):
    got = []

    async def some(*, model_family, usage_metric, per_seconds):
        got.append((model_family, usage_metric, per_seconds))

    async def all_of_them(**fields):
        got.append(fields)

    async def run():
        for callback in (some, all_of_them):
            bundle = RateLimiterCallbacks(on_missing_consumption_data=callback)
            await CallbackCaller(bundle, timeout).call("on_missing_consumption_data", **MISSING, extra=1)

    asyncio.run(run())
    assert got == [("gpt-4o", "tokens", 60), {**MISSING, "extra": 1}]


def test_what_a_callback_raises_is_told_and_does_not_come_through(caplog):
    async def failing(**_fields):
        raise LookupError("nothing here")

    def failing_plain(**_fields):
        raise LookupError("nothing here")

    with pytest.warns(RuntimeWarning, match="on_missing_consumption_data raised LookupError: nothing here"):
        asyncio.run(missing(failing).call("on_missing_consumption_data", **MISSING))
    for timeout in (None, 30.0):
        with pytest.warns(RuntimeWarning, match="on_missing_consumption_data raised LookupError: nothing here"):
            missing_plain(failing_plain, timeout).call("on_missing_consumption_data", **MISSING)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3


def test_warnings_that_are_errors_stay_outside_too():
    def failing(**_fields):
        raise LookupError

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        missing_plain(failing, None).call("on_missing_consumption_data", **MISSING)


def test_the_end_of_the_program_goes_through():
    async def stopping(**_fields):
        raise SystemExit(3)

    def stopping_plain(**_fields):
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        asyncio.run(missing(stopping).call("on_missing_consumption_data", **MISSING))
    for timeout in (None, 30.0):
        with pytest.raises(SystemExit):
            missing_plain(stopping_plain, timeout).call("on_missing_consumption_data", **MISSING)


def test_a_late_callback_is_left_behind(caplog):
    ended = []

    async def run():
        release = asyncio.Event()

        async def late(**_fields):
            try:
                await release.wait()
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise
            ended.append("ran out")

        bundle = RateLimiterCallbacks(on_missing_consumption_data=late)
        await CallbackCaller(bundle, 0.01).call("on_missing_consumption_data", **MISSING)
        assert not ended
        release.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(run())
    assert ended == ["ran out"]
    assert "longer than callback_timeout (0.01 s)" in caplog.text


def test_a_late_plain_callback_is_left_behind_and_the_next_runs(caplog):
    release, ran = threading.Event(), threading.Event()
    threads = {}

    def late(*, model_family, **_fields):
        threads[model_family] = threading.current_thread()
        if model_family == "first":
            release.wait(60)
            ran.set()

    caller = missing_plain(late, 0.01)
    caller.call("on_missing_consumption_data", **{**MISSING, "model_family": "first"})
    assert "longer than callback_timeout (0.01 s)" in caplog.text
    caller._timeout = 60.0
    caller.call("on_missing_consumption_data", **{**MISSING, "model_family": "second"})
    caller.call("on_missing_consumption_data", **{**MISSING, "model_family": "third"})
    assert not ran.is_set()
    release.set()
    assert ran.wait(60)
    first, second, third = (threads[each] for each in ("first", "second", "third"))
    assert first is not second
    assert second is third, "a worker that was in time is used again"


def test_plain_callbacks_that_hang_keep_so_many_threads_and_no_more(caplog):
    release, calls = threading.Event(), []

    def hangs(**_fields):
        calls.append(threading.current_thread())
        release.wait(60)

    caller = missing_plain(hangs, 0.001)
    for _ in range(MOST_LEFT_BEHIND + 4):
        caller.call("on_missing_consumption_data", **MISSING)
    assert caplog.text.count("was not called") == 4
    # One that was left behind before its thread got a turn is called all the same.
    began = time.monotonic()
    while len(calls) < MOST_LEFT_BEHIND and time.monotonic() - began < 60:
        time.sleep(0.001)
    release.set()
    for thread in calls:
        thread.join(60)
    assert len(calls) == MOST_LEFT_BEHIND
    caller._timeout = 60.0
    caller.call("on_missing_consumption_data", **MISSING)
    assert len(calls) == MOST_LEFT_BEHIND + 1, "they are called again when those have ended"


def test_callbacks_that_hang_keep_so_many_tasks_and_no_more(caplog):
    async def run():
        release, calls = asyncio.Event(), []

        async def hangs(**_fields):
            calls.append(asyncio.current_task())
            await release.wait()

        bundle = RateLimiterCallbacks(on_missing_consumption_data=hangs)
        caller, other = CallbackCaller(bundle, 0.001), CallbackCaller(bundle, 0.001)
        for _ in range(MOST_LEFT_BEHIND + 4):
            await caller.call("on_missing_consumption_data", **MISSING)
        assert len(calls) == MOST_LEFT_BEHIND
        assert caplog.text.count("was not called") == 4
        await other.call("on_missing_consumption_data", **MISSING)
        assert len(calls) == MOST_LEFT_BEHIND + 1, "they are another limiter's"
        release.set()
        await asyncio.wait(calls)
        await asyncio.sleep(0)
        await caller.call("on_missing_consumption_data", **MISSING)
        assert len(calls) == MOST_LEFT_BEHIND + 2, "they are called again when those have ended"

    asyncio.run(run())


def test_callbacks_of_a_loop_that_is_closed_count_no_more():
    loop, calls = asyncio.new_event_loop(), []

    async def hangs(**_fields):
        calls.append(asyncio.current_task())
        await asyncio.Event().wait()

    caller = CallbackCaller(RateLimiterCallbacks(on_missing_consumption_data=hangs), 0.001)

    async def fill():
        for _ in range(MOST_LEFT_BEHIND):
            await caller.call("on_missing_consumption_data", **MISSING)

    loop.run_until_complete(fill())
    for task in calls:
        # Nobody is to be told that it never ended.
        task._log_destroy_pending = False
    loop.close()
    asyncio.run(caller.call("on_missing_consumption_data", **MISSING))
    assert len(calls) == MOST_LEFT_BEHIND + 1


def test_a_plain_callback_may_use_the_limiter_that_calls_it():
    depth = []

    def again(**fields):
        depth.append(threading.current_thread())
        if len(depth) < 3:
            caller.call("on_missing_consumption_data", **fields)

    caller = missing_plain(again, 30.0)
    caller.call("on_missing_consumption_data", **MISSING)
    assert len(depth) == 3
    assert len(set(depth)) == 1


def test_callbacks_see_the_context_of_the_caller():
    request = contextvars.ContextVar("request", default="none")
    seen = []

    async def note(**_fields):
        seen.append(request.get())

    async def run():
        await missing(note).call("on_missing_consumption_data", **MISSING)

    request.set("r1")
    asyncio.run(run())
    missing_plain(lambda **_fields: seen.append(request.get())).call("on_missing_consumption_data", **MISSING)
    assert seen == ["r1", "r1"]


def test_a_cancelled_request_cancels_its_callback():
    seen = []

    async def run():
        begun = asyncio.Event()

        async def slow(**_fields):
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        task = asyncio.ensure_future(missing(slow).call("on_missing_consumption_data", **MISSING))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)

    asyncio.run(run())
    assert seen == ["cancelled"]


def test_a_callback_that_cancels_itself_cancels_nobody_else():
    async def quits(**_fields):
        raise asyncio.CancelledError

    async def run():
        with pytest.warns(RuntimeWarning, match="CancelledError"):
            await missing(quits).call("on_missing_consumption_data", **MISSING)
        return "went on"

    assert asyncio.run(run()) == "went on"


def test_callbacks_run_under_trio():
    trio = pytest.importorskip("trio")
    got = []

    async def note(**fields):
        await trio.sleep(0)
        got.append(fields)

    async def never(**_fields):
        await trio.sleep_forever()

    async def run():
        await missing(note).call("on_missing_consumption_data", **MISSING)
        bundle = RateLimiterCallbacks(on_missing_consumption_data=never)
        await CallbackCaller(bundle, 0.01).call("on_missing_consumption_data", **MISSING)

    trio.run(run)
    assert got == [MISSING]


def test_a_plain_callback_that_answers_a_coroutine_is_told_of():
    with pytest.warns(RuntimeWarning, match="answered an awaitable"):
        missing_plain(lambda **fields: anything(**fields), None).call("on_missing_consumption_data", **MISSING)


def test_bundles_merge_slot_by_slot():
    async def own(**_fields):
        pass

    defaults = create_logging_callbacks(capacity_refunded=None)
    merged = merge_callbacks(RateLimiterCallbacks(on_wait_start=own), defaults)
    assert merged.on_wait_start is own
    assert merged.on_capacity_consumed is defaults.on_capacity_consumed
    assert merged.on_capacity_refunded is None
    assert merge_callbacks(None, defaults) is defaults


def log_of_missing(caller) -> None:
    if isinstance(caller, CallbackCaller):
        asyncio.run(caller.call("on_missing_consumption_data", **MISSING))
    else:
        caller.call("on_missing_consumption_data", **MISSING)


@pytest.mark.parametrize("create", [create_logging_callbacks, create_sync_logging_callbacks])
def test_events_go_to_the_standard_log(create, caplog):
    callbacks = create(missing_consumption_data="warning", capacity_consumed=None)
    assert callbacks.on_capacity_consumed is None
    assert callbacks.on_lifecycle_event is None
    assert callbacks.on_wait_start is not None
    caller = CallbackCaller if create is create_logging_callbacks else SyncCallbackCaller
    with caplog.at_level(logging.DEBUG, "tallygate"):
        log_of_missing(caller(callbacks, 30.0))
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("tallygate", "WARNING")
    assert "usage_metric='tokens' per_seconds=60" in record.getMessage()
    assert record.per_seconds == 60


@pytest.mark.parametrize("create", [create_loguru_callbacks, create_sync_loguru_callbacks])
def test_events_go_to_loguru(create):
    loguru = pytest.importorskip("loguru")
    lines = []
    sink = loguru.logger.add(lambda message: lines.append(message.record), level="INFO", format="{message}")
    try:
        caller = CallbackCaller if create is create_loguru_callbacks else SyncCallbackCaller
        log_of_missing(caller(create(missing_consumption_data="success"), 30.0))
    finally:
        loguru.logger.remove(sink)
    (record,) = lines
    assert record["level"].name == "SUCCESS"
    assert record["extra"]["usage_metric"] == "tokens"
    assert "model_family='gpt-4o'" in record["message"]


@pytest.mark.parametrize("level", ["LOUD", "", "  "])
@pytest.mark.parametrize("create", [create_logging_callbacks, create_sync_loguru_callbacks])
def test_an_unknown_level_is_refused_when_it_is_given(create, level):
    if create is create_sync_loguru_callbacks:
        pytest.importorskip("loguru")
    with pytest.raises(ValueError, match="unknown log level"):
        create(wait_start=level)
    with pytest.raises(TypeError, match="on_wait_start must be a str or None"):
        create(wait_start=10)


def test_an_event_is_a_value():
    event = LifecycleEvent(event_type="capacity_consumed", model_family="gpt-4o", timestamp=1.5)
    assert event == LifecycleEvent("capacity_consumed", "gpt-4o", 1.5)
    assert (event.reservation_id, event.bucket_ids, event.usage) == (None, None, None)
    with pytest.raises(AttributeError):
        event.timestamp = 2.0  # type: ignore[misc]
