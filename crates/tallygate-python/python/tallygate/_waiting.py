"""Waiting for what a store does not answer at once, without polling.

A native operation that is not done is a ``Pending``. Each event loop has one bell: a pipe that it watches, which the store rings from
its own threads. However many operations have come further meanwhile, the loop is woken once.
"""

from __future__ import annotations

import itertools
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from . import _log
from ._native import Bell, Pending

if TYPE_CHECKING:
    import asyncio


async def wait(pending: Pending) -> Any:
    """The answer of an operation, under asyncio or trio.

    A task that is cancelled meanwhile leaves the line; a reservation that came just then is given back.
    """
    trio = _running_trio()
    if trio is not None:
        return await _wait_in_trio(trio, pending)
    # Not before: who waits on threads has no use for it, and it is most of what an import would cost.
    import asyncio

    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        pending.drop()
        raise
    return await _wait_in_asyncio(loop, pending)


async def finish(answer: Any) -> Any:
    """What a native call answered, waited for if it is not there yet."""
    return await wait(answer) if isinstance(answer, Pending) else answer


def block(pending: Pending) -> Any:
    """The answer of an operation; this thread waits for it. Interrupted, it leaves the line."""
    try:
        return pending.block()
    except BaseException:
        pending.drop()
        raise


def finish_here(answer: Any) -> Any:
    """:func:`finish` for callers without an event loop."""
    return block(answer) if isinstance(answer, Pending) else answer


def give_back(answer: Any) -> None:
    """Returns capacity that nobody will use: its caller has gone."""
    end = getattr(answer, "_give_back", None) or getattr(answer, "cancel", None)
    if end is not None:
        # Once begun it is carried out, whether it is waited for or not.
        end()


def in_asyncio() -> bool:
    """Whether a loop of asyncio runs on this thread."""
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def in_thread(work: Callable[[], Any]) -> Any:
    """What ``work`` answers, done by another thread, though its caller be cancelled meanwhile."""
    trio = _running_trio()
    if trio is not None:
        return await _carry_out_in_trio(trio, lambda: trio.to_thread.run_sync(work))
    import asyncio

    return await asyncio.get_running_loop().run_in_executor(None, work)


