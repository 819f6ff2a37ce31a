"""What callers and providers read: sizes of calls, refusals and rate-limit headers, as the gateway writes them."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from . import _native
from ._native import Standing
from .quotas import MAX_AMOUNT
from .tokens import cost, cost_bound, dollars

LONG_WAIT = 60.0
"""From here on (seconds) a wait is not to be sat out by a retry: clients ignore, cap or sleep through longer ones."""

MAX_JITTER = 0.25
"""The most (seconds) that is added to a wait so that callers refused together do not return together."""


# Sizes.


def held_by(sized: _native.Sized, metrics: Iterable[str]) -> dict[str, int]:
    """What a call of this size reserves of each of ``metrics``."""
    return _amounts(metrics, (sized.input_tokens, sized.output_tokens), lambda: _bound(sized))


def used_by(sized: _native.Sized, used: _native.Used, metrics: Iterable[str]) -> dict[str, int]:
    """What the call really used of each of ``metrics``. An input that nobody told is the one counted before the call."""
    told = used.input_tokens
    tokens = sized.input_tokens if told is None else told, used.output_tokens
    return _amounts(metrics, tokens, lambda: _cost(sized.model, tokens, used))


def tokens_of(used: _native.Used, metrics: Iterable[str]) -> dict[str, int]:
    """What an answer says it used of the metrics of tokens, of a call whose size nobody knew."""
    tokens = used.input_tokens or 0, used.output_tokens
    return _amounts(_TOKENS.intersection(metrics), tokens, None)


_TOKENS = frozenset(("tokens", "input_tokens", "output_tokens"))

TOLD = _TOKENS | {"cost"}
"""Metrics of which an answer may say how much it took."""

KNOWN = TOLD | {"requests", "concurrency"}
"""Metrics whose amounts follow from a call."""


def nothing(metrics: Iterable[str]) -> dict[str, int]:
    """A call that the provider did not serve."""
    return dict.fromkeys(metrics, 0)


def request_only(metrics: Iterable[str]) -> dict[str, int]:
    """A call that the provider answered and refused as wrong."""
    return {metric: int(metric == "requests") for metric in metrics}


def _amounts(metrics: Iterable[str], tokens: tuple[int, int], micros: Any) -> dict[str, int]:
    input_tokens, output_tokens = tokens
    known = {
        "requests": 1,
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "tokens": input_tokens + output_tokens,
        "concurrency": 1,
    }
    amounts = {}
    for metric in metrics:
        if metric == "cost":
            amounts[metric] = min(micros(), MAX_AMOUNT)
        elif metric in known:
            # A body may ask for more than can be counted: it has the most there is, which no limit has room for.
            amounts[metric] = min(known[metric], MAX_AMOUNT)
        else:
            raise ValueError(f"how much {metric!r} a call takes is not known: say so with `usage=`")
    return amounts


def _bound(sized: _native.Sized) -> int:
    return cost_bound(sized.model, sized.input_tokens, sized.output_tokens)


def _cost(model: str, tokens: tuple[int, int], used: _native.Used) -> int:
    return cost(
        model,
        *tokens,
        cached_input_tokens=used.cached_input_tokens,
        cache_write_tokens=used.cache_write_tokens,
        reasoning_tokens=used.reasoning_tokens,
    )


# Refusals.


def error_body(endpoint: str | None, status: int, kind: str, code: str | None, message: str) -> dict[str, Any]:
    """An error in the words of the endpoint's provider: Anthropic's for its messages, OpenAI's for all else."""
    if endpoint in ("messages", "count_tokens"):
        return {"type": "error", "error": {"type": _ANTHROPIC.get(status, "api_error"), "message": message}}
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


_ANTHROPIC = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    413: "request_too_large",
    429: "rate_limit_error",
}


