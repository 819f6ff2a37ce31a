"""Refusals and headers, as clients read them."""

from __future__ import annotations

import pytest

from tallygate import _native, _wire
from tallygate.rules import Limit, written


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.012, "12ms"),
        (1, "1s"),
        (18.642, "18.642s"),
        (59.9, "59.9s"),
        (60, "1m0s"),
        (360, "6m0s"),
        (3_723, "1h2m3s"),
        (3_600, "1h0m0s"),
        (86_400.001, "24h0m0.001s"),
        (1e-9, "1ms"),
        (0.999000001, "1s"),
    ],
)
def test_lengths_are_written_as_go_does(seconds: float, text: str) -> None:
    assert _wire.go_duration(seconds) == text


@pytest.mark.parametrize(
    ("wait", "headers"),
    [
        (0.0, {"retry-after-ms": "1", "retry-after": "1"}),
        (0.0010001, {"retry-after-ms": "2", "retry-after": "1"}),
        (1.001, {"retry-after-ms": "1001", "retry-after": "2"}),
        (60.0, {"retry-after-ms": "60000", "retry-after": "60"}),
        (60.001, {"retry-after-ms": "60001", "retry-after": "61", "x-should-retry": "false"}),
        (None, {"x-should-retry": "false"}),
    ],
)
def test_a_wait_is_never_zero_and_never_early(wait: float | None, headers: dict[str, str]) -> None:
    assert _wire.wait_headers(wait) == headers


def test_jitter_is_small_upward_and_keeps_a_short_wait_short() -> None:
    told = [_wire.jittered(10.0) for _ in range(200)]
    assert all(10.0 <= wait <= 10.25 for wait in told) and min(told) < max(told)
    assert all(_wire.jittered(60.0) == 60.0 for _ in range(50))
    assert all(600.0 <= _wire.jittered(600.0) <= 600.25 for _ in range(50))


def refusal(limit: Limit, first: dict[str, int], then: dict[str, int]) -> tuple[dict[str, str], dict[str, str]]:
    """Body and headers of the refusal of `then`, after `first`."""
    engine = _native.Engine.memory()
    engine.change_rules([written(limit)])
    subject = engine.subject({})
    held = subject.reserve(first)
    assert isinstance(held, _native.Reservation)
    denial = subject.reserve(then)
    assert isinstance(denial, _native.Denial)
    body, headers = _wire.refusal(denial, "chat_completions", "gpt-4o", then)
    return body["error"], headers


def test_requests_and_tokens_are_told_apart() -> None:
    error, headers = refusal(Limit("rpm", requests=1, every=60), {"requests": 1}, {"requests": 1})
    assert error["type"] == "requests" and "on requests per min (RPM)" in error["message"]
    assert headers["x-ratelimit-limit-requests"] == "1" and "x-ratelimit-limit-tokens" not in headers
    error, headers = refusal(Limit("tpd", input_tokens=9, every="hour"), {"input_tokens": 9}, {"input_tokens": 1})
    assert error["type"] == "tokens" and "on input tokens per hour (ITPH)" in error["message"]
    assert headers["x-ratelimit-remaining-tokens"] == "0"


def test_a_quota_is_no_rate() -> None:
    error, headers = refusal(Limit("month", tokens=100, every="month"), {"tokens": 100}, {"tokens": 1})
    assert (error["type"], error["code"]) == ("insufficient_quota", "insufficient_quota") or int(headers["retry-after"]) <= 60
    assert "in limit month on tokens per month: Limit 100, Used 100, Requested 1." in error["message"]


def test_money_is_told_in_dollars_and_calls_by_their_number() -> None:
    error, _ = refusal(Limit("spend", dollars="1.50", every=60), {"cost": 1_500_000}, {"cost": 250_000})
    assert "on dollars per min: Limit 1.5" in error["message"] and "Requested 0.25" in error["message"]
    error, _ = refusal(Limit("at once", concurrency=1), {"concurrency": 1}, {"concurrency": 2})
    assert "in limit at once on calls at once: Limit 1, Requested 2. No wait would help" in error["message"]
    assert "At most 1 concurrency are possible." not in error["message"]


def test_of_several_limits_the_tightest_is_told() -> None:
    engine = _native.Engine.memory()
    engine.change_rules([written(Limit("minute", tokens=100, every=60)), written(Limit("day", tokens=10_000, every="day"))])
    held = engine.subject({}).reserve({"tokens": 60})
    assert isinstance(held, _native.Reservation)
    headers = _wire.standing_headers(held.standings)
    assert (headers["x-ratelimit-limit-tokens"], headers["x-ratelimit-remaining-tokens"]) == ("100", "40")
