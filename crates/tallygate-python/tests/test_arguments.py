"""Arguments that cannot be: each is refused by its name, before anything is done with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest
from limiters import MODEL, left, limiter, use

from tallygate import RedisBackendBuilder, SyncRateLimiter, count_tokens, estimate_total_tokens, openai_model_family_getter, wrap_openai
from tallygate.rules import Limit
from tallygate.simple import TokenLimiter
from tallygate.tokens import count_request

HALF = "a\udcff"
"""Half a character, as a name of a file or JSON may bring along."""


def client() -> Any:
    return openai.OpenAI(api_key="none")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: Limit("l", dollars="abc"), "dollars of the limit 'l' must be a number"),
        (lambda: Limit("l", dollars="inf"), "dollars of the limit 'l' must be a number"),
        (lambda: Limit("l", dollars="NaN"), "dollars of the limit 'l' must be a number"),
        (lambda: Limit("l", tokens=6, metrics={"tokens": 5}), "metrics of the limit 'l' name 'tokens'"),
        (lambda: Limit("l", metrics={"cost": 5}), "metrics of the limit 'l' name 'cost'"),
        (lambda: Limit(5, tokens=6), "name of a limit must be a str"),  # type: ignore[arg-type]
        (lambda: Limit(HALF, tokens=6), "name of a limit has a lone surrogate at 1"),
        (lambda: openai_model_family_getter(None), "model must be a str, not NoneType"),  # type: ignore[arg-type]
        (lambda: wrap_openai(client(), 5), "limiter must be a RateLimiter or a SyncRateLimiter, not int"),  # type: ignore[arg-type]
        (lambda: wrap_openai(client(), limiter(SyncRateLimiter), usage=5), "usage must be a function"),  # type: ignore[arg-type]
        (lambda: wrap_openai(client(), limiter(SyncRateLimiter), timeout=-1), "timeout must be None or a finite number"),
        (lambda: count_tokens(HALF, "gpt-4o"), "text has a lone surrogate at 1"),
        (lambda: count_tokens("hello", HALF), "model has a lone surrogate at 1"),
        (lambda: estimate_total_tokens(5, HALF), "model has a lone surrogate at 1"),
        (lambda: count_request(HALF), "request has a lone surrogate at 1"),
        (lambda: TokenLimiter(5).check(HALF, 1), "identifier has a lone surrogate at 1"),
        (lambda: RedisBackendBuilder(f"redis://{HALF}", key_prefix="app"), "redis_client_or_url has a lone surrogate at 9"),
    ],
)
def test_an_argument_that_cannot_be_is_named(wrong: Callable[[], object], words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words) as refused:
        wrong()
    assert not isinstance(refused.value, UnicodeError), "whose words name no argument"


@pytest.mark.parametrize("usage", [{HALF: 1}, {**use(), HALF: 1}])
def test_a_metric_whose_name_is_no_text_takes_nothing(usage: dict[str, int]) -> None:
    rates = limiter(SyncRateLimiter)
    with pytest.raises(ValueError, match="usage has a metric whose name is no text"):
        rates.acquire_capacity(usage, MODEL)
    rates.acquire_capacity(use(), MODEL)
    assert left(rates) == {"requests": 9, "tokens": 999}
