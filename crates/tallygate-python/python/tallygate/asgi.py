"""ASGI middleware for FastAPI, Starlette and whatever else speaks ASGI.

Each HTTP request is identified, sized, admitted against all limits at once or refused with the exact wait, and settled with what it
really used once its answer is through:

    app.add_middleware(
        RateLimitMiddleware,
        identify=by_header("x-user-id"),
        limits=[Limit("user-minute", requests=60, tokens=90_000, every=60)],
    )

Bodies of calls at a provider's paths (``/v1/chat/completions``, ``/v1/messages``, …) are sized by themselves; ``size`` does it for
any other. Answers pass as they come: a stream is never held back. WebSockets pass unlimited.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any

from . import _native, _wire
from ._sizing import size as size_of
from ._waiting import finish
from .rules import Limit, checked_seconds, written
from .stores import Store, StoreLike, open_store

__all__ = ["Admission", "RateLimitMiddleware", "by_api_key", "by_header"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

Labels = Mapping[str, str]
"""Who calls, as limits tell callers apart: ``{"tenant": "acme", "user": "alice", "tier": "free"}``."""

_NAME = "asgi"
"""The label ``limiter`` of these rules and requests, which keeps them apart from others in the same store."""

Identify = Callable[[Scope], "Labels | None | Awaitable[Labels | None]"]
Size = Callable[[Scope, bytes], Mapping[str, float]]


def by_header(name: str, label: str = "user") -> Identify:
    """Callers are told apart by a header that a trusted proxy sets. A request without it is answered 401."""
    wanted = name.lower().encode("latin-1")

    def identify(scope: Scope) -> Labels | None:
        value = _header(scope, wanted)
        return {label: value} if value else None

    return identify


def by_api_key(keys: Mapping[str, Labels]) -> Identify:
    """Callers are told apart by the key they send, as ``Authorization: Bearer …``, ``x-api-key`` or ``x-goog-api-key``.

    ``keys`` has the labels by the key's hash: ``sha256:`` and the lower-case hex of the whole key, so that no key need be kept.
    A missing or unknown key is answered 401.
    """
    wrong = [named for named in keys if not named.startswith("sha256:")]
    if wrong:
        raise ValueError("keys must be named by their hashes, as sha256:… (`tallygate keys hash` makes one)")
    known = {named: dict(labels) for named, labels in keys.items()}

    def identify(scope: Scope) -> Labels | None:
        key = _api_key(scope)
        return None if not key else known.get(f"sha256:{hashlib.sha256(key.encode()).hexdigest()}")

    return identify


class Admission:
    """A request that was let in; the application finds it as ``scope["tallygate"]``."""

    __slots__ = ("_reservation", "actual_usage", "labels", "usage")

    def __init__(self, reservation: _native.Reservation, labels: Labels, usage: Mapping[str, float]) -> None:
        self._reservation = reservation
        self.labels = labels
        """Who calls."""
        self.usage = usage
        """What is held."""
        self.actual_usage: Mapping[str, float] | None = None
        """What was really used, as far as the application said."""

    def set_actual_usage(self, usage: Mapping[str, float]) -> None:
        """Says what the request really used, in place of what its answer says. What is not named counts as held."""
        self.actual_usage = dict(usage)

    def __repr__(self) -> str:
        return f"Admission(labels={dict(self.labels)!r}, usage={dict(self.usage)!r})"


class RateLimitMiddleware:
    """Limits the HTTP requests of an application.

    ``identify`` tells who calls, or ``None`` for a caller nobody knows (401); it may be a coroutine function.
    ``limits`` hold for all callers, ``tiers`` for those whose label ``tier`` names it; a tier that is not there is
    ``default_tier``, or answered 403. ``store`` is ``None`` (this process), a folder, or a ``redis://``
    URL (many processes; ``key_prefix`` keeps applications on one server apart).
    ``applies`` says which requests are limited (all, unless it is given): CORS preflights and health checks bring no caller along.
    ``size`` tells from scope and body what a request takes, where its path does not: amounts by metric.
    ``max_wait`` is how long (seconds) a request may stand in line before it is refused; a caller may ask for less with the header
    ``x-tallygate-max-wait-ms``. Bodies over ``max_body`` bytes are answered 413. What is held is held for ``hold`` seconds at most.
    """

    def __init__(
        self,
        app: App,
        *,
        identify: Identify,
        limits: Sequence[Limit] = (),
        tiers: Mapping[str, Sequence[Limit]] | None = None,
        default_tier: str | None = None,
        store: StoreLike = None,
        applies: Callable[[Scope], bool] | None = None,
        size: Size | None = None,
        max_wait: float = 0.0,
        max_body: int = 8 * 1024 * 1024,
        hold: float = 3600.0,
        key_prefix: str | None = None,
    ) -> None:
        self._app = app
        self._identify = identify
        self._tiers = dict(tiers or {})
        if default_tier is not None and default_tier not in self._tiers:
            raise ValueError(f"default_tier {default_tier!r} is none of tiers: {', '.join(self._tiers) or 'there are none'}")
        self._default_tier = default_tier
        self._applies = applies or _all
        self._size = size
        self._max_wait = checked_seconds(max_wait, "max_wait")
        self._max_body = _checked_bytes(max_body, "max_body")
        self._hold = checked_seconds(hold, "hold")
        self._metrics = _metrics([*limits, *(limit for tier in self._tiers.values() for limit in tier)], size)
        self._rules = [written(limit, {"limiter": _NAME}) for limit in limits]
        for name, tier in self._tiers.items():
            self._rules += [written(limit, {"limiter": _NAME, "tier": name}) for limit in tier]
        self._place = store, key_prefix
        self._opening = threading.Lock()
        self._ended = False
        self._store = self._open()
        _made.add(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif scope["type"] != "http" or not self._applies(scope):
            await self._app(scope, receive, send)
        else:
            await self._serve(scope, receive, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Closes the store at the application's end, which is not where one that knows no lifespan returns or raises."""
        self._opened()
        ended = False

        async def hear() -> Message:
            nonlocal ended
            message = await receive()
            ended = ended or message["type"] == "lifespan.shutdown"
            return message

        async def tell(message: Message) -> None:
            nonlocal ended
            ended = ended or message["type"] == "lifespan.startup.failed"
            await send(message)

        try:
            await self._app(scope, hear, tell)
        finally:
            if ended:
                self._close()

    def _open(self) -> Store:
        place, key_prefix = self._place
        store = open_store(place, key_prefix=key_prefix)
        store._replace_rules(self._rules, _NAME)
        return store

    def _opened(self) -> Store:
        """The store, opened anew where an end closed it: servers and tests may start an application again."""
        with self._opening:
            if self._ended:
                self._store, self._ended = self._open(), False
            return self._store

    def _forked(self) -> None:
        """In a worker that was forked after this was made: its store is the parent's, and the lock may be a thread's that is not here."""
        self._opening = threading.Lock()
        self._ended = not isinstance(self._place[0], Store)

    def _close(self) -> None:
        if not isinstance(self._place[0], Store):
            with self._opening:
                self._store.close()
                self._ended = True

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = _Call(scope)
        try:
            labels = await self._labels(scope)
            receive = await self._sized(call, scope, receive)
            admission = await self._admit(call, labels)
        except _Refused as refused:
            await refused.answer(call.endpoint, send)
            return
        except _Gone:
            return
        scope["tallygate"] = admission
        await self._pass(call, admission, (scope, receive, send))

    async def _labels(self, scope: Scope) -> dict[str, str]:
        """Who calls; raises where that is nobody known."""
        found = self._identify(scope)
        told = await found if inspect.isawaitable(found) else found
        if told is None:
            raise _Refused(401, "invalid_request_error", "invalid_api_key", "The caller is not known: its key is missing or wrong.")
        labels = dict(told)
        if self._tiers and labels.get("tier") not in self._tiers:
            if self._default_tier is None:
                raise _Refused(403, "invalid_request_error", None, "The caller has no tier that is served here.")
            labels["tier"] = self._default_tier
        return labels

    async def _sized(self, call: _Call, scope: Scope, receive: Receive) -> Receive:
        """Finds what the request takes, and the way its body is read from here on."""
        if call.endpoint is None and self._size is None:
            call.usage = {metric: 1 for metric in ("requests", "concurrency") if metric in self._metrics}
            return receive
        body = await _read(scope, receive, self._max_body)
        try:
            if self._size is not None:
                call.usage = dict(self._size(scope, body))
            else:
                await call.measure(body, self._metrics)
        except ValueError as error:
            raise _Refused(400, "invalid_request_error", None, f"{error}.") from error
        except LookupError as error:
            raise _Refused(400, "invalid_request_error", "model_not_priced", f"{error.args[0]}.") from error
        return _replay(body, receive)

    async def _admit(self, call: _Call, labels: dict[str, str]) -> Admission:
        wait = min(self._max_wait, call.patience)
        try:
            subject = self._opened()._subject({**labels, **call.labels(), "limiter": _NAME})
            answer = await finish(subject.reserve(call.usage, self._hold, wait))
        except UnicodeEncodeError as error:
            raise _Refused(400, "invalid_request_error", None, "What the caller is known by is no text.") from error
        except (ConnectionError, ValueError) as error:
            if not isinstance(error, ConnectionError) and not hasattr(error, "reason"):
                raise
            words = "The limits cannot be checked now."
            raise _Refused(503, "server_error", "store_down", words, _wire.wait_headers(1.0)) from error
        if isinstance(answer, _native.Denial):
            body, headers = _wire.refusal(answer, call.endpoint, call.model, call.usage)
            raise _Refused(429, headers=headers, body=body)
        return Admission(answer, labels, call.usage)

    async def _pass(self, call: _Call, admission: Admission, way: tuple[Scope, Receive, Send]) -> None:
        """Runs the application and settles what it used, however it ends."""
        scope, receive, send = way
        answer = _Answer(call, admission, self._metrics, self._store)

        async def pass_on(message: Message) -> None:
            await send(await answer.taken(message))

        try:
            await self._app(scope, receive, pass_on)
        except Exception:
            answer.failed()
            raise
        finally:
            answer.close()


