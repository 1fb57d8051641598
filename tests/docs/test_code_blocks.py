"""Every code block of the documentation runs. How blocks are marked is said in blocks.py."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import Block, blocks

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "examples" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
TIMEOUT_S = 280

_HEAVY = re.compile(
    r"^\s*(?:import|from) (?:torch|keras|tensorflow|jax|transformers|sentence_transformers)\b",
    re.MULTILINE,
)


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


FOUND = {_name(page): list(blocks(page.read_text())) for page in PAGES}


def _runs(block: Block) -> bool:
    return block.kind in ("python", "sh", "serve")


def _is_slow(found: list[Block]) -> bool:
    """Whether a page imports what takes seconds to import, starts a server, or runs programs."""
    return any(
        block.kind in ("sh", "serve") or (_runs(block) and _HEAVY.search(block.text))
        for block in found
    )


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that pages take for granted: iris.onnx, and the model it was made of in iris.joblib."""
    pytest.importorskip("skl2onnx", reason="the model of the pages is scikit-learn's")
    import joblib
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    import infersdk

    folder = tmp_path_factory.mktemp("models")
    X, y = load_iris(return_X_y=True, as_frame=True)
    model = LogisticRegression(max_iter=500).fit(X, y)
    joblib.dump(model, folder / "iris.joblib")
    infersdk.convert(model, example=X, name="iris").save(folder / "iris.onnx")
    return folder


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if _is_slow(found) else [])
        for name, found in FOUND.items()
        if any(map(_runs, found))
    ],
)
def test_the_blocks_run(name: str, models: Path, tmp_path: Path) -> None:
    """From top to bottom, in a folder with iris.onnx and iris.joblib."""
    for file in models.iterdir():
        shutil.copy(file, tmp_path)
    environ = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("COV_", "DJANGO_", "FLASK_", "INFERSDK_", "PYTEST_"))
    }
    environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), environ["PATH"]))
    environ["COLUMNS"] = "100"
    environ["PYTHONPATH"] = str(ROOT)  # the examples are in a checkout's own folder
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("run_page.py"), ROOT / name],
        cwd=tmp_path,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, f"{name}:\n{done.stdout[-6000:]}"


@pytest.mark.parametrize(
    ("name", "block"),
    [
        pytest.param(name, block, id=f"{name}:{block.line}")
        for name, found in FOUND.items()
        for block in found
        if block.kind == "not run"
    ],
)
def test_the_block_is_not_run(name: str, block: Block) -> None:
    """One for each, so that a report counts them and says why."""
    pytest.skip(f"{name}, line {block.line}: {block.value}")


def test_the_readme_begins_with_code_that_runs() -> None:
    assert [block.kind for block in FOUND["README.md"]].count("python") >= 3


def test_the_sites_first_page_begins_as_the_readme_does() -> None:
    readme, index = ((ROOT / name).read_text() for name in ("README.md", "docs/index.md"))
    assert index.startswith(readme[: readme.index("\n|")])


def test_every_example_is_in_their_readme() -> None:
    readme = (ROOT / "examples" / "README.md").read_text()
    for path in (ROOT / "examples").iterdir():
        if not path.name.startswith("__") and path != ROOT / "examples" / "README.md":
            assert f"`{path.stem if path.is_dir() else path.name}`" in readme, path.name


PAGE = """
<!-- setup
n = 1
-->

```python
assert n == 1
```

<!-- not run: it would take all night -->

```python
raise SystemExit
```

1. In a list:

   <!-- file: shop/app.py -->
   ```python
   if True:
       x = 1
   ```

```text
Just shown.
```

<!-- run -->
```sh
echo "$PWD"
```

<!-- output -->
```text
...
```

<!-- serve: 8000 -->
```sh
gunicorn app:app
```
"""


def test_how_blocks_are_read() -> None:
    assert list(blocks(PAGE)) == [
        Block("python", "n = 1\n", 3),
        Block("python", "assert n == 1\n", 7),
        Block("not run", "raise SystemExit\n", 13, "it would take all night"),
        Block("file", "if True:\n    x = 1\n", 20, "shop/app.py"),
        Block("sh", 'echo "$PWD"\n', 30),
        Block("output", "...\n", 35),
        Block("serve", "gunicorn app:app\n", 40, "8000"),
    ]


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("<!-- run -->\ntext", r"line 1: no block follows <!-- run -->"),
        ("<!-- not run -->\n```python\n```", r"line 1: <!-- not run: \.\.\. --> must say more"),
        ("<!-- run -->\n```python\n```", "only sh blocks can be marked with `run`"),
        ("```python\n", "line 1: the block has no end"),
    ],
)
def test_what_is_wrong_with_a_page_is_said(page: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(blocks(page))
