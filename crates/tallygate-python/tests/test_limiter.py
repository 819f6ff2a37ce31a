"""The limiters' interface: what is taken, what is refused, and what is charged."""

from __future__ import annotations

import asyncio
import gc
import pickle
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from limiters import MODEL, left, limiter, use

from tallygate import (
    CapacityReservation,
    CardinalityLimitExceededError,
    ClosedError,
    DuplicateRefundError,
    FolderBackendBuilder,
    MemoryBackendBuilder,
    PerModelConfig,
    Quota,
    RateLimiter,
    SyncRateLimiter,
    UnknownReservationError,
    UsageQuotas,
)


def test_a_refund_gives_back_what_was_not_used_and_charges_what_was_more() -> None:
    rates = limiter(SyncRateLimiter)
    reservation = rates.acquire_capacity(use(2, 500), MODEL)
    rates.refund_capacity(use(1, 100), reservation)
    assert left(rates) == {"requests": 9, "tokens": 900}
    reservation = rates.acquire_capacity(use(1, 100), MODEL)
    rates.refund_capacity(use(1, 1200), reservation)
    assert left(rates) == {"requests": 8, "tokens": -300}


@pytest.mark.parametrize("swapped", [False, True])
def test_a_refund_takes_its_arguments_in_either_order_and_by_name(swapped: bool) -> None:
    rates = limiter(SyncRateLimiter)
    for by_name in (False, True):
        reservation = rates.acquire_capacity(use(1, 10), MODEL)
        if by_name:
            rates.refund_capacity(reservation=reservation, actual_usage=use(0, 0))
        elif swapped:
            rates.refund_capacity(reservation, use(0, 0))  # type: ignore[arg-type]
        else:
            rates.refund_capacity(use(0, 0), reservation)
    assert left(rates) == {"requests": 10, "tokens": 1000}


def test_a_second_refund_changes_nothing() -> None:
    rates = limiter(SyncRateLimiter)
    reservation = rates.acquire_capacity(use(1, 100), MODEL)
    rates.refund_capacity(use(1, 50), reservation)
    with pytest.raises(DuplicateRefundError) as refused:
        rates.refund_capacity(use(0, 0), reservation)
    assert refused.value.reason == "already_refunded"
    assert left(rates) == {"requests": 9, "tokens": 950}


def test_forged_and_foreign_reservations_change_nothing() -> None:
    rates, other = limiter(SyncRateLimiter), limiter(SyncRateLimiter)
    held = rates.acquire_capacity(use(5, 500), MODEL)
    forged = CapacityReservation(
        usage=dict(use(5, 500)),
        model_family=held.model_family,
        limiter_instance_id=held.limiter_instance_id,
        reservation_id=held.reservation_id,
        bucket_ids=held.bucket_ids,
    )
    for wrong in (forged, other.acquire_capacity(use(), MODEL)):
        with pytest.raises(UnknownReservationError):
            rates.refund_capacity(use(0, 0), wrong)
    with pytest.raises(TypeError, match="must be a CapacityReservation"):
        rates.refund_capacity(use(0, 0), {"reservation_id": held.reservation_id})  # type: ignore[arg-type]
    assert left(rates) == {"requests": 5, "tokens": 500}


