"""A Predictor sent to another process answers there as it does here."""

from __future__ import annotations

import multiprocessing
import operator
import pickle
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

import infersdk
from infersdk import Predictor
from tests.concurrency.models import rows_of


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_predictor_answers_in_a_process_of_its_own(predictor: Predictor, method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {method}")
    rows = rows_of(5, seed=1)
    expected = predictor.predict(rows)
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        predict = operator.methodcaller("predict", rows)
        for answer in pool.map(predict, [predictor, predictor]):
            assert answer.tobytes() == expected.tobytes()
            assert (answer.dtype, answer.shape) == (expected.dtype, expected.shape)


def test_a_copy_has_its_own_life(predictor: Predictor) -> None:
    row = rows_of(1, seed=2)[0]
    expected = predictor.predict(row)
    with pickle.loads(pickle.dumps(predictor)) as copy:
        assert copy.predict(row).tobytes() == expected.tobytes()
        assert copy.name == predictor.name
        assert copy.signature == predictor.signature
        assert copy.plan == predictor.plan
        assert copy.execution == predictor.execution
    assert predictor.predict(row).tobytes() == expected.tobytes()


def test_options_travel(model_folder: Path) -> None:
    execution = infersdk.Execution(threads=1, release_gil=True, calibration_s=0)
    with (
        infersdk.load(model_folder / "mlp.onnx", execution=execution) as predictor,
        pickle.loads(pickle.dumps(predictor)) as copy,
    ):
        assert copy.execution == execution
        assert copy.calibration.run_s is None
