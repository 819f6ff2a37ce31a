"""Where a limiter keeps its counters: in the process, in a folder, or on Redis or Valkey."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from . import _native
from ._prefix import stored_prefix
from ._texts import checked_text
from .quotas import checked_prefix


class _StoreBuilder:
    """What a limiter asks for its store. Each limiter has its own connection to it."""

    kind: str

    def open(self) -> _native.Engine:
        """Opens the store; ``OSError`` where it cannot be had."""
        raise NotImplementedError


class MemoryBackendBuilder(_StoreBuilder):
    """Counters in this process, each limiter its own. Nothing polls, so ``sleep_interval`` is taken and not used."""

    kind = "memory"

    def __init__(self, *, sleep_interval: object = None) -> None: ...

    def open(self) -> _native.Engine:
        return _native.Engine.memory()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class SyncMemoryBackendBuilder(MemoryBackendBuilder):
    """:class:`MemoryBackendBuilder` for :class:`~tallygate.SyncRateLimiter`."""


class FolderBackendBuilder(_StoreBuilder):
    """Counters that outlive the process, in a folder that is one limiter's at a time.

    With ``durability="sync"`` an answer is on disk before it is given, with ``"relaxed"`` within a tenth of a second.
    """

    kind = "folder"

    def __init__(self, path: str | os.PathLike[str], *, durability: str = "relaxed") -> None:
        if durability not in ("relaxed", "sync"):
            raise ValueError(f'durability must be "relaxed" or "sync", not {durability!r}')
        self._path = os.fspath(path)
        self._durability = durability

    def open(self) -> _native.Engine:
        return _native.Engine.folder(self._path, self._durability)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._path!r}, durability={self._durability!r})"


class SyncFolderBackendBuilder(FolderBackendBuilder):
    """:class:`FolderBackendBuilder` for :class:`~tallygate.SyncRateLimiter`."""


class RedisBackendBuilder(_StoreBuilder):
    """Counters on Redis or Valkey, shared by all limiters that name the same server and ``key_prefix``.

    ``redis_client_or_url`` is a URL (``redis://``, ``rediss://``, ``redis+sentinel://``, ``redis+cluster://``), or a client of redis-py,
    from which only host, port, database and login are taken. The limiter has connections of its own, and closes only those.

    Of the options of other builders for Redis none is needed: nothing polls, locks or sleeps. They are taken and not used, so that
    code that gives them goes on working.
    """

    kind = "redis"

    def __init__(self, redis_client_or_url: object, *, key_prefix: str, **unused: object) -> None:
        unknown = sorted(set(unused) - _NOT_NEEDED)
        if unknown:
            raise TypeError(f"{type(self).__name__} has no option {unknown[0]!r}; there are redis_client_or_url and key_prefix")
        self._key_prefix = checked_prefix(key_prefix)
        self._url = _url_of(redis_client_or_url)

    def open(self) -> _native.Engine:
        return _native.Engine.redis(self._url, stored_prefix(self._key_prefix))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(key_prefix={self._key_prefix!r})"


class SyncRedisBackendBuilder(RedisBackendBuilder):
    """:class:`RedisBackendBuilder` for :class:`~tallygate.SyncRateLimiter`."""


_NOT_NEEDED = frozenset(
    {
        "bucket_ttl_seconds",
        "lock_blocking_thread_sleep_seconds",
        "lock_blocking_timeout_seconds",
        "lock_sleep_seconds",
        "override_ttl_seconds",
        "owns_redis_client",
        "refund_dedup_ttl_seconds",
        "sleep_interval",
    }
)


def _url_of(client: object) -> str:
    """The URL of a client of redis-py, or the URL itself."""
    if isinstance(client, str):
        return checked_text(client, "redis_client_or_url")
    pool = getattr(client, "connection_pool", None)
    settings = getattr(pool, "connection_kwargs", None)
    if not isinstance(settings, Mapping):
        raise TypeError(
            f"redis_client_or_url must be a URL or a client of redis-py, not {type(client).__name__}; "
            "for a Cluster give redis+cluster://HOST:PORT, for Sentinel redis+sentinel://HOST:PORT/NAME"
        )
    if "path" in settings:
        raise ValueError("redis_client_or_url is connected by a Unix socket; give a URL with a host and a port")
    if hasattr(pool, "sentinel_manager"):
        raise ValueError("redis_client_or_url is one of Sentinel; give redis+sentinel://HOST:PORT/NAME instead")
    return _url_with(settings, "rediss" if "ssl" in _connection(pool).lower() else "redis")


def _connection(pool: Any) -> str:
    return str(getattr(getattr(pool, "connection_class", None), "__name__", ""))


def _url_with(settings: Mapping[str, Any], scheme: str) -> str:
    from urllib.parse import quote

    user, password = settings.get("username"), settings.get("password")
    login = ""
    if password:
        login = f"{quote(str(user), safe='') if user else ''}:{quote(str(password), safe='')}@"
    host = str(settings.get("host") or "localhost")
    if ":" in host:
        host = f"[{host}]"
    authorities = settings.get("ssl_ca_certs")
    query = f"?ca={quote(str(authorities), safe='')}" if authorities and scheme == "rediss" else ""
    return f"{scheme}://{login}{host}:{int(settings.get('port') or 6379)}/{int(settings.get('db') or 0)}{query}"