@pytest.mark.parametrize(
    ("usage", "words"),
    [
        ({"requests": 1}, "each once: requests, tokens"),
        ({"requests": 1, "tokens": 1, "cost": 1}, "the metric 'cost'"),
        ({"requests": 1, 5: 1}, "the metric 5"),
        ({"requests": -1, "tokens": 1}, r"usage\['requests'\] is -1: it must be a number from 0"),
        ({"requests": -0.5, "tokens": 1}, r"usage\['requests'\] is -0.5: it must be a number from 0"),
        ({"requests": float("nan"), "tokens": 1}, "is nan"),
        ({"requests": float("inf"), "tokens": 1}, "is inf"),
        ({"requests": 2**54, "tokens": 1}, "must be a number from 0 to 9007199254740992"),
        ({"requests": True, "tokens": 1}, "True: it must be an int or a float"),
        ({"requests": "1", "tokens": 1}, "'1': it must be an int or a float"),
        ({"requests": None, "tokens": 1}, "None: it must be an int or a float"),
        ([("requests", 1)], "must be a mapping from metric to amount"),
        (None, "must be a mapping from metric to amount"),
    ],
)
def test_a_usage_that_cannot_be_is_refused_by_name(usage: Any, words: str) -> None:
    rates = limiter(SyncRateLimiter)
    held = rates.acquire_capacity(use(), MODEL)
    before = left(rates)
    for refused in (
        lambda: rates.acquire_capacity(usage, MODEL),
        lambda: rates.record_usage(usage, MODEL),
        lambda: rates.refund_capacity(usage, held),
    ):
        with pytest.raises(ValueError, match=words):
            refused()
    assert left(rates) == before
    rates.refund_capacity(use(), held)


def test_fractions_are_rounded_up() -> None:
    rates = limiter(SyncRateLimiter)
    reservation = rates.acquire_capacity({"requests": 0.2, "tokens": 10.5}, MODEL)
    assert reservation.usage == {"requests": 1, "tokens": 11}
    rates.refund_capacity({"requests": 0.0, "tokens": 0.001}, reservation)
    assert left(rates) == {"requests": 10, "tokens": 999}


def test_what_can_never_fit_is_said_at_once_with_metric_and_window() -> None:
    rates = limiter(SyncRateLimiter)
    rates.acquire_capacity(use(10), MODEL)
    for timeout in (None, 0, 60):
        with pytest.raises(ValueError, match=r"at most 1000 of tokens per 1h"):
            rates.acquire_capacity(use(1, 1001), MODEL, timeout=timeout)


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), True, "1"])
def test_timeouts_that_are_none_are_refused(timeout: Any) -> None:
    rates = limiter(SyncRateLimiter)
    for _ in range(2):
        with pytest.raises(ValueError, match="timeout must be None or a finite number of seconds"):
            rates.acquire_capacity(use(), MODEL, timeout=timeout)
    rates.acquire_capacity(use(), MODEL)
    with pytest.raises(ValueError, match="timeout must be None or a finite number of seconds"):
        rates.acquire_capacity(use(), MODEL, timeout=timeout)
    assert left(rates) == {"requests": 9, "tokens": 999}


@pytest.mark.parametrize("model", [None, "", "a b", 5, ["x"]])
def test_models_that_are_none_are_refused(model: Any) -> None:
    with pytest.raises(ValueError, match="model must"):
        limiter(SyncRateLimiter).acquire_capacity(use(), model)


def test_a_reservation_tells_what_it_is() -> None:
    rates = limiter(SyncRateLimiter)
    reservation = rates.acquire_capacity(use(1, 25), MODEL)
    assert reservation.usage == reservation.get_usage() == {"requests": 1, "tokens": 25}
    assert (reservation.model, reservation.model_family, reservation.is_unlimited) == (MODEL, MODEL, False)
    assert reservation.bucket_ids == {("requests", 3600), ("tokens", 3600)}
    assert abs((reservation.created_at_seconds or 0) - time.time()) < 5
    assert len(reservation.reservation_id) == 26 and len(reservation.limiter_instance_id) == 32
    assert repr(reservation).startswith("CapacityReservation(model_family=\"demo\", usage={'requests': 1, 'tokens': 25}")
    with pytest.raises(TypeError):
        reservation.usage["tokens"] = 5  # type: ignore[index]
    with pytest.raises(TypeError):
        pickle.dumps(reservation)


def test_a_reservation_that_nobody_has_any_more_counts_as_used() -> None:
    rates = limiter(SyncRateLimiter)
    for _ in range(3):
        rates.acquire_capacity(use(1, 10), MODEL)
    gc.collect()
    assert rates.snapshot_state() == {"in_flight_reservations": 0, "model_families": 1, "backend_type": "memory"}
    assert rates._engine.stats()["reservations"] == 0
    assert left(rates) == {"requests": 7, "tokens": 970}


