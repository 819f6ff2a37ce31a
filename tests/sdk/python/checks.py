"""What the checks of all SDKs share: settings, the tape of attempts, and the three modes."""

import json
import os
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any, Awaitable, Callable
from uuid import uuid4

BASE_URL = os.environ.get("TALLYGATE_BASE_URL", "").rstrip("/")
KEY = os.environ.get("TALLYGATE_KEY", "")
MODE = os.environ.get("MODE", "pass")
REFERENCE_URL = os.environ.get("TALLYGATE_REFERENCE_URL", BASE_URL).rstrip("/")
REFERENCE_KEY = os.environ.get("TALLYGATE_REFERENCE_KEY", KEY)
DENIAL = os.environ.get("TALLYGATE_DENIAL", "switch")
SLACK = float(os.environ.get("TALLYGATE_SLACK_MS", "500")) / 1000
ONLY = os.environ.get("ONLY", "")

SHORT_WAIT_MS = 700
LONG_WAIT_MS = 86_400_000
LONGEST_SHORT_WAIT = 60.0
# Far below the wait that is told, and above any stall of a busy machine; a retry shows in the attempts.
AT_ONCE = 60.0


class Failed(Exception):
    """A check did not hold."""


def expect(held: bool, what: str) -> None:
    if not held:
        raise Failed(what)


def expect_equal(got: Any, expected: Any, what: str) -> None:
    if got != expected:
        raise Failed(f"{what}: " + difference(got, expected))


def difference(got: Any, expected: Any) -> str:
    """Where two values first differ, in few words."""
    if isinstance(got, dict) and isinstance(expected, dict):
        names = [name for name in expected | got if got.get(name) != expected.get(name)]
        if names:
            return f"{names[0]}: " + difference(got.get(names[0]), expected.get(names[0]))
    if isinstance(got, list) and isinstance(expected, list):
        for index, (one, other) in enumerate(zip(got, expected)):
            if one != other:
                return f"[{index}]: " + difference(one, other)
        return f"{len(got)} members, expected {len(expected)}"
    return f"got {str(got)[:200]!r}, expected {str(expected)[:200]!r}"


@dataclass
class Attempt:
    """One request of an SDK and the head of its answer."""

    sent: float
    retry_count: str | None
    answered: float = 0.0
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)


class Tape:
    """Records the attempts that an SDK's HTTP client makes."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []

    def request(self, request: Any) -> None:
        count = request.headers.get("x-stainless-retry-count")
        self.attempts.append(Attempt(time.monotonic(), count))

    def response(self, response: Any) -> None:
        attempt = self.attempts[-1]
        attempt.answered = time.monotonic()
        attempt.status = response.status_code
        attempt.headers = {name.lower(): value for name, value in response.headers.items()}

    def hooks(self) -> dict[str, list[Any]]:
        return {"request": [self.request], "response": [self.response]}

    def async_hooks(self) -> dict[str, list[Any]]:
        async def request(request: Any) -> None:
            self.request(request)

        async def response(response: Any) -> None:
            self.response(response)

        return {"request": [request], "response": [response]}


def denial_headers() -> dict[str, str]:
    """Headers that make the mock deny the first attempt, or every one."""
    if MODE == "pass" or DENIAL == "limit":
        return {}
    short = MODE == "short-denial"
    headers = {
        "x-mock-status": "429",
        "x-mock-id": uuid4().hex,
        "x-mock-times": "1" if short else "1000",
        "x-mock-retry-after-ms": str(SHORT_WAIT_MS if short else LONG_WAIT_MS),
    }
    return headers if short else headers | {"x-mock-should-retry": "false"}


def reference(path: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> bytes:
    """The body of the answer to the same call, made by hand."""
    auth = {"authorization": f"Bearer {REFERENCE_KEY}", "x-api-key": REFERENCE_KEY}
    request = urllib.request.Request(
        REFERENCE_URL + path,
        data=json.dumps(body, separators=(",", ":")).encode(),
        headers=auth | {"content-type": "application/json"} | (headers or {}),
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return response.read()


def reference_json(path: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> Any:
    return untimed(json.loads(reference(path, body, headers)))


def reference_events(path: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> list[Any]:
    """The JSON events of the same call's stream."""
    text = reference(path, body | {"stream": True}, headers).decode()
    data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [untimed(json.loads(item)) for item in data if item != "[DONE]"]


