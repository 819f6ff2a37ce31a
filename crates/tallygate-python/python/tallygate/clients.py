"""Clients whose calls wait for capacity: transports for httpx, and wrappers for the SDKs of OpenAI and Anthropic.

    client = wrap_openai(OpenAI(), limiter)
    client.chat.completions.create(model="gpt-4o", messages=[...])     # reserved before, settled after

Each attempt is sized from its body before it leaves, reserved on the quotas of its model, and settled with the usage that its answer
tells: streams too, however they end. An attempt that the provider refused or failed gives all back, so an SDK's own retries take
part in the limits like any other call. What cannot be had in time, or ever, is answered as a provider would (429), without a call
being made: SDKs raise their own ``RateLimitError``.

httpx, openai and anthropic are imported by whoever uses them; nothing here needs them.
"""

from __future__ import annotations

import functools
import inspect
import json
import logging
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from . import _native, _wire
from ._core import checked_timeout
from ._sizing import size
from .quotas import frozen_usage, resolve_config

if TYPE_CHECKING:
    from .limiter import RateLimiter
    from .sync_limiter import SyncRateLimiter

    # To a type checker a transport of any httpx there is; none of them is imported for that.
    _Transport = Any
else:
    _Transport = object

__all__ = ["AsyncLimitedTransport", "LimitedTransport", "wrap_anthropic", "wrap_openai"]

Client = TypeVar("Client")

Usage = Callable[[_native.Sized], Mapping[str, float]]
"""Tells what a call of this size reserves, where the quotas count metrics of their own."""


def wrap_openai(
    client: Client, limiter: RateLimiter | SyncRateLimiter, *, timeout: float | None = None, usage: Usage | None = None
) -> Client:
    """Makes all calls of an OpenAI client wait for capacity; the same client is returned.

    ``OpenAI`` takes a :class:`~tallygate.SyncRateLimiter`, ``AsyncOpenAI`` a :class:`~tallygate.RateLimiter`, Azure's clients too.
    ``timeout`` is how long (seconds) an attempt waits for capacity before it is answered 429; ``None`` is as long as it takes.
    Wrapped again with the same limiter a client still counts once, by the latest ``timeout`` and ``usage``; with another, on both.
    """
    return _wrap(client, limiter, timeout, usage)


def wrap_anthropic(
    client: Client, limiter: RateLimiter | SyncRateLimiter, *, timeout: float | None = None, usage: Usage | None = None
) -> Client:
    """Makes all calls of an Anthropic client wait for capacity; otherwise as :func:`wrap_openai`."""
    return _wrap(client, limiter, timeout, usage)


class LimitedTransport(_Transport):  # type: ignore[misc]
    """An httpx transport that reserves before each call to a model and settles after it. Other requests pass.

    >>> httpx.Client(transport=LimitedTransport(httpx.HTTPTransport(), limiter))
    """

    def __init__(
        self, transport: Any, limiter: SyncRateLimiter, *, timeout: float | None = None, usage: Usage | None = None
    ) -> None:
        _check_kind(limiter, waits=False)
        self._transport = transport
        self._limiter = limiter
        self._terms = _Terms(limiter, timeout, usage)

    def handle_request(self, request: Any) -> Any:
        """Sends a request once there is capacity for it."""
        call = _Call.of(request)
        if call is None:
            return self._transport.handle_request(request)
        try:
            body = request.read()
            sized = _native.size_request(body, call.endpoint, call.path_model) if call.endpoint else None
        except ValueError as error:
            return call.wrong(error)
        try:
            held = call.size(sized, self._terms)
        except _Wrong as error:
            return call.wrong(error)
        try:
            reservation = self._limiter.acquire_capacity(held, call.model, timeout=self._terms.timeout)
        except (TimeoutError, ValueError) as error:
            return call.refused(error)
        try:
            response = self._transport.handle_request(call.prepared())
        except BaseException as error:
            self._settle(call.after(error), reservation)
            raise
        return self._metered(call, response, reservation)

    def close(self) -> None:
        """Closes the transport beneath; the limiter stays open."""
        self._transport.close()

    def __enter__(self) -> LimitedTransport:
        self._transport.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._transport.__exit__(*raised)

    def _metered(self, call: _Call, response: Any, reservation: Any) -> Any:
        used = call.unserved(response)
        if used is not None:
            self._settle(used, reservation)
            return response
        meter = call.meter(response)
        if _is_whole(response):
            response, used = meter.whole(response)
            self._settle(used, reservation)
            return response
        response.stream = _streams(call.httpx)[0](response.stream, meter, lambda used: self._settle(used, reservation))
        return response

    def _settle(self, used: Mapping[str, float] | None, reservation: Any) -> None:
        # The answer is there, whatever its end meets: an ended reservation, a store that is away, a closed limiter.
        try:
            self._limiter.refund_capacity(reservation.usage if used is None else used, reservation)
        except Exception as error:
            _log.warning("a call could not be settled: %s", error)


