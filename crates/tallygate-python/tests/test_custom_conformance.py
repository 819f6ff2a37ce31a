"""The public test of backends: right ones pass, and each fault is told by the check that is for it."""

from __future__ import annotations

import asyncio

import pytest
from custom_backends import Builder, SyncBuilder
from tallygate.conformance import (
    CHECKS,
    ConformanceTiming,
    conformance_test_for,
    run_conformance_test_for,
    sync_conformance_test_for,
)
from tallygate.errors import BackendConformanceError

# For backends with faults, some of which are told by a deadline that passes.
QUICK = ConformanceTiming(operation_deadline_seconds=2, prompt_deadline_seconds=0.8)
# For right ones, on machines that do much else.
PATIENT = ConformanceTiming(
    builder_deadline_seconds=60, operation_deadline_seconds=60, prompt_deadline_seconds=60, wait_budget_seconds=60
)

# What is wrong with a backend, and the checks that tell it.
FAULTS = {
    "takes before it waits": {"what fits"},
    "takes on timeout": {"timeout"},
    "refusal takes": {"refusal takes nothing"},
    "answers a refusal with an error of its own": {"what fits", "timeout", "races"},
    "answers a word": {"what fits"},
    "looks at one window": {"several windows"},
    "takes piece by piece": {"all or nothing"},
    "waits for what never fits": {"what never fits", "limit changes"},
    "never waits": {"wait", "timeout"},
    "cancelled waits take": {"cancelled wait"},
    "refunds nothing": {"refund", "refund wakes"},
    "refunds beyond the limit": {"refund of a full quota"},
    "forgives debt": {"use beyond the reservation"},
    "records only what fits": {"recorded use"},
    "polls seldom": {"refund wakes", "raised limit wakes"},
    "decides and then takes": {"races"},
    "keeps its first limit": {"limit changes", "raised limit wakes"},
    "one for all": {"families apart"},
    "calls nobody": {"callbacks"},
    "tells of no wait": {"callbacks"},
    "claims a word": {"shape"},
    "forgets when metrics change": {"metrics change"},
    "refunds twice": {"refund once"},
    "builds nothing": set(CHECKS) - {"under a limiter"},
    "cannot build": set(CHECKS),
    "cannot close": {"close"},
}


def failed(error: BackendConformanceError) -> dict[str, str]:
    """The checks that failed, and what each said."""
    _, *lines = str(error).splitlines()
    return dict(line.split(": ", 1) for line in lines)


def test_a_right_backend_passes_and_is_closed():
    builder = Builder()
    run_conformance_test_for(builder, timing=PATIENT)
    assert builder.closed == 1


def test_a_right_plain_backend_passes_and_is_closed():
    builder = SyncBuilder()
    sync_conformance_test_for(builder, timing=PATIENT)
    assert builder.closed == 1


def test_a_plain_backend_may_be_tested_where_a_loop_runs():
    async def run():
        sync_conformance_test_for(SyncBuilder(), timing=PATIENT)

    asyncio.run(run())


def test_each_fault_is_told_by_its_checks():
    async def outcomes():
        # Together, since most of a test is waiting.
        tests = [conformance_test_for(Builder(fault), timing=QUICK) for fault in FAULTS]
        return await asyncio.gather(*tests, return_exceptions=True)

    for (fault, checks), error in zip(FAULTS.items(), asyncio.run(outcomes()), strict=True):
        assert isinstance(error, BackendConformanceError), f"{fault}: {error!r}"
        told = failed(error)
        assert checks <= told.keys(), f"{fault} was told by {told}"


def test_a_backend_that_hangs_is_told_so():
    quick = ConformanceTiming(operation_deadline_seconds=0.3, prompt_deadline_seconds=0.3)
    for test, builder in ((run_conformance_test_for, Builder), (sync_conformance_test_for, SyncBuilder)):
        with pytest.raises(BackendConformanceError, match=r"refund_capacity did not end within 0\.3 s"):
            test(builder("hangs in refunds"), timing=quick)


def test_a_backend_without_a_lock_is_told_so():
    with pytest.raises(BackendConformanceError, match="races: of 50 calls at once for 20 tokens"):
        sync_conformance_test_for(SyncBuilder("has no lock"), timing=QUICK)


def test_a_builder_of_the_wrong_colour_is_told_so():
    with pytest.raises(BackendConformanceError, match="shape: the backend has no method await_for_capacity"):
        run_conformance_test_for(SyncBuilder(), timing=QUICK)  # type: ignore[arg-type]
    with pytest.raises(BackendConformanceError, match="shape: the builder has no method build"):
        run_conformance_test_for(object(), timing=QUICK)  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), True, "1"])
def test_deadlines_are_checked(seconds):
    with pytest.raises(ValueError, match="wait_budget_seconds must be"):
        ConformanceTiming(wait_budget_seconds=seconds)


def test_slow_machines_may_ask_for_more_time(monkeypatch):
    monkeypatch.setenv("TALLYGATE_CONFORMANCE_TIMING_SCALE", "slow")
    with pytest.raises(ValueError, match="TALLYGATE_CONFORMANCE_TIMING_SCALE must be a number above 0, not 'slow'"):
        run_conformance_test_for(Builder())
    monkeypatch.setenv("TALLYGATE_CONFORMANCE_TIMING_SCALE", "0.03")
    with pytest.raises(BackendConformanceError, match=r"refund_capacity did not end within 0\.3 s"):
        run_conformance_test_for(Builder("hangs in refunds"))
