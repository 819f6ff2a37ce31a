"""Functions that wait for capacity by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tallygate import (
    PerModelConfig,
    Quota,
    RateLimiter,
    RateLimiterCallbacks,
    SyncRateLimiter,
    SyncRateLimiterCallbacks,
    UsageQuotas,
)
from tallygate.decorators import limited

CONFIG = PerModelConfig(UsageQuotas([Quota("requests", 3, 3_600), Quota("tokens", 1_000, 3_600)]))


def used(tokens: int) -> dict[str, int]:
    return {"requests": 1, "tokens": tokens}


@pytest.mark.parametrize("timeout", [-1, float("inf"), True, "5"])
def test_a_timeout_that_cannot_be_is_refused_when_it_is_given(timeout: Any) -> None:
    with pytest.raises(ValueError, match="^timeout must be None or a finite number of seconds"):
        limited(SyncRateLimiter(CONFIG), model="gpt-4o", usage=used(1), timeout=timeout)


def test_a_function_is_settled_with_what_it_tells() -> None:
    ends: list[Any] = []

    def note(actual_usage: Any, **_: Any) -> None:
        ends.append(dict(actual_usage))

    callbacks = SyncRateLimiterCallbacks(on_capacity_refunded=note)
    with SyncRateLimiter(CONFIG, callbacks=callbacks) as limiter:

        @limited(limiter, model="gpt-4o", usage=used(400), actual=used, usage_on_error=used(0), timeout=0)
        def ask(tokens: int) -> int:
            """Asks."""
            if tokens > 1_000:
                raise OverflowError
            return tokens

        assert ask(25) == 25 and (ask.__name__, ask.__doc__) == ("ask", "Asks.")
        with pytest.raises(OverflowError):
            ask(1_001)
        assert ask(tokens=600) == 600
        with pytest.raises(TimeoutError):
            ask(1)
        assert ends == [used(25), used(0), used(600)]


def test_usage_and_model_may_follow_from_the_call() -> None:
    with SyncRateLimiter(CONFIG) as limiter:

        @limited(limiter, model=lambda prompt, model: model, usage=lambda prompt, model: used(len(prompt)), timeout=0)
        def ask(prompt: str, model: str) -> str:
            return model

        assert ask("x" * 900, model="one") == "one"
        with pytest.raises(TimeoutError):
            ask("x" * 900, model="one")
        assert ask("x" * 900, model="two") == "two"
        with pytest.raises(ValueError, match="tokens"):
            ask("x" * 1_001, model="three")


def fails(_: Any) -> Any:
    raise KeyError("usage")


@pytest.mark.parametrize("actual", [fails, lambda _: 5, lambda _: {"tokens": 1}, lambda _: {"requests": 1, "tokens": -1}])
def test_an_answer_outlives_an_actual_that_is_nonsense(actual: Any, caplog: pytest.LogCaptureFixture) -> None:
    terms: Any = {"model": "gpt-4o", "usage": used(500), "actual": actual, "usage_on_error": used(0), "timeout": 0}
    with SyncRateLimiter(CONFIG) as limiter:
        assert limited(limiter, **terms)(len)("abc") == 3
        assert "Traceback" in caplog.text and limiter.snapshot_state()["in_flight_reservations"] == 0
        assert limited(limiter, **terms)(len)("abc") == 3
        with pytest.raises(TimeoutError):
            limited(limiter, **terms)(len)("abc")

    async def main() -> None:
        async def ask() -> str:
            return "answer"

        async with RateLimiter(CONFIG) as limiter:
            assert await limited(limiter, **terms)(ask)() == "answer"
            assert limiter.snapshot_state()["in_flight_reservations"] == 0

    asyncio.run(main())


def test_a_coroutine_function() -> None:
    ends: list[Any] = []

    async def note(actual_usage: Any, **_: Any) -> None:
        ends.append(dict(actual_usage))

    async def main() -> None:
        async with RateLimiter(CONFIG, callbacks=RateLimiterCallbacks(on_capacity_refunded=note)) as limiter:

            @limited(limiter, model="gpt-4o", usage=used(300), actual=lambda told: used(told) if told else None, timeout=0)
            async def ask(tokens: int) -> int:
                await asyncio.sleep(0)
                return tokens

            answers = await asyncio.gather(*(ask(tokens) for tokens in (10, 0, 20, 30)), return_exceptions=True)
            assert [type(answer) for answer in answers] == [int, int, int, TimeoutError]
            assert sorted(end["tokens"] for end in ends) == [10, 20, 300], "who tells nothing has used what it held"

    asyncio.run(main())


def test_a_coroutine_function_that_fails_has_used_what_was_said() -> None:
    async def main() -> None:
        async with RateLimiter(CONFIG) as limiter:

            @limited(limiter, model="gpt-4o", usage=used(1_000), usage_on_error=used(400), timeout=0)
            async def ask() -> None:
                raise OverflowError

            with pytest.raises(OverflowError):
                await ask()
            await limiter.acquire_capacity(used(600), "gpt-4o", timeout=0)

    asyncio.run(main())


def test_function_and_limiter_must_fit() -> None:
    async def coroutine() -> None: ...

    def generator() -> Iterator[int]:
        yield 1

    async def stream() -> AsyncIterator[int]:
        yield 1

    waits, blocks = RateLimiter(CONFIG), SyncRateLimiter(CONFIG)
    terms: Any = {"model": "gpt-4o", "usage": used(1)}
    with pytest.raises(TypeError, match="coroutine is a coroutine function: give `limited` a RateLimiter"):
        limited(blocks, **terms)(coroutine)
    with pytest.raises(TypeError, match="is a plain function: give `limited` a SyncRateLimiter"):
        limited(waits, **terms)(lambda: None)  # type: ignore[arg-type, return-value]
    for kind in (generator, stream):
        with pytest.raises(TypeError, match="is a generator, which uses its capacity after it has returned"):
            limited(blocks, **terms)(kind)
