"""What the package exports."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import tallygate


def test_everything_that_is_exported_is_there_and_named_once() -> None:
    assert len(set(tallygate.__all__)) == len(tallygate.__all__)
    assert {*tallygate._LAZY, "RateLimiter", "Quota", "CapacityReservation", "__version__"} <= {*tallygate.__all__}
    assert all(getattr(tallygate, name) is not None for name in tallygate.__all__)


def test_a_star_brings_all_of_it() -> None:
    code = "from tallygate import *\nfor name in __import__('tallygate').__all__: globals()[name]"
    ran = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_an_import_brings_little_along() -> None:
    """What costs time and most programs have no use for is imported by what uses it."""
    code = (
        "import sys, tallygate\n"
        "from tallygate import PerModelConfig, Quota, RateLimiter, SyncRateLimiter, UsageQuotas\n"
        "limiter = SyncRateLimiter(PerModelConfig(UsageQuotas([Quota('tokens', 5)])))\n"
        "limiter.refund_capacity({'tokens': 1}, limiter.acquire_capacity({'tokens': 2}, 'm'))\n"
        "print(*{'asyncio', 'httpx', 'json', 'logging', 'ssl', 'trio', 'unicodedata', 'uuid'} & sys.modules.keys())"
    )
    # Without the site's own imports, which are anybody's.
    ran = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}\n{code}"], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout.strip()) == (0, ""), ran.stdout + ran.stderr


def test_what_other_builders_are_told_is_taken() -> None:
    polling: dict[str, Any] = {"sleep_interval": 0.1}
    locking: dict[str, Any] = {**polling, "bucket_ttl_seconds": 60, "owns_redis_client": True, "lock_sleep_seconds": 0.05}
    assert repr(tallygate.MemoryBackendBuilder(**polling)) == "MemoryBackendBuilder()"
    assert repr(tallygate.SyncMemoryBackendBuilder(**polling)) == "SyncMemoryBackendBuilder()"
    tallygate.RedisBackendBuilder("redis://localhost", key_prefix="app", **locking)
    tallygate.SyncRedisBackendBuilder("redis://localhost", key_prefix="app", lock_blocking_thread_sleep_seconds=0.05, **locking)
    with pytest.raises(TypeError, match="slep_interval"):
        tallygate.RedisBackendBuilder("redis://localhost", key_prefix="app", slep_interval=0.1)
    assert tallygate.Quota("tokens", 5).per_seconds == tallygate.Quota.DEFAULT_SECONDS == 60
