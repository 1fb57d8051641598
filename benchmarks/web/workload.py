"""What the web apps answer: a forest, written in each form that an app opens, and rows to ask about.

The rows are none that the forest was trained on: they come from the same source, and fall between its
thresholds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["FEATURES", "Workload", "write"]

FEATURES = tuple(f"feature_{i:02d}" for i in range(30))
N_TRAINED = 2000
N_ROWS = 500


@dataclass(frozen=True, slots=True)
class Workload:
    """The files of a workload.

    Parameters
    ----------
    folder : Path
        Holds what ``write`` makes: ``forest.joblib`` and ``pipeline.joblib`` (scikit-learn), ``forest.onnx``
        (infersdk's artifact), ``skl2onnx.onnx``, ``features.json`` (their names in order), ``bodies.json``
        and ``expected.json``.
    """

    folder: Path

    @property
    def lines(self) -> Path:
        """The bodies once more, one a line, for wrk."""
        return self.folder / "bodies.txt"

    def bodies(self) -> list[bytes]:
        """The request bodies, one row each."""
        return [body.encode() for body in self._read("bodies")]

    def expected(self) -> list[Any]:
        """The source model's answer to each of them, as JSON values."""
        return self._read("expected")

    def write(self, bodies: list[str], expected: list[Any]) -> None:
        """Write both."""
        (self.folder / "bodies.json").write_text(json.dumps(bodies))
        self.lines.write_text("".join(f"{body}\n" for body in bodies))
        (self.folder / "expected.json").write_text(json.dumps(expected))

    def _read(self, name: str) -> list[Any]:
        values: list[Any] = json.loads((self.folder / f"{name}.json").read_text())
        return values


def write(folder: Path) -> None:
    """Train the models, convert them, and write everything that apps and clients read."""
    import joblib
    import pandas as pd
    from sklearn.base import clone
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline

    import infersdk

    values, labels = make_classification(
        n_samples=N_TRAINED + N_ROWS, n_features=len(FEATURES), n_informative=15, random_state=7
    )
    frame = pd.DataFrame(values.round(4), columns=list(FEATURES))
    trained, rows = frame[:N_TRAINED], frame[N_TRAINED:]
    labels = labels[:N_TRAINED]
    forest = RandomForestClassifier(200, random_state=7).fit(trained, labels)
    pipeline = make_pipeline(SimpleImputer(strategy="median"), clone(forest))
    pipeline.fit(trained, labels)  # answers as the forest alone: no value is missing
    joblib.dump(forest, folder / "forest.joblib")
    joblib.dump(pipeline, folder / "pipeline.joblib")
    infersdk.load(forest, example=trained[:500], name="forest").save(folder / "forest.onnx")
    (folder / "skl2onnx.onnx").write_bytes(_by_skl2onnx(forest))

    (folder / "features.json").write_text(json.dumps(FEATURES))
    answers = forest.predict_proba(rows)
    Workload(folder).write(
        [json.dumps(row) for row in rows.to_dict("records")],
        [{"answers": answers[i : i + 1].tolist()} for i in range(len(rows))],
    )


def _by_skl2onnx(forest: Any) -> bytes:
    """The forest as its users export it: probabilities in one array instead of a list of dicts."""
    from skl2onnx import to_onnx

    one = np.zeros((1, len(FEATURES)), np.float32)
    model: bytes = to_onnx(forest, one, options={id(forest): {"zipmap": False}}).SerializeToString()
    return model
