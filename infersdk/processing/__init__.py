"""Steps: what happens to rows before the graph runs, in the caller's thread.

- ``stepped`` fills a graph's inputs from rows through its steps; parity and Predictor both use it.
- ``source`` calls parts of the source model that have no ONNX form.
- ``tokenize`` turns texts into token ids.
"""

from __future__ import annotations

from infersdk.processing.stepped import RowSteps, SteppedBinder

__all__ = ["RowSteps", "SteppedBinder"]