class AsyncLimitedTransport(_Transport):  # type: ignore[misc]
    """:class:`LimitedTransport` for ``httpx.AsyncClient`` and a :class:`~tallygate.RateLimiter`."""

    def __init__(
        self, transport: Any, limiter: RateLimiter, *, timeout: float | None = None, usage: Usage | None = None
    ) -> None:
        _check_kind(limiter, waits=True)
        self._transport = transport
        self._limiter = limiter
        self._terms = _Terms(limiter, timeout, usage)

    async def handle_async_request(self, request: Any) -> Any:
        """Sends a request once there is capacity for it."""
        call = _Call.of(request)
        if call is None:
            return await self._transport.handle_async_request(request)
        try:
            body = await request.aread()
            sized = await size(body, call.endpoint, call.path_model) if call.endpoint else None
        except ValueError as error:
            return call.wrong(error)
        try:
            held = call.size(sized, self._terms)
        except _Wrong as error:
            return call.wrong(error)
        try:
            reservation = await self._limiter.acquire_capacity(held, call.model, timeout=self._terms.timeout)
        except (TimeoutError, ValueError) as error:
            return call.refused(error)
        try:
            response = await self._transport.handle_async_request(call.prepared())
        except BaseException as error:
            await self._settle(call.after(error), reservation)
            raise
        return await self._metered(call, response, reservation)

    async def aclose(self) -> None:
        """Closes the transport beneath; the limiter stays open."""
        await self._transport.aclose()

    async def __aenter__(self) -> AsyncLimitedTransport:
        await self._transport.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> None:
        await self._transport.__aexit__(*raised)

    async def _metered(self, call: _Call, response: Any, reservation: Any) -> Any:
        used = call.unserved(response)
        if used is not None:
            try:
                await self._settle(used, reservation)
            except BaseException:
                # Nobody else will: who is cancelled here never sees the answer.
                await response.aclose()
                raise
            return response
        meter = call.meter(response)
        if _is_whole(response):
            response, used = meter.whole(response)
            await self._settle(used, reservation)
            return response
        response.stream = _streams(call.httpx)[1](response.stream, meter, lambda used: self._settle(used, reservation))
        return response

    async def _settle(self, used: Mapping[str, float] | None, reservation: Any) -> None:
        # What the limiter has begun is carried out, even where this task is cancelled and cannot wait for it.
        try:
            await self._limiter.refund_capacity(reservation.usage if used is None else used, reservation)
        except Exception as error:
            _log.warning("a call could not be settled: %s", error)


_log = logging.getLogger("tallygate")


