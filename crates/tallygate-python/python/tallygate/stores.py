"""Stores that several limiters may share: in this process, in a folder, or on Redis or Valkey."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias, Union

from . import _native
from ._prefix import stored_prefix
from ._waiting import finish
from .rules import Written

__all__ = ["Store", "open_store"]

_log = logging.getLogger("tallygate")


class Store:
    """An open store and the rules in force on it. Safe to use from any thread and event loop; not after a fork."""

    def __init__(self, engine: _native.Engine) -> None:
        self._engine = engine
        self._rules: dict[str, Written] = {}
        self._subjects: dict[frozenset[tuple[str, str]], _native.Subject] = {}

    @property
    def kind(self) -> str:
        """``memory``, ``folder`` or ``redis``."""
        return self._engine.kind

    def close(self) -> None:
        """Writes what is to be written and ends it. Whoever waits is told that it is closed."""
        self._engine.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Store(kind={self.kind!r}, rules={list(self._rules)!r})"

    def _replace_rules(self, rules: list[Written], limiter: str) -> None:
        """Puts all rules of one limiter in force; those that a process before had for it and this one has not are forgotten."""
        self._add_rules(rules)
        of_it = self._engine.kept_rules("limiter", limiter)
        if of_it:
            self._engine.change_rules([], of_it)

    def _add_rules(self, rules: Iterable[Written]) -> None:
        """Puts rules in force beside those before; one of the same name must be the same.

        Raises ``ValueError`` naming the rule and what to do.
        """
        wanted = dict(self._rules)
        for rule in rules:
            if wanted.setdefault(rule[0], rule) != rule:
                raise ValueError(f"there is another limit named {rule[0]!r} in this store: give one of them another name")
        fresh = [rule for name, rule in wanted.items() if name not in self._rules]
        if fresh:
            self._engine.change_rules(fresh)
            self._rules = wanted

    def _subject(self, labels: Mapping[str, str]) -> _native.Subject:
        """Who asks, prepared once."""
        key = frozenset(labels.items())
        found = self._subjects.get(key)
        if found is None:
            found = self._engine.subject(dict(labels))
            if sum(map(len, labels.values())) <= _SHORT:
                if len(self._subjects) >= _PREPARED:
                    self._subjects.clear()
                self._subjects[key] = found
        return found

    async def _settle(self, reservation: _native.Reservation, usage: Mapping[str, float] | None) -> None:
        """Settles a reservation, or gives it back where nothing was used. What fails is told to the log."""
        try:
            await finish(_end(reservation, usage))
        except Exception as error:
            _log.warning("a reservation could not be settled: %s", error)

    def _settle_soon(self, reservation: _native.Reservation, usage: Mapping[str, float] | None) -> None:
        """As :meth:`_settle`, without waiting: an end that is begun is carried out."""
        try:
            _end(reservation, usage)
        except Exception as error:
            _log.warning("a reservation could not be settled: %s", error)


StoreLike: TypeAlias = Union[None, str, "os.PathLike[str]", Store]
"""Where counters live: ``None`` or ``"memory"`` (this process), a folder, a URL of Redis or Valkey, or a :class:`Store` that is
open already."""


def open_store(store: StoreLike = None, *, key_prefix: str | None = None, durability: str = "relaxed") -> Store:
    """Opens a store: ``None`` is this process, a path a folder (kept for ever, one process at a time), a URL a server.

    ``key_prefix`` keeps apart what shares a server; ``durability`` is of folders (``relaxed``, or ``sync`` to outlive power
    loss to the last call). Raises ``ValueError`` where it is none, ``OSError`` (``ConnectionError`` of a server) where it
    cannot be opened.
    """
    if isinstance(store, Store):
        return store
    if store is None or store == "memory":
        return Store(_native.Engine.memory())
    text = os.fspath(store)
    if not text.strip():
        raise ValueError(f"store must be None (this process), a folder or a URL such as redis://localhost:6379, not {text!r}")
    if "://" in text or isinstance(store, str) and _MEANT_AS_URL.match(text):
        return Store(_native.Engine.redis(text, None if key_prefix is None else stored_prefix(key_prefix)))
    return Store(_native.Engine.folder(text, durability))


_MEANT_AS_URL = re.compile(r"(redis|rediss|valkey|valkeys)(\+\w+)?(:|//)", re.IGNORECASE)
"""A typo of a URL is no folder: each process would count alone, and nobody would be told."""

_PREPARED = 10_000
"""Subjects that are kept prepared."""

_SHORT = 512
"""Characters in the labels of a subject that is worth keeping; callers may choose theirs."""


def _end(reservation: _native.Reservation, usage: Mapping[str, float] | None) -> Any:
    return reservation.cancel() if usage is None else reservation.settle(usage)
