"""An OpenAI-compatible service with tiers: free callers get 10,000 tokens a day, paying ones 100,000 a minute and a budget.

    pip install tallygate fastapi uvicorn
    uvicorn fastapi_tiers:app --app-dir examples/python

    curl -i http://127.0.0.1:8000/v1/chat/completions -H "authorization: Bearer sk-free" -H "content-type: application/json" \\
        -d '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}'

Set TALLYGATE_STORE to a folder (kept over restarts) or a redis:// URL (several workers); without it counters are this process's.
"""

import hashlib
import json
import os
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from tallygate.asgi import RateLimitMiddleware, by_api_key
from tallygate.rules import Limit
from tallygate.tokens import count_request, count_tokens


def hashed(key: str) -> str:
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


# In earnest keep the hashes alone: `tallygate keys new` makes a key and its hash.
KEYS = {
    hashed("sk-free"): {"user": "alice", "tenant": "alice", "tier": "free"},
    hashed("sk-pro"): {"user": "bob", "tenant": "acme", "tier": "pro"},
}

TIERS = {
    "free": [
        Limit("free-minute", requests=5, every=60),
        Limit("free-day", tokens=10_000, every="day"),
    ],
    "pro": [
        Limit("pro-minute", tokens=100_000, every=60),
        Limit("pro-spend", dollars=50, every="month", per=("tenant",)),
        Limit("pro-streams", concurrency=8, per=("tenant",)),
    ],
}

app = FastAPI()
app.add_middleware(
    RateLimitMiddleware,
    identify=by_api_key(KEYS),
    tiers=TIERS,
    store=os.environ.get("TALLYGATE_STORE"),
    max_wait=2.0,
)


@app.post("/v1/chat/completions")
async def chat(request: Request) -> Any:
    """Stands for your own model, or for a call to a provider."""
    body = await request.json()
    text = "It was a bright cold day in April, and the clocks were striking thirteen."
    tokens_in, tokens_out = count_request(body).tokens, count_tokens(text, body["model"])
    usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
    if not body.get("stream"):
        message = {"role": "assistant", "content": text}
        return {"model": body["model"], "choices": [{"index": 0, "message": message}], "usage": usage}
    return StreamingResponse(events(text, usage), media_type="text/event-stream")


async def events(text: str, usage: dict[str, int]) -> AsyncIterator[str]:
    for word in text.split():
        chunk = {"choices": [{"index": 0, "delta": {"content": f"{word} "}}]}
        yield f"data: {json.dumps(chunk)}\n\n"
    yield f"data: {json.dumps({'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n"
