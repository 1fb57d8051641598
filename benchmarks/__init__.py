"""Measure infersdk against what its users would otherwise run: ``python -m benchmarks --help``.

A case (``cases/``) makes models and inputs once, on disk. A rival (``rivals/``) answers them its own way
and exports ``label``, ``setup(task)`` and ``run(i)``. The runner gives every rival a fresh process,
asserts that all give equal answers, and lets them take turns round by round, one at a time, so that
whatever else the machine does falls on all of them alike.
"""
