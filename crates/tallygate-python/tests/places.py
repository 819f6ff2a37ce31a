"""Where limiters under test keep their counters. Test files import the fixtures that they use."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tallygate import FolderBackendBuilder, MemoryBackendBuilder, RedisBackendBuilder


@dataclass(frozen=True)
class Place:
    """A store that is empty at first."""

    kind: str
    at: str
    prefix: str

    def backend(self) -> Any:
        """A builder; each limiter needs one of its own."""
        if self.kind == "memory":
            return MemoryBackendBuilder()
        if self.kind == "folder":
            return FolderBackendBuilder(self.at)
        return RedisBackendBuilder(self.url, key_prefix=self.prefix)

    @property
    def url(self) -> str:
        """The server, with patience for machines that do much else."""
        return f"{self.at}?timeout=5s"


def place_of(kind: str, request: pytest.FixtureRequest, folder: Path) -> Place:
    at = request.getfixturevalue("valkey_url") if kind == "valkey" else str(folder / "data")
    return Place(kind, at, uuid.uuid4().hex)


@pytest.fixture(params=["memory", "folder", "valkey"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Each kind of store in turn."""
    return place_of(request.param, request, tmp_path)


@pytest.fixture(params=["folder", "valkey"])
def lasting(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Each store that outlives its limiters."""
    return place_of(request.param, request, tmp_path)


@pytest.fixture
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A store that several processes may use."""
    return place_of("valkey", request, tmp_path)
