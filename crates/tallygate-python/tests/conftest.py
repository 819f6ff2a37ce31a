"""What tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Valkey that ends with the tests. Tests share it, so each takes a key prefix of its own."""
    from servers import valkey

    folder: Path = tmp_path_factory.mktemp("valkey")
    with valkey(folder) as url:
        yield url


@pytest.fixture(autouse=True)
def _only_what_is_logged_here(caplog: pytest.LogCaptureFixture) -> None:
    """Hides what asyncio says of an SDK's client that an earlier test has left to the garbage collector."""
    caplog.handler.addFilter(lambda record: record.name != "asyncio")
