"""The README of the package and the examples do what they say."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

PACKAGE = Path(__file__).parents[1]
EXAMPLES = PACKAGE.parents[1] / "examples" / "python"

BLOCK = re.compile(r"(<!-- needs an account -->\n)?```python\n(.*?)```", re.DOTALL)
PAGES = [PACKAGE / "README.md", PACKAGE.parents[1] / "docs" / "python-services.md"]
BLOCKS = [(page.name, *found) for page in PAGES for found in BLOCK.findall(page.read_text())]


def run(source: str, name: str) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(source, name, "exec"), {"__name__": "__main__"})
    return said.getvalue()


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_what_is_written_runs_as_it_stands(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    page, account, source = BLOCKS[number]
    if account:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-of-nobody")
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-of-nobody")
    said = run(source, f"{page}, block {number + 1}")
    for line in source.splitlines():
        promised = re.search(r"^print\(.*\) +# (\S+)$", line)
        if promised:
            assert promised[1] in said.splitlines(), line


def test_the_projects_own_page_runs_as_it_stands() -> None:
    page = (PACKAGE.parents[1] / "README.md").read_text()
    ours = [source for _, source in BLOCK.findall(page) if source.startswith("from tallygate ")]
    assert len(ours) == 1
    run(ours[0], "the project's README.md")


def test_the_quick_start_says_what_it_gave_back() -> None:
    assert re.fullmatch(r"20 calls took \d+ tokens; what they had .* given back\n", run(BLOCKS[0][2], "README.md"))
    assert run((EXAMPLES / "quickstart.py").read_text(), "quickstart.py") == run(BLOCKS[0][2], "README.md")


@pytest.mark.parametrize("wrong", [("--jobs", "0"), ("--jobs", "-4"), ("--tokens-per-minute", "0"), ("--tokens-per-minute", "x")])
def test_the_batch_refuses_what_cannot_be(wrong: tuple[str, str]) -> None:
    said = subprocess.run([sys.executable, str(EXAMPLES / "batch.py"), *wrong], capture_output=True, text=True, check=False)
    assert said.returncode == 2 and wrong[0] in said.stderr and "Traceback" not in said.stderr


def test_the_batch_uses_its_quota() -> None:
    command = [sys.executable, str(EXAMPLES / "batch.py"), "--jobs", "40", "--tokens-per-minute", "240000"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    found = re.search(r"40/40 jobs, (\d+) tokens, (\d+)% of the quota, in [\d.]+ s", said)
    assert found and int(found[1]) > 40 * 200, said
    assert 60 <= int(found[2]) <= 100, said


def module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_the_service_has_tiers() -> None:
    async def main() -> None:
        transport = httpx.ASGITransport(module("fastapi_tiers").app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}

            async def ask(key: str, **more: Any) -> httpx.Response:
                headers = {"authorization": f"Bearer {key}"}
                return await client.post("/v1/chat/completions", json={**body, **more}, headers=headers)

            assert (await ask("sk-nobody")).status_code == 401
            first = await ask("sk-free")
            assert first.status_code == 200 and first.headers["x-ratelimit-remaining-requests"] == "4"
            stream = await ask("sk-free", stream=True)
            assert stream.text.endswith("data: [DONE]\n\n")
            tokens = {int(answer.headers["x-ratelimit-remaining-tokens"]) for answer in (first, stream)}
            assert len(tokens) == 2
            never = await ask("sk-free", n=200)
            assert never.status_code == 429 and never.headers["x-should-retry"] == "false"
            assert [(await ask("sk-pro")).status_code for _ in range(7)] == [200] * 7

    import asyncio

    asyncio.run(main())


def test_the_notebook_shows_what_it_shows() -> None:
    cells = json.loads((EXAMPLES / "checks.ipynb").read_text())["cells"]
    names: dict[str, Any] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            shown = cell["outputs"][0]["data"]
            value = last_value("".join(cell["source"]), names)
            assert roughly(repr(value)) == roughly(shown["text/plain"][0])
            if "text/html" in shown:
                assert roughly(value._repr_html_()) == roughly(shown["text/html"][0])


def last_value(source: str, names: dict[str, Any]) -> Any:
    tree = ast.parse(source)
    last = tree.body.pop()
    assert isinstance(last, ast.Expr)
    exec(compile(tree, "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names)


def roughly(shown: str) -> str:
    """Without the lengths of time, which pass."""
    return re.sub(r"(reset_after=|<td>)[\d.]+( s)?", r"\1…", shown)