def test_open_reservations_are_counted_and_bounded() -> None:
    rates = limiter(SyncRateLimiter, max_in_flight_reservations=2)
    first, second = rates.acquire_capacity(use(), MODEL), rates.acquire_capacity(use(), MODEL)
    assert rates.snapshot_state()["in_flight_reservations"] == 2
    with pytest.raises(CardinalityLimitExceededError, match="max_in_flight_reservations"):
        rates.acquire_capacity(use(), MODEL)
    assert left(rates) == {"requests": 8, "tokens": 998}
    rates.refund_capacity(use(), first)
    rates.refund_capacity(use(), second)
    assert rates.snapshot_state()["in_flight_reservations"] == 0


def test_a_lifetime_ends_a_reservation_with_all_of_it_used() -> None:
    rates = limiter(SyncRateLimiter, max_reservation_lifetime_seconds=0.01)
    reservation = rates.acquire_capacity(use(1, 100), MODEL)
    while rates._engine.stats()["reservations"]:
        time.sleep(0.001)
    with pytest.raises(UnknownReservationError, match="lifetime is over"):
        rates.refund_capacity(use(0, 0), reservation)
    assert left(rates) == {"requests": 9, "tokens": 900}
    assert rates.snapshot_state()["in_flight_reservations"] == 0


def test_recorded_use_may_be_owed_and_stays_owed() -> None:
    rates = limiter(SyncRateLimiter)
    recorded = rates.record_usage(use(1, 400), MODEL)
    rates.refund_capacity(use(1, 300), recorded)
    assert left(rates) == {"requests": 9, "tokens": 700}
    owed = rates.record_usage(use(1, 5000), MODEL)
    assert left(rates) == {"requests": 8, "tokens": -4300}
    with pytest.raises(DuplicateRefundError):
        rates.refund_capacity(use(0, 0), owed)
    with pytest.raises(TimeoutError):
        rates.acquire_capacity(use(), MODEL, timeout=0)
    assert left(rates) == {"requests": 8, "tokens": -4300}
    rates.set_max_capacity(MODEL, "tokens", 3600, 100)
    rates.set_max_capacity(MODEL, "tokens", 3600, 1000)
    assert left(rates)["tokens"] < -4000


def test_a_scope_refunds_what_the_block_said() -> None:
    rates = limiter(SyncRateLimiter)
    with rates.reserve(use(2, 500), MODEL) as handle:
        assert handle.reservation is not None
        handle.set_actual_usage(use(1, 400))
        handle.set_actual_usage(use(1, 100))
    assert left(rates) == {"requests": 9, "tokens": 900}
    with pytest.raises(RuntimeError, match="entered once"), handle:
        pass


def test_a_scope_without_a_word_charges_all_and_warns() -> None:
    rates = limiter(SyncRateLimiter)
    with pytest.warns(RuntimeWarning, match="set_actual_usage"), rates.reserve(use(2, 500), MODEL):
        pass
    assert left(rates) == {"requests": 8, "tokens": 500}
    assert rates.snapshot_state()["in_flight_reservations"] == 0


def test_a_scope_that_fails_charges_what_was_said_for_that() -> None:
    rates = limiter(SyncRateLimiter)
    with pytest.raises(KeyError), rates.reserve(use(2, 500), MODEL, usage_on_error=use(1, 0)):
        raise KeyError
    assert left(rates) == {"requests": 9, "tokens": 1000}
    with pytest.raises(KeyError), rates.reserve(use(2, 500), MODEL):
        raise KeyError
    assert left(rates) == {"requests": 7, "tokens": 500}
    with pytest.raises(KeyError), rates.reserve(use(1, 500), MODEL, usage_on_error={"nonsense": 1}):
        raise KeyError
    assert left(rates) == {"requests": 6, "tokens": 0}
    assert rates.snapshot_state()["in_flight_reservations"] == 0


