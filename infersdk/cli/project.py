"""New projects: a small app for one of the hosts, with a model in it.

The files are templates in ``projects/<host>``, with ``{{name}}`` where something of the model stands. A
template's name is the file's and ``.tmpl``, so that no tool takes it for Python; ``gitignore.tmpl`` is
``.gitignore``, as setuptools packs no hidden files.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np

from infersdk.artifact import Artifact
from infersdk.cli.inputs import UsageError
from infersdk.cli.starter_model import ROW, starter_model
from infersdk.errors import ArtifactError
from infersdk.types import Field, Signature, TensorSpec

__all__ = ["HOSTS", "Project", "ProjectModel", "new_project", "opened_model"]

HOSTS = ("flask", "django", "fastapi")

_RESERVED = (
    "health",
    "invocations",
    "metrics",
    "models",
    "openapi.json",
    "ping",
    "serving-endpoints",
    "v2",
    "version",
)
"""What models cannot be called: routes have these names."""

_SUFFIX = ".tmpl"
_PLACE = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True, slots=True)
class ProjectModel:
    """The model of a project, and a row of its kind.

    Attributes
    ----------
    name : str
    artifact : Artifact
    row : object
        A row as JSON has it, which the model takes.
    wrong_row : object
        One that it refuses.
    """

    name: str
    artifact: Artifact
    row: Any
    wrong_row: Any


@dataclass(frozen=True, slots=True)
class Project:
    """What was written: files, relative to the folder, and how to go on."""

    folder: Path
    files: tuple[Path, ...]
    start: str


_START = {
    "flask": "flask run --debug --port 8000",
    "django": "DJANGO_DEBUG=1 python manage.py runserver 8000",
    "fastapi": "uvicorn --reload --port 8000 app:app",
}


def opened_model(path: str | os.PathLike[str] | None) -> ProjectModel:
    """Open the model that a project is to have; without a path, a small one of irises.

    Raises
    ------
    UsageError
        There is no such file, it is no ONNX model, or its rows cannot be made up.
    """
    if path is None:
        return ProjectModel("iris", starter_model(), ROW, _wrong(ROW))
    path = Path(path)
    if path.suffix.lower() != ".onnx":
        raise UsageError(
            f"Expected an .onnx file, got {str(path)!r}. Other models become one with: "
            f"infersdk convert {path} -o {path.with_suffix('.onnx').name} --example rows.csv"
        )
    try:
        artifact = Artifact.open(path)
    except ArtifactError as exc:
        raise UsageError(str(exc)) from exc
    if artifact.plan.kind != "onnx":
        raise UsageError(
            f"{path} needs its own framework beside the graph ({artifact.plan.reason}), which a project made "
            "of templates does not have. Begin without --model, and name this one in it with trust="
        )
    row = _row(artifact.signature)
    if row is None:
        raise UsageError(
            f"{path} takes other values than rows, tensors or texts, of which no example can be made up"
        )
    name = re.sub(r"[^\w.-]+", "_", path.stem).lstrip(".") or "model"
    if name in _RESERVED:
        name = f"{name}_model"
    return ProjectModel(name, artifact, row, _wrong(row))


def new_project(host: str, folder: Path, model: ProjectModel, *, force: bool = False) -> Project:
    """Write a project's files.

    Parameters
    ----------
    host : {"flask", "django", "fastapi"}
    folder : Path
        Where to; it is made.
    model : ProjectModel
    force : bool
        Whether files that are there already are written over. Others in the folder are left alone
        in any case.

    Raises
    ------
    UsageError
        Files are there already, and nothing was written.
    """
    values = {
        "model": model.name,
        "row_shell": json.dumps(model.row).replace("'", "'\\''"),
        "row_python": _python(model.row),
        "wrong_row_python": _python(model.wrong_row),
    }
    texts = {
        path.with_name(_file_name(path.name)): _PLACE.sub(
            lambda place: values[place[1]], file.read_text(encoding="utf-8")
        )
        for path, file in _templates(files("infersdk.cli") / "projects" / host)
    }
    stored = Path("models", f"{model.name}.onnx")
    taken = [path for path in (*texts, stored) if (folder / path).exists()]
    if taken and not force:
        raise UsageError(
            f"{folder} has {', '.join(map(str, taken))} already. Name another folder, or say --force to write "
            "over them"
        )
    for path, text in texts.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    (folder / stored).parent.mkdir(parents=True, exist_ok=True)
    model.artifact.save(folder / stored)
    return Project(folder, (*texts, stored), _START[host])


def _file_name(template: str) -> str:
    name = template.removesuffix(_SUFFIX)
    return f".{name}" if name == "gitignore" else name


def _templates(folder: Traversable, inside: Path = Path()) -> list[tuple[Path, Traversable]]:
    found = []
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        path = inside / entry.name
        if entry.is_dir():
            found += _templates(entry, path)
        elif entry.name.endswith(_SUFFIX):
            found.append((path, entry))
    return found


def _python(value: Any) -> str:
    """The value as formatters write it, with double quotes."""
    if isinstance(value, dict):
        return (
            "{" + ", ".join(f"{_python(key)}: {_python(one)}" for key, one in value.items()) + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(_python, value)) + "]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _row(signature: Signature) -> Any:
    """Make up one row; None where that cannot be done."""
    if signature.container == "text":
        return "some words"
    if signature.fields:
        return {item.name: _value(item) for item in signature.fields if item.input is not None}
    tensors = {}
    for spec in signature.inputs:
        if not isinstance(spec, TensorSpec) or spec.shape is None:
            return None
        shape = [dim if isinstance(dim, int) else 1 for dim in spec.shape]
        value: Any = "" if spec.dtype == "string" else False if spec.dtype == "bool" else 0
        if spec.dtype.startswith(("float", "bfloat")):
            value = 0.0
        tensors[spec.name] = np.full(shape, value, object).tolist()
    if not tensors:
        return None
    return tensors if len(tensors) > 1 else next(iter(tensors.values()))


def _value(item: Field) -> Any:
    if item.categories:
        return item.categories[0]
    return {"float": 1.0, "int": 1, "bool": True, "string": "some words"}[item.dtype]


def _wrong(row: Any) -> Any:
    if isinstance(row, dict):
        return dict(list(row.items())[1:])
    return 5 if isinstance(row, str) else "wrong"
