"""The site builds without a warning and without the network, and its reference has every public name."""

from __future__ import annotations

import ast
import importlib.util
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mkdocstrings_handlers.python", reason="the site is built with the extra docs")

import griffe

ROOT = Path(__file__).parents[2]
MODULES = [
    "infersdk",
    "infersdk.decorators",
    "infersdk.predictors",
    "infersdk.testing",
    "infersdk.web.asgi",
    "infersdk.web.django.drf",
    "infersdk.web.fastapi",
    "infersdk.web.flask",
    "infersdk.web.litestar",
    "infersdk.web.quart",
    "infersdk.web.rsgi",
    "infersdk.web.settings",
    "infersdk.web.starlette",
]
"""Whose names users import. Names of one that are another's stand there in the reference."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        # Whatever would be fetched is not there.
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "https_proxy": "http://127.0.0.1:9"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "WARNING" not in done.stdout, done.stdout[-4000:]
    return folder


@pytest.mark.slow
def test_the_reference_has_every_public_name(site: Path) -> None:
    anchors = {
        anchor
        for page in (site / "api").rglob("*.html")
        for anchor in re.findall(r'id="(infersdk[\w.]*)"', page.read_text())
    }
    # Read, not imported: some want a configured host.
    package = griffe.load("infersdk", search_paths=[str(ROOT)], allow_inspection=False)
    missing = []
    for name in MODULES:
        module = package[name.partition(".")[2]] if "." in name else package
        assert module.exports, name
        for public in map(str, module.exports):
            places = {name, "infersdk", "infersdk.decorators", "infersdk.predictors"}
            known = {f"{place}.{public}" for place in places} | {module[public].canonical_path}
            if not anchors & known:
                missing.append(f"{name}.{public}")
    assert not missing, f"docs/api names none of {missing}"


@pytest.mark.slow
def test_the_reference_has_every_fixture(site: Path) -> None:
    from infersdk.testing import plugin

    page = (site / "api" / "testing" / "index.html").read_text()
    fixtures = [
        name
        for name, value in vars(plugin).items()
        if type(value).__name__ == "FixtureFunctionDefinition" and not name.startswith("_")
    ]
    assert len(fixtures) > 5
    assert [name for name in fixtures if f'id="infersdk.testing.plugin.{name}"' not in page] == []


@pytest.mark.slow
def test_every_adapter_is_in_the_reference(site: Path) -> None:
    page = (site / "api" / "web" / "index.html").read_text()
    for info in pkgutil.iter_modules([str(ROOT / "infersdk" / "web")]):
        if info.name in ("django", "flask", "fastapi", "starlette", "litestar", "quart", "rsgi"):
            assert f'id="infersdk.web.{info.name}.' in page, info.name


@pytest.mark.slow
def test_pages_fetch_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        fetched = re.findall(
            r'<(?:script|img|iframe)[^>]*\bsrc="?(?:https?:)?//[^>]*|<link[^>]*\bhref="?(?:https?:)?//[^>]*',
            page.read_text(),
        )
        assert not fetched, page


@pytest.mark.slow
def test_what_is_for_tests_is_not_on_the_site(site: Path) -> None:
    for page in site.rglob("*.html"):
        comments = re.findall(r"<!--(.*?)-->", page.read_text(), re.DOTALL)
        assert not [comment for comment in comments if re.match(r" *(setup|run|serve)\b", comment)]
    assert not list(site.rglob("docstrings*"))
    tutorial = (site / "flask" / "index.html").read_text()
    assert re.search(r'<span class="filename">\w+\.py</span>', tutorial)


def _extension(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/_site/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_are_rewritten() -> None:
    page = """Text.

<!-- setup
x = 1
-->

<!-- file: shop/app.py -->

```python
pass
```

1. A list:

   <!-- file: b.py -->
   ```python
   pass
   ```

<!-- serve: 8000 -->

```sh
run
```
<!-- a comment of another kind -->
"""
    assert (
        _extension("pages").on_page_markdown(page, page=None)
        == """Text.


```python title="shop/app.py"
pass
```

1. A list:

   ```python title="b.py"
   pass
   ```


```sh
run
```
<!-- a comment of another kind -->
"""
    )


def test_docstrings_are_rewritten() -> None:
    module = _extension("docstrings")
    assert module.as_markdown(":func:`~infersdk.runtime.Predictor` and :meth:`open`") == (
        "`Predictor` and `open`"
    )
    assert module.as_markdown("So::\n\n    code") == "So:\n\n    code"
    assert module.as_markdown('how : {"now", "lazy"}, optional\n    {x}') == (
        'how : "now" or "lazy"\n    {x}'
    )


def test_every_problem_that_clients_can_meet_is_listed() -> None:
    listed = (ROOT / "docs/api/errors.md").read_text()
    kinds = {
        (call.args[0].value, call.args[1].value)
        for path in (ROOT / "infersdk/web").rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "ProblemError"
        and len(call.args) > 1
        and all(isinstance(argument, ast.Constant) for argument in call.args[:2])
    }
    assert len(kinds) > 10
    for status, kind in kinds - {(499, "abandoned")}:  # for logs: its client has gone
        assert re.search(rf"\| `.*{kind}`.* \| {status} \|", listed), (status, kind)
