"""What is measured. Each case exports

``TITLE``        one line
``VARIANTS``     their names
``RIVALS``       variant -> modules under ``benchmarks.rivals``; the first is the one to beat
``KIND``         "calls": many calls in one process; "fresh": one call in a fresh process each time
``prepare(task)`` writes models and inputs under ``task.folder``
"""

from __future__ import annotations

__all__ = ["CASES"]

CASES = ("one_call", "rows_from_dicts", "import_and_load")
