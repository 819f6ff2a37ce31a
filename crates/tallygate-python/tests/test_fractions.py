"""Fractions of one's own metrics: counted to the millionth, and told in the unit they were given in."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from custom_backends import SyncBuilder
from servers import patient

from tallygate import (
    FolderBackendBuilder,
    MemoryBackendBuilder,
    PerModelConfig,
    Quota,
    SyncRateLimiter,
    SyncRateLimiterCallbacks,
    SyncRedisBackendBuilder,
    UsageQuotas,
)

MODEL = "demo"

# So long that hardly anything is refilled during a test.
WINDOW = 15_000_000


def limiter(limit: float = 5.5, **options: Any) -> SyncRateLimiter:
    """One with a quota of requests and one of dollars, as good as never refilled."""
    return SyncRateLimiter(config(limit), **options)


def about(amount: float) -> Any:
    """But for what a test's time refills."""
    return pytest.approx(amount, abs=1e-4)


def config(*limits: float) -> PerModelConfig:
    windows = [Quota("dollars", limit, WINDOW * count) for count, limit in enumerate(limits, 1)]
    return PerModelConfig(UsageQuotas([Quota("requests", 1000, 3600), *windows]))


def use(dollars: float) -> dict[str, float]:
    return {"requests": 1, "dollars": dollars}


def left(rates: SyncRateLimiter) -> float:
    """The dollars that are left of the shorter window."""
    family = rates._models.ask(MODEL).family
    assert family is not None
    return rates._models.capacities(family, family.native.left())["dollars", WINDOW]


def test_cents_of_a_quota_of_dollars_all_fit() -> None:
    rates = limiter(5.5)
    for _ in range(550):
        rates.acquire_capacity(use(0.01), MODEL, timeout=0)
    with pytest.raises(TimeoutError, match=r"dollars per \w+ has 0(\.0\d+)? of 5\.5 left"):
        rates.acquire_capacity(use(0.01), MODEL, timeout=0)


def test_a_reservation_and_its_refund_are_in_the_unit_of_the_user() -> None:
    rates = limiter(10)
    reservation = rates.acquire_capacity(use(0.29), MODEL)
    assert reservation.usage == {"requests": 1, "dollars": 0.29}
    assert left(rates) == about(9.71)
    rates.refund_capacity(use(0.07), reservation)
    assert left(rates) == about(9.93)
    whole = rates.acquire_capacity(use(3), MODEL)
    assert repr(whole.usage) == "{'requests': 1, 'dollars': 3}", "what is whole looks whole"


@pytest.mark.parametrize(("given", "held"), [(0.0000001, 0.000001), (0.1 + 0.2, 0.300001), (1.2345678, 1.234568), (1.1, 1.1)])
def test_what_is_finer_than_a_millionth_is_rounded_up(given: float, held: float) -> None:
    assert limiter().acquire_capacity(use(given), MODEL).usage["dollars"] == held


@pytest.mark.parametrize("amount", [-0.0000001, -1, 9_007_199_255, float("nan"), float("inf")])
def test_amounts_that_cannot_be_are_refused_with_the_bound_in_the_unit_of_the_user(amount: float) -> None:
    with pytest.raises(ValueError, match=r"usage\['dollars'\] is .*: it must be a number from 0 to 9007199254.740992"):
        limiter().acquire_capacity(use(amount), MODEL)


@pytest.mark.parametrize("amount", [-0.5, -0.0000001])
def test_a_negative_fraction_of_what_is_whole_is_refused(amount: float) -> None:
    with pytest.raises(ValueError, match=r"usage\['requests'\] is -.*: it must be a number from 0"):
        limiter().acquire_capacity({"requests": amount, "dollars": 1}, MODEL)


def test_what_can_never_fit_is_told_in_the_unit_of_the_user() -> None:
    with pytest.raises(ValueError, match=r"the quotas let through at most 5\.5 of dollars per \w+ at once"):
        limiter(5.5).acquire_capacity(use(5.500001), MODEL)


def test_a_limit_is_set_in_the_unit_of_the_user() -> None:
    rates = limiter(5.5)
    rates.acquire_capacity(use(0.25), MODEL)
    rates.set_max_capacity(MODEL, "dollars", WINDOW, 0.75)
    with pytest.raises(ValueError, match=r"at most 0\.75 of dollars"):
        rates.acquire_capacity(use(1), MODEL)
    with pytest.raises(ValueError, match=r"value must be from 1e-06 to 9007199254.740992"):
        rates.set_max_capacity(MODEL, "dollars", WINDOW, 1e10)


