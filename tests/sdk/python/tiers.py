"""The tiers of a product, seen by its users through stock SDKs: refused, served by a cheaper model, and told so."""

import asyncio
import json
import os
import sys
import time
import urllib.request
from typing import Any, Callable

import anthropic
import openai

BASE_URL = os.environ.get("TALLYGATE_BASE_URL", "").rstrip("/")
KEYS: dict[str, str] = json.loads(os.environ.get("TALLYGATE_KEYS", "{}"))
ADMIN_URL = os.environ.get("TALLYGATE_ADMIN_URL", "").rstrip("/")
ADMIN_KEY = os.environ.get("TALLYGATE_ADMIN_KEY", "")
# Micro-dollars: of a user's tier, and for a million tokens.
BUDGETS: dict[str, int] = json.loads(os.environ.get("TALLYGATE_BUDGETS", "{}"))
PRICE: dict[str, int] = json.loads(os.environ.get("TALLYGATE_PRICE", "{}"))
# How long what was answered may take to be settled.
PATIENCE_S = 120

SHORT = {"metadata": {"mock_output_tokens": "25"}}
CHAT: dict[str, Any] = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "Name the seas."}],
    "max_tokens": 40,
    **SHORT,
}
RESPONSE: dict[str, Any] = {"model": "gpt-4o", "input": "Name the lakes.", "max_output_tokens": 40, **SHORT}
MESSAGE: dict[str, Any] = {
    "model": "claude-sonnet-4-6",
    "max_tokens": 40,
    "metadata": {"mock_output_tokens": 25},
    "messages": [{"role": "user", "content": "Name the seas."}],
}
# It writes all that it may, so what is held for it is what it costs.
PRICED = CHAT | {"messages": [{"role": "user", "content": "Hello world"}], "max_tokens": 25}
NEVER = {"x-tallygate-downgrade": "never"}


class Failed(Exception):
    """A check did not hold."""


def expect_equal(got: Any, expected: Any, what: str) -> None:
    if got != expected:
        raise Failed(f"{what}: got {got!r}, expected {expected!r}")


