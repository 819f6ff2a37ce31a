"""Quotas, their sets and the configuration of a model: what is taken, what is refused, and how."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
from tallygate.errors import (
    AcquireRefundFailedError,
    BackendConformanceError,
    BackendLockContentionError,
    CardinalityLimitExceededError,
    ClosedError,
    DuplicateRefundError,
    UnknownReservationError,
)
from tallygate.quotas import (
    Capacities,
    FrozenUsage,
    PerModelConfig,
    PerModelConfigGetter,
    Quota,
    SecondsIn,
    UsageQuotas,
    checked_prefix,
    frozen_usage,
    resolve_config,
    scales_of,
)


def minute(metric: str = "tokens", limit: float = 100) -> UsageQuotas:
    return UsageQuotas([Quota(metric=metric, limit=limit, per_seconds=60)])


def test_a_quota_is_a_value():
    quota = Quota(metric="tokens", limit=90_000, per_seconds=SecondsIn.MINUTE)
    assert quota == Quota("tokens", 90_000.0)
    assert len({quota, Quota("tokens", 90_000)}) == 1
    assert (quota.metric, quota.limit, quota.per_seconds) == ("tokens", 90_000, 60)
    assert type(quota.per_seconds) is int
    assert pickle.loads(pickle.dumps(quota)) == quota == copy.deepcopy(quota)
    with pytest.raises(AttributeError):
        quota.limit = 1  # type: ignore[misc]


def test_reprs_are_what_one_would_write():
    quota = Quota("tokens", 90_000)
    assert repr(quota) == "Quota('tokens', limit=90_000, per_seconds=60)"
    assert eval(repr(quota)) == quota
    config = PerModelConfig(UsageQuotas([quota]), model_family="gpt-4o")
    assert repr(config) == (
        "PerModelConfig(UsageQuotas([Quota('tokens', limit=90_000, per_seconds=60)]), model_family='gpt-4o')"
    )
    assert eval(repr(config)) == config
    assert repr(UsageQuotas.unlimited()) == "UsageQuotas.unlimited()"


@pytest.mark.parametrize(("limit", "kept"), [(4500.5, 4500), (1, 1), (2**53, 2**53), (1.0, 1)])
def test_a_limit_is_whole_and_never_more_than_given(limit: float, kept: int):
    assert Quota("tokens", limit).limit == kept


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        (0, "limit must be at least 1"),
        (0.5, "amounts of 'tokens' are whole numbers"),
        (-3, "limit must be at least 1"),
        (math.nan, "limit must be finite"),
        (math.inf, "limit must be finite"),
        (2**53 + 1, "limit must be at most 2\\*\\*53"),
        (10**400, "limit must be at most 2\\*\\*53"),
        (True, "limit must be an int or a float, not bool"),
        ("10", "limit must be an int or a float, not str"),
        (None, "limit must be an int or a float, not NoneType"),
    ],
)
def test_a_limit_that_cannot_be_is_refused_by_name(limit: object, said: str):
    with pytest.raises(ValueError, match=said):
        Quota("tokens", limit)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("limit", "kept"), [(5.5, 5.5), (7, 7), (0.29, 0.29), (1e-6, 1e-6), (1.2345678, 1.234567), (2.0, 2), (2**53, 2**53)]
)
def test_a_limit_of_ones_own_metric_is_kept_to_the_millionth(limit: float, kept: float):
    quota = Quota("dollars", limit)
    assert quota.limit == kept and eval(repr(quota)) == quota


@pytest.mark.parametrize("limit", [0, 0.0000009, -0.5])
def test_a_limit_below_a_millionth_is_refused(limit: float):
    with pytest.raises(ValueError, match="limit must be at least 0.000001"):
        Quota("dollars", limit)


@pytest.mark.parametrize(
    ("limits", "scale"), [([5], 1_000_000), ([5.5, 9_007_199_254], 1_000_000), ([5.5, 9_007_199_255], 1), ([2**53], 1)]
)
def test_the_scale_of_a_metric_follows_from_its_quotas(limits: list[float], scale: int):
    quotas = [Quota("dollars", limit, window + 1) for window, limit in enumerate(limits)]
    assert scales_of([*quotas, Quota("cost", 5)]) == {"dollars": scale, "cost": 1}


def test_a_limit_below_one_beside_one_too_large_for_fractions_is_refused():
    with pytest.raises(ValueError, match="metric 'dollars' has the limits 0.5 and 10000000000; .* must be at least 1"):
        scales_of([Quota("dollars", 0.5), Quota("dollars", 1e10, 3600)])


@pytest.mark.parametrize("window", [0, -1, 1.5, 366 * 86_400 + 1, 10**400, True, "60", math.nan, math.inf])
def test_a_window_that_cannot_be_is_refused_by_name(window: object):
    with pytest.raises(ValueError, match="per_seconds must be"):
        Quota("tokens", 1, window)  # type: ignore[arg-type]


def test_calls_at_once_are_not_counted_in_windows():
    with pytest.raises(ValueError, match="metric 'concurrency' counts calls at once"):
        Quota("concurrency", 1)


@pytest.mark.parametrize("metric", ["", " ", "a b", "a\n", "a\x00", "x" * 65, 3, None, b"x"])
def test_a_metric_that_is_no_name_is_refused(metric: object):
    with pytest.raises(ValueError, match="metric must"):
        Quota(metric, 1)  # type: ignore[arg-type]


def test_names_are_one_whatever_way_they_are_written():
    assert Quota("cafe\u0301", 1) == Quota("caf\u00e9", 1)


def test_a_name_too_long_says_so():
    with pytest.raises(CardinalityLimitExceededError, match="at most 64 characters, not 65"):
        Quota("x" * 65, 1)


def test_quotas_of_one_metric_compose():
    quotas = UsageQuotas([Quota("requests", 2, 60), Quota("tokens", 3, 60), Quota("requests", 9, 86_400)])
    assert quotas.names == ["requests", "tokens"]
    assert [quota.per_seconds for quota in quotas.get_quotas("requests")] == [60, 86_400]
    assert quotas.get_quotas("cost") == []
    assert len(quotas) == len(list(quotas)) == 3
    assert not quotas.is_unlimited


def test_a_metric_and_window_is_limited_once():
    with pytest.raises(ValueError, match=r"two quotas for 60 seconds \(limits 2 and 3\)"):
        UsageQuotas([Quota("requests", 2), Quota("requests", 3)])
    quotas = minute()
    with pytest.raises(ValueError, match="two quotas"):
        quotas.add_metric(Quota("tokens", 100))
    assert len(quotas) == 1


def test_quotas_may_be_a_mapping_or_a_generator():
    quota = Quota("tokens", 1)
    assert UsageQuotas({"any": quota}) == UsageQuotas(each for each in [quota])  # type: ignore[arg-type]


@pytest.mark.parametrize("quotas", [[], ["tokens"], 3, "tokens", None])
def test_what_is_no_quotas_is_refused(quotas: object):
    with pytest.raises(ValueError, match="quotas"):
        UsageQuotas(quotas)  # type: ignore[arg-type]


def test_endless_quotas_end():
    def endless():
        while True:
            yield Quota("tokens", 1, endless.windows)
            endless.windows += 1

    endless.windows = 1
    with pytest.raises(CardinalityLimitExceededError, match="at most 1000"):
        UsageQuotas(endless())


def test_unlimited_is_said_aloud():
    assert UsageQuotas.unlimited().is_unlimited
    assert PerModelConfig(UsageQuotas.unlimited()).is_unlimited
    with pytest.raises(ValueError, match="unlimited"):
        UsageQuotas([])


def test_a_configuration_keeps_the_quotas_it_was_made_with():
    quotas = minute()
    config = PerModelConfig(quotas=quotas)
    quotas.add_metric(Quota("requests", 1))
    assert config.quotas.names == ["tokens"]
    with pytest.raises(TypeError, match="new UsageQuotas"):
        config.quotas.add_metric(Quota("requests", 1))


def test_a_counter_must_be_a_plain_function():
    async def counter(**_request):
        return {"tokens": 1}

    class Callable:
        async def __call__(self, **_request):
            return {"tokens": 1}

    for wrong in (counter, Callable()):
        with pytest.raises(ValueError, match="usage_counter must be a plain function"):
            PerModelConfig(minute(), usage_counter=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="usage_counter must be callable"):
        PerModelConfig(minute(), usage_counter=3)  # type: ignore[arg-type]
    assert PerModelConfig(minute(), usage_counter=lambda **_: {"tokens": 1}).usage_counter is not None


def test_a_family_is_the_model_unless_it_is_given():
    assert resolve_config(PerModelConfig(minute()), "gpt-4o")[1] == "gpt-4o"
    assert resolve_config(PerModelConfig(minute(), model_family="gpt"), "gpt-4o")[1] == "gpt"
    assert resolve_config(lambda name: PerModelConfig(minute(), model_family=name[:3]), "gpt-4o")[1] == "gpt"
    assert resolve_config(PerModelConfig(minute()), "anthropic.claude-v2:1")[1] == "anthropic.claude-v2:1"
    assert PerModelConfig(minute(), model_family="gpt").get_model_family() == "gpt"
    with pytest.raises(ValueError, match="model_family"):
        PerModelConfig(minute()).get_model_family()
    assert isinstance(lambda name: PerModelConfig(minute()), PerModelConfigGetter)


@pytest.mark.parametrize("model", ["", " ", None, 3, "a b", "x" * 257])
def test_what_is_no_model_is_refused(model: object):
    with pytest.raises(ValueError, match="model must"):
        resolve_config(PerModelConfig(minute()), model)


def test_a_getter_must_answer_a_configuration():
    async def getter(_name):
        return PerModelConfig(minute())

    for wrong in (lambda _name: None, getter):
        with pytest.raises(ValueError, match="'gpt-4o' must be a PerModelConfig, not"):
            resolve_config(wrong, "gpt-4o")  # type: ignore[arg-type]


def test_a_frozen_use_is_a_dict_that_stays():
    usage = frozen_usage({"tokens": 3, "requests": 1.0})
    assert usage == {"tokens": 3, "requests": 1}
    assert hash(usage) == hash(frozen_usage({"requests": 1, "tokens": 3.0}))
    assert pickle.loads(pickle.dumps(usage)) == usage
    assert isinstance(pickle.loads(pickle.dumps(usage)), FrozenUsage)
    for change in (
        lambda: usage.__setitem__("tokens", 1),
        lambda: usage.update(tokens=1),
        lambda: usage.pop("tokens"),
        lambda: usage.clear(),
        lambda: usage.__ior__({"tokens": 1}),
        lambda: usage.setdefault("cost", 1),
    ):
        with pytest.raises(TypeError, match="cannot be changed"):
            change()
    assert usage == {"tokens": 3, "requests": 1}
    assert repr(Capacities({("tokens", 60): 1})) == "{('tokens', 60): 1}"


@pytest.mark.parametrize(
    ("usage", "said"),
    [
        ([("tokens", 1)], "usage must be a mapping"),
        ({"tokens": math.nan}, "usage of 'tokens' must be finite"),
        ({"tokens": True}, "usage of 'tokens' must be an int or a float, not bool"),
        ({"tokens": "1"}, "usage of 'tokens' must be an int or a float, not str"),
        ({1: 1}, "metric must be a str"),
        ({"": 1}, "metric must not be empty"),
        ({"e\u0301": 1, "\u00e9": 2}, "names a metric twice"),
    ],
)
def test_a_use_that_cannot_be_is_refused(usage: object, said: str):
    with pytest.raises(ValueError, match=said):
        frozen_usage(usage)


@pytest.mark.parametrize("prefix", ["", "a:b", "{a}", "a b", 3, "x" * 129])
def test_a_prefix_that_would_part_keys_is_refused(prefix: object):
    with pytest.raises(ValueError, match="key_prefix must"):
        checked_prefix(prefix)


def test_errors_have_the_bases_that_handlers_catch():
    assert issubclass(DuplicateRefundError, ValueError)
    assert issubclass(UnknownReservationError, ValueError)
    assert issubclass(CardinalityLimitExceededError, ValueError)
    assert issubclass(ClosedError, RuntimeError)
    for plain in (BackendConformanceError, BackendLockContentionError, AcquireRefundFailedError):
        assert plain.__bases__ == (Exception,)


def test_errors_carry_what_they_speak_of():
    error = DuplicateRefundError(reason="in_progress", reservation_id="r1", model_family="gpt-4o")
    assert (error.reason, error.reservation_id, error.model_family) == ("in_progress", "r1", "gpt-4o")
    assert str(error).endswith("(reservation_id='r1', model_family='gpt-4o')")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.reason, again.reservation_id) == (str(error), "in_progress", "r1")
    with pytest.raises(ValueError, match="reason must be one of"):
        DuplicateRefundError(reason="whim")  # type: ignore[arg-type]
    unknown = UnknownReservationError(reservation_id="r2")
    assert (unknown.reason, unknown.reservation_id) == ("unknown_reservation", "r2")
    failed = AcquireRefundFailedError("held", KeyboardInterrupt(), OSError())  # type: ignore[arg-type]
    assert failed.reservation == "held"
    assert isinstance(pickle.loads(pickle.dumps(failed)).refund_error, OSError)
