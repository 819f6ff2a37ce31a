"""The log ``tallygate`` of the standard library, imported when there is something to say: most programs of this package never log."""

from __future__ import annotations

from typing import Any


def warn(message: str, *given: object, error: Any = None) -> None:
    """Writes a warning; ``error`` is an exception whose traceback belongs to it, ``True`` the one that is being handled."""
    import logging

    logging.getLogger("tallygate").warning(message, *given, exc_info=error, stacklevel=2)