async def carry_out(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """What ``work`` answers. It is not left half done: where its caller is cancelled meanwhile, it goes on without it."""
    trio = _running_trio()
    if trio is not None:
        return await _carry_out_in_trio(trio, work)
    import asyncio

    task = asyncio.ensure_future(work())
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            _carried.add(task)
            task.add_done_callback(_tell_of_carried)
        raise


GRACE = 5.0
"""How long (seconds) a cancelled task of trio waits for what is to be carried out: there nothing outlives the last task for long."""

# A task that nobody holds may be collected before it ends.
_carried: set[Any] = set()


def _tell_of_carried(task: Any) -> None:
    _carried.discard(task)
    error = None if task.cancelled() else task.exception()
    if error is not None:
        _log.warn("what a cancelled task had begun failed: %s", error, error=error)


class _Ring:
    """A loop's bell, and what to do when it rings, by number."""

    def __init__(self) -> None:
        self.bell = Bell()
        self.numbers = itertools.count()
        self.heard: dict[int, Callable[[], None]] = {}
        self.waiting: dict[int, Pending] = {}

    def rung(self) -> None:
        for number in self.bell.drain():
            hear = self.heard.get(number)
            if hear is not None:
                hear()


_rings: weakref.WeakKeyDictionary[Any, _Ring] = weakref.WeakKeyDictionary()
_making = threading.Lock()


async def _wait_in_asyncio(loop: asyncio.AbstractEventLoop, pending: Pending) -> Any:
    ring = _rings.get(loop) or _ring_of_asyncio(loop)
    if len(_rings) > 1:
        _forget_closed_loops()
    number = next(ring.numbers)
    answer = pending.attach(ring.bell, number)
    if answer is not pending:
        return answer
    future: asyncio.Future[Any] = loop.create_future()

    def hear() -> None:
        if future.done():
            return
        try:
            answer = pending.poll()
        except BaseException as error:
            future.set_exception(error)
        else:
            if answer is not pending:
                future.set_result(answer)

    ring.heard[number] = hear
    ring.waiting[number] = pending
    try:
        return await future
    except BaseException:
        if future.done() and not future.cancelled() and future.exception() is None:
            give_back(future.result())
        pending.drop()
        raise
    finally:
        del ring.heard[number], ring.waiting[number]


def _ring_of_asyncio(loop: asyncio.AbstractEventLoop) -> _Ring:
    ring = _Ring()
    with _making:
        _rings[loop] = ring
    try:
        loop.add_reader(ring.bell.fileno(), ring.rung)
    except NotImplementedError:
        threading.Thread(target=_call_loop, args=(weakref.ref(loop), ring), name="tallygate-bell", daemon=True).start()
    return ring


def _forget_closed_loops() -> None:
    """Takes out of line who waits on a loop that was closed: nobody wakes them, and what came for them would be lost."""
    from asyncio import AbstractEventLoop

    with _making:
        closed = [loop for loop in _rings if isinstance(loop, AbstractEventLoop) and loop.is_closed()]
        rings = [_rings.pop(loop) for loop in closed]
    for ring in rings:
        for pending in list(ring.waiting.values()):
            pending.drop()


def _call_loop(loop_of: Callable[[], asyncio.AbstractEventLoop | None], ring: _Ring) -> None:
    """For loops that watch no pipes: a thread that listens for them."""
    while True:
        rung = ring.bell.wait(1.0)
        loop = loop_of()
        if loop is None or loop.is_closed():
            return
        if rung:
            heard = threading.Event()
            try:
                loop.call_soon_threadsafe(ring.rung)
                loop.call_soon_threadsafe(heard.set)
            except RuntimeError:
                return
            del loop
            heard.wait(1.0)


def _running_trio() -> Any:
    """Trio, if this is one of its tasks."""
    trio = sys.modules.get("trio")
    if trio is None:
        return None
    try:
        trio.lowlevel.current_task()
    except (RuntimeError, AttributeError):
        return None
    return trio


async def _wait_in_trio(trio: Any, pending: Pending) -> Any:
    import outcome

    token = trio.lowlevel.current_trio_token()
    ring = _rings.get(token)
    if ring is None:
        ring = _rings[token] = _Ring()
        trio.lowlevel.spawn_system_task(_listen_in_trio, trio, ring, name="tallygate bell")
    number = next(ring.numbers)
    answer = pending.attach(ring.bell, number)
    if answer is not pending:
        return answer
    task = trio.lowlevel.current_task()

    def hear() -> None:
        try:
            answer = pending.poll()
        except BaseException as error:
            del ring.heard[number]
            trio.lowlevel.reschedule(task, outcome.Error(error))
        else:
            if answer is not pending:
                del ring.heard[number]
                trio.lowlevel.reschedule(task, outcome.Value(answer))

    def abort(_raise_cancel: object) -> Any:
        del ring.heard[number]
        pending.drop()
        return trio.lowlevel.Abort.SUCCEEDED

    ring.heard[number] = hear
    return await trio.lowlevel.wait_task_rescheduled(abort)


async def _carry_out_in_trio(trio: Any, work: Callable[[], Awaitable[Any]]) -> Any:
    import outcome

    done, is_awaited = trio.Event(), True
    answers: list[Any] = []

    async def run() -> None:
        try:
            answers.append(outcome.Value(await work()))
        except trio.Cancelled:
            # The last task of all has ended.
            raise
        except BaseException as error:
            answers.append(outcome.Error(error))
            if not is_awaited:
                _log.warn("what a cancelled task had begun failed: %s", error, error=error)
        finally:
            done.set()

    trio.lowlevel.spawn_system_task(run, name="tallygate")
    try:
        await done.wait()
    except trio.Cancelled:
        with trio.move_on_after(GRACE, shield=True):
            await done.wait()
        if not answers:
            is_awaited = False
            raise
    return answers[0].unwrap()


async def _listen_in_trio(trio: Any, ring: _Ring) -> None:
    while True:
        await trio.lowlevel.wait_readable(ring.bell.fileno())
        ring.rung()
