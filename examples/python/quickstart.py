"""Twenty calls at once on a quota of 60 requests and 9,000 tokens a minute. Needs no key and no server:

    python examples/python/quickstart.py
"""

import asyncio

from tallygate import PerModelConfig, Quota, RateLimiter, UsageQuotas, count_tokens


async def ask(prompt: str) -> tuple[str, int]:
    """Stands for the call to your provider: the answer, and the tokens it says it took."""
    await asyncio.sleep(0.01)
    return "Paris, probably.", count_tokens(prompt, "gpt-4o") + 5


async def main() -> None:
    quotas = UsageQuotas(
        [
            Quota(metric="requests", limit=60, per_seconds=60),
            Quota(metric="tokens", limit=9_000, per_seconds=60),
        ]
    )
    async with RateLimiter(PerModelConfig(quotas=quotas)) as limiter:

        async def one(number: int) -> int:
            prompt = f"Question {number}: what is the capital of France?"
            held = {"requests": 1, "tokens": count_tokens(prompt, "gpt-4o") + 400}
            async with limiter.reserve(held, model="gpt-4o") as call:
                answer, tokens = await ask(prompt)
                call.set_actual_usage({"requests": 1, "tokens": tokens})
            return tokens

        used = sum(await asyncio.gather(*(one(number) for number in range(20))))
    print(f"20 calls took {used} tokens; what they had reserved beyond that was given back")


asyncio.run(main())