_made: weakref.WeakSet[RateLimitMiddleware] = weakref.WeakSet()


def _all_forked() -> None:
    for middleware in list(_made):
        middleware._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_all_forked)


class _Call:
    """What a request asks for."""

    def __init__(self, scope: Scope) -> None:
        found = _native.endpoint_of_path(scope["path"]) if scope["method"] == "POST" else None
        self.endpoint: str | None = found[0] if found else None
        self._path_model: str | None = found[1] if found else None
        self.sized: _native.Sized | None = None
        self.usage: dict[str, float] = {}
        asked = _header(scope, b"x-tallygate-max-wait-ms")
        self.patience = float(asked) / 1000 if asked and asked.isdecimal() else float("inf")

    @property
    def model(self) -> str:
        return self.sized.model if self.sized else ""

    def labels(self) -> dict[str, str]:
        """What limits may tell calls apart by besides who makes them."""
        return {"model": self.sized.model, "endpoint": self.sized.endpoint} if self.sized else {}

    async def measure(self, body: bytes, metrics: Iterable[str]) -> None:
        """Sizes the call by its body.

        Raises ``ValueError`` where it is no such call, ``LookupError`` where its price is asked for and not known.
        """
        self.sized = await size_of(body, self.endpoint, self._path_model)
        if len(self.sized.model) > _LONGEST_MODEL:
            raise ValueError(f"model is longer than {_LONGEST_MODEL} characters")
        self.usage = dict(_wire.held_by(self.sized, metrics))


