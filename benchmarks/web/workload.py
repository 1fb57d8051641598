"""What the web apps answer: a forest, written in each form that an app opens, and rows to ask about."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Workload", "write"]

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


def write(folder: Path, *, deep: bool = False) -> None:
    """Train the models, convert them, and write everything that apps and clients read.

    Parameters
    ----------
    folder : Path
    deep : bool
        Train on made-up rows that are hard to tell apart: trees of 370 nodes, which as a forest of 200 no
        longer fit into a core's L2 cache, instead of the 45 nodes that breast cancer's measurements ask for.
    """
    import joblib
    from sklearn.base import clone
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline

    import infersdk

    trained, labels, rows = _made_up() if deep else _breast_cancer()
    forest = RandomForestClassifier(200, random_state=7).fit(trained, labels)
    pipeline = make_pipeline(SimpleImputer(strategy="median"), clone(forest))
    pipeline.fit(trained, labels)  # answers as the forest alone: no value is missing
    joblib.dump(forest, folder / "forest.joblib")
    joblib.dump(pipeline, folder / "pipeline.joblib")
    infersdk.load(forest, example=trained[:500], name="forest").save(folder / "forest.onnx")
    (folder / "skl2onnx.onnx").write_bytes(_by_skl2onnx(forest))
    (folder / "features.json").write_text(json.dumps(list(trained.columns)))
    answers = forest.predict_proba(rows)
    Workload(folder).write(
        [json.dumps(row) for row in rows.to_dict("records")],
        [{"answers": answers[i : i + 1].tolist()} for i in range(len(rows))],
    )


def _breast_cancer() -> tuple[Any, Any, Any]:
    """569 rows to train on; those to ask about are near them, and are none of them."""
    import numpy as np
    import pandas as pd
    from sklearn.datasets import load_breast_cancer

    frame, labels = load_breast_cancer(return_X_y=True, as_frame=True)
    frame.columns = [name.replace(" ", "_") for name in frame.columns]
    rng = np.random.default_rng(7)
    near = frame.to_numpy()[rng.integers(len(frame), size=N_ROWS)]
    near = near * (1 + 0.05 * rng.standard_normal(near.shape))
    return frame, labels, pd.DataFrame(near.round(4), columns=frame.columns)


def _made_up() -> tuple[Any, Any, Any]:
    """2,000 rows to train on, and others of the same source to ask about."""
    import pandas as pd
    from sklearn.datasets import make_classification

    values, labels = make_classification(
        n_samples=2000 + N_ROWS, n_features=30, n_informative=15, random_state=7
    )
    frame = pd.DataFrame(values.round(4), columns=[f"feature_{i:02d}" for i in range(30)])
    return frame[:2000], labels[:2000], frame[2000:]


def _by_skl2onnx(forest: Any) -> bytes:
    """The forest as its users export it: probabilities in one array instead of a list of dicts."""
    import numpy as np
    from skl2onnx import to_onnx

    one = np.zeros((1, forest.n_features_in_), np.float32)
    model: bytes = to_onnx(forest, one, options={id(forest): {"zipmap": False}}).SerializeToString()
    return model
