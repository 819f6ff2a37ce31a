"""Sizing requests without holding up an event loop."""

from __future__ import annotations

import asyncio

from . import _native, _waiting

AT_ONCE = 64 * 1024
"""Bodies up to this (bytes) are counted within a millisecond; larger ones go to a thread."""


async def size(body: bytes, endpoint: str | None, model: str | None) -> _native.Sized:
    """The size of a request body; raises ``ValueError`` where it is none."""
    if len(body) <= AT_ONCE or not _waiting.in_asyncio():
        return _native.size_request(body, endpoint, model)
    return await asyncio.to_thread(_native.size_request, body, endpoint, model)
