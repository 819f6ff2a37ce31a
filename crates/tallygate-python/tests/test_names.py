"""What the package exports."""

from __future__ import annotations

import subprocess
import sys

import tallygate


def test_everything_that_is_exported_is_there_and_named_once() -> None:
    assert len(set(tallygate.__all__)) == len(tallygate.__all__)
    assert {*tallygate._LAZY, "RateLimiter", "Quota", "CapacityReservation", "__version__"} <= {*tallygate.__all__}
    assert all(getattr(tallygate, name) is not None for name in tallygate.__all__)


def test_a_star_brings_all_of_it() -> None:
    code = "from tallygate import *\nfor name in __import__('tallygate').__all__: globals()[name]"
    ran = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
