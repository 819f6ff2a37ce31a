"""What a folder keeps over restarts, whichever limiter wrote it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tallygate import FolderBackendBuilder, PerModelConfig, Quota, SyncRateLimiter, UsageQuotas
from tallygate.simple import TokenLimiter
from tallygate.stores import open_store

CONFIG = PerModelConfig(UsageQuotas([Quota("tokens", limit=1_000, per_seconds=86_400)]))


def test_every_family_is_remembered_in_whatever_order_it_is_used_again(tmp_path: Path) -> None:
    def limiter() -> SyncRateLimiter:
        return SyncRateLimiter(CONFIG, backend=FolderBackendBuilder(tmp_path / "data"))

    with limiter() as first:
        for model in ("one", "two", "three"):
            first.acquire_capacity({"tokens": 700}, model, timeout=0)
    for model in ("three", "one", "two"):
        with limiter() as again, pytest.raises(TimeoutError):
            again.acquire_capacity({"tokens": 700}, model, timeout=0)


def test_limiters_of_one_folder_forget_nothing_of_each_other(tmp_path: Path) -> None:
    with TokenLimiter(100, "day", tmp_path / "data") as limiter:
        assert limiter.check("alice", 60)
    with SyncRateLimiter(CONFIG, backend=FolderBackendBuilder(tmp_path / "data")) as other:
        other.acquire_capacity({"tokens": 700}, "one", timeout=0)
    with open_store(tmp_path / "data") as store:
        assert TokenLimiter(100, "day", store).peek("alice")["tokens"].used == 60


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no process forks here")
def test_a_forked_child_does_not_keep_a_folder_that_was_closed(tmp_path: Path) -> None:
    def limiter() -> SyncRateLimiter:
        return SyncRateLimiter(CONFIG, backend=FolderBackendBuilder(tmp_path / "data"))

    rates = limiter()
    rates.acquire_capacity({"tokens": 700}, "one", timeout=0)
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writes)
        os.read(reads, 1)
        os._exit(0)
    try:
        rates.close()
        with limiter() as again, pytest.raises(TimeoutError):
            again.acquire_capacity({"tokens": 700}, "one", timeout=0)
    finally:
        os.close(writes)
        os.close(reads)
        os.waitpid(child, 0)
