"""The package beside token-throttle: the same code, only the import differs, in turns in one run.

Run it by `cargo xtask bench python [--python INTERPRETER] [PART]...`; the parts are the names in PARTS.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import math
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import account
import cost
import drain
import workers
from limiters import ACTUAL, MODEL, USAGE, asynchronous, config, contention, plenty, synchronous

# Pairs a second: reserve 500 tokens, settle 320.


async def pairs_async(lib: Any, tasks: int, seconds: float, url: str | None, prefix: str) -> float:
    limiter = asynchronous(lib, plenty(lib), url, prefix)
    until = 0.0

    async def work() -> int:
        done = 0
        while time.perf_counter() < until:
            try:
                for _ in range(8):
                    reservation = await limiter.acquire_capacity(USAGE, MODEL)
                    await limiter.refund_capacity(ACTUAL, reservation)
                    done += 1
            except crowded:
                pass
            await asyncio.sleep(0)
        return done

    crowded = contention(lib)

    reservation = await limiter.acquire_capacity(USAGE, MODEL)
    await limiter.refund_capacity(ACTUAL, reservation)
    started = time.perf_counter()
    until = started + seconds
    done = sum(await asyncio.gather(*(work() for _ in range(tasks))))
    spent = time.perf_counter() - started
    await limiter.aclose()
    return done / spent


def pairs_sync(lib: Any, threads: int, seconds: float, url: str | None, prefix: str) -> float:
    limiter = synchronous(lib, plenty(lib), url, prefix)
    counts = [0] * threads
    reservation = limiter.acquire_capacity(USAGE, MODEL)
    limiter.refund_capacity(ACTUAL, reservation)
    started = time.perf_counter()
    until = started + seconds

    def work(place: int) -> None:
        while time.perf_counter() < until:
            try:
                for _ in range(8):
                    reservation = limiter.acquire_capacity(USAGE, MODEL)
                    limiter.refund_capacity(ACTUAL, reservation)
                    counts[place] += 1
            except crowded:
                pass

    crowded = contention(lib)

    if threads == 1:
        work(0)
    else:
        workers = [threading.Thread(target=work, args=(place,)) for place in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    spent = time.perf_counter() - started
    limiter.close()
    return sum(counts) / spent


def pairs_in_process(name: str, tasks: int, seconds: float, url: str, prefix: str) -> float:
    return asyncio.run(pairs_async(importlib.import_module(name), tasks, seconds, url, prefix))


def pairs_processes(name: str, processes: int, tasks: int, seconds: float, url: str, prefix: str) -> float:
    arguments = (name, tasks, seconds, url, prefix)
    return sum(workers.answers(pairs_in_process, [arguments] * processes, patience=seconds + 120))


# A request of 80 % of the bucket behind 32 callers of small ones that never stop.


async def large(lib: Any, patience: float, url: str | None, prefix: str) -> tuple[float, float]:
    """How long the large request waited, and how long first come, first served would have let it wait."""
    limit, window, small = 10_000, 1, 100
    limiter = asynchronous(lib, config(lib, [("tokens", limit, window)]), url, prefix)
    stopped = False
    crowded = contention(lib)

    async def work() -> None:
        while not stopped:
            try:
                await limiter.acquire_capacity({"tokens": small}, MODEL, timeout=patience)
            except TimeoutError:
                return
            except crowded:
                await asyncio.sleep(0)

    callers = [asyncio.ensure_future(work()) for _ in range(32)]
    await asyncio.sleep(1.5)
    started = time.perf_counter()
    try:
        await limiter.acquire_capacity({"tokens": limit * 8 // 10}, MODEL, timeout=patience)
        waited = time.perf_counter() - started
    except (TimeoutError,) + crowded:
        waited = math.inf
    stopped = True
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    await limiter.aclose()
    ideal = (limit * 8 // 10 + 32 * small) / (limit / window)
    return waited, ideal


def large_in_process(name: str, patience: float, url: str | None, prefix: str) -> tuple[float, float]:
    return asyncio.run(large(importlib.import_module(name), patience, url, prefix))


# What an acquire costs the loop: one that need not wait, and how late one that must wait is woken.


async def overhead(lib: Any, rounds: int) -> float:
    """Microseconds of processor a pair that need not wait."""
    limiter = asynchronous(lib, plenty(lib), None, "overhead")
    for _ in range(100):
        await limiter.refund_capacity(ACTUAL, await limiter.acquire_capacity(USAGE, MODEL))
    started = time.process_time()
    for _ in range(rounds):
        reservation = await limiter.acquire_capacity(USAGE, MODEL)
        await limiter.refund_capacity(ACTUAL, reservation)
    spent = time.process_time() - started
    await limiter.aclose()
    return spent / rounds * 1e6


async def lateness(lib: Any, rounds: int) -> list[float]:
    """Milliseconds by which an acquire returned after the instant at which there was room."""
    limiter = asynchronous(lib, config(lib, [("tokens", 1_000, 1)]), None, "late")
    await limiter.acquire_capacity({"tokens": 1_000}, MODEL)
    empty = time.perf_counter()
    late = []
    for turn in range(1, rounds + 1):
        await limiter.acquire_capacity({"tokens": 20}, MODEL)
        late.append((time.perf_counter() - empty - turn * 0.020) * 1e3)
    await limiter.aclose()
    # The bucket was empty a little before the first reading of the clock: what is earliest counts as on time.
    floor = min(late)
    return [one - min(floor, 0.0) for one in late]


# Running it.


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def server() -> Iterator[str]:
    """A Valkey of its own on a free port."""
    program = os.environ.get("TALLYGATE_VALKEY") or shutil.which("valkey-server") or shutil.which("redis-server")
    if program is None:
        raise SystemExit("no Valkey: run `cargo xtask ci --only servers` first")
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [program, "--port", str(port), "--save", "", "--appendonly", "no", "--dir", folder],
            stdout=subprocess.DEVNULL,
        )
        try:
            wait_for(port)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait()


def wait_for(port: int) -> None:
    for _ in range(500):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise SystemExit("Valkey did not start")


class Table:
    """Rows of a name and a figure for each contestant."""

    def __init__(self, contestants: list[str], as_json: bool) -> None:
        self.contestants, self.as_json = contestants, as_json

    def row(self, name: str, unit: str, figures: dict[str, float | str], more_is_better: bool = True) -> None:
        if self.as_json:
            print(json.dumps({"name": name, "unit": unit, **figures}), flush=True)
            return
        shown = "  ".join(f"{lib} {show(figures[lib])}" for lib in self.contestants if lib in figures)
        ours, theirs = figures.get("tallygate"), figures.get("token_throttle")
        ratio = ""
        if isinstance(ours, float) and isinstance(theirs, float) and ours and theirs and math.isfinite(theirs):
            ratio = f"  ({ours / theirs if more_is_better else theirs / ours:.1f} x)"
        print(f"{name:<38} {shown} {unit}{ratio}", flush=True)


def show(figure: float | str) -> str:
    if isinstance(figure, str):
        return figure
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.2f}"


def medians(contestants: list[str], laps: int, measure: Callable[[str, int], float]) -> dict[str, float | str]:
    """Contestants take turns, so that a noisy moment hits all of them."""
    seen: dict[str, list[float]] = {name: [] for name in contestants}
    for lap in range(laps):
        for name in contestants:
            seen[name].append(measure(name, lap))
    return {name: statistics.median(figures) for name, figures in seen.items()}


def lib_of(name: str) -> Any:
    return importlib.import_module(name)


def part_memory(table: Table, laps: int, seconds: float) -> None:
    for tasks in (1, 8, 64):

        def in_tasks(name: str, lap: int, tasks: int = tasks) -> float:
            return asyncio.run(pairs_async(lib_of(name), tasks, seconds, None, "memory"))

        table.row(f"memory, async, {tasks} tasks", "pairs/s", medians(table.contestants, laps, in_tasks))
    for threads in (1, 8, 64):

        def in_threads(name: str, lap: int, threads: int = threads) -> float:
            return pairs_sync(lib_of(name), threads, seconds, None, "memory")

        table.row(f"memory, sync, {threads} threads", "pairs/s", medians(table.contestants, laps, in_threads))


def part_redis(table: Table, laps: int, seconds: float) -> None:
    with server() as url:
        for tasks in (1, 8, 64):

            def in_tasks(name: str, lap: int, tasks: int = tasks) -> float:
                return asyncio.run(pairs_async(lib_of(name), tasks, seconds, url, f"a{tasks}x{lap}-{name}"))

            table.row(f"Valkey, async, {tasks} tasks", "pairs/s", medians(table.contestants, laps, in_tasks))
        for threads in (1, 8, 64):

            def in_threads(name: str, lap: int, threads: int = threads) -> float:
                return pairs_sync(lib_of(name), threads, seconds, url, f"s{threads}x{lap}-{name}")

            table.row(f"Valkey, sync, {threads} threads", "pairs/s", medians(table.contestants, laps, in_threads))

        def in_four(name: str, lap: int) -> float:
            return pairs_processes(name, 4, 64, seconds * 2, url, f"p{lap}-{name}")

        table.row("Valkey, 4 processes x 64 tasks", "pairs/s", medians(table.contestants, 1, in_four))


def part_drain(table: Table, laps: int, seconds: float) -> None:
    def row(place: str, crowd: tuple[int, int], url: str | None) -> None:
        prefix = "drain{}x{}".format(*crowd)
        figures = {name: drain.share(name, crowd, url, f"{prefix}-{name}") for name in table.contestants}
        table.row(f"drain, {place}, {crowd[0]} x {crowd[1]}", "% of the optimum", figures)

    for tasks in (64, 2_000):
        row("memory", (1, tasks), None)
    with server() as url:
        for crowd in ((1, 16), (1, 64), (4, 16), (1, 2_000)):
            row("Valkey", crowd, url)


def part_large(table: Table, laps: int, seconds: float) -> None:
    def row(place: str, url: str | None) -> None:
        ideal = 0.0
        figures: dict[str, float | str] = {}
        for name in table.contestants:
            try:
                [(waited, ideal)] = workers.answers(large_in_process, [(name, 30.0, url, f"large-{name}")], patience=60)
                figures[name] = waited / ideal if math.isfinite(waited) else "more than 30 s"
            except workers.Failed as failed:
                figures[name] = f"failed ({failed})"
        table.row(f"80 % behind small ones, {place}, ideal {ideal:.2f} s", "x the ideal", figures, more_is_better=False)

    row("memory", None)
    with server() as url:
        row("Valkey", url)


def part_overhead(table: Table, laps: int, seconds: float) -> None:
    def cost(name: str, lap: int) -> float:
        return asyncio.run(overhead(lib_of(name), 20_000 if name == "tallygate" else 1_000))

    table.row("asyncio, a pair that need not wait", "us", medians(table.contestants, laps, cost), more_is_better=False)
    late = {name: sorted(asyncio.run(lateness(lib_of(name), 200))) for name in table.contestants}
    for label, place in (("p50", 0.50), ("p99", 0.99)):
        figures: dict[str, float | str] = {name: all_[int(len(all_) * place)] for name, all_ in late.items()}
        table.row(f"woken too late by, {label}", "ms", figures, more_is_better=False)


def part_account(table: Table, laps: int, seconds: float) -> None:
    for name, (scene, due) in account.SCENES.items():
        figures: dict[str, float | str] = {
            lib: f"{account.measured(lib_of(lib), scene):.2f}" for lib in table.contestants
        }
        table.row(f"{name}, due {due}", "s", figures)


def part_cost(table: Table, laps: int, seconds: float) -> None:
    size: dict[str, float | str] = {name: cost.installed(name) for name in table.contestants}
    table.row("installed, without what it needs", "MB", size, more_is_better=False)
    wheel = os.environ.get("TALLYGATE_WHEEL")
    if wheel:
        table.row("the wheel", "MB", {"tallygate": os.path.getsize(wheel) / 1e6})
    spent: dict[str, float | str] = {name: cost.imported(name) for name in table.contestants}
    table.row("import, processor", "ms", spent, more_is_better=False)


PARTS: dict[str, Callable[[Table, int, float], None]] = {
    "memory": part_memory,
    "redis": part_redis,
    "drain": part_drain,
    "large": part_large,
    "overhead": part_overhead,
    "account": part_account,
    "cost": part_cost,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all of them unless said")
    parser.add_argument("--laps", type=int, default=3, help="how often contestants take turns")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long a measurement of pairs lasts")
    parser.add_argument("--json", action="store_true", help="rows for a program")
    arguments = parser.parse_args()
    contestants = ["tallygate"]
    try:
        importlib.import_module("token_throttle")
        contestants.append("token_throttle")
    except ImportError:
        print("token-throttle is not here (it needs Python 3.12): tallygate alone", file=sys.stderr)
    table = Table(contestants, arguments.json)
    print(f"Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    for part in arguments.parts or PARTS:
        if part not in PARTS:
            raise SystemExit(f"no part `{part}`: {', '.join(PARTS)}")
        PARTS[part](table, arguments.laps, arguments.seconds)


if __name__ == "__main__":
    main()
