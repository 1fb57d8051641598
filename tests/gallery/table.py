"""docs/frameworks.md: written from records, and read back as the baseline of the test."""

from __future__ import annotations

import importlib.metadata
import math
import os
import re
from pathlib import Path

from tests.gallery.entry import Entry, Record

__all__ = ["PATH", "Sections", "key", "read", "write"]

PATH = Path(__file__).parents[2] / "docs" / "frameworks.md"

Sections = dict[str, dict[str, Record]]
"""Records by section and row, in the order of the page."""

_INTRO = """\
# Frameworks

What `infersdk.load(model, example=X)` makes of models of many frameworks. Every row is a model that the
tests build, load and ask: it must answer other rows than the example's as its own framework does.

- **plan**: `onnx`: all of it runs in ONNX Runtime. `hybrid`: parts of it run in their own framework, in the
  caller's thread, and the rest in ONNX Runtime. `native`: the model runs as it is, in its own framework,
  behind the same Predictor. The answers are right under each of them; they differ in speed, and in what must
  be installed where the model is served.
- **largest error**: over all methods and rows, against the framework's own answer: relative to the answer
  where that is above 1, absolute below. A power of ten bounds it; `0` is equal to the last bit.
- **label flips**: rows whose class, cluster or other discrete answer is another one; `-` where a model
  gives numbers only.

- **skl2onnx alone**: what sklearn-onnx by itself makes of the model with its default options, over the rows as
  they are or as float32: a graph that answers the same (`agrees`), another one (`differs`), or none that ONNX
  Runtime can run here (`fails`). Its text vectorizers ask for the locale en_US.UTF-8, which slim images do not
  have; it wants ONNX opset and array types chosen for some models, which nobody does for it here.

The page is written by `python -m tests.gallery` (one part of it by `python -m tests.gallery sklearn`) and is the
baseline of a test: a plan that gets worse, an error that grows by more than one power of ten, or a flipped
label fails it.
"""

_PACKAGES = (
    "catboost", "category-encoders", "coremltools", "equinox", "flax", "imbalanced-learn", "jax", "jax2onnx",
    "keras", "libsvm-official", "lightgbm", "lightning", "numpy", "onnx", "onnxruntime", "onnxscript", "pyspark",
    "scikit-learn", "sentence-transformers", "skl2onnx", "skorch", "statsmodels", "tensorflow", "tf2onnx",
    "torch", "transformers", "xgboost", "xgboost-cpu",
)  # fmt: skip

_COLUMNS = ("model", "plan", "largest error", "label flips")
_LAST_COLUMN = "why not ONNX, or what was repaired"
_REASON_CHARS = 240


def key(entry: Entry) -> tuple[str, str]:
    """Section and row of an entry, as the page writes them."""
    return _cell(entry.section), _cell(entry.name)


def read() -> tuple[Sections, dict[str, str]]:
    """The page's records, and the rival's heading of each section that has one."""
    sections: Sections = {}
    rivals: dict[str, str] = {}
    if not PATH.exists():
        return sections, rivals
    section = ""
    for line in PATH.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ").strip()
        if not line.startswith("| ") or not section or section == "Versions":
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells[0] == "model":
            sections[section] = {}
            if len(cells) > len(_COLUMNS) + 1:
                rivals[section] = cells[4]
        elif section in sections:
            name, plan, error, flips, *rival, reason = cells
            sections[section][name] = Record(
                plan.strip("*`"),  # type: ignore[arg-type]
                _error(error),
                None if flips == "-" else int(flips),
                reason.replace("\\|", "|"),
                rival[0] if rival else "",
            )
    return sections, rivals


def write(found: Sections, rivals: dict[str, str], order: list[str]) -> None:
    """Replace sections of the page; those that are not in `order` any more are dropped."""
    sections, headings = read()
    sections.update(found)
    headings.update(rivals)
    lines = [_INTRO, *_overview({name: sections[name] for name in order if name in sections})]
    for section in order:
        if section in sections:
            lines += _section(section, sections[section], headings.get(section))
    lines += ["## Versions", "", *_versions(), ""]
    PATH.parent.mkdir(exist_ok=True)
    part = PATH.with_suffix(".md.part")
    part.write_text("\n".join(lines), encoding="utf-8")
    os.replace(part, PATH)


def _overview(sections: Sections) -> list[str]:
    """All sections in one table; it stands before the first of them, where `read` does not look."""
    lines = ["| | models | onnx | hybrid | native | label flips |", "|---|--:|--:|--:|--:|--:|"]
    total = [0] * 5
    for section, records in sections.items():
        plans = [record.plan for record in records.values()]
        counts = [len(plans), *(plans.count(plan) for plan in ("onnx", "hybrid", "native"))]
        counts.append(sum(record.flips or 0 for record in records.values()))
        total = [one + other for one, other in zip(total, counts, strict=True)]
        lines.append(f"| {section} | " + " | ".join(map(str, counts)) + " |")
    lines.append("| **all** | " + " | ".join(map(str, total)) + " |")
    return [*lines, ""]


def _section(section: str, records: dict[str, Record], rival: str | None) -> list[str]:
    columns = [*_COLUMNS, *([rival] if rival else []), _LAST_COLUMN]
    lines = [f"## {section}", "", _summary(records, rival), ""]
    lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for name, record in records.items():
        flips = "-" if record.flips is None else str(record.flips)
        cells = [name, record.plan, _bound(record), flips]
        cells += [record.rival or "-"] if rival else []
        lines.append("| " + " | ".join([*cells, _cell(record.reason)]) + " |")
    return [*lines, ""]


def _summary(records: dict[str, Record], rival: str | None) -> str:
    n = len(records)
    good = sum(record.power <= -3 and not record.flips for record in records.values())
    graph = sum(record.plan in ("onnx", "hybrid") for record in records.values())
    text = f"{good} of {n} load and agree; {_percent(graph, n)} in plan onnx or hybrid"
    if rival:
        agrees = sum(record.rival == "agrees" for record in records.values())
        text += f"; {rival}: {_percent(agrees, n)}"
    return text + "."


def _percent(part: int, whole: int) -> str:
    return f"{100 * part // whole if whole else 0} %"


def _bound(record: Record) -> str:
    if record.error == 0:
        return "0"
    if record.error == math.inf:
        return "differs"
    return f"<= 1e{record.power:03.0f}"


def _error(text: str) -> float:
    if text == "differs":
        return math.inf
    return float(text.removeprefix("<= "))


def _cell(text: str) -> str:
    text = " ".join(text.split())
    if len(text) > _REASON_CHARS:
        text = text[: _REASON_CHARS - 3].rsplit(" ", 1)[0] + " ..."
    return re.sub(r"(?<!\\)\|", r"\\|", text)


def _versions() -> list[str]:
    found = []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return [", ".join(found) + "."]
