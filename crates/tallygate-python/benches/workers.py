"""Processes that measure, and what they answer."""

from __future__ import annotations

import multiprocessing
import queue
import time
from collections.abc import Callable, Sequence
from typing import Any


class Failed(Exception):
    """A worker did not answer."""


def answers(target: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], patience: float) -> list[Any]:
    """What ``target`` answers in a process of its own for each of these arguments.

    Raises :class:`Failed` with the error's words where one fails, dies, or has no answer after ``patience`` seconds. No process is
    left behind.
    """
    context = multiprocessing.get_context("spawn")
    out = context.Queue()
    working = [context.Process(target=answer, args=(target, one, out), daemon=True) for one in arguments]
    for worker in working:
        worker.start()
    try:
        return collected(working, out, time.monotonic() + patience)
    finally:
        for worker in working:
            # It has answered, or will not: what it still has to tidy up is not measured.
            worker.join(2)
            worker.kill()
            worker.join()


def collected(working: Sequence[Any], out: Any, until: float) -> list[Any]:
    results: list[Any] = []
    while len(results) < len(working):
        try:
            failure, result = out.get(timeout=1)
        except queue.Empty:
            died = [worker.exitcode for worker in working if worker.exitcode]
            if died:
                raise Failed(f"a worker ended with {died[0]}") from None
            if time.monotonic() > until:
                raise Failed("a worker gave no answer") from None
            continue
        if failure is not None:
            raise Failed(failure)
        results.append(result)
    return results


def answer(target: Callable[..., Any], arguments: tuple[Any, ...], out: Any) -> None:
    try:
        out.put((None, target(*arguments)))
    except Exception as error:
        out.put((f"{type(error).__name__}: {str(error)[:200]}", None))