def test_a_scope_given_nonsense_says_so_and_charges_all() -> None:
    rates = limiter(SyncRateLimiter)
    with pytest.raises(ValueError, match="actual_usage must name"), rates.reserve(use(2, 500), MODEL) as handle:
        handle.set_actual_usage({"tokens": 5})
    assert left(rates) == {"requests": 8, "tokens": 500}


def test_a_scope_left_after_its_limiter_was_closed_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    rates = limiter(SyncRateLimiter)
    with pytest.raises(ClosedError), rates.reserve(use(), MODEL) as handle:
        handle.set_actual_usage(use())
        rates.close()
        caplog.clear()
    assert not caplog.records, "the error tells it"
    rates = limiter(SyncRateLimiter)
    with pytest.raises(KeyError), rates.reserve(use(), MODEL, usage_on_error=use(0, 0)):
        rates.close()
        caplog.clear()
        raise KeyError
    assert [record.exc_info for record in caplog.records] == [None]
    assert "closed" in caplog.text


def test_async_scopes_do_the_same() -> None:
    async def scenario() -> None:
        async with limiter(RateLimiter) as rates:
            async with rates.reserve(use(2, 500), MODEL, timeout=0) as handle:
                handle.set_actual_usage(use(1, 100))
            with pytest.raises(KeyError):
                async with rates.reserve(use(2, 500), MODEL, usage_on_error=use(0, 0)):
                    raise KeyError
            with pytest.warns(RuntimeWarning, match="set_actual_usage"):
                async with rates.reserve(use(1, 100), MODEL):
                    pass
            assert left(rates) == {"requests": 8, "tokens": 800}

    asyncio.run(scenario())


def counted(**request: Any) -> dict[str, int]:
    """As many tokens as the prompt has words."""
    return use(1, len(request["prompt"].split()))


def test_requests_are_sized_by_the_counter() -> None:
    quotas = UsageQuotas([Quota("requests", 10, 3600), Quota("tokens", 1000, 3600)])
    rates = SyncRateLimiter(PerModelConfig(quotas, usage_counter=counted))
    reservation = rates.acquire_capacity_for_request(model=MODEL, prompt="one two three", extra_usage={"tokens": 50})
    assert reservation.usage == {"requests": 1, "tokens": 53}
    for request, words in (
        ({"prompt": "x"}, "model is missing"),
        ({"model_name": MODEL, "prompt": "x"}, "call it model"),
        ({"model": MODEL, "prompt": "x", "extra_usage": {"cost": 1}}, "'cost', which usage_counter does not"),
        ({"model": MODEL, "prompt": "x", "extra_usage": {"tokens": -1}}, "must not be negative"),
    ):
        with pytest.raises(ValueError, match=words):
            rates.acquire_capacity_for_request(**request)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has no usage_counter"):
        limiter(SyncRateLimiter).acquire_capacity_for_request(model=MODEL)


@pytest.mark.parametrize(
    "response",
    [
        {"usage": {"total_tokens": 30}},
        {"usage": {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}},
        {"usage": {"input_tokens": 5, "cache_read_input_tokens": 5, "output_tokens": 20}},
        SimpleNamespace(usage=SimpleNamespace(total_tokens=30)),
    ],
)
def test_answers_tell_what_was_used(response: Any) -> None:
    rates = limiter(SyncRateLimiter)
    rates.refund_capacity_from_response(rates.acquire_capacity(use(1, 500), MODEL), response)
    assert left(rates) == {"requests": 9, "tokens": 970}


def test_answers_that_tell_nothing_are_refused_and_the_reservation_stays_open() -> None:
    rates = limiter(SyncRateLimiter)
    reservation = rates.acquire_capacity(use(1, 500), MODEL)
    for response in ({}, {"usage": None}, {"usage": {}}, {"usage": {"total_tokens": True}}, {"usage": {"total_tokens": -1}}, None):
        with pytest.raises(ValueError, match="usage|response"):
            rates.refund_capacity_from_response(reservation, response)
    rates.refund_capacity_from_response(reservation, usage={"total_tokens": 7})
    assert left(rates) == {"requests": 9, "tokens": 993}