class _Terms:
    """How a transport reserves."""

    def __init__(self, limiter: RateLimiter | SyncRateLimiter, timeout: float | None, usage: Usage | None) -> None:
        if usage is not None and not callable(usage):
            raise TypeError(f"usage must be a function that tells what a call reserves, not {type(usage).__name__}")
        self.limiter = limiter
        self._usage = usage
        self.timeout = checked_timeout(timeout)

    def metrics(self, model: str) -> list[str]:
        """What the quotas of a model count."""
        config, _ = resolve_config(self.limiter._config, model)
        return config.quotas.names

    def held(self, sized: _native.Sized, metrics: list[str]) -> Mapping[str, float]:
        """What a call of this size reserves.

        Raises :class:`_Wrong` where that is not known, ``ValueError`` where ``usage`` tells no usage of these metrics.
        """
        if self._usage is None:
            try:
                return _wire.held_by(sized, metrics)
            except (ValueError, LookupError) as error:
                raise _Wrong(error.args[0]) from error
        told = self._usage(sized)
        try:
            told = frozen_usage(told)
        except ValueError as error:
            raise ValueError(f"`usage` tells no usage: {error}") from error
        if metrics and set(told) != set(metrics):
            raise ValueError(f"`usage` tells {sorted(told)} and the quotas count {sorted(metrics)}: tell all of these")
        below = [metric for metric, amount in told.items() if amount < 0]
        if below:
            raise ValueError(f"`usage` tells {told[below[0]]} of {below[0]!r}: it must not be negative")
        return told


class _Wrong(Exception):
    """A call that cannot be limited as it is: its price or the use of a metric is not known. It is answered 400."""


class _Call:
    """A request to a model, on its way."""

    model: str
    _sized: _native.Sized | None
    _held: Mapping[str, float]
    _metrics: list[str]

    @classmethod
    def of(cls, request: Any) -> _Call | None:
        """The call that a request makes; ``None`` where it makes none."""
        if request.method != "POST":
            return None
        path = request.url.path
        found = _native.endpoint_of_path(path)
        if found:
            return cls(request, *found)
        return next((_UnsizedCall(request, None, usual) for end, usual in _UNSIZED.items() if path.endswith(end)), None)

    def __init__(self, request: Any, endpoint: str | None, path_model: str | None) -> None:
        self.endpoint = endpoint
        self.path_model = path_model
        # httpx, or one of its successors: whichever the request is of.
        self.httpx: ModuleType = sys.modules[type(request).__module__.partition(".")[0]]
        self._request = request

    def size(self, sized: Any, terms: _Terms) -> Mapping[str, float]:
        """Notes how large the call is and tells what it reserves.

        Raises :class:`_Wrong` where that is not known. Mistakes of ``usage`` and of the limiter's configuration stay what they are.
        """
        self._sized = sized
        self.model = sized.model
        self._metrics = terms.metrics(self.model)
        self._held = terms.held(sized, self._metrics)
        return self._held

    def prepared(self) -> Any:
        """The request as it is sent: its answer is to be readable, and to tell its usage."""
        body = self._sized.with_usage_requested() if self._sized else None
        self._asked_usage = body is not None
        headers = self._request.headers.copy()
        headers["accept-encoding"] = "identity"
        content = self._request.content if body is None else body
        headers["content-length"] = str(len(content))
        if "transfer-encoding" in headers:
            del headers["transfer-encoding"]
        request = self._request
        return self.httpx.Request(
            request.method, request.url, headers=headers, content=content, extensions=request.extensions
        )

    def unserved(self, response: Any) -> Mapping[str, float] | None:
        """What an answer without service used; ``None`` where there was service, which its body tells of."""
        status = response.status_code
        if 200 <= status < 300:
            return None
        if 300 <= status < 500 and status != 429:
            return _wire.request_only(self._metrics)
        return _wire.nothing(self._metrics)

    def after(self, error: BaseException) -> Mapping[str, float] | None:
        """What a call used that got no answer: nothing if it was never sent, all it held (``None``) if it may have been served."""
        never_sent = _NEVER_SENT.intersection(kind.__name__ for kind in type(error).__mro__)
        return _wire.nothing(self._metrics) if never_sent else None

    def meter(self, response: Any) -> _Meter:
        """What reads the answer as it passes."""
        encoding = "" if _is_whole(response) else response.headers.get("content-encoding", "")
        reader = _native.AnswerReader(
            self.endpoint or "responses",
            self.model,
            response.headers.get("content-type", ""),
            content_encoding=encoding,
            drop_usage=self._asked_usage,
        )
        return _Meter(reader, self._used)

    def wrong(self, error: Exception) -> Any:
        """The answer to a request that cannot be sized or priced."""
        return self._answer(400, "invalid_request_error", None, str(error.args[0] if error.args else error))

    def refused(self, error: Exception) -> Any:
        """The answer where there is no capacity in time, or never can be."""
        return self._answer(429, "tokens", "rate_limit_exceeded", str(error))

    def _answer(self, status: int, kind: str, code: str | None, message: str) -> Any:
        body = _wire.error_body(self.endpoint, status, kind, code, message)
        headers = {"content-type": "application/json", "x-should-retry": "false"}
        content = json.dumps(body).encode()
        return self.httpx.Response(status, headers=headers, content=content, request=self._request)

    def _used(self, used: _native.Used | None) -> Mapping[str, float] | None:
        if used is None or self._sized is None:
            return None
        known = [metric for metric in self._metrics if metric in _wire.KNOWN]
        return {**self._held, **_wire.used_by(self._sized, used, known)}


