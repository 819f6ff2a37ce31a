"""Counting tokens and pricing calls, before and after they are made.

The tokenizers and the price table come with the package: nothing is downloaded. Counting needs no store and no limiter.

    >>> from tallygate import count_tokens, estimate_total_tokens
    >>> count_tokens("Hello world", "gpt-4o")
    2
    >>> estimate_total_tokens(1_000, "gpt-4o")
    2200
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from . import _native
from ._texts import checked_text

__all__ = [
    "Count",
    "Price",
    "Rates",
    "cost",
    "cost_bound",
    "count",
    "count_request",
    "count_tokens",
    "dollars",
    "estimate_output_tokens",
    "estimate_total_tokens",
    "price_of",
    "prices_date",
]

Method: TypeAlias = Literal["exact", "framed", "estimated", "bound"]
"""How a count is known, from the surest to the least sure.

``exact``: text cut by the model's own tokenizer. ``framed``: that, and the provider's documented framing of messages and tools.
``estimated``: another tokenizer, scaled. ``bound``: some part cannot be known (an image behind a URL) and is taken at its most.
"""

DEFAULT_MODEL = "gpt-4"
"""The model whose tokenizer counts where none is named."""


@dataclass(frozen=True)
class Count:
    """A number of tokens and how it is known."""

    tokens: int
    method: Method


def count_tokens(text: str, model: str = DEFAULT_MODEL) -> int:
    """The tokens of a plain text as ``model`` counts it.

    Bit-equal for models whose tokenizer is public (OpenAI, Llama 3, Qwen, DeepSeek, Mistral and others). For any other model
    it is an estimate on the safe side; :func:`count` says which.
    """
    return _native.count_tokens(_text(text), _model(model))


def count(text: str, model: str = DEFAULT_MODEL) -> Count:
    """As :func:`count_tokens`, with how the number is known."""
    tokens, method = _native.count_text(_text(text), _model(model))
    return Count(tokens, method)


def count_request(request: Mapping[str, Any] | bytes | str, model: str | None = None) -> Count:
    """The input tokens of a whole request, framing, tools and images included.

    ``request`` is the body of a chat completion, a response, an Anthropic message, a Gemini call, a legacy completion or an
    embedding: what it holds says which. ``model`` is needed where the body names none.

    Raises ``ValueError`` naming line and column, or the field, where it is no such request.
    """
    sized = _native.size_request(_body(request), None, _request_model(request, model))
    return Count(sized.input_tokens, sized.method)


def estimate_output_tokens(
    input_tokens: int, model: str = DEFAULT_MODEL, *, max_tokens: int | None = None
) -> int:
    """The output tokens to reserve for a call of so much input: a multiple of the input by model (gpt-4 1.5, gpt-4o 1.2,
    gpt-3.5-turbo 1.0, claude-3-sonnet 1.3, others 1.2), at least 64, at most what the model can produce and ``max_tokens``.
    """
    allowed = None if max_tokens is None else _tokens("max_tokens", max_tokens)
    return _native.estimate_output(_tokens("input_tokens", input_tokens), _model(model), allowed)


def estimate_total_tokens(input_tokens: int, model: str = DEFAULT_MODEL, *, max_tokens: int | None = None) -> int:
    """Input and :func:`estimate_output_tokens` together: what to reserve on a limit of ``tokens``.

    The multiplier is of the *output*: a rule that takes it for the total holds next to nothing for short prompts (measured on a
    public trace, such a hold is too small for two thirds of chat calls).
    """
    return input_tokens + estimate_output_tokens(input_tokens, model, max_tokens=max_tokens)


@dataclass(frozen=True)
class Rates:
    """Dollars for a million tokens of each kind."""

    input: Decimal
    cached_input: Decimal
    cache_write: Decimal
    output: Decimal
    reasoning: Decimal


@dataclass(frozen=True)
class Price:
    """What a model's tokens cost: ``rates``, and other ones ``above`` so many input tokens."""

    model: str
    rates: Rates
    above: tuple[tuple[int, Rates], ...] = ()