def test_unlimited_models_are_let_through() -> None:
    rates = SyncRateLimiter(PerModelConfig(UsageQuotas.unlimited()))
    reservation = rates.acquire_capacity({"anything": 5}, MODEL, timeout=0)
    assert reservation.is_unlimited and reservation.usage == {} and reservation.bucket_ids is None
    assert rates.snapshot_state()["in_flight_reservations"] == 1
    rates.refund_capacity({"anything": 1}, reservation)
    assert rates.snapshot_state()["in_flight_reservations"] == 0
    with pytest.raises(ValueError, match="unlimited"):
        rates.set_max_capacity(MODEL, "requests", 60, 5)
    with pytest.raises(ValueError, match="negative"):
        rates.acquire_capacity({"anything": -5}, MODEL)


def test_models_of_a_family_share_its_quotas_and_others_do_not() -> None:
    def config(model: str) -> PerModelConfig:
        return PerModelConfig(UsageQuotas([Quota("requests", 2, 3600)]), model_family=model.partition("-")[0])

    rates = SyncRateLimiter(config)
    kept = [rates.acquire_capacity({"requests": 1}, model) for model in ("a-1", "a-2", "b-1")]
    assert [each.model_family for each in kept] == ["a", "a", "b"]
    with pytest.raises(TimeoutError):
        rates.acquire_capacity({"requests": 1}, "a-3", timeout=0)
    rates.acquire_capacity({"requests": 1}, "b-2", timeout=0)
    assert rates.snapshot_state()["model_families"] == 2


def test_a_star_in_a_family_is_but_a_letter() -> None:
    rates = SyncRateLimiter(PerModelConfig(UsageQuotas([Quota("requests", 1, 3600)])))
    rates.acquire_capacity({"requests": 1}, "*", timeout=0)
    rates.acquire_capacity({"requests": 1}, "other", timeout=0)
    with pytest.raises(TimeoutError):
        rates.acquire_capacity({"requests": 1}, "*", timeout=0)


def test_a_changed_configuration_takes_effect_and_forgets_nothing() -> None:
    limits = {"requests": 4}

    def config(_model: str) -> PerModelConfig:
        return PerModelConfig(UsageQuotas([Quota(metric, limit, 3600) for metric, limit in limits.items()]), model_family="f")

    rates = SyncRateLimiter(config)
    held = rates.acquire_capacity({"requests": 3}, MODEL)
    limits["requests"] = 8
    rates.acquire_capacity({"requests": 5}, MODEL, timeout=0)
    with pytest.raises(TimeoutError):
        rates.acquire_capacity({"requests": 1}, MODEL, timeout=0)
    limits["tokens"] = 100
    with pytest.raises(ValueError, match="requests, tokens"):
        rates.acquire_capacity({"requests": 1}, MODEL)
    rates.refund_capacity({"requests": 0}, held)
    rates.acquire_capacity({"requests": 1, "tokens": 100}, MODEL, timeout=0)


def test_models_of_a_family_must_agree() -> None:
    def config(model: str) -> PerModelConfig:
        return PerModelConfig(UsageQuotas([Quota("requests", len(model), 3600)]), model_family="shared")

    rates = SyncRateLimiter(config)
    rates.acquire_capacity({"requests": 1}, "one")
    with pytest.raises(ValueError, match="share the family 'shared' and have different quotas"):
        rates.acquire_capacity({"requests": 1}, "three")
    rates.acquire_capacity({"requests": 1}, "two")


