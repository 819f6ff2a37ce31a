"""Operations of several steps, written once for callers with an event loop and without.

They are generators that yield each call to be made (:data:`Steps`): :func:`run` awaits what a call answers, :func:`run_here` waits for
it on its thread.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from . import _waiting
from ._native import Pending

_Answer = TypeVar("_Answer")
Steps = Generator[Callable[[], Any], Any, _Answer]


async def run(steps: Steps[_Answer]) -> _Answer:
    """Takes the steps, awaiting what is not there at once."""
    try:
        call = next(steps)
        while True:
            try:
                answer = call()
                if isinstance(answer, Pending):
                    answer = await _waiting.wait(answer)
                elif inspect.isawaitable(answer):
                    answer = await answer
            except BaseException as error:
                call = steps.throw(error)
            else:
                call = steps.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def run_here(steps: Steps[_Answer]) -> _Answer:
    """Takes the steps on this thread."""
    try:
        call = next(steps)
        while True:
            try:
                answer = _waiting.finish_here(call())
            except BaseException as error:
                call = steps.throw(error)
            else:
                call = steps.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
