"""MLPerf's load generator: the Server scenario (Poisson arrivals, a bound on p99) and the Offline one.

LoadGen calls us for each query; a queue hands it to a pool of waiting threads, the same for every rival,
and these report it done. Rivals that are awaited get it as a task on an event loop in a thread of its own. Whether a run was valid LoadGen writes into a summary, which is read back. Runs
here last seconds where a submission's last ten minutes: the way of measuring is MLPerf's, the results are
none of MLPerf's.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

from benchmarks.load.answers import EVERY, Expected

__all__ = ["loadgen", "read_summary"]

MIN_QUERIES = 1000
"""Fewer say too little about a p99."""


def loadgen(
    run: Callable[[int], Any] | None,
    *,
    arun: Callable[[int], Awaitable[Any]] | None = None,
    scenario: Literal["server", "offline"],
    target_per_s: float,
    seconds: float,
    n_rows: int,
    n_threads: int = 32,
    latency_bound_s: float = 0.01,
    seed: int = 7,
    expected: Expected | None = None,
) -> dict[str, float]:
    """Run LoadGen once.

    Parameters
    ----------
    scenario : {"server", "offline"}
    target_per_s : float
        Server: the arrival rate. Offline: the rate expected, by which LoadGen makes the one large query.
    latency_bound_s : float
        Server: 99 % of the answers must come within that time.

    Returns
    -------
    dict
        ``valid`` (0 or 1), ``throughput_per_s`` (completed; offline: LoadGen's samples per second),
        ``mean_us``, ``p50_us``, ``p99_us``, ``wrong``.
    """
    import mlperf_loadgen as mlperf

    queue: SimpleQueue[tuple[int, int] | None] = SimpleQueue()
    kept: list[tuple[int, Any]] = []
    errors: list[BaseException] = []
    response = mlperf.QuerySampleResponse
    complete = mlperf.QuerySamplesComplete

    async def task(identity: int, row: int) -> None:
        assert arun is not None
        try:
            answer = await arun(row)
            if identity % EVERY == 0:
                kept.append((row, answer))
        except BaseException as error:
            errors.append(error)
        complete([response(identity, 0, 0)])

    loop = asyncio.new_event_loop()
    tasks: set[asyncio.Task[None]] = set()

    def start(queries: list[tuple[int, int]]) -> None:
        for identity, row in queries:
            one = loop.create_task(task(identity, row))
            tasks.add(one)
            one.add_done_callback(tasks.discard)

    def caller() -> None:
        assert run is not None
        while (query := queue.get()) is not None:
            identity, row = query
            try:
                answer = run(row)
                if identity % EVERY == 0:
                    kept.append((row, answer))
            except BaseException as error:
                errors.append(error)
            complete([response(identity, 0, 0)])  # without it LoadGen would wait for ever

    def issue(samples: list[Any]) -> None:
        if arun is not None:
            loop.call_soon_threadsafe(start, [(one.id, one.index) for one in samples])
            return
        for sample in samples:
            queue.put((sample.id, sample.index))

    settings = mlperf.TestSettings()
    settings.mode = mlperf.TestMode.PerformanceOnly
    settings.min_duration_ms = int(seconds * 1e3)
    settings.max_duration_ms = int(seconds * 4e3)
    settings.qsl_rng_seed = settings.sample_index_rng_seed = settings.schedule_rng_seed = seed
    if scenario == "server":
        settings.scenario = mlperf.TestScenario.Server
        settings.server_target_qps = target_per_s
        settings.server_target_latency_ns = int(latency_bound_s * 1e9)
        settings.server_target_latency_percentile = 0.99
        settings.min_query_count = min(MIN_QUERIES, int(target_per_s * seconds))
        # More waiting than that for some seconds is far beyond any bound: LoadGen ends the run.
        settings.server_max_async_queries = max(1000, int(target_per_s * 0.5))
    else:
        settings.scenario = mlperf.TestScenario.Offline
        settings.offline_expected_qps = target_per_s
        settings.min_query_count = 1
    if arun is None:
        threads = [threading.Thread(target=caller, daemon=True) for _ in range(n_threads)]
    else:
        threads = [threading.Thread(target=loop.run_forever, daemon=True)]
    for thread in threads:
        thread.start()
    sut = mlperf.ConstructSUT(issue, lambda: None)
    rows = mlperf.ConstructQSL(n_rows, n_rows, lambda _: None, lambda _: None)
    with tempfile.TemporaryDirectory(prefix="infersdk-loadgen-") as folder:
        log = mlperf.LogSettings()
        log.log_output.outdir = folder
        log.log_output.copy_summary_to_stdout = False
        log.enable_trace = False
        try:
            mlperf.StartTestWithLogSettings(sut, rows, settings, log, "")
        finally:
            if arun is None:
                for _ in threads:
                    queue.put(None)
            else:
                loop.call_soon_threadsafe(loop.stop)
            for thread in threads:
                thread.join()
            loop.close()
            mlperf.DestroyQSL(rows)
            mlperf.DestroySUT(sut)
        summary = (Path(folder) / "mlperf_log_summary.txt").read_text()
    if errors:
        raise errors[0]
    figures = read_summary(summary)
    if expected is not None:
        figures["wrong"] = expected.wrong(kept)
    return figures


def read_summary(summary: str) -> dict[str, float]:
    """The figures of LoadGen's own summary, under our names.

    Raises
    ------
    ValueError
        There is no verdict in it.
    """
    verdict = re.search(r"^Result is\s*:\s*(VALID|INVALID)", summary, re.MULTILINE)
    if verdict is None:
        raise ValueError(f"Expected LoadGen's summary with a line `Result is`, got {summary!r}")
    figures = {"valid": float(verdict[1] == "VALID")}
    for name, pattern, scale in (
        ("throughput_per_s", r"Samples per second", 1.0),
        ("throughput_per_s", r"Completed samples per second", 1.0),
        ("mean_us", r"Mean latency \(ns\)", 1e-3),
        ("p50_us", r"50\.00 percentile latency \(ns\)", 1e-3),
        ("p99_us", r"99\.00 percentile latency \(ns\)", 1e-3),
    ):
        found = re.search(rf"^{pattern}\s*:\s*([0-9.eE+]+)", summary, re.MULTILINE)
        if found is not None:
            figures[name] = scale * float(found[1])
    return figures
