"""Many families in one limiter: what each costs, counted, and that they stay apart."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from tallygate import (
    CapacityReservation,
    FolderBackendBuilder,
    PerModelConfig,
    Quota,
    SyncRateLimiter,
    UsageQuotas,
)

FAMILIES = 300
USE = {"requests": 1, "tokens": 1}


def config(model: str, *, requests: int = 2, tokens: int = 100) -> PerModelConfig:
    """Quotas of the model's own."""
    return PerModelConfig(UsageQuotas([Quota("requests", requests, 3600), Quota("tokens", tokens, 3600)]), model_family=model)


class Counting:
    """An engine that notes how many rules it is told of."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.told: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def change_rules(self, rules: list[Any], gone: list[str] = [], retired: Any = None) -> None:  # noqa: B006
        self.told.append(len(rules) + len(gone))
        self._engine.change_rules(rules, gone, retired)


def counted(rates: Any) -> Counting:
    rates._models._engine = Counting(rates._engine)
    return rates._models._engine


def name(at: int) -> str:
    return f"model-{at}"


def test_an_acquire_looks_at_the_rules_of_its_family_alone() -> None:
    rates = SyncRateLimiter(config)
    for at in range(FAMILIES):
        rates.acquire_capacity(USE, name(at), timeout=0)
    for at in range(FAMILIES):
        assert rates._engine.rules_looked_at({"model_family": name(at)}) == 2
    assert rates._engine.rules_looked_at({"model_family": "another"}) == 0


def test_a_first_use_tells_of_the_rules_of_its_family_alone() -> None:
    rates = SyncRateLimiter(config)
    engine = counted(rates)
    for at in range(FAMILIES):
        rates.acquire_capacity(USE, name(at), timeout=0)
        rates.acquire_capacity(USE, name(at), timeout=0)
    assert engine.told == [2] * FAMILIES
    rates.set_max_capacity(name(7), "requests", 3600, 3)
    assert engine.told[FAMILIES:] == [1]


def test_many_families_are_limited_apart() -> None:
    rates = SyncRateLimiter(config)
    for _ in range(2):
        for at in range(FAMILIES):
            rates.acquire_capacity(USE, name(at), timeout=0)
    for at in range(FAMILIES):
        with pytest.raises(TimeoutError):
            rates.acquire_capacity(USE, name(at), timeout=0)
    rates.set_max_capacity(name(3), "requests", 3600, 3)
    rates.acquire_capacity(USE, name(3), timeout=0)
    for at in (2, 3, 4):
        with pytest.raises(TimeoutError):
            rates.acquire_capacity(USE, name(at), timeout=0)


def test_those_that_are_forgotten_take_their_rules_along_and_no_others() -> None:
    rates = SyncRateLimiter(config)
    reservations: list[CapacityReservation] = [rates.acquire_capacity(USE, name(at), timeout=0) for at in range(20)]
    for reservation in reservations[::2]:
        rates.refund_capacity({"requests": 0, "tokens": 0}, reservation)
    assert rates.clear_unused_model_families(0) == 10
    for at in range(20):
        assert rates._engine.rules_looked_at({"model_family": name(at)}) == (2 if at % 2 else 0)
        rates.acquire_capacity(USE, name(at), timeout=0)
    with pytest.raises(TimeoutError):
        rates.acquire_capacity(USE, name(1), timeout=0)


def test_a_folder_keeps_the_rules_of_all_families(tmp_path: Path) -> None:
    for use in range(3):
        rates = SyncRateLimiter(config, backend=FolderBackendBuilder(tmp_path / "data"))
        for at in range(5):
            if use < 2:
                rates.acquire_capacity(USE, name(at), timeout=0)
                continue
            with pytest.raises(TimeoutError):
                rates.acquire_capacity(USE, name(at), timeout=0)
        rates.close()


def changing(changed: list[bool]) -> SyncRateLimiter:
    """A limiter whose quotas are others, of another metric too, once `changed` holds something."""

    def quotas(model: str) -> PerModelConfig:
        if not changed:
            return PerModelConfig(UsageQuotas([Quota("requests", 2, 3600)]), model_family="shared")
        return PerModelConfig(UsageQuotas([Quota("requests", 2, 3600), Quota("tokens", 5, 3600)]), model_family="shared")

    return SyncRateLimiter(quotas)


def test_who_has_a_family_in_hand_whose_metrics_change_does_not_pass_by_the_new_ones() -> None:
    changed: list[bool] = []
    rates = changing(changed)
    rates.record_usage({"requests": 0}, "demo")
    stale = rates._models.ask("demo").family
    assert stale is not None
    former = stale.native
    changed.append(True)
    rates.record_usage({"requests": 0, "tokens": 0}, "demo")
    assert stale.native is not former
    from tallygate._native import Retired

    with pytest.raises(Retired):
        former.acquire({"requests": 1}, "demo", 0)
    with pytest.raises(Retired):
        former.record({"requests": 1}, "demo")
    with pytest.raises(ValueError, match="must name the metrics"):
        rates.acquire_capacity({"requests": 1}, "demo", timeout=0)
    rates.acquire_capacity({"requests": 1, "tokens": 5}, "demo", timeout=0)
    with pytest.raises(TimeoutError):
        rates.acquire_capacity({"requests": 1, "tokens": 1}, "demo", timeout=0)


def test_a_reservation_outlives_a_change_of_its_familys_metrics() -> None:
    changed: list[bool] = []
    rates = changing(changed)
    before = rates.acquire_capacity({"requests": 2}, "demo", timeout=0)
    changed.append(True)
    with pytest.raises(TimeoutError):
        rates.acquire_capacity({"requests": 1, "tokens": 1}, "demo", timeout=0)
    family = rates._models.ask("demo").family
    assert family is not None and family.native.open == 1
    assert rates.clear_unused_model_families(0) == 0
    rates.refund_capacity({"requests": 0}, before)
    assert family.native.open == 0
    rates.acquire_capacity({"requests": 2, "tokens": 5}, "demo", timeout=0)


def test_threads_that_acquire_while_metrics_change_are_limited() -> None:
    """Each turn of the quotas counts another metric; whoever names the one before is told so, and nobody passes uncounted."""
    turn = [0]

    def quotas(model: str) -> PerModelConfig:
        metric = ("tokens", "requests")[turn[0] % 2]
        return PerModelConfig(UsageQuotas([Quota(metric, 10, 3600)]), model_family="shared")

    rates = SyncRateLimiter(quotas)
    passed: list[CapacityReservation] = []
    ended = threading.Event()

    def acquire(metric: str) -> None:
        for _ in range(500):
            try:
                passed.append(rates.acquire_capacity({metric: 11}, "demo", timeout=0))
            except ValueError:
                # Too large, or the other metric's turn.
                pass

    def change() -> None:
        while not ended.is_set():
            turn[0] += 1

    changer = threading.Thread(target=change)
    acquirers = [threading.Thread(target=acquire, args=(metric,)) for metric in ("tokens", "requests")]
    for thread in (changer, *acquirers):
        thread.start()
    for thread in acquirers:
        thread.join()
    ended.set()
    changer.join()
    assert passed == []