def openai_of(user: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{BASE_URL}/v1", api_key=KEYS[user])


def anthropic_of(user: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=BASE_URL, api_key=KEYS[user])


def told(headers: Any) -> tuple[str | None, str | None]:
    return headers.get("x-tallygate-model"), headers.get("x-tallygate-asked")


AS_ASKED = (None, None)
DOWN = ("gpt-4o-mini", "gpt-4o")
CLAUDE_DOWN = ("claude-haiku-4-5", "claude-sonnet-4-6")


def refused(error: type[Exception], call: Callable[[], Any], code: str | None) -> str:
    """The call fails by this error, at the first attempt; what it says."""
    try:
        call()
    except error as failure:
        expect_equal(getattr(failure, "code", None), code, "code of the error")
        return str(failure)
    raise Failed(f"no {error.__name__}")


def no_fraction(text: str) -> Any:
    raise Failed(f"{text} is no whole number")


def administer(path: str) -> Any:
    """What the admin listener says, in whole numbers."""
    request = urllib.request.Request(f"{ADMIN_URL}{path}", headers={"authorization": f"Bearer {ADMIN_KEY}"})
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        return json.load(answer, parse_float=no_fraction)


def expect_soon(read: Callable[[], Any], expected: Any, what: str) -> None:
    """What was answered is settled, if not before the caller has it."""
    end = time.monotonic() + PATIENCE_S
    while (got := read()) != expected and time.monotonic() < end:
        time.sleep(0.02)
    expect_equal(got, expected, what)


def cost_of(usage: Any) -> int:
    """What a call cost by the price, in micro-dollars: rounded up, once."""
    exact = usage.prompt_tokens * PRICE["input"] + usage.completion_tokens * PRICE["output"]
    return -(-exact // 1_000_000)


def dollars(micros: int) -> str:
    return f"${micros // 1_000_000}.{micros % 1_000_000:06}"


def counted(tier: str) -> tuple[int, int]:
    """What the tier's budget has spent, and what it has left."""
    limits = administer(f"/api/explain?tenant=acme&tier={tier}")["limits"]
    [budget] = [limit for limit in limits if limit["name"] == f"{tier}-spend"]
    return budget["used"], budget["remaining"]


def booked(user: str) -> tuple[int, int, int]:
    """A user's calls, those of them that were denied, and what all cost, by the ledger."""
    totals = administer(f"/api/usage?user={user}")["totals"]
    return totals["calls"], totals["denied"], totals["cost"]


def spend(user: str, calls: int) -> int:
    """Makes the calls that a budget has room for and one more, which it refuses; what all of them cost, in micro-dollars."""
    sdk = openai_of(user).with_options(max_retries=0)
    budget, spent = BUDGETS[user], 0
    for _ in range(calls):
        spent += cost_of(sdk.chat.completions.create(**PRICED).usage)
        expect_soon(lambda: counted(user), (spent, budget - spent), "spent and left")
    said = refused(openai.RateLimitError, lambda: sdk.chat.completions.create(**PRICED), "insufficient_quota")
    for part in (f"in limit {user}-spend on dollars per month", f"Limit {dollars(budget)}, Used {dollars(spent)}"):
        expect_equal(part in said, True, f"{part!r} in {said!r}")
    expect_equal(counted(user), (spent, budget - spent), "spent and left after the refusal")
    expect_soon(lambda: booked(user), (calls + 1, 1, spent), "calls, denied, cost")
    return spent


def free_user_is_refused_and_served_on_the_mini() -> None:
    sdk = openai_of("free")
    refused(openai.PermissionDeniedError, lambda: sdk.chat.completions.create(**CHAT), "model_not_found")
    raw = sdk.chat.completions.with_raw_response.create(**CHAT | {"model": "gpt-4o-mini"})
    expect_equal(told(raw.headers), AS_ASKED, "headers")
    expect_equal(raw.parse().model, "gpt-4o-mini", "model")


def trial_user_gets_the_mini_in_its_place() -> None:
    raw = openai_of("trial").chat.completions.with_raw_response.create(**CHAT)
    expect_equal(told(raw.headers), DOWN, "headers")
    expect_equal(raw.parse().model, "gpt-4o-mini", "model")


def pro_user_is_downgraded_at_the_daily_limit_and_told_so() -> None:
    sdk = openai_of("pro")
    raw = sdk.chat.completions.with_raw_response.create(**CHAT)
    expect_equal((told(raw.headers), raw.parse().model), (AS_ASKED, "gpt-4o"), "before the limit")
    raw = sdk.chat.completions.with_raw_response.create(**CHAT)
    expect_equal((told(raw.headers), raw.parse().model), (DOWN, "gpt-4o-mini"), "at the limit")
    never = lambda: sdk.with_options(max_retries=0).chat.completions.create(extra_headers=NEVER, **CHAT)
    refused(openai.RateLimitError, never, "insufficient_quota")


def streams_say_so_before_their_first_chunk() -> None:
    raw = openai_of("pro").chat.completions.with_raw_response.create(stream=True, **CHAT)
    expect_equal(told(raw.headers), DOWN, "headers")
    chunks = list(raw.parse())
    expect_equal({chunk.model for chunk in chunks}, {"gpt-4o-mini"}, "models of the chunks")
    expect_equal(chunks[-1].choices[0].finish_reason, "stop", "finish")


def responses_too() -> None:
    sdk = openai_of("pro")
    raw = sdk.responses.with_raw_response.create(**RESPONSE)
    expect_equal((told(raw.headers), raw.parse().model), (DOWN, "gpt-4o-mini"), "whole")
    raw = sdk.responses.with_raw_response.create(stream=True, **RESPONSE)
    expect_equal(told(raw.headers), DOWN, "headers of the stream")
    events = list(raw.parse())
    expect_equal(events[-1].type, "response.completed", "last event")
    expect_equal(events[-1].response.model, "gpt-4o-mini", "model of the last event")


def async_calls_too() -> None:
    async def call() -> Any:
        async with openai.AsyncOpenAI(base_url=f"{BASE_URL}/v1", api_key=KEYS["pro"]) as sdk:
            return await sdk.chat.completions.with_raw_response.create(**CHAT)

    expect_equal(told(asyncio.run(call()).headers), DOWN, "headers")


def anthropic_user_is_downgraded_and_told_so() -> None:
    sdk = anthropic_of("claude")
    raw = sdk.messages.with_raw_response.create(**MESSAGE)
    expect_equal((told(raw.headers), raw.parse().model), (AS_ASKED, "claude-sonnet-4-6"), "before the limit")
    raw = sdk.messages.with_raw_response.create(**MESSAGE)
    expect_equal((told(raw.headers), raw.parse().model), (CLAUDE_DOWN, "claude-haiku-4-5"), "at the limit")
    raw = sdk.messages.with_raw_response.create(stream=True, **MESSAGE)
    expect_equal(told(raw.headers), CLAUDE_DOWN, "headers of the stream")
    events = list(raw.parse())
    expect_equal(events[0].message.model, "claude-haiku-4-5", "model of the first event")
    expect_equal(events[-1].type, "message_stop", "last event")
    never = lambda: sdk.with_options(max_retries=0).messages.create(extra_headers=NEVER, **MESSAGE)
    refused(anthropic.RateLimitError, never, None)


def enterprise_budget_stops_at_the_micro_dollar() -> None:
    spent = spend("enterprise", 3)
    expect_equal(spent, BUDGETS["enterprise"], "spent: all of the budget")
    one = spent // 3
    expect_equal(spend("smaller", 2), 2 * one, "spent where there is a micro-dollar less")
    expect_equal(BUDGETS["smaller"] - 2 * one, one - 1, "left there")


# In this order: the first call of a pro user is what its day has.
CHECKS = [
    free_user_is_refused_and_served_on_the_mini,
    trial_user_gets_the_mini_in_its_place,
    pro_user_is_downgraded_at_the_daily_limit_and_told_so,
    streams_say_so_before_their_first_chunk,
    responses_too,
    async_calls_too,
    anthropic_user_is_downgraded_and_told_so,
    enterprise_budget_stops_at_the_micro_dollar,
]


def main() -> None:
    if not all([BASE_URL, KEYS, ADMIN_URL, ADMIN_KEY, BUDGETS, PRICE]):
        sys.exit("set TALLYGATE_BASE_URL, _KEYS, _ADMIN_URL, _ADMIN_KEY, _BUDGETS and _PRICE")
    failures = 0
    for check in CHECKS:
        line: dict[str, Any] = {"suite": "tiers", "check": check.__name__}
        try:
            check()
            line |= {"ok": True}
        except Exception as error:  # noqa: BLE001 - every failure becomes a line
            failures += 1
            line |= {"ok": False, "error": f"{type(error).__name__}: {error}"[:600]}
        print(json.dumps(line), flush=True)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
