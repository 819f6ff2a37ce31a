"""Calling an application's callbacks, so that none can disturb a request."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import queue
import threading
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

from . import _waiting
from .callbacks import RateLimiterCallbacks, SyncRateLimiterCallbacks, given_slots, keyword_names

_logger = logging.getLogger("tallygate")


# How many late callbacks of one limiter may still run, each a task or a thread; one that hangs would add one at each call.
MOST_LEFT_BEHIND = 16


class CallbackCaller:
    """Calls a bundle's callbacks for a limiter, so that none can disturb it.

    Made once a limiter; ``has(slot)`` first, since collecting the fields costs. ``timeout`` is in
    seconds, ``None`` waits for ever. A cancelled task cancels the callback it waits for. Late ones are left behind under asyncio, where
    no more are called while :data:`MOST_LEFT_BEHIND` are, and cancelled under trio.
    """

    __slots__ = ("_slots", "_timeout")

    def __init__(self, callbacks: RateLimiterCallbacks | None, timeout: float | None) -> None:
        self._slots = {slot: _Accepted(each) for slot, each in given_slots(callbacks).items()}
        self._timeout = timeout

    def has(self, slot: str) -> bool:
        """Whether anybody listens."""
        return slot in self._slots

    async def call(self, slot: str, **given: object) -> None:
        """Calls the callback of ``slot`` with those of the fields that it takes."""
        accepted = self._slots.get(slot)
        if accepted is None:
            return
        if self._is_stuck():
            _log_stuck(slot)
            return
        try:
            await self._within_timeout(slot, accepted.call(given))
        except Exception as error:  # A callback's fault is not the request's.
            _warn_of(slot, error)

    def _is_stuck(self) -> bool:
        if len(_left_behind) < MOST_LEFT_BEHIND:
            return False
        for task in list(_left_behind):
            if task.get_loop().is_closed():
                _left_behind.pop(task, None)
        return sum(caller is self for caller in list(_left_behind.values())) >= MOST_LEFT_BEHIND

    async def _within_timeout(self, slot: str, running: Awaitable[None]) -> None:
        if self._timeout is None:
            await running
        elif _waiting.in_asyncio():
            await self._as_task(slot, running)
        else:
            import trio

            with trio.move_on_after(self._timeout) as scope:
                await running
            if scope.cancelled_caught:
                _log_timeout(slot, self._timeout)

    async def _as_task(self, slot: str, running: Awaitable[None]) -> None:
        # `wait_for` would wait for a callback that does not heed its cancellation; `wait` leaves it behind.
        task = asyncio.ensure_future(running)
        try:
            await asyncio.wait({task}, timeout=self._timeout)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not task.done():
            _log_timeout(slot, self._timeout)
            _left_behind[task] = self
            task.add_done_callback(lambda done: _outcome_of_late(slot, done))
        elif task.cancelled():
            _warn_of(slot, asyncio.CancelledError("the callback cancelled itself"))
        else:
            task.result()


class SyncCallbackCaller:
    """:class:`CallbackCaller` for plain functions.

    With a timeout they run on a thread of the caller's own, which is left behind when it is late. While
    :data:`MOST_LEFT_BEHIND` threads are, no more callbacks are called.
    """

    __slots__ = ("_left_behind", "_lock", "_slots", "_timeout", "_worker")

    def __init__(self, callbacks: SyncRateLimiterCallbacks | None, timeout: float | None) -> None:
        self._slots = {slot: _Accepted(each) for slot, each in given_slots(callbacks).items()}
        self._timeout = timeout
        self._worker: _Worker | None = None
        self._left_behind: list[_Job] = []
        self._lock = threading.Lock()

    def has(self, slot: str) -> bool:
        """Whether anybody listens."""
        return slot in self._slots

    def call(self, slot: str, **given: object) -> None:
        """Calls the callback of ``slot`` with those of the fields that it takes."""
        accepted = self._slots.get(slot)
        if accepted is None:
            return
        try:
            self._within_timeout(slot, lambda: accepted.call(given))
        except Exception as error:  # A callback's fault is not the request's.
            _warn_of(slot, error)

    def _within_timeout(self, slot: str, run: Callable[[], object]) -> None:
        # A callback that uses the limiter is on its worker already, and would wait for itself.
        if self._timeout is None or isinstance(threading.current_thread(), _Worker):
            _run_plain(run)
            return
        if self._is_stuck():
            _log_stuck(slot)
            return
        worker = self._take_worker()
        job = _Job(slot, run)
        worker.jobs.put(job)
        if job.done.wait(self._timeout):
            self._give_back(worker)
            if job.error is not None:
                raise job.error
        else:
            job.late = True
            worker.jobs.put(None)
            with self._lock:
                self._left_behind.append(job)
            _log_timeout(slot, self._timeout)

    def _is_stuck(self) -> bool:
        if len(self._left_behind) < MOST_LEFT_BEHIND:
            return False
        with self._lock:
            self._left_behind = [job for job in self._left_behind if not job.done.is_set()]
            return len(self._left_behind) >= MOST_LEFT_BEHIND

    def _take_worker(self) -> _Worker:
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is None or not worker.is_alive():
            worker = _Worker()
            worker.start()
        return worker

    def _give_back(self, worker: _Worker) -> None:
        with self._lock:
            spare, self._worker = self._worker, worker
        if spare is not None:
            spare.jobs.put(None)


class _Accepted:
    """A callback and the names of the fields that it takes."""

    __slots__ = ("_callback", "_names")

    def __init__(self, callback: Callable[..., Any]) -> None:
        self._callback = callback
        self._names = keyword_names(callback)

    def call(self, given: dict[str, object]) -> Any:
        names = self._names
        taken = given if names is None else {name: value for name, value in given.items() if name in names}
        return self._callback(**taken)


class _Job:
    __slots__ = ("context", "done", "error", "late", "run", "slot")

    def __init__(self, slot: str, run: Callable[[], object]) -> None:
        self.slot = slot
        self.run = run
        self.context = contextvars.copy_context()
        self.done = threading.Event()
        self.error: BaseException | None = None
        self.late = False

    def execute(self) -> None:
        try:
            self.context.run(_run_plain, self.run)
        except BaseException as error:
            self.error = error
            if self.late:
                _warn_of(self.slot, error)
        finally:
            self.done.set()


class _Worker(threading.Thread):
    """Runs callbacks one by one until it is told ``None``. A daemon: it never holds up the end of a program."""

    def __init__(self) -> None:
        super().__init__(name="tallygate-callbacks", daemon=True)
        self.jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()

    def run(self) -> None:
        while (job := self.jobs.get()) is not None:
            job.execute()


# A task that nobody holds may be collected before it ends. One of a loop that is closed never does.
_left_behind: dict[asyncio.Future[None], CallbackCaller] = {}


def _outcome_of_late(slot: str, done: asyncio.Future[None]) -> None:
    _left_behind.pop(done, None)
    error = None if done.cancelled() else done.exception()
    if error is not None:
        _warn_of(slot, error)


def _run_plain(run: Callable[[], object]) -> None:
    answer = run()
    if inspect.isawaitable(answer):
        close = getattr(answer, "close", None)
        if callable(close):
            close()
        raise TypeError("a plain function was promised, and it answered an awaitable")


def _log_stuck(slot: str) -> None:
    _logger.warning("%s was not called: %d callbacks that were left behind still run", slot, MOST_LEFT_BEHIND)


def _log_timeout(slot: str, timeout: float | None) -> None:
    _logger.warning("%s took longer than callback_timeout (%s s) and was left behind", slot, timeout)


def _warn_of(slot: str, error: BaseException) -> None:
    message = f"{slot} raised {type(error).__name__}: {error}"
    _logger.warning(message)
    try:
        warnings.warn(message, RuntimeWarning, stacklevel=3)
    except RuntimeWarning:
        # Where warnings are errors this one must still not reach the request.
        pass
