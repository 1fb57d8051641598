"""What is measured. Each case exports

``TITLE``        one line
``VARIANTS``     their names
``RIVALS``       variant -> modules under ``benchmarks.rivals``; the first is the one to beat
``KIND``         "calls": many calls in one process; "fresh": one call in a fresh process each time;
                 one of ``benchmarks.load_runner.KINDS``: a load; "web": whole apps
``prepare(task)`` writes models and inputs under ``task.folder``

and where it is a load

``LOADS``        name -> what ``benchmarks.load.driver`` is told to do; with ``longer`` each turn lasts as many
                 times as long as usual
``DEFAULT``      the variants that are measured when none is named
``QUICK``        the same for a quick look
``USUAL_LOADS``  the loads that are measured when none is named (without it, all)

and where it is "web", instead of ``RIVALS``

``WEB``                              variant -> ``benchmarks.web_runner.Variant``: its apps, and what is compared
``COMPARED``                         how many answers of each app are compared, where that is more than usual
``settle(app, server, workload)``    what is done with an app that is up, before it is timed (may be left out)
"""

from __future__ import annotations

__all__ = ["CASES", "ON_REQUEST"]

CASES = (
    "one_call",
    "rows_from_dicts",
    "sentence_embedding",
    "import_and_load",
    "closed_load",
    "fixed_paths",
    "asyncio_load",
    "open_load",
    "overload",
    "loadgen",
    "cpu_use",
    "web_throughput",
    "accelerate",
)

ON_REQUEST = ("servers",)
"""Cases that are measured only when they are named: this one installs a gigabyte of other people's servers."""
