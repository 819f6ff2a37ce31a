"""What having the package costs: its size, and the processor that an import takes."""

from __future__ import annotations

import importlib.metadata
import statistics
import subprocess
import sys

PACKAGES = {"tallygate": "tallygate", "token_throttle": "token-throttle"}

# Of the names that the quick start takes: lazy ones count as well.
IMPORT = """
import time
before = time.process_time()
from {name} import MemoryBackendBuilder, PerModelConfig, Quota, RateLimiter, UsageQuotas
print(time.process_time() - before)
"""


def installed(name: str) -> float:
    """Megabytes of its files, without those of what it needs."""
    files = importlib.metadata.files(PACKAGES[name]) or []
    return sum(file.size or 0 for file in files) / 1e6


def imported(name: str) -> float:
    """Milliseconds of processor, in the middle of five fresh interpreters; the first one warms the files."""
    return statistics.median([once(name) for _ in range(6)][1:]) * 1e3


def once(name: str) -> float:
    said = subprocess.run([sys.executable, "-c", IMPORT.format(name=name)], capture_output=True, text=True, check=True)
    return float(said.stdout)
