"""Prefixes of keys on a server, as its store takes them: 1 to 64 letters, digits and ``_ - . :`` of ASCII."""

from __future__ import annotations

import string

from .quotas import checked_prefix


def stored_prefix(key_prefix: str) -> str:
    """The prefix itself where a store takes it, else one that stands for it and for no other without colons.

    Raises ``ValueError`` naming ``key_prefix`` where it is none.
    """
    if isinstance(key_prefix, str) and 0 < len(key_prefix) <= _MOST and _PLAIN.issuperset(key_prefix):
        return key_prefix
    escaped = "".join(map(_escaped, checked_prefix(key_prefix)))
    return escaped if len(escaped) <= _MOST else _shortened(escaped)


_MOST = 64
_PLAIN = frozenset(string.ascii_letters + string.digits + "_-.:")


def _escaped(char: str) -> str:
    return char if char in _PLAIN else "".join(f":{byte:02x}" for byte in char.encode())


def _shortened(escaped: str) -> str:
    """Its beginning, for who looks at keys, and its digest. Two colons are in no other."""
    from hashlib import blake2b

    digest = blake2b(escaped.encode(), digest_size=16).hexdigest()
    return f"{escaped[: _MOST - 2 - len(digest)]}::{digest}"
