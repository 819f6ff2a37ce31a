"""Servers that tests talk to: each on a free port of its own, ended when the test is."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

TARGET = Path(os.environ.get("CARGO_TARGET_DIR", Path(__file__).parents[3] / "target"))


@contextlib.contextmanager
def valkey(folder: Path) -> Iterator[str]:
    """A Valkey (or, where there is none, Redis) that keeps nothing; its URL."""
    binary = os.environ.get("TALLYGATE_VALKEY") or _binary("valkey-server") or _binary("redis-server")
    assert binary, "no valkey-server and no redis-server was found: `cargo xtask ci package` installs one in target/ci"
    port = free_port()
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    with _running(command, stdout=subprocess.DEVNULL):
        _until_open(port)
        yield f"redis://127.0.0.1:{port}"


@contextlib.contextmanager
def mock(*flags: str) -> Iterator[str]:
    """The strict provider of `tallygate mock` with these flags; its URL."""
    binary = os.environ.get("TALLYGATE_BIN") or TARGET / "debug" / "tallygate"
    command = [str(binary), "--json", "mock", "--listen", "127.0.0.1:0", *flags]
    with _running(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["mock"]


@contextlib.contextmanager
def paused(url: str) -> Iterator[None]:
    """Has the server of a URL carry out nothing that may write, until the end."""
    host, port = url.removeprefix("redis://").split(":")
    with socket.create_connection((host, int(port)), 60) as line:
        _told(line, b"CLIENT PAUSE 600000 WRITE")
        try:
            yield
        finally:
            _told(line, b"CLIENT UNPAUSE")


def patient(url: str) -> str:
    """The URL of a store with patience for machines that do much else."""
    return f"{url}?timeout=5s"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def _running(command: list[str], *, stdout: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdout=stdout)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)
        if process.stdout is not None:
            process.stdout.close()


def _told(line: socket.socket, command: bytes) -> None:
    line.sendall(command + b"\r\n")
    answer = line.recv(100)
    assert answer == b"+OK\r\n", answer


def _binary(name: str) -> str | None:
    ours = TARGET / "ci" / "servers" / "bin" / name
    return str(ours) if ours.exists() else shutil.which(name)


def _until_open(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.01)
    raise AssertionError(f"nothing listens on port {port}")