def refusal(
    denial: _native.Denial, endpoint: str | None, model: str, asked: Mapping[str, float]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Body and headers of the 429 that tells a caller why, and when to come again."""
    wait = None if denial.retry_after is None else jittered(denial.retry_after)
    standing = denial.blocked_by[0]
    kind = "tokens" if standing.metric in ("tokens", "input_tokens", "output_tokens") else "requests"
    code = "rate_limit_exceeded"
    if wait is None:
        message = _too_large(standing, model, asked, denial.largest)
    else:
        message = _reached(standing, model, asked, wait)
        if wait > LONG_WAIT and is_quota(standing):
            kind = code = "insufficient_quota"
            message = f"You exceeded your current quota. {message}"
    headers = {**standing_headers(denial.blocked_by), **wait_headers(wait)}
    return error_body(endpoint, 429, kind, code, message), headers


def is_quota(standing: Standing) -> bool:
    """Whether the limit is a quota rather than a rate: nobody sits a quota out."""
    return standing.metric == "cost" or standing.window in ("day", "week", "month")


def jittered(wait: float) -> float:
    """The wait with up to a twentieth more, at most a quarter of a second. Only ever later, and a short wait stays one."""
    later = wait + random.random() * min(wait / 20, MAX_JITTER)
    return min(later, max(wait, LONG_WAIT))


def wait_headers(wait: float | None) -> dict[str, str]:
    """When to come again, never zero and never early; ``None`` is never."""
    if wait is None:
        return {"x-should-retry": "false"}
    millis = max(1, math.ceil(wait * 1000))
    headers = {"retry-after-ms": str(millis), "retry-after": str(max(1, -(-millis // 1000)))}
    if wait > LONG_WAIT:
        headers["x-should-retry"] = "false"
    return headers


def standing_headers(standings: Sequence[Standing]) -> dict[str, str]:
    """Where the tightest limits stand, as OpenAI writes it."""
    headers: dict[str, str] = {}
    for name, groups in _CLASSES.items():
        standing = _tightest(standings, groups)
        if standing is not None:
            headers[f"x-ratelimit-limit-{name}"] = str(standing.burst)
            headers[f"x-ratelimit-remaining-{name}"] = str(standing.remaining)
            headers[f"x-ratelimit-reset-{name}"] = go_duration(standing.reset_seconds)
    return headers


_CLASSES: dict[str, tuple[tuple[str, ...], ...]] = {
    "requests": (("requests",),),
    "tokens": (("tokens",), ("input_tokens", "output_tokens")),
}
"""The metrics that each class of headers tells of; a later group only where no limit of an earlier one applies."""


def _tightest(standings: Sequence[Standing], groups: tuple[tuple[str, ...], ...]) -> Standing | None:
    for metrics in groups:
        told = [standing for standing in standings if standing.metric in metrics]
        if told:
            return min(told, key=lambda standing: standing.remaining / max(1, standing.burst))
    return None


def go_duration(seconds: float) -> str:
    """A length as OpenAI's headers have it: ``12ms``, ``18.642s``, ``6m0s``, ``1h2m3s``; to the millisecond, rounded up."""
    total = math.ceil(round(seconds * 1000, 6))
    if 0 < total < 1000:
        return f"{total}ms"
    minutes, millis = divmod(total, 60_000)
    hours, minutes = divmod(minutes, 60)
    rest = f"{millis // 1000}.{millis % 1000:03}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{rest}"
    return f"{minutes}m{rest}" if minutes else rest


def _reached(standing: Standing, model: str, asked: Mapping[str, float], wait: float) -> str:
    amounts = f"Limit {_show(standing, standing.burst)}, Used {_show(standing, standing.used)}, Requested {_asked(standing, asked)}"
    return f"Rate limit reached {_head(standing, model)}: {amounts}. Please try again in {go_duration(wait)}."


def _too_large(standing: Standing, model: str, asked: Mapping[str, float], largest: Mapping[str, int]) -> str:
    most = largest.get(standing.metric)
    told = "" if most is None else f" At most {_show(standing, most)} {_unit(standing.metric)} are possible."
    amounts = f"Limit {_show(standing, standing.burst)}, Requested {_asked(standing, asked)}"
    return (
        f"Request too large {_head(standing, model)}: {amounts}. "
        f"No wait would help: the request must be made smaller.{told}"
    )


def _head(standing: Standing, model: str) -> str:
    return f"for {model or 'this request'} in limit {standing.name} on {_rate(standing)}"


def _rate(standing: Standing) -> str:
    if standing.metric == "concurrency":
        return "calls at once"
    per, letter = _PER.get(standing.window, (standing.window, ""))
    letters = _LETTERS.get(standing.metric)
    short = f" ({letters}{letter})" if letters and letter else ""
    return f"{_unit(standing.metric)} per {per}{short}"


def _unit(metric: str) -> str:
    return {"cost": "dollars", "concurrency": "calls at once"}.get(metric, metric.replace("_", " "))


def _show(standing: Standing, amount: float) -> str:
    return f"{dollars(math.ceil(amount)):f}" if standing.metric == "cost" else str(math.ceil(amount))


def _asked(standing: Standing, asked: Mapping[str, float]) -> str:
    return _show(standing, asked.get(standing.metric, 0))


_PER = {
    **dict.fromkeys(("1s", "second"), ("sec", "S")),
    **dict.fromkeys(("60s", "1m", "minute"), ("min", "M")),
    **dict.fromkeys(("3600s", "1h", "hour"), ("hour", "H")),
    **dict.fromkeys(("24h", "1d", "86400s", "day"), ("day", "D")),
}

_LETTERS = {"requests": "RP", "tokens": "TP", "input_tokens": "ITP", "output_tokens": "OTP"}
