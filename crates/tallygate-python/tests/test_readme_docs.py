"""The examples of the documents run as they stand.

Blocks marked ``py`` are other packages' and are only read.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from servers import patient

DOCS = Path(__file__).parents[3] / "docs"
SERVER = "redis://localhost:6379"


def examples() -> list[tuple[str, str]]:
    """Each example's place and text."""
    found = []
    for page in [DOCS / "python.md", *sorted(DOCS.glob("migrate-from-*.md"))]:
        text = page.read_text()
        for match in re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            line = text[: match.start()].count("\n") + 2
            found.append((f"{page.name}:{line}", match.group(1)))
    return found


@pytest.mark.parametrize(("place", "code"), examples(), ids=[place for place, _ in examples()])
def test_an_example_runs(place: str, code: str, request: pytest.FixtureRequest, tmp_path: Path):
    if SERVER in code:
        code = code.replace(SERVER, patient(request.getfixturevalue("valkey_url")))
    command = [sys.executable, "-W", "error", "-c", code]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, f"{place}: {ran.stderr}"


def test_there_are_examples_on_every_page():
    pages = {place.split(":")[0] for place, _ in examples()}
    assert pages == {
        "python.md",
        "migrate-from-token-throttle.md",
        "migrate-from-openlimit.md",
        "migrate-from-aiolimiter.md",
        "migrate-from-limits.md",
    }


def test_links_lead_somewhere():
    for page in [DOCS / "python.md", *sorted(DOCS.glob("migrate-from-*.md"))]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            assert (DOCS / target).exists(), f"{page.name} leads to {target}"