class _UnsizedCall(_Call):
    """A request to a model that is no matter of tokens before it is answered: images, speech, moderation."""

    def size(self, sized: Any, terms: _Terms) -> Mapping[str, float]:
        """It takes one request, and one place among calls at once."""
        self._sized = None
        self.model = self._named() or self.path_model or ""
        self._metrics = terms.metrics(self.model)
        self._held = {metric: int(metric in ("requests", "concurrency")) for metric in self._metrics}
        return self._held

    def unserved(self, response: Any) -> Mapping[str, float] | None:
        """Pictures and sounds tell no usage."""
        used = super().unserved(response)
        is_json = response.headers.get("content-type", "").startswith("application/json")
        return self._held if used is None and not is_json else used

    def _named(self) -> str | None:
        content: bytes = self._request.content
        if self._request.headers.get("content-type", "").startswith("multipart/"):
            field = re.search(rb'name="model"[^\n]*\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]{1,256})\r\n', content)
            return field[1].decode(errors="replace") if field else None
        try:
            model = json.loads(content)["model"]
        except (ValueError, LookupError, TypeError):
            return None
        return model if isinstance(model, str) else None

    def _used(self, used: _native.Used | None) -> Mapping[str, float] | None:
        if used is None or not used.reported:
            return None
        return {**self._held, **_wire.tokens_of(used, self._metrics)}


_UNSIZED = {
    **dict.fromkeys(("/images/generations", "/images/edits", "/images/variations"), "dall-e-2"),
    "/moderations": "omni-moderation-latest",
    **dict.fromkeys(("/audio/speech", "/audio/transcriptions", "/audio/translations"), "whisper-1"),
}
"""Ends of paths, and the model that the provider takes where a request names none."""

