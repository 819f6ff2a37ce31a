"""Texts that callers give."""

from __future__ import annotations


def checked_text(text: str, argument: str) -> str:
    """The text itself; ``ValueError`` that names ``argument`` where half a character is in it, which no store and no counter takes."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{argument} has a lone surrogate at {error.start}, which no text may have") from None
    return text