def untimed(value: Any) -> Any:
    """The value without what differs from call to call: when an answer was made."""
    if isinstance(value, dict):
        return {key: untimed(item) for key, item in value.items() if key not in ("created", "created_at")}
    return [untimed(item) for item in value] if isinstance(value, list) else value


def check_short_denial(tape: Tape) -> dict[str, Any]:
    """One 429, then an answer, in the time the 429 asked for."""
    statuses = [attempt.status for attempt in tape.attempts]
    expect_equal(statuses, [429, 200], "statuses of the attempts")
    denied, passed = tape.attempts
    expect("retry-after-ms" in denied.headers, "the denial has no retry-after-ms")
    wait = float(denied.headers["retry-after-ms"]) / 1000
    expect(0 < wait <= LONGEST_SHORT_WAIT, f"the wait is not short: {wait} s")
    expect(float(denied.headers["retry-after"]) >= max(1.0, wait), "retry-after is not the wait rounded up")
    expect(denied.headers.get("x-should-retry") != "false", "the denial forbids the retry")
    gap = passed.sent - denied.answered
    expect(wait - 0.005 <= gap <= wait + SLACK, f"retried after {gap:.3f} s, asked for {wait:.3f} s")
    expect_equal(passed.retry_count, "1", "x-stainless-retry-count of the retry")
    return {"wait_ms": round(wait * 1000), "gap_ms": round(gap * 1000)}


def check_long_denial(tape: Tape, error: Exception, elapsed: float) -> dict[str, Any]:
    """One attempt, and its 429 at once."""
    status = getattr(error, "status_code", None)
    expect_equal(status, 429, "status of the error")
    expect(type(error).__name__.endswith("RateLimitError"), f"type of the error: {type(error).__name__}")
    expect_equal([attempt.status for attempt in tape.attempts], [429], "statuses of the attempts")
    headers = tape.attempts[0].headers
    expect_equal(headers.get("x-should-retry"), "false", "x-should-retry")
    expect(elapsed < AT_ONCE, f"the error took {elapsed:.3f} s")
    return {"elapsed_ms": round(elapsed * 1000), "retry_after": headers.get("retry-after")}


Make = Callable[[Tape], Callable[[], Any]]


@dataclass
class Check:
    """One way to call. `make` builds a client on a tape and returns the call to run."""

    name: str
    make: Make
    compare: Callable[[Any], None]


def run_in_mode(check: Check) -> dict[str, Any]:
    tape = Tape()
    call = check.make(tape)
    if MODE == "pass":
        check.compare(call())
        expect_equal([attempt.status for attempt in tape.attempts], [200], "statuses of the attempts")
        return {}
    if DENIAL == "limit":
        spend(check)
    started = time.monotonic()
    try:
        answer = call()
    except Exception as error:  # noqa: BLE001 - any error of any SDK is judged below
        if MODE == "long-denial":
            return check_long_denial(tape, error, time.monotonic() - started)
        raise
    expect(MODE == "short-denial", "the call was not denied")
    check.compare(answer)
    return check_short_denial(tape)


def spend(check: Check) -> None:
    """Uses the limit up, with a client of its own. For a long denial it may be used up already."""
    try:
        check.make(Tape())()
    except Exception as error:  # noqa: BLE001
        if MODE != "long-denial" or getattr(error, "status_code", None) != 429:
            raise


def main(suite: str, checks: list[Check]) -> None:
    """Runs the checks and exits."""
    if not BASE_URL or not KEY or MODE not in ("pass", "short-denial", "long-denial"):
        sys.exit("set TALLYGATE_BASE_URL, TALLYGATE_KEY and MODE (pass, short-denial, long-denial)")
    failures = 0
    chosen = [check for check in checks if ONLY in check.name]
    for check in chosen:
        line: dict[str, Any] = {"suite": suite, "mode": MODE, "check": check.name}
        try:
            line |= {"ok": True} | run_in_mode(check)
        except Exception as error:  # noqa: BLE001 - every failure becomes a line
            failures += 1
            line |= {"ok": False, "error": f"{type(error).__name__}: {error}"[:600]}
        print(json.dumps(line), flush=True)
    sys.exit(1 if failures or not chosen else 0)