_LONGEST_MODEL = 256
"""Characters in the name of a model, which may become part of a counter's key."""


_LOOKED_AT = 1024 * 1024
"""Bytes of an answer that is kept to be looked at though its request was not sized."""


class _Answer:
    """An answer on its way, read as it passes and settled at its end."""

    def __init__(self, call: _Call, admission: Admission, metrics: frozenset[str], store: Store) -> None:
        self._call = call
        self._admission = admission
        self._metrics = metrics
        self._store = store
        self._status: int | None = None
        self._reader: _native.AnswerReader | None = None
        self._over = False

    async def taken(self, message: Message) -> Message:
        """Looks at a message and answers what goes on; at the last one the account is settled. The message is the application's."""
        if message["type"] == "http.response.start":
            return self._started(message)
        if message["type"] == "http.response.body":
            if self._reader is not None:
                self._reader.push(bytes(message.get("body", b"")))
            if not message.get("more_body", False):
                await self._finish()
        return message

    def failed(self) -> None:
        """The application raised: if it had not begun to answer, nothing was served."""
        if self._status is None:
            self._end(None)

    def close(self) -> None:
        """The end, if it has not come: the caller left, or the application stopped in the middle."""
        if not self._over:
            self._end(self._used(self._reader.abandon() if self._reader else None))

    def _started(self, message: Message) -> Message:
        self._status = status = int(message["status"])
        headers = list(message.get("headers", ()))
        kinds = {bytes(name).lower(): bytes(value).decode("latin-1") for name, value in headers}
        if 200 <= status < 300 and self._is_read(kinds):
            self._reader = _native.AnswerReader(
                self._call.endpoint or "chat_completions",
                self._call.model,
                kinds.get(b"content-type", ""),
                content_encoding=kinds.get(b"content-encoding", ""),
            )
        return {**message, "headers": [*map(_set_aside, headers), *self._standing_headers()]}

    def _is_read(self, headers: Mapping[bytes, str]) -> bool:
        """Whether the answer may say what counts here. Of a request that nobody sized only short ones are looked at."""
        if self._metrics.isdisjoint(_wire.TOLD):
            return False
        if self._call.sized or headers.get(b"content-type", "").startswith("text/event-stream"):
            return True
        length = headers.get(b"content-length", "")
        return length.isdecimal() and int(length) <= _LOOKED_AT

    def _standing_headers(self) -> list[tuple[bytes, bytes]]:
        told = _wire.standing_headers(self._admission._reservation.standings)
        return [(name.encode(), value.encode()) for name, value in told.items()]

    async def _finish(self) -> None:
        if self._over:
            return
        used = self._reader.finish()[1] if self._reader else None
        await self._store._settle(self._admission._reservation, self._take_over(self._used(used)))

    def _end(self, usage: Mapping[str, float] | None) -> None:
        self._store._settle_soon(self._admission._reservation, self._take_over(usage))

    def _take_over(self, usage: Mapping[str, float] | None) -> Mapping[str, float] | None:
        self._over = True
        return usage

    def _used(self, used: _native.Used | None) -> Mapping[str, float] | None:
        """What the request used; ``None`` where nothing was served."""
        if self._admission.actual_usage is not None:
            return self._admission.actual_usage
        status = 200 if self._status is None else self._status
        if status == 429 or status >= 500:
            return None
        if status >= 300:
            return _wire.request_only(self._metrics) if self._call.sized else {}
        return self._told(used)

    def _told(self, used: _native.Used | None) -> Mapping[str, float]:
        sized = self._call.sized
        if used is None or (sized is None and not used.reported):
            return {}
        if sized is None:
            return _wire.tokens_of(used, self._metrics)
        return _wire.used_by(sized, used, self._metrics)


