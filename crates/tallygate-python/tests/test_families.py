"""Families of models that come and go, while others use them."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from limiters import MODEL, left, limiter, use

from tallygate import PerModelConfig, Quota, RateLimiter, RateLimiterCallbacks, SyncRateLimiter, UsageQuotas


def clear_after_asking(rates: Any, times: int) -> None:
    """Has another thread forget all families just when one was looked up, as often."""
    ask, due = rates._models.ask, [True] * times

    def asked(model: object) -> Any:
        answer = ask(model)
        if due:
            due.pop()
            clearing = threading.Thread(target=rates.clear_unused_model_families, args=(0,))
            clearing.start()
            clearing.join()
        return answer

    rates._models.ask = asked


@pytest.mark.parametrize("work", ["acquire_capacity", "record_usage"])
def test_a_family_that_is_forgotten_under_its_users_hands_still_limits(work: str) -> None:
    rates = limiter(SyncRateLimiter)
    rates.refund_capacity(use(0, 0), rates.acquire_capacity(use(), MODEL))
    clear_after_asking(rates, 1)
    rates._known.clear()
    getattr(rates, work)(use(10), MODEL)
    with pytest.raises(TimeoutError):
        rates.acquire_capacity(use(1), MODEL, timeout=0)
    assert left(rates)["requests"] == 0


def test_a_lookup_that_was_overtaken_by_a_clear_is_made_again() -> None:
    rates = limiter(SyncRateLimiter)
    rates.refund_capacity(use(0, 0), rates.acquire_capacity(use(), MODEL))
    stale = rates._known[MODEL]
    assert rates.clear_unused_model_families(0) == 1
    rates._known[MODEL] = stale
    for _ in range(10):
        rates.acquire_capacity(use(1), MODEL, timeout=0)
    with pytest.raises(TimeoutError):
        rates.acquire_capacity(use(1), MODEL, timeout=0)
    assert rates._known[MODEL] is not stale


async def forgotten_in_a_callback() -> None:
    async def clear(**_given: object) -> None:
        rates.clear_unused_model_families(0)

    rates = limiter(RateLimiter, callbacks=RateLimiterCallbacks(on_missing_consumption_data=clear))
    with pytest.raises(ValueError, match="never fit"):
        await rates.acquire_capacity(use(1_000_000), MODEL, timeout=0)
    await rates.aclose()


async def overtaken_in_a_loop() -> None:
    rates = limiter(RateLimiter)
    await rates.refund_capacity(use(0, 0), await rates.acquire_capacity(use(), MODEL))
    stale = rates._known[MODEL]
    assert rates.clear_unused_model_families(0) == 1
    rates._known[MODEL] = stale
    with pytest.raises(ValueError, match="never fit"):
        await rates.acquire_capacity(use(1_000_000), MODEL, timeout=0)
    await rates.aclose()


@pytest.mark.parametrize("scene", [forgotten_in_a_callback, overtaken_in_a_loop])
def test_no_clear_lets_a_task_pass(scene: Any) -> None:
    asyncio.run(scene())


def test_threads_that_acquire_while_another_clears_are_limited() -> None:
    rates = SyncRateLimiter(PerModelConfig(UsageQuotas([Quota("tokens", 10, 1)])))
    passed = []
    ended = threading.Event()

    def acquire() -> None:
        for _ in range(2_000):
            with pytest.raises(ValueError, match="never fit"):
                passed.append(rates.acquire_capacity({"tokens": 11}, MODEL, timeout=0))

    def clear() -> None:
        while not ended.is_set():
            rates.clear_unused_model_families(0)

    clearing = threading.Thread(target=clear)
    acquiring = [threading.Thread(target=acquire) for _ in range(3)]
    for thread in (clearing, *acquiring):
        thread.start()
    for thread in acquiring:
        thread.join()
    ended.set()
    clearing.join()
    assert passed == []


def test_a_family_is_not_unused_the_moment_it_is_made() -> None:
    rates = limiter(SyncRateLimiter)
    assert rates._models.ask(MODEL).family is not None
    assert rates.clear_unused_model_families(3600) == 0
    assert rates.clear_unused_model_families(10**400) == 0
    assert rates.clear_unused_model_families(0) == 1


def test_a_family_whose_limit_was_changed_is_not_forgotten() -> None:
    rates = limiter(SyncRateLimiter)
    rates.set_max_capacity(MODEL, "requests", 3600, 3)
    assert rates.clear_unused_model_families(0) == 0
    with pytest.raises(ValueError, match="at most 3"):
        rates.acquire_capacity(use(10), MODEL, timeout=0)


def test_families_and_metrics_with_slashes_are_apart() -> None:
    quotas = {"a": Quota("b/c", 5, 60), "a/b": Quota("c", 7, 60)}
    with SyncRateLimiter(lambda model: PerModelConfig(UsageQuotas([quotas[model]]))) as rates:
        rates.acquire_capacity({"b/c": 5}, "a", timeout=0)
        rates.acquire_capacity({"c": 7}, "a/b", timeout=0)
        with pytest.raises(TimeoutError):
            rates.acquire_capacity({"b/c": 1}, "a", timeout=0)
