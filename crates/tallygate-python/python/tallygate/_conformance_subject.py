"""A backend under :mod:`tallygate.conformance`: how it is built and called, with deadlines."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import math
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from .callbacks import RateLimiterCallbacks, SyncRateLimiterCallbacks
from .errors import BackendConformanceError
from .quotas import FrozenUsage, PerModelConfig, Quota, UsageQuotas

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class ConformanceTiming:
    """How long a backend may take, in seconds.

    ``builder_deadline_seconds`` for ``build``, ``operation_deadline_seconds`` for any operation,
    ``prompt_deadline_seconds`` for what must not wait, and ``wait_budget_seconds`` for a wait that half a
    second ends. ``TALLYGATE_CONFORMANCE_TIMING_SCALE`` multiplies the defaults, for slow machines.
    """

    builder_deadline_seconds: float = 5.0
    operation_deadline_seconds: float = 10.0
    prompt_deadline_seconds: float = 1.0
    wait_budget_seconds: float = 5.0

    def __post_init__(self) -> None:
        for each in fields(self):
            seconds = getattr(self, each.name)
            if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
                raise ValueError(f"{each.name} must be a number of seconds, not {type(seconds).__name__}")
            if not (math.isfinite(seconds) and seconds > 0):
                raise ValueError(f"{each.name} must be finite and above 0, not {seconds!r}")


class Subject:
    """The builder that is checked, and how it is called."""

    def __init__(self, builder: Any, timing: ConformanceTiming, *, plain: bool) -> None:
        self.builder = builder
        self.timing = timing
        self.plain = plain

    async def build(self, quotas: list[Quota], told: Told | None = None) -> Backend:
        family = family_name()
        return await self.build_as(family, quotas, told)

    async def build_as(self, family: str, quotas: list[Quota], told: Told | None = None) -> Backend:
        config = PerModelConfig(UsageQuotas(quotas), model_family=family)
        callbacks = told.bundle(plain=self.plain) if told is not None else None
        build = getattr(self.builder, "build", None)
        if not callable(build):
            raise BackendConformanceError("the builder has no method build")
        began = time.monotonic()
        backend = build(config, callbacks=callbacks)
        took, most = time.monotonic() - began, self.timing.builder_deadline_seconds
        require(took <= most, f"build took {took:.1f} s, and may take {most:g} s")
        require(backend is not None, "build answered None")
        return Backend(self, backend, config)

    def backend_of(self, built: Backend) -> Any:
        return built.backend

    async def call(self, name: str, method: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """Calls a method of the backend; a call that hangs fails the check."""
        running = _in_thread(lambda: method(*given, **named)) if self.plain else _awaited(method(*given, **named))
        return await self.within(running, name)

    async def within(self, running: Awaitable[_Answer], what: str, seconds: float | None = None) -> _Answer:
        seconds = seconds or self.timing.operation_deadline_seconds
        task = asyncio.ensure_future(running)
        try:
            await asyncio.wait({task}, timeout=seconds)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not task.done():
            task.cancel()
            raise BackendConformanceError(f"{what} did not end within {seconds:g} s")
        return task.result()

    async def woken_by(self, backend: Backend, tokens: int, wake: Callable[[], Awaitable[None]], what: str) -> None:
        async with _background(backend.take(tokens, timeout=60)) as waiting:
            await asyncio.sleep(0.05)
            require(not waiting.done(), "a call went on though nothing was left")
            await wake()
            await asyncio.wait({waiting}, timeout=self.timing.prompt_deadline_seconds)
            require(waiting.done(), f"{what} made room, and who waited for it was not woken")
            error = await outcome(waiting)
            require(error is None, f"{what} made room, and who waited for it got {named(error)}")

    def driven(self) -> Any:
        """The builder for a driver with an event loop."""
        return _ThreadedBuilder(self.builder) if self.plain else self.builder

    async def close(self) -> None:
        close = None if self.plain else getattr(self.builder, "aclose", None)
        close = close or getattr(self.builder, "close", None)
        if close is None:
            return
        answer = close()
        if inspect.isawaitable(answer):
            await self.within(_awaited(answer), "aclose")


class Backend:
    """One backend under check."""

    def __init__(self, subject: Subject, backend: Any, config: PerModelConfig) -> None:
        self._subject = subject
        self.backend = backend
        self._config = config
        self.family = config.get_model_family()

    async def take(self, usage: _Use, timeout: float | None = 0, reservation_id: str | None = None) -> Any:
        name = "wait_for_capacity" if self._subject.plain else "await_for_capacity"
        named: dict[str, Any] = {"timeout": timeout}
        if reservation_id is not None:
            named |= {"reservation_id": reservation_id, "reservation_lifetime_seconds": 3_600.0}
        return await self._subject.call(name, getattr(self.backend, name), _used(usage), **named)

    async def consume(self, usage: _Use) -> None:
        await self._subject.call("consume_capacity", self.backend.consume_capacity, _used(usage))

    async def refund(self, reserved: _Use, actual: _Use, reservation_id: str | None = None) -> None:
        given = _used(reserved), _used(actual)
        if reservation_id is None:
            running = self._subject.call("refund_capacity", self.backend.refund_capacity, *given)
        else:
            scoped = self.backend.refund_capacity_for_buckets
            buckets = frozenset(quota.bucket_id for quota in self._config.quotas)
            named = {"bucket_ids": buckets, "reservation_bucket_ids": buckets, "reservation_id": reservation_id}
            named |= {"reservation_model_family": self.family, "reservation_reserved_usage": given[0]}
            running = self._subject.call("refund_capacity_for_buckets", scoped, *given, **named)
        await running

    async def set_limit(self, value: float) -> None:
        quota = next(iter(self._config.quotas))
        change = self.backend.set_max_capacity
        await self._subject.call("set_max_capacity", change, quota.metric, quota.per_seconds, float(value))

    async def fits(self, usage: _Use, otherwise: str) -> None:
        error = await self.prompt(outcome(self.take(usage)), "timeout=0")
        require(error is None, f"{otherwise} ({named(error)})")

    async def refuse(self, usage: _Use, otherwise: str) -> None:
        error = await self.prompt(outcome(self.take(usage)), "timeout=0")
        require(error is not None, otherwise)
        require(isinstance(error, TimeoutError), f"a try that fails must raise TimeoutError, not {named(error)}")

    async def prompt(self, running: Awaitable[_Answer], what: str) -> _Answer:
        return await self._subject.within(running, what, self._subject.timing.prompt_deadline_seconds)

    def claims(self, name: str) -> bool:
        claim = getattr(self.backend, name, None)
        return claim is not None and claim() is True

    async def reconfigured(self, quotas: list[Quota]) -> Backend:
        built = await self._subject.build_as(self.family, quotas)
        hand_over = self.backend.prepare_reconfigured_backend
        name = "prepare_reconfigured_backend"
        backend = await self._subject.call(name, hand_over, built.backend, built._config)
        return Backend(self._subject, backend, built._config)


class Told:
    """Callbacks that remember what they were told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def bundle(self, *, plain: bool) -> RateLimiterCallbacks | SyncRateLimiterCallbacks:
        kind = SyncRateLimiterCallbacks if plain else RateLimiterCallbacks
        slots = [each.name for each in fields(kind) if each.name != "on_lifecycle_event"]
        return kind(**{slot: self._noting(slot, plain=plain) for slot in slots})

    def _noting(self, slot: str, *, plain: bool) -> Any:
        def note(**given: Any) -> None:
            self.calls.append((slot, given))

        async def note_async(**given: Any) -> None:
            note(**given)

        return note if plain else note_async


