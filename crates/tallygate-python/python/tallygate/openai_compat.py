"""Limiters for OpenAI's API in one call, and what they are made of: a counter and a family of models.

Tokens are counted by Tallygate's own tokenizers and framing rules; nothing is downloaded and no other
package is needed. Texts are counted exactly for OpenAI's models and estimated for others; images,
sounds and files are estimated by the providers' published rules.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from . import _native
from .backends import (
    MemoryBackendBuilder,
    RedisBackendBuilder,
    SyncMemoryBackendBuilder,
    SyncRedisBackendBuilder,
)
from .callbacks import (
    RateLimiterCallbacks,
    SyncRateLimiterCallbacks,
    create_logging_callbacks,
    create_sync_logging_callbacks,
    merge_callbacks,
)
from .limiter import RateLimiter
from .quotas import FrozenUsage, PerModelConfig, Quota, SecondsIn, UsageQuotas
from .sync_limiter import SyncRateLimiter


def openai_model_family_getter(model: str, /) -> str:
    """The models that OpenAI limits together with ``model``: its name without date and ``-preview``.

    ``openai/`` before the name is dropped, a fine-tuned model (``ft:gpt-4o:…``) is of its base's family.
    ``ValueError`` for ``ft:`` without a base.
    """
    if not isinstance(model, str):
        raise ValueError(f"model must be a str, not {type(model).__name__}")
    name = model.removeprefix("openai/")
    if name.startswith("ft:"):
        base, _, rest = name[3:].partition(":")
        if not base or not rest.strip(":"):
            raise ValueError(f"model {model!r} is no fine-tuned model; they are called 'ft:BASE:OWNER…'")
        name = base
    return _SNAPSHOT.sub("", name) or name


_SNAPSHOT = re.compile(r"(?:(?:-preview)?-(?:\d{8}|\d{4}(?:-\d{2}){0,2})(?:-preview)?|-preview)$")


@runtime_checkable
class Encoding(Protocol):
    """What counts texts; a tiktoken encoding is one."""

    def encode(self, text: str, /, **options: Any) -> Sequence[object]:
        """The tokens of ``text``."""
        ...


@runtime_checkable
class EncodingGetter(Protocol):
    """Tells the encoding of a model by its name."""

    def __call__(self, model_name: str) -> Encoding:
        """The encoding of ``model_name``."""
        ...


class OpenAIUsageCounter:
    """Sizes requests of OpenAI's API: ``{"tokens": input + what may be answered, "requests": 1}``.

    For ``messages`` (chat), ``input`` (Responses, embeddings) and stored prompts. The answer counts with
    ``max_output_tokens``, ``max_completion_tokens`` or ``max_tokens``, times ``n`` or ``best_of``; without
    any of them it counts with nothing. With ``get_encoding_func`` the texts are counted by that encoding.

    Raises ``ValueError`` for a request without any of these, with both ``messages`` and ``input``, or with
    a ``max_…`` field that is none of OpenAI's; ``TypeError`` for a model that is no ``str``.
    """

    __slots__ = ("_get_encoding",)

    def __init__(self, get_encoding_func: EncodingGetter | Callable[[str], Any] | None = None) -> None:
        self._get_encoding = get_encoding_func

    def __call__(self, model: str, **request: Any) -> FrozenUsage:
        """The use of one request, of which ``request`` are the fields."""
        _check_model(model)
        output = _output_budget(request)
        form = _input_of(request)
        if self._get_encoding is None:
            tokens = _count_natively(model, form)
        else:
            tokens = _count_with(self._get_encoding(model), form)
        return FrozenUsage({"tokens": tokens + output, "requests": 1})

    async def count_request_async(self, model: str, **request: Any) -> FrozenUsage:
        """The same; counting takes microseconds and needs no thread."""
        return self(model, **request)

    async def warmup_models(self, models: Iterable[str]) -> None:
        """Unpacks the tokenizers of ``models``, so that the first request need not."""
        for model in models:
            _check_model(model)
            _native.count_tokens("a", model)

    def __repr__(self) -> str:
        given = "" if self._get_encoding is None else f"get_encoding_func={self._get_encoding!r}"
        return f"OpenAIUsageCounter({given})"


def count_chat_input_tokens(encoding: Encoding | str, messages: Sequence[Mapping[str, Any]], **_: Any) -> int:
    """The input tokens of a chat: by the model whose name is given, or by a tiktoken encoding."""
    form = {"messages": _checked_messages(messages)}
    return _count_natively(encoding, form) if isinstance(encoding, str) else _count_with(encoding, form)


def create_openai_redis_rate_limiter(
    redis_client: Any,
    *,
    key_prefix: str,
    rpm: int,
    tpm: int,
    bucket_ttl_seconds: int | None = None,
    max_reservation_lifetime_seconds: float | None = None,
    refund_dedup_ttl_seconds: int | None = None,
    callbacks: RateLimiterCallbacks | None = None,
) -> RateLimiter:
    """A limiter of requests and tokens a minute for each family of models, shared over Redis or Valkey.

    ``redis_client`` is a client of redis-py, of which only the address is taken, or a ``redis://`` URL.
    ``bucket_ttl_seconds`` and ``refund_dedup_ttl_seconds`` have no effect: keys live as long as they are
    needed. Slots that ``callbacks`` leaves open log missing state at INFO.
    """
    _ = bucket_ttl_seconds, refund_dedup_ttl_seconds
    return RateLimiter(
        _openai_config(rpm, tpm),
        backend=RedisBackendBuilder(redis_client, key_prefix=key_prefix),
        callbacks=merge_callbacks(callbacks, create_logging_callbacks(**_LOGGED)),
        max_reservation_lifetime_seconds=max_reservation_lifetime_seconds,
    )


def create_openai_redis_sync_rate_limiter(
    redis_client: Any,
    *,
    key_prefix: str,
    rpm: int,
    tpm: int,
    bucket_ttl_seconds: int | None = None,
    max_reservation_lifetime_seconds: float | None = None,
    refund_dedup_ttl_seconds: int | None = None,
    callbacks: SyncRateLimiterCallbacks | None = None,
) -> SyncRateLimiter:
    """:func:`create_openai_redis_rate_limiter` for code without an event loop."""
    _ = bucket_ttl_seconds, refund_dedup_ttl_seconds
    return SyncRateLimiter(
        _openai_config(rpm, tpm),
        backend=SyncRedisBackendBuilder(redis_client, key_prefix=key_prefix),
        callbacks=merge_callbacks(callbacks, create_sync_logging_callbacks(**_LOGGED)),
        max_reservation_lifetime_seconds=max_reservation_lifetime_seconds,
    )


def create_openai_memory_rate_limiter(
    *,
    rpm: int,
    tpm: int,
    max_reservation_lifetime_seconds: float | None = None,
    callbacks: RateLimiterCallbacks | None = None,
) -> RateLimiter:
    """:func:`create_openai_redis_rate_limiter` for one process, without a server."""
    return RateLimiter(
        _openai_config(rpm, tpm),
        backend=MemoryBackendBuilder(),
        callbacks=callbacks,
        max_reservation_lifetime_seconds=max_reservation_lifetime_seconds,
    )


def create_openai_memory_sync_rate_limiter(
    *,
    rpm: int,
    tpm: int,
    max_reservation_lifetime_seconds: float | None = None,
    callbacks: SyncRateLimiterCallbacks | None = None,
) -> SyncRateLimiter:
    """:func:`create_openai_memory_rate_limiter` for code without an event loop."""
    return SyncRateLimiter(
        _openai_config(rpm, tpm),
        backend=SyncMemoryBackendBuilder(),
        callbacks=callbacks,
        max_reservation_lifetime_seconds=max_reservation_lifetime_seconds,
    )


# A family that begins without any record is news on a shared store; the rest is everyday.
_LOGGED: dict[str, str | None] = {
    "wait_start": None,
    "wait_end_consumption": None,
    "capacity_consumed": None,
    "capacity_refunded": None,
    "missing_consumption_data": "INFO",
}


def _openai_config(rpm: int, tpm: int) -> Callable[[str], PerModelConfig]:
    for name, limit in (("rpm", rpm), ("tpm", tpm)):
        if isinstance(limit, bool) or not isinstance(limit, int):
            raise TypeError(f"{name} must be an int, not {type(limit).__name__}")
        if limit < 1:
            raise ValueError(f"{name} must be at least 1, not {limit}")
    quotas = UsageQuotas(
        [
            Quota(metric="requests", limit=rpm, per_seconds=SecondsIn.MINUTE),
            Quota(metric="tokens", limit=tpm, per_seconds=SecondsIn.MINUTE),
        ]
    )
    counter = OpenAIUsageCounter()

    def config(model_name: str) -> PerModelConfig:
        return PerModelConfig(quotas, counter, openai_model_family_getter(model_name))

    return config


_BUDGETS = ("max_output_tokens", "max_completion_tokens", "max_tokens")
_CHOICES = ("n", "best_of")
# Of a request, what stands in the input; `max_tool_calls` is OpenAI's too, and no budget of tokens.
_CONTEXT = ("instructions", "tools", "tool_choice", "functions", "function_call", "response_format", "text")


def _check_model(model: object) -> None:
    if not isinstance(model, str):
        raise TypeError(f"model must be a str, not {type(model).__name__}")
    if not model:
        raise ValueError("model must not be empty")


def _output_budget(request: Mapping[str, Any]) -> int:
    for field in request:
        if field.startswith("max_") and field not in (*_BUDGETS, "max_tool_calls"):
            raise ValueError(f"{field!r} is no field of OpenAI's API; budgets of tokens are {', '.join(_BUDGETS)}")
    budgets = [_whole(request, field) for field in _BUDGETS]
    choices = [_whole(request, field) for field in _CHOICES]
    return max(each or 0 for each in budgets) * max(1 if each is None else each for each in choices)


def _whole(request: Mapping[str, Any], field: str) -> int | None:
    value = request.get(field)
    if value is None or type(value).__name__ in _LEFT_OUT:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{field} must be a whole number from 0, not {value!r}")
    return value


# What OpenAI's client takes for a field that is not there.
_LEFT_OUT = frozenset({"NotGiven", "Omit"})


def _input_of(request: Mapping[str, Any]) -> dict[str, Any]:
    """Those fields of a request that its input is counted from, as JSON has them."""
    given = [field for field in ("messages", "input") if field in request]
    if len(given) > 1:
        raise ValueError("request has both 'messages' and 'input'; give one of them")
    if not given and request.get("prompt") is None:
        raise ValueError("request has neither 'messages' nor 'input' nor 'prompt', so its tokens cannot be counted")
    fields = (*given, *_CONTEXT, "prompt", "prediction")
    form = {field: _plain(request[field], field) for field in fields if request.get(field) is not None}
    form = {field: value for field, value in form.items() if value is not None}
    if given == ["messages"]:
        form["messages"] = _checked_messages(form.get("messages"))
    return form


def _checked_messages(messages: object) -> Sequence[Mapping[str, Any]]:
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Iterable):
        raise ValueError(f"messages must be a list of dicts, not {type(messages).__name__}")
    listed = list(messages)
    for at, message in enumerate(listed):
        if not isinstance(message, Mapping):
            raise ValueError(f"messages[{at}] must be a dict, not {type(message).__name__}")
    return listed


def _plain(value: Any, field: str) -> Any:
    """What a client would send of a value: models of pydantic as their fields, classes as their schemas."""
    if type(value).__name__ in _LEFT_OUT:
        return None

    def other(value: Any) -> Any:
        dump = getattr(value, "model_json_schema" if isinstance(value, type) else "model_dump", None)
        if dump is None:
            raise ValueError(f"{field} holds a {type(value).__name__}, which is no JSON")
        return dump()

    try:
        return json.loads(json.dumps(value, default=other, allow_nan=False))
    except (TypeError, RecursionError) as error:
        raise ValueError(f"{field} cannot be written as JSON: {error}") from error


def _count_natively(model: str, form: dict[str, Any]) -> int:
    body = {"model": model, **form}
    beside = _content_texts(body.pop("prediction", None))
    bare = body.get("input", body.get("prompt"))
    if isinstance(body.get("prompt"), Mapping):
        beside += _prompt_texts(body["prompt"])
        body.setdefault("input", [])
    elif _is_bare(bare) or "prompt" in body:
        # Embeddings: texts and tokens without any frame, as those of a prompt.
        body = {"model": model, "prompt": bare}
    if isinstance(body.get("input"), Mapping):
        body["input"] = [body["input"]]
    counted = _native.count_request(model.removeprefix("openai/"), json.dumps(body).encode())
    return counted + sum(_native.count_tokens(text, model) for text in beside)


def _is_bare(input_: object) -> bool:
    return isinstance(input_, list) and bool(input_) and all(_is_text_or_tokens(each) for each in input_)


def _is_text_or_tokens(each: object) -> bool:
    if isinstance(each, list):
        return all(isinstance(token, int) for token in each)
    return isinstance(each, (str, int))


def _prompt_texts(prompt: object) -> list[str]:
    """The texts that are put into a stored prompt; the prompt itself only OpenAI knows."""
    if not isinstance(prompt, Mapping):
        return _content_texts(prompt)
    variables = prompt.get("variables") or {}
    return [text for value in variables.values() for text in _content_texts(value)]


def _content_texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        said = [value.get(field) for field in ("text", "refusal", "content")]
        return [text for each in said for text in _content_texts(each)]
    if isinstance(value, list):
        return [text for each in value for text in _content_texts(each)]
    return []


# What frames a message of a chat, and the answer that is begun for the model:
# OpenAI's cookbook, "How to count tokens with tiktoken", for gpt-3.5-turbo and later.
_PER_MESSAGE = 3
_PER_NAME = 1
_PER_ANSWER = 3


def _count_with(encoding: Encoding, form: dict[str, Any]) -> int:
    """Counts with an encoding of the application's own, in the frames of a chat."""

    def count(text: str) -> int:
        # Text that looks like a control token is text when it is sent.
        return len(encoding.encode(text, disallowed_special=()))

    tokens = sum(count(_written(form[field])) for field in _CONTEXT if field in form)
    tokens += sum(map(count, _prompt_texts(form.get("prompt")) + _content_texts(form.get("prediction"))))
    input_: Any = form.get("messages", form.get("input"))
    if isinstance(input_, str):
        return tokens + count(input_)
    if _is_bare(input_):
        return tokens + sum(_count_bare(each, count) for each in input_)
    items: list[Any] = [input_] if isinstance(input_, Mapping) else list(input_ or [])
    framed = sum(_count_message(item, count) for item in items)
    return tokens + framed + (_PER_ANSWER if items else 0)


def _count_bare(each: str | int | list[int], count: Callable[[str], int]) -> int:
    if isinstance(each, str):
        return count(each)
    return len(each) if isinstance(each, list) else 1


def _count_message(message: Mapping[str, Any], count: Callable[[str], int]) -> int:
    tokens = _PER_MESSAGE + (_PER_NAME if "name" in message else 0)
    for field, value in message.items():
        texts = _content_texts(value) if field == "content" else [_written(value)]
        if field == "content" and not _all_text(value):
            raise ValueError(
                "content holds images, sounds or files, which an encoding of your own cannot count; "
                "leave get_encoding_func out, or give the usage yourself"
            )
        tokens += sum(map(count, texts))
    return tokens


def _all_text(content: object) -> bool:
    parts = content if isinstance(content, list) else []
    return all(isinstance(part, str) or "text" in part or "refusal" in part for part in parts)


def _written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