_NEVER_SENT = {"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "ProxyError"}
"""Errors of httpx that say that the provider saw nothing of the call."""


def _is_whole(response: Any) -> bool:
    """Whether the answer's content is in memory already, so that nobody will read its stream."""
    return bool(response.is_stream_consumed)


class _Meter:
    """Reads an answer once and tells once what it used."""

    def __init__(
        self, reader: _native.AnswerReader, used: Callable[[_native.Used | None], Mapping[str, float] | None]
    ) -> None:
        self._reader = reader
        self._used = used
        self.over = False

    def push(self, chunk: bytes) -> bytes:
        """Reads a piece and gives what of it goes on."""
        return self._reader.push(chunk)

    def finish(self) -> tuple[bytes, Mapping[str, float] | None]:
        """The answer is over: what was held back of it, and what it used."""
        self.over = True
        rest, used = self._reader.finish()
        return rest, self._used(used)

    def whole(self, response: Any) -> tuple[Any, Mapping[str, float] | None]:
        """Reads an answer that is in memory: what of it goes on, and what it used."""
        content = self.push(response.content)
        rest, used = self.finish()
        if content + rest == response.content:
            return response, used
        headers = response.headers.copy()
        for of_other_content in ("content-encoding", "content-length", "transfer-encoding"):
            headers.pop(of_other_content, None)
        answer = type(response)(
            response.status_code, headers=headers, content=content + rest, extensions=response.extensions
        )
        return answer, used

    def abandon(self) -> Mapping[str, float] | None:
        """The answer broke off: what of it was used."""
        self.over = True
        return self._used(self._reader.abandon())


class _SyncStream:
    """An answer's bytes on their way; settled once, however they end."""

    def __init__(self, stream: Any, meter: _Meter, settle: Callable[[Mapping[str, float] | None], None]) -> None:
        self._stream = stream
        self._meter = meter
        self._settle = settle

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            passed = self._meter.push(chunk)
            if passed:
                yield passed
        rest, used = self._meter.finish()
        self._settle(used)
        if rest:
            yield rest

    def close(self) -> None:
        try:
            self._stream.close()
        finally:
            if not self._meter.over:
                self._settle(self._meter.abandon())


class _AsyncStream:
    """:class:`_SyncStream` for event loops."""

    def __init__(
        self, stream: Any, meter: _Meter, settle: Callable[[Mapping[str, float] | None], Awaitable[None]]
    ) -> None:
        self._stream = stream
        self._meter = meter
        self._settle = settle

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            passed = self._meter.push(chunk)
            if passed:
                yield passed
        rest, used = self._meter.finish()
        await self._settle(used)
        if rest:
            yield rest

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            if not self._meter.over:
                await self._settle(self._meter.abandon())


_kinds: dict[str, tuple[Any, Any]] = {}


def _streams(httpx: ModuleType) -> tuple[Any, Any]:
    """The streams that this httpx takes for its own."""
    found = _kinds.get(httpx.__name__)
    if found is None:
        found = _kinds[httpx.__name__] = (
            type("LimitedStream", (_SyncStream, httpx.SyncByteStream), {}),
            type("AsyncLimitedStream", (_AsyncStream, httpx.AsyncByteStream), {}),
        )
    return found


def _wrap(
    client: Client, limiter: RateLimiter | SyncRateLimiter, timeout: float | None, usage: Usage | None
) -> Client:
    http: Any = getattr(client, "_client", None)
    if not hasattr(http, "_transport"):
        raise TypeError(f"client must be a client of openai or anthropic, not {type(client).__name__}")
    kind: Any = AsyncLimitedTransport if hasattr(http, "aclose") else LimitedTransport
    _check_kind(limiter, waits=kind is AsyncLimitedTransport)
    limited = functools.partial(kind, limiter=limiter, timeout=timeout, usage=usage)
    terms = _Terms(limiter, timeout, usage)
    for pattern, mount in http._mounts.items():
        if mount is not None and not _is_limited(mount, terms):
            http._mounts[pattern] = limited(mount)
    if not _is_limited(http._transport, terms):
        http._transport = limited(http._transport)
    return client


def _is_limited(transport: Any, terms: _Terms) -> bool:
    """Whether calls through it count on this limiter already; they do so once, by the latest terms."""
    while isinstance(transport, (LimitedTransport, AsyncLimitedTransport)):
        if transport._limiter is terms.limiter:
            transport._terms = terms
            return True
        transport = transport._transport
    return False


def _check_kind(limiter: object, *, waits: bool) -> None:
    """Raises ``TypeError`` where client and limiter do not fit."""
    if not callable(getattr(limiter, "acquire_capacity", None)):
        raise TypeError(f"limiter must be a RateLimiter or a SyncRateLimiter, not {type(limiter).__name__}")
    if inspect.iscoroutinefunction(getattr(limiter, "acquire_capacity", None)) != waits:
        kinds = "an asynchronous client needs a RateLimiter" if waits else "a synchronous client needs a SyncRateLimiter"
        raise TypeError(f"{kinds}, not {type(limiter).__name__}")