class _ThreadedBuilder:
    """A builder of plain backends, each of whose methods may be awaited."""

    def __init__(self, builder: Any) -> None:
        self._builder = builder

    def build(self, config: PerModelConfig, *, callbacks: Any = None) -> Any:
        return _ThreadedBackend(self._builder.build(config))


class _ThreadedBackend:
    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._backend, "wait_for_capacity" if name == "await_for_capacity" else name)
        if name.startswith("supports_"):
            return method
        return lambda *given, **named: _in_thread(lambda: method(*given, **named))


_Use = int | dict[str, int]


def _used(usage: _Use) -> FrozenUsage:
    return FrozenUsage({"tokens": usage} if isinstance(usage, int) else usage)


def family_name() -> str:
    return f"conformance-{uuid.uuid4().hex}"


def require(holds: object, otherwise: str) -> None:
    if not holds:
        raise BackendConformanceError(otherwise)


def named(error: BaseException | None) -> str:
    if error is None:
        return "nothing"
    # Before Python 3.11 asyncio's own TimeoutError is not the one that callers catch.
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{name}: {error}"


async def outcome(running: Awaitable[object]) -> BaseException | None:
    """What was raised, or ``None``; what a check found wrong goes on."""
    try:
        await running
    except BackendConformanceError:
        raise
    except (Exception, asyncio.CancelledError) as error:
        return error
    return None


async def _awaited(answer: Any) -> Any:
    return await answer if inspect.isawaitable(answer) else answer


async def _in_thread(run: Callable[[], _Answer]) -> _Answer:
    """Runs a plain call on a daemon thread: one that never ends must not hold up the program's end."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_Answer] = loop.create_future()

    def tell(answer: _Answer | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(answer)  # type: ignore[arg-type]

    def work() -> None:
        answer, failure = None, None
        try:
            answer = run()
        except BaseException as error:
            failure = error
        # The check may be over, and its loop with it.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(tell, answer, failure)

    threading.Thread(target=work, name="tallygate-conformance", daemon=True).start()
    return await done


@contextlib.asynccontextmanager
async def _background(running: Coroutine[Any, Any, _Answer]) -> AsyncIterator[asyncio.Task[_Answer]]:
    task = asyncio.ensure_future(running)
    try:
        yield task
    finally:
        task.cancel()
