"""The tutorial's steps: one atomic decision each, whatever the store."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import servers

from tallygate import _native
from tallygate.simple import Check, DualLimiter, TokenBucket, TokenLimiter
from tallygate.stores import Store, open_store


@pytest.fixture(params=["memory", "folder", "valkey"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        yield open_store()
    elif request.param == "folder":
        with open_store(tmp_path / "data") as opened:
            yield opened
    else:
        with servers.valkey(tmp_path) as url, open_store(servers.patient(url)) as opened:
            yield opened


def test_a_quota_of_five_hundred(store: Store) -> None:
    limiter = TokenLimiter(500, 60, store)
    never = limiter.check("alice", 600)
    assert not never and never.retry_after is None and never.blocked_by == "tokens"
    first = limiter.check("alice", 300)
    assert first and first.retry_after == 0.0 and (first.used, first.remaining, first.limit) == (300, 200, 500)
    second = limiter.check("alice", 300)
    assert not second and second.blocked_by == "tokens"
    assert second.retry_after is not None and 55 < second.retry_after <= 60
    assert (second.used, second.remaining) == (300, 200), "what was refused took nothing"
    assert limiter.check("alice", 200), "the rest can still be had"
    assert limiter.check("bob", 500), "everybody has a quota of their own"


def test_each_of_two_limits_can_block_and_takes_nothing_then(store: Store) -> None:
    limiter = DualLimiter(max_requests=2, max_tokens=1_000, window=60, store=store)
    assert limiter.check("alice", 1_001).blocked_by == "tokens"
    first = limiter.check("alice", 900)
    assert first and (first.requests.used, first.tokens.used) == (1, 900)
    by_tokens = limiter.check("alice", 200)
    assert by_tokens.blocked_by == "tokens" and by_tokens.requests.used == 1
    assert limiter.check("alice", 50)
    by_requests = limiter.check("alice", 1)
    assert by_requests.blocked_by == "requests" and by_requests.tokens.used == 950


def test_a_bucket_has_its_capacity_at_once_and_then_its_rate(store: Store) -> None:
    bucket = TokenBucket(rate=100, capacity=10_000, store=store)
    full = bucket.check("alice", 10_000)
    assert full and (full.limit, full.remaining) == (10_000, 0)
    empty = bucket.check("alice", 100)
    assert not empty and empty.retry_after is not None and 0 < empty.retry_after <= 1.0
    assert bucket.check("alice", 10_001).retry_after is None
    assert bucket.check(), "by itself it is one bucket, a token a time"


@pytest.mark.parametrize(("rate", "wait"), [(0.5, 2.0), (Fraction(1, 3), 3.0), (0.1, 10.0), (4, 0.25)])
def test_rates_of_less_than_a_token_a_second_are_exact(rate: Any, wait: float) -> None:
    bucket = TokenBucket(rate, 1)
    assert bucket.check()
    retry_after = bucket.check().retry_after
    assert retry_after is not None and wait - 0.2 < retry_after <= wait


def test_what_is_held_is_settled_or_given_back(store: Store) -> None:
    limiter = DualLimiter(10, 1_000, 60, store)
    held = limiter.reserve("alice", 800)
    assert held and limiter.check("alice", 300).blocked_by == "tokens"
    held.settle(100)
    assert limiter.peek("alice")["tokens"].used == 100
    limiter.reserve("alice", 500).cancel()
    assert (limiter.peek("alice")["tokens"].used, limiter.peek("alice")["requests"].used) == (100, 1)
    refused = limiter.reserve("alice", 901)
    assert not refused
    refused.settle(5)
    refused.cancel()
    assert limiter.peek("alice")["tokens"].used == 100, "what was refused holds nothing to settle"


def test_use_over_what_was_held_is_debt(store: Store) -> None:
    limiter = TokenLimiter(1_000, 60, store)
    limiter.reserve("alice", 100).settle(1_500)
    after = limiter.check("alice", 1)
    assert not after and after.remaining == 0 and after.used == 1_500


def test_a_held_check_that_is_forgotten_counts_as_used() -> None:
    limiter = TokenLimiter(1_000)
    assert limiter.reserve("alice", 400)
    assert limiter.peek("alice")["tokens"].used == 400


def test_in_an_event_loop(store: Store) -> None:
    async def main() -> None:
        limiter = DualLimiter(10, 1_000, 60, store)
        checks = await asyncio.gather(*(limiter.acheck("alice", 300) for _ in range(20)))
        assert sum(map(bool, checks)) == 3
        held = await limiter.areserve("alice", 100)
        await held.asettle(40)
        assert (await limiter.apeek("alice"))["tokens"].used == 940
        await (await limiter.areserve("alice", 60)).acancel()
        assert (await limiter.apeek("alice"))["tokens"].used == 940
        assert await TokenBucket(1, 5, store).acheck("alice", 5)

    asyncio.run(main())


def test_a_check_may_stand_in_line(store: Store) -> None:
    limiter = TokenBucket(1_000, 50, store)
    assert limiter.check("alice", 50)
    assert limiter.check("alice", 50, max_wait=5.0), "fifty milliseconds later there is room"


def test_threads_never_share_the_last_tokens(store: Store) -> None:
    limiter = TokenLimiter(1_000, 60, store)
    checks: list[Check] = []
    start = threading.Barrier(20)

    def ask() -> None:
        start.wait()
        checks.append(limiter.check("alice", 220))

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(map(bool, checks)) == 4
    assert limiter.peek("alice")["tokens"].used == 880


WORKER = """
import sys
from tallygate.simple import TokenLimiter
limiter = TokenLimiter(1_000, 60, sys.argv[1])
print(sum(bool(limiter.check("alice", 7)) for _ in range(100)))
"""


def test_processes_never_share_the_last_tokens(tmp_path: Path) -> None:
    with servers.valkey(tmp_path) as url:
        command = [sys.executable, "-c", WORKER, servers.patient(url)]
        workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
        allowed = sum(int(worker.communicate(timeout=60)[0]) for worker in workers)
    assert allowed == 1_000 // 7


def test_a_folder_remembers(tmp_path: Path) -> None:
    with TokenLimiter(1_000, "day", tmp_path / "data") as limiter:
        assert limiter.check("alice", 400)
    with open_store(tmp_path / "data") as store:
        DualLimiter(10, 1_000, "day", store)
        limiter = TokenLimiter(1_000, "day", store)
        assert limiter.peek("alice")["tokens"].used == 400, "whatever was made in this store before it"
    (tmp_path / "data" / "python" / "rules.json").write_text("{")
    with pytest.raises(OSError, match="rules.json in .* is damaged"):
        open_store(tmp_path / "data")


def test_limiters_of_one_store_keep_apart_by_name() -> None:
    with open_store() as store:
        one, other = TokenLimiter(100, store=store, name="one"), TokenLimiter(100, store=store, name="other")
        assert one.check("alice", 100) and other.check("alice", 100)
        assert not TokenLimiter(100, store=store, name="one").check("alice", 1), "the same name is the same limit"
        with pytest.raises(ValueError, match="another limit named 'one'"):
            TokenLimiter(200, store=store, name="one")


WRONG: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: TokenLimiter(0), ValueError, "tokens of the limit .* must be a whole number from 1, not 0"),
    (lambda: TokenLimiter(1.5), ValueError, "must be a whole number from 1"),  # type: ignore[arg-type]
    (lambda: TokenLimiter(10, window=-1), ValueError, "every of the limit"),
    (lambda: TokenLimiter(10, window="fortnight"), ValueError, "every of the limit .* or one of second, .* not 'fortnight'"),
    (lambda: TokenLimiter(10, window="day", shape="sliding"), ValueError, "is sliding every 'day'"),
    (lambda: TokenLimiter(10, window=60, shape="fixed"), ValueError, "a fixed window is one of second"),
    (lambda: TokenBucket(0, 10), ValueError, "rate must be tokens a second, over 0"),
    (lambda: TokenBucket(float("nan"), 10), ValueError, "rate must be"),
    (lambda: TokenLimiter(10).check(7, 1), TypeError, "identifier must be a str, not int"),  # type: ignore[arg-type]
    (lambda: TokenLimiter(10).check("alice", -1), ValueError, 'usage.*tokens.* is -1'),
    (lambda: TokenLimiter(10).check("alice", "1"), ValueError, "must be an int or a float"),  # type: ignore[arg-type]
    (lambda: TokenLimiter(10, store="redis://127.0.0.1:1"), ConnectionError, "127.0.0.1:1"),
    (lambda: TokenLimiter(10, store=" "), ValueError, "store must be None"),
    *(
        (lambda typo=typo: TokenLimiter(10, store=typo), ValueError, "the store URL begins with none of redis://")
        for typo in ("redis:/127.0.0.1:1", "redis//127.0.0.1", "Redis:127.0.0.1", "redis+cluster:/h", "valkey://h", "http://h")
    ),
]


@pytest.mark.parametrize(("wrong", "error", "words"), WRONG)
def test_what_cannot_be_is_refused_with_name_and_mend(wrong: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        wrong()


def test_no_folder_is_made_where_none_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with open_store("memory") as store:
        assert store.kind == "memory"
    for typo in ("redis:/h", "redis//h", " "):
        with pytest.raises(ValueError):
            open_store(typo)
    assert not list(tmp_path.iterdir())
    with open_store("limits") as store:
        assert store.kind == "folder"


def test_a_closed_limiter_says_so() -> None:
    limiter = TokenLimiter(10)
    limiter.close()
    with pytest.raises(RuntimeError, match="closed"):
        limiter.check("alice", 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_process_is_told_to_make_its_own() -> None:
    code = (
        "import os, sys; from tallygate.simple import TokenLimiter; limiter = TokenLimiter(10); limiter.check('alice', 1)\n"
        "if os.fork() == 0:\n"
        "    try: limiter.check('alice', 1)\n"
        "    except RuntimeError as error: print(error, flush=True)\n"
        "    os._exit(0)\n"
        "os.wait(); print(limiter.peek('alice')['tokens'].used)"
    )
    said = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "make it in each worker" in said.stdout and said.stdout.splitlines()[-1] == "1"


def test_checks_are_shown_and_written() -> None:
    check = DualLimiter(2, 100).check("alice", 10)
    assert repr(check).startswith("Check(allowed=True, blocked_by=None")
    written = check.as_dict()
    assert written["allowed"] is True and written["requests"]["used"] == 1 and written["tokens"]["remaining"] == 90
    assert repr(TokenLimiter(100)) == "TokenLimiter(name='tokens-100-60-sliding', store='memory')"


@pytest.mark.parametrize(("argument", "length"), [("ttl", -1.0), ("ttl", float("nan")), ("max_wait", -0.5)])
def test_the_engine_names_a_length_that_cannot_be(argument: str, length: float) -> None:
    subject = _native.Engine.memory().subject({})
    with pytest.raises(ValueError, match=f"^{argument} must be a number of seconds, 0 or more"):
        subject.reserve({}, **{argument: length})
    held = subject.reserve({})
    assert isinstance(held, _native.Reservation)
    with pytest.raises(ValueError, match="^ttl must be a number of seconds, 0 or more"):
        held.extend(ttl=-1.0)


@pytest.mark.parametrize("length", [-1, float("nan"), True, "5"])
@pytest.mark.parametrize("argument", ["hold", "max_wait"])
def test_a_length_that_cannot_be_is_refused_by_name(argument: str, length: object) -> None:
    limiter = TokenLimiter(10)
    with pytest.raises(ValueError, match=f"{argument} must be a number of seconds"):
        limiter.reserve("alice", 1, **{argument: length})  # type: ignore[arg-type]
    assert limiter.reserve("alice", 1, **{argument: 10**400})  # type: ignore[arg-type]
