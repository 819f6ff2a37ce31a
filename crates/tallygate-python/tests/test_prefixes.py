"""Prefixes of keys: whatever other packages take keeps apart what shares a server."""

from __future__ import annotations

import uuid

import pytest
from limiters import MODEL, limiter, use
from servers import patient

from tallygate import SyncRateLimiter, SyncRedisBackendBuilder
from tallygate._prefix import stored_prefix
from tallygate.stores import open_store

UNUSUAL = ["svc/prod", "a+b", "a@b", "a%41", "a&timeout=9s", "a&prefix=other", "a#b", "a?b", "naïve", "日本", "a*b", "a[b]", "a\\b", "a" * 65, "a" * 128]


def test_a_prefix_that_a_store_takes_is_itself() -> None:
    for plain in ("my.svc_1-x", "a", "a" * 64):
        assert stored_prefix(plain) == plain
    assert stored_prefix("app:calls") == "app:calls", "as open_store always took it"
    assert stored_prefix("svc/prod") == "svc:2fprod"


def test_no_two_prefixes_are_one() -> None:
    longer = [each + "!" * 100 for each in ("a", "b")] + ["é" * 100, "é" * 99]
    prefixes = [*UNUSUAL, *longer, "svc.prod", "svcprod", "svc-2fprod", "aA", "other"]
    stored = {stored_prefix(prefix) for prefix in prefixes}
    assert len(stored) == len(prefixes)
    assert all(len(each) <= 64 and each.isascii() for each in stored)


@pytest.mark.parametrize("prefix", UNUSUAL)
def test_limiters_of_an_unusual_prefix_share_and_others_do_not(valkey_url: str, prefix: str) -> None:
    def shared(prefix: str) -> SyncRateLimiter:
        return limiter(SyncRateLimiter, backend=SyncRedisBackendBuilder(patient(valkey_url), key_prefix=prefix))

    # Tests share the server; what is added is of what any prefix may be.
    prefix = prefix[:96] + uuid.uuid4().hex[:8] if len(prefix) > 96 else prefix + uuid.uuid4().hex[:8]
    with shared(prefix) as one, shared(prefix) as same, shared(prefix + "1") as other:
        one.acquire_capacity(use(10), MODEL, timeout=60)
        with pytest.raises(TimeoutError):
            same.acquire_capacity(use(), MODEL, timeout=0)
        other.acquire_capacity(use(10), MODEL, timeout=60)


@pytest.mark.parametrize("prefix", ["", "a b", "{a}", "x" * 129, "\udcff"])
def test_a_prefix_that_cannot_be_is_refused_by_name(prefix: str) -> None:
    with pytest.raises(ValueError, match="key_prefix"):
        open_store("redis://127.0.0.1:1", key_prefix=prefix)


def test_a_prefix_is_said_once() -> None:
    with pytest.raises(ValueError, match="gives `prefix` twice"):
        open_store("redis://127.0.0.1:1?prefix=one", key_prefix="two")