def test_families_and_models_are_bounded() -> None:
    rates = limiter(SyncRateLimiter, max_model_families=2)
    rates.acquire_capacity(use(), "a")
    rates.acquire_capacity(use(), "b")
    with pytest.raises(CardinalityLimitExceededError, match="max_model_families"):
        rates.acquire_capacity(use(), "c")
    rates = limiter(SyncRateLimiter, max_aliases=1)
    rates.acquire_capacity(use(), "a")
    with pytest.raises(CardinalityLimitExceededError, match="max_aliases"):
        rates.acquire_capacity(use(), "b")
    with pytest.raises(CardinalityLimitExceededError, match="at most 5 characters"):
        limiter(SyncRateLimiter, max_alias_length=5).acquire_capacity(use(), "longer")
    for option in ("max_model_families", "max_aliases", "max_in_flight_reservations"):
        with pytest.raises(ValueError, match=option):
            limiter(SyncRateLimiter, **{option: 0})


def test_unused_families_go_only_when_nothing_is_known_of_them() -> None:
    rates = limiter(SyncRateLimiter, requests=1000, seconds=1)
    held = rates.acquire_capacity(use(), "held")
    rates.record_usage(use(900), "owing")
    rates.refund_capacity(use(0, 0), rates.acquire_capacity(use(), "full"))
    assert rates.clear_unused_model_families(3600) == 0
    assert rates.clear_unused_model_families(0) == 1
    assert rates.snapshot_state()["model_families"] == 2
    rates.refund_capacity(use(), held)
    rates.acquire_capacity(use(), "full")
    for wrong in (-1, True, "5"):
        with pytest.raises(ValueError, match="unused_for_seconds"):
            rates.clear_unused_model_families(wrong)  # type: ignore[arg-type]


def test_five_metrics_of_ones_own_are_too_many() -> None:
    quotas = UsageQuotas([Quota(f"own{number}", 10, 60) for number in range(5)])
    with pytest.raises(ValueError, match="at most 4 user-defined metrics"):
        SyncRateLimiter(PerModelConfig(quotas)).acquire_capacity({f"own{number}": 1 for number in range(5)}, MODEL)


def test_arguments_that_cannot_be_are_refused_by_name() -> None:
    config = PerModelConfig(UsageQuotas([Quota("requests", 10)]))
    for arguments, options, words in (
        ((None,), {}, "cfg must be a PerModelConfig"),
        ((config, MemoryBackendBuilder), {}, r"call it: MemoryBackendBuilder\(\)"),
        ((config, object()), {}, "backend must have a method build"),
        ((config,), {"max_reservation_lifetime_seconds": 0}, "max_reservation_lifetime_seconds"),
        ((config,), {"callback_timeout": -1}, "callback_timeout"),
        ((config,), {"pid_check": 1}, "pid_check must be a bool"),
    ):
        for kind in (RateLimiter, SyncRateLimiter):
            with pytest.raises(ValueError, match=words):
                kind(*arguments, **options)  # type: ignore[arg-type]
    for kind in (RateLimiter, SyncRateLimiter):
        with pytest.raises(TypeError, match="callbacks must be"):
            kind(config, callbacks=5)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(kind(config))


def test_a_folder_remembers(tmp_path: Any) -> None:
    for durability in ("relaxed", "sync"):
        folder = tmp_path / durability
        rates = limiter(SyncRateLimiter, backend=FolderBackendBuilder(folder, durability=durability))
        rates.refund_capacity(use(1, 300), rates.acquire_capacity(use(1, 500), MODEL))
        with pytest.raises(OSError, match="in use|another"):
            limiter(SyncRateLimiter, backend=FolderBackendBuilder(folder))
        rates.close()
        again = limiter(SyncRateLimiter, backend=FolderBackendBuilder(folder, durability=durability))
        again.acquire_capacity(use(1, 1), MODEL)
        assert left(again) == {"requests": 8, "tokens": 699}
        again.close()


@pytest.mark.parametrize("place", ["redis://:secret@localhost", Path("limits")])
def test_a_place_is_no_builder_and_is_not_repeated(place: object) -> None:
    with pytest.raises(ValueError, match="must be a builder, not .*: RedisBackendBuilder.url, key_prefix=.*FolderBackendBuilder") as refused:
        limiter(SyncRateLimiter, backend=place)
    assert "secret" not in str(refused.value)