def test_callbacks_get_amounts_in_the_unit_of_the_user() -> None:
    told: list[tuple[str, dict[str, Any]]] = []
    callbacks = SyncRateLimiterCallbacks(
        on_capacity_consumed=lambda **given: told.append(("consumed", given)),
        on_capacity_refunded=lambda **given: told.append(("refunded", given)),
        on_missing_consumption_data=lambda **given: told.append(("missing", given)),
    )
    rates = limiter(10, callbacks=callbacks)
    rates.refund_capacity(use(0.1), rates.acquire_capacity(use(0.3), MODEL))
    assert [event for event, _ in told] == ["missing", "missing", "consumed", "refunded"], "quotas were full, fractions and all"
    consumed, refunded = told[2][1], told[3][1]
    assert consumed["usage"] == use(0.3)
    before, after = (consumed[f"{when}consumption_capacities"]["dollars", WINDOW] for when in ("pre", "post"))
    assert (before, after) == (about(10), about(9.7))
    assert refunded["refunded_usage"] == {"requests": 0, "dollars": 0.2}


def test_families_that_are_full_to_the_millionth_are_forgotten() -> None:
    rates = limiter(5.5)
    rates.refund_capacity({"requests": 0, "dollars": 0}, rates.acquire_capacity(use(0.01), MODEL))
    assert rates.clear_unused_model_families(0) == 1


def test_a_metric_with_a_limit_too_large_for_fractions_is_counted_whole() -> None:
    rates = SyncRateLimiter(config(5, 1e10))
    assert rates.acquire_capacity(use(0.01), MODEL).usage["dollars"] == 1
    assert left(rates) == about(4)


def test_quotas_that_change_how_a_metric_is_counted_mix_no_counters() -> None:
    quotas = [config(5.5)]
    rates = SyncRateLimiter(lambda model: quotas[0])
    early = rates.acquire_capacity(use(1.5), MODEL)
    rates.set_max_capacity(MODEL, "dollars", WINDOW, 0.5)
    quotas[0] = config(1e10)
    late = rates.acquire_capacity(use(5e9 + 0.5), MODEL)
    assert (early.usage["dollars"], late.usage["dollars"]) == (1.5, 5e9 + 1)
    rates.refund_capacity(use(1), early)
    rates.refund_capacity(use(4e9), late)
    assert left(rates) == pytest.approx(6e9, abs=1e3)


@pytest.mark.parametrize("first", [0.25, 2])
def test_limiters_of_the_same_quotas_count_alike_whatever_they_use(valkey_url: str, first: float) -> None:
    prefix = uuid.uuid4().hex[:12]
    one, other = (limiter(2.5, backend=SyncRedisBackendBuilder(patient(valkey_url), key_prefix=prefix)) for _ in range(2))
    one.acquire_capacity(use(first), MODEL)
    with pytest.raises(TimeoutError, match=r"dollars per \w+ has .* of 2\.5 left"):
        other.acquire_capacity(use(2.5), MODEL, timeout=0)
    assert other.acquire_capacity(use(2.5 - first), MODEL, timeout=10).usage["dollars"] == 2.5 - first
    other.set_max_capacity(MODEL, "dollars", WINDOW, 1.75)
    with pytest.raises(ValueError, match=r"at most 1\.75 of dollars"):
        other.acquire_capacity(use(2), MODEL, timeout=0)
    one.close()
    other.close()


def test_a_folder_keeps_fractions(tmp_path: Path) -> None:
    for rest in (9.75, 9.5):
        rates = limiter(10, backend=FolderBackendBuilder(tmp_path / "counters", durability="sync"))
        rates.record_usage(use(0.25), MODEL)
        assert left(rates) == about(rest)
        rates.close()


def test_a_backend_of_the_applications_own_gets_fractions_too() -> None:
    rates = limiter(0.5, backend=SyncBuilder())
    reservation = rates.acquire_capacity({"requests": 0.5, "dollars": 0.25}, MODEL)
    assert reservation.usage == {"requests": 1, "dollars": 0.25}
    with pytest.raises(TimeoutError):
        rates.acquire_capacity(use(0.3), MODEL, timeout=0)


def test_cost_is_in_micro_dollars_and_whole() -> None:
    rates = SyncRateLimiter(PerModelConfig(UsageQuotas([Quota("cost", 5.5)])), backend=MemoryBackendBuilder())
    assert rates.acquire_capacity({"cost": 1.5}, MODEL).usage == {"cost": 2}
    with pytest.raises(ValueError, match="at most 5 of cost"):
        rates.acquire_capacity({"cost": 5.5}, MODEL)