def price_of(model: str) -> Price | None:
    """The price of ``model`` in the table that comes with this version (of :func:`prices_date`), or ``None``.

    Dated, routed and vendor-prefixed names are found under the model's own. Nothing else is guessed.
    """
    found = _native.price(_model(model))
    if found is None:
        return None
    base, above = found
    return Price(model, _rates(base), tuple((tokens, _rates(rates)) for tokens, rates in above))


def cost(
    model: str,
    input_tokens: int,
    output_tokens: int,
    *,
    cached_input_tokens: int = 0,
    cache_write_tokens: int = 0,
    reasoning_tokens: int = 0,
) -> int:
    """What so much use costs, in micro-dollars: the unit of the metric ``cost``. Rounded up, once.

    ``input_tokens`` includes what came from and went into caches, ``output_tokens`` includes reasoning; the others are parts
    of these two. :func:`dollars` writes the result for people.

    Raises ``LookupError`` where no price is known: a call of unknown price must not count as free.
    """
    parts = (
        _tokens("cached_input_tokens", cached_input_tokens),
        _tokens("cache_write_tokens", cache_write_tokens),
        _tokens("reasoning_tokens", reasoning_tokens),
    )
    whole = _tokens("input_tokens", input_tokens), _tokens("output_tokens", output_tokens)
    return _priced(model, _native.cost(_model(model), *whole, parts))


def cost_bound(model: str, input_tokens: int, output_tokens: int) -> int:
    """The most that a call of this size can cost, in micro-dollars: what to reserve on a budget.

    Raises ``LookupError`` where no price is known.
    """
    whole = _tokens("input_tokens", input_tokens), _tokens("output_tokens", output_tokens)
    return _priced(model, _native.cost_bound(_model(model), *whole))


def dollars(micros: int) -> Decimal:
    """Micro-dollars as dollars, exactly."""
    return Decimal(micros).scaleb(-6)


def prices_date() -> str:
    """The day the built-in prices were gathered, as ``2026-11-22``."""
    return _native.prices_date()


def _rates(kinds: tuple[int, int, int, int, int]) -> Rates:
    return Rates(*(dollars(micros) for micros in kinds))


def _priced(model: str, micros: int | None) -> int:
    if micros is None:
        raise LookupError(f"no price of {model!r} is known as of {prices_date()}: work its cost out from your own contract")
    return micros


def _body(request: Mapping[str, Any] | bytes | str) -> bytes:
    if isinstance(request, bytes):
        return request
    if isinstance(request, str):
        return checked_text(request, "request").encode()
    if isinstance(request, Mapping):
        return json.dumps(dict(request), default=_plain).encode()
    raise TypeError(f"request must be a mapping, bytes or str, not {type(request).__name__}")


def _plain(value: Any) -> Any:
    """A client's own objects (pydantic models) as JSON can write them."""
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise TypeError(f"request holds a {type(value).__name__}, which is no JSON: convert it first")
    return dump(mode="json", exclude_none=True)


def _request_model(request: Any, model: str | None) -> str | None:
    """The model that decides which endpoint a body is for: the one given, else the body's own."""
    if model is not None:
        return _model(model)
    if isinstance(request, Mapping):
        named = request.get("model")
    else:
        try:
            named = json.loads(request).get("model")
        except (ValueError, AttributeError):
            return None  # the native parser says what is wrong, with line and column
    return named if isinstance(named, str) else None


def _text(text: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"text must be a str, not {type(text).__name__}")
    return checked_text(text, "text")


def _model(model: str) -> str:
    if not isinstance(model, str):
        raise TypeError(f"model must be a str, not {type(model).__name__}")
    return checked_text(model, "model")


def _tokens(name: str, tokens: int) -> int:
    if isinstance(tokens, bool) or not isinstance(tokens, int):
        raise TypeError(f"{name} must be a whole number, not {type(tokens).__name__}")
    if not 0 <= tokens <= MOST:
        raise ValueError(f"{name} must be from 0 to 2**53, not {tokens}")
    return tokens


MOST = 2**53
"""The largest amount there is."""
