"""The site builds without a warning and without the network, and its reference has every public name."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import infersdk

pytest.importorskip("mkdocstrings_handlers.python", reason="the site is built with the extra docs")

ROOT = Path(__file__).parents[2]
ADAPTERS = sorted(
    f"infersdk.web.{name}"
    for name in ("asgi", "django", "fastapi", "flask", "litestar", "quart", "rsgi", "starlette")
    if importlib.util.find_spec(f"infersdk.web.{name}") is not None
)


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
    names = [f"infersdk.{name}" for name in infersdk.__all__]
    for module in ("infersdk.testing", *ADAPTERS):
        names += [f"{module}.{name}" for name in importlib.import_module(module).__all__]
    missing = sorted(set(names) - anchors)
    assert not missing, f"docs/api names none of {missing}"


@pytest.mark.slow
def test_pages_fetch_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        fetched = re.findall(
            r'<(?:script|img|iframe)[^>]*\bsrc="?(?:https?:)?//[^>]*|<link[^>]*\bhref="?(?:https?:)?//[^>]*',
            page.read_text(),
        )
        assert not fetched, page


@pytest.mark.slow
def test_code_of_the_pages_for_tests_is_not_shown(site: Path) -> None:
    pages = {page.parent.name: page.read_text() for page in site.glob("*/index.html")}
    assert "not run:" not in re.sub(r"<!--.*?-->", "", pages["gpu"], flags=re.DOTALL)
    assert not list(site.rglob("docstrings*"))


def test_docstrings_are_rewritten() -> None:
    spec = importlib.util.spec_from_file_location("docstrings", ROOT / "docs/_site/docstrings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.as_markdown(":func:`~infersdk.runtime.Predictor` and :meth:`open`") == (
        "`Predictor` and `open`"
    )
    assert module.as_markdown("So::\n\n    code") == "So:\n\n    code"
    assert module.as_markdown('how : {"now", "lazy"}, optional\n    {x}') == (
        'how : "now" or "lazy"\n    {x}'
    )
