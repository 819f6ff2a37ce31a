"""A batch of jobs that uses all of a quota and never exceeds it, with a progress bar.

    python examples/python/batch.py --jobs 400 --tokens-per-minute 600000

The provider is pretended, so that it can be tried without a key; put your own call into `answer`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from dataclasses import dataclass, field

from tallygate import PerModelConfig, Quota, RateLimiter, UsageQuotas, estimate_total_tokens

MODEL = "gpt-4o-mini"


async def answer(job: int) -> int:
    """Stands for the call to your provider; the tokens that its answer says it took."""
    await asyncio.sleep(random.uniform(0.02, 0.2))
    return 200 + random.randrange(200)


@dataclass
class Progress:
    """One line that is written over and over."""

    jobs: int
    rate: float
    """Tokens a second that the quota gives."""
    burst: int
    done: int = 0
    tokens: int = 0
    started: float = field(default_factory=time.monotonic)

    def step(self, tokens: int) -> None:
        self.done += 1
        self.tokens += tokens
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{self}")
            sys.stderr.flush()

    @property
    def quota_used(self) -> float:
        """How much was used of all that the quota gave since the start."""
        given = self.burst + self.rate * (time.monotonic() - self.started)
        return self.tokens / given

    def __str__(self) -> str:
        filled = 30 * self.done // self.jobs
        bar = "█" * filled + "·" * (30 - filled)
        return f"{bar} {self.done}/{self.jobs} jobs, {self.tokens} tokens, {self.quota_used:.0%} of the quota"


async def run(jobs: int, tokens_per_minute: int) -> Progress:
    """Does all jobs, as fast as the quota lets them. They may all be started at once: nobody starves."""
    # The quota by the second: a minute's worth is not spent in the first instant.
    second = max(1, tokens_per_minute // 60)
    config = PerModelConfig(quotas=UsageQuotas([Quota(metric="tokens", limit=second, per_seconds=1)]))
    progress = Progress(jobs, second, second)
    held = {"tokens": min(second, estimate_total_tokens(200, MODEL))}

    async with RateLimiter(config) as limiter:

        async def one(job: int) -> None:
            async with limiter.reserve(held, model=MODEL) as call:
                tokens = await answer(job)
                call.set_actual_usage({"tokens": tokens})
            progress.step(tokens)

        await asyncio.gather(*(one(job) for job in range(jobs)))
    return progress


def count(text: str) -> int:
    """A whole number from 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--jobs", type=count, default=400)
    parser.add_argument("--tokens-per-minute", type=count, default=600_000)
    options = parser.parse_args()
    progress = asyncio.run(run(options.jobs, options.tokens_per_minute))
    seconds = time.monotonic() - progress.started
    print(f"\r{progress}, in {seconds:.1f} s")


if __name__ == "__main__":
    main()
