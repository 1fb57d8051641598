"""What the clients ask and how they print it: arrays as JSON, without loss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


class Inputs:
    """What the test has written into its folder."""

    def __init__(self, folder: str) -> None:
        self.X = np.load(Path(folder) / "inputs.npz")["X"]
        written = json.loads((Path(folder) / "mixed.json").read_text())
        self.fields: list[str] = written["fields"]
        self.texts = np.array(written["texts"], dtype=object)
        columns = written["columns"]
        # json writes NaN, and reads it again.
        self.mixed = {
            "age": ("INT64", np.array(columns["age"], dtype=np.int64)),
            "city": ("BYTES", np.array(columns["city"], dtype=object)),
            "active": ("BOOL", np.array(columns["active"], dtype=bool)),
            "income": ("FP64", np.array(columns["income"], dtype=np.float64)),
        }


ECHOED = {
    "bool": ("BOOL", [[True, False], [False, True], [True, True]]),
    "uint8": ("UINT8", [[0, 255], [1, 2], [3, 4]]),
    "uint16": ("UINT16", [[0, 65535], [1, 2], [3, 4]]),
    "uint32": ("UINT32", [[0, 2**32 - 1], [1, 2], [3, 4]]),
    "uint64": ("UINT64", [[0, 2**64 - 1], [1, 2**53 + 1], [3, 4]]),
    "int8": ("INT8", [[-128, 127], [1, -2], [3, 4]]),
    "int16": ("INT16", [[-(2**15), 2**15 - 1], [1, -2], [3, 4]]),
    "int32": ("INT32", [[-(2**31), 2**31 - 1], [1, -2], [3, 4]]),
    "int64": ("INT64", [[-(2**63), 2**63 - 1], [1, -2], [3, 4]]),
    "float16": ("FP16", [[0.5, -65504.0], [1.0, 2.0], [3.0, 4.0]]),
    "float32": ("FP32", [[0.1, -3e38], [1e-40, 2.0], [3.0, 4.0]]),
    "float64": ("FP64", [[0.1, -1e308], [5e-324, 2.0], [3.0, 4.0]]),
    "bfloat16": ("BF16", [[0.5, -1e38], [1.0, 2.0], [3.0, 4.0]]),
    "string": ("BYTES", [["", "Łódź"], ["a\x00b", "é"], ["x" * 300, "\U0001f600"]]),
}
"""Of each datatype of the model echo, values at its ends."""


def array_of(dtype: str) -> np.ndarray:
    """The values for one input of the model echo."""
    values = ECHOED[dtype][1]
    if dtype == "string":
        return np.array(values, dtype=object)
    if dtype == "bfloat16":
        import ml_dtypes

        return np.array(values, dtype=ml_dtypes.bfloat16)
    return np.array(values, dtype=dtype)


def same(given: Any, dtype: str) -> bool:
    """Whether an array is what the model echo was sent, to the last bit."""
    sent = array_of(dtype)
    if dtype == "string":
        texts = [v.decode() if isinstance(v, bytes) else v for v in np.ravel(given).tolist()]
        return texts == sent.ravel().tolist()
    return given.dtype == sent.dtype and given.tobytes() == sent.tobytes()


def plain(array: Any) -> list[Any]:
    """An array as nested lists, with text decoded."""
    if array.dtype == object:
        decoded = [v.decode() if isinstance(v, bytes) else v for v in array.ravel().tolist()]
        return np.array(decoded, dtype=object).reshape(array.shape).tolist()
    return array.tolist()
