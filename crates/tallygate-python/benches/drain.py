"""The drain of DESIGN's bench: 2,000 jobs of mixed sizes through 400,000 tokens in 2 s, each reserving 1.5 times what it uses."""

from __future__ import annotations

import asyncio
import importlib
import math
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import workers
from limiters import MODEL, asynchronous, config, contention

JOBS = 2_000
LIMIT, WINDOW = 400_000, 2
PATIENCE = 80.0
"""Seconds after which a drain is broken off; a perfect one takes 27."""


def share(name: str, crowd: tuple[int, int], url: str | None, prefix: str) -> float | str:
    """How long a perfect scheduler takes, in per cent of how long this many processes of this many tasks take.

    Words, where they do not come to an end.
    """
    processes, tasks = crowd
    sizes = jobs(JOBS)
    start = time.time() + 4
    parts = [(name, sizes[place::processes], tasks, start, url, prefix) for place in range(processes)]
    try:
        drained = workers.answers(in_process, parts, patience=PATIENCE + 40)
    except workers.Failed as failed:
        return f"failed ({failed})"
    served = sum(count for count, _ in drained)
    if served < JOBS:
        return f"served {served:,} of {JOBS:,} in {PATIENCE:.0f} s"
    took: float = max(last for _, last in drained)
    return 100 * optimum(sizes) / took


def jobs(count: int) -> list[int]:
    chance = random.Random(2026)
    return [min(20_000, max(200, int(chance.lognormvariate(math.log(2_000), 0.9)))) for _ in range(count)]


def optimum(sizes: list[int]) -> float:
    """When a perfect scheduler, who knows each use before, admits the last: a full bucket, then the refill."""
    return max(0.0, (sum(sizes) - LIMIT) / (LIMIT / WINDOW))


def in_process(name: str, sizes: list[int], tasks: int, start: float, url: str | None, prefix: str) -> tuple[int, float]:
    lib = importlib.import_module(name)
    return asyncio.run(Drain(lib, sizes, start).run(asynchronous(lib, config(lib, [("tokens", LIMIT, WINDOW)]), url, prefix), tasks))


class Drain:
    """One process's jobs on their way."""

    def __init__(self, lib: Any, sizes: list[int], start: float) -> None:
        self.crowded = contention(lib)
        self.queue: Iterator[int] = iter(sizes)
        self.start = start
        self.served = 0
        self.last = 0.0

    async def run(self, limiter: Any, tasks: int) -> tuple[int, float]:
        """How many jobs were let in, and seconds from the start to the last of them."""
        await asyncio.sleep(max(0.0, self.start - time.time()))
        working = {asyncio.ensure_future(self.work(limiter)) for _ in range(tasks)}
        # A failure is told at once; whoever is late is left to the end of the process, which need not be quick.
        done, late = await asyncio.wait(working, timeout=PATIENCE, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
        if not late:
            await limiter.aclose()
        return self.served, self.last - self.start

    async def work(self, limiter: Any) -> None:
        for size in self.queue:
            held = min(size * 3 // 2, LIMIT)
            reservation = await self.retried(limiter.acquire_capacity, {"tokens": held}, MODEL)
            self.served += 1
            self.last = time.time()
            await asyncio.sleep(0.005)
            await self.retried(limiter.refund_capacity, {"tokens": size}, reservation)

    async def retried(self, call: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """A lock that was not to be had is asked for again, as the peer's error says to."""
        while True:
            try:
                return await call(*arguments)
            except self.crowded:
                await asyncio.sleep(0)