class _Refused(Exception):
    """The request goes no further."""

    def __init__(
        self,
        status: int,
        kind: str = "",
        code: str | None = None,
        message: str = "",
        headers: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self._status = status
        self._said = kind, code, message
        self._headers = headers or {}
        self._body = body

    async def answer(self, endpoint: str | None, send: Send) -> None:
        """Tells the caller, in the words of the provider it thinks it speaks to."""
        body = self._body or _wire.error_body(endpoint, self._status, *self._said)
        content = json.dumps(body).encode()
        headers = {"content-type": "application/json", "content-length": str(len(content)), **self._headers}
        lines = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": self._status, "headers": lines})
        await send({"type": "http.response.body", "body": content})


class _Gone(Exception):
    """The caller left before its request was whole."""


async def _read(scope: Scope, receive: Receive, most: int) -> bytes:
    """The whole body of a request."""
    encoding = _header(scope, b"content-encoding")
    if encoding and encoding.lower() != "identity":
        raise _Refused(400, "invalid_request_error", None, "Bodies that are counted must come without content-encoding.")
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            words = f"The body is larger than the {most} bytes that are accepted."
            raise _Refused(413, "invalid_request_error", "request_too_large", words)
        if not message.get("more_body", False):
            return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Gives the application the body that was read, then what comes after it."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


def _all(_: Scope) -> bool:
    return True


def _checked_bytes(value: object, argument: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{argument} must be a whole number of bytes, 0 or more, not {value!r}")
    return value


def _metrics(limits: Iterable[Limit], size: Size | None) -> frozenset[str]:
    """What the limits count."""
    metrics = frozenset(metric for limit in limits for metric in limit.amounts)
    own = metrics - _wire.KNOWN
    if own and size is None:
        raise ValueError(f"how much {sorted(own)[0]!r} a request takes is not known: give size=")
    return metrics


def _set_aside(header: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """A provider's own rate-limit header speaks of the account, which the caller shares: it goes under another name."""
    name, value = header
    lower = bytes(name).lower()
    for prefix in (b"x-ratelimit-", b"anthropic-ratelimit-"):
        if lower.startswith(prefix):
            return b"x-upstream-ratelimit-" + lower.removeprefix(prefix), value
    return name, value


def _api_key(scope: Scope) -> str | None:
    bearer = _header(scope, b"authorization")
    if bearer and bearer[:7].lower() == "bearer ":
        return bearer[7:].strip()
    return _header(scope, b"x-api-key") or _header(scope, b"x-goog-api-key")


def _header(scope: Scope, wanted: bytes) -> str | None:
    for name, value in scope["headers"]:
        if name == wanted:
            return bytes(value).decode("latin-1")
    return None
