"""The thread budget: affinity, cgroup quotas of both versions, and workers of servers."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from infersdk import Execution, Predictor
from infersdk.convert.conversion import Conversion
from infersdk.runtime import predictor as predictor_module
from infersdk.runtime import threads
from infersdk.runtime.threads import default_threads, thread_budget

CORES = 12


@pytest.fixture(autouse=True)
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with CORES cores, all of them this process's."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(CORES)), raising=False)


def tree(root: Path, cgroup: str | None, files: dict[str, str]) -> Path:
    """A file system with this /proc/self/cgroup and these files under /sys/fs/cgroup."""
    if cgroup is not None:
        path = root / "proc/self/cgroup"
        path.parent.mkdir(parents=True)
        path.write_text(cgroup)
    for name, content in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        # Version 2: quota and period of the group, then of those above it.
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "max 100000\n"}, CORES),
        ("0::/app\n", {"app/cpu.max": "300000 100000\n"}, 3),
        ("0::/app/web\n", {"app/web/cpu.max": "max 100000\n", "app/cpu.max": "400000 100000"}, 4),
        ("0::/app/web\n", {"app/web/cpu.max": "500000 100000", "app/cpu.max": "200000 100000"}, 2),
        ("0::/app/web\n", {"app/web/cpu.max": "200000 100000", "app/cpu.max": "500000 100000"}, 2),
        ("0::/app/web\n", {"cpu.max": "100000 100000"}, 1),
        # A part of a core is one more thread; less than one core is still one.
        ("0::/\n", {"cpu.max": "150000 100000"}, 2),
        ("0::/\n", {"cpu.max": "100001 100000"}, 2),
        ("0::/\n", {"cpu.max": "25000 100000"}, 1),
        ("0::/\n", {"cpu.max": "2000000 100000"}, CORES),
        ("0::/\n", {"cpu.max": "350000 50000"}, 7),
        # A container whose own group is mounted as the root, but named from outside it.
        ("0::/../../other\n", {"cpu.max": "300000 100000"}, 3),
        # A group whose name has a colon.
        ("0::/a:b\n", {"a:b/cpu.max": "300000 100000"}, 3),
        # Version 1: the controllers' folder is named alike, or is `cpu`.
        (
            "4:cpu,cpuacct:/job\n",
            {
                "cpu,cpuacct/job/cpu.cfs_quota_us": "250000",
                "cpu,cpuacct/job/cpu.cfs_period_us": "100000",
            },
            3,
        ),
        (
            "4:cpu,cpuacct:/job\n",
            {"cpu/job/cpu.cfs_quota_us": "100000\n", "cpu/job/cpu.cfs_period_us": "50000\n"},
            2,
        ),
        (
            "4:cpuacct,cpu:/docker/0123\n3:memory:/docker/0123\n",
            {"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"},
            4,
        ),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, CORES),
        ("4:cpuset:/\n", {"cpuset/cpu.cfs_quota_us": "100000"}, CORES),
        # Both versions at once: the tightest wins.
        (
            "1:cpu:/\n0::/\n",
            {
                "cpu/cpu.cfs_quota_us": "300000",
                "cpu/cpu.cfs_period_us": "100000",
                "cpu.max": "500000 100000",
            },
            3,
        ),
        # No cgroups, or files that make no sense, are no limit.
        (None, {}, CORES),
        ("", {}, CORES),
        ("\n\nnonsense\n", {"cpu.max": "100000 100000"}, CORES),
        ("0::/\n", {}, CORES),
        ("0::/\n", {"cpu.max": ""}, CORES),
        ("0::/\n", {"cpu.max": "100000"}, CORES),
        ("0::/\n", {"cpu.max": "many 100000"}, CORES),
        ("0::/\n", {"cpu.max": "100000 0"}, CORES),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "0"}, CORES),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "100000"}, CORES),
    ],
)
def test_the_budget_is_the_tightest_quota(
    tmp_path: Path, cgroup: str | None, files: dict[str, str], expected: int
) -> None:
    assert thread_budget(tree(tmp_path, cgroup, files)) == expected


def test_affinity_bounds_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(tmp_path, "0::/\n", {"cpu.max": "800000 100000"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5}, raising=False)
    assert thread_budget(root) == 2


def test_where_there_is_no_affinity_the_hosts_cores_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert thread_budget(tmp_path) == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert thread_budget(tmp_path) == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPU affinity on this platform")
def test_a_process_that_is_bound_to_one_core_gets_one() -> None:
    code = (
        "import os\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from infersdk.runtime.threads import thread_budget\n"
        "print(thread_budget())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "1"


@pytest.mark.parametrize("module", threads._WORKER_MODULES)
def test_a_servers_worker_gets_one_thread(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    for name in threads._WORKER_MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(threads, "thread_budget", lambda: 7)
    assert default_threads() == 7
    monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
    assert default_threads() == 1


def test_flask_and_gunicorns_package_alone_are_no_worker() -> None:
    """A script that only imports the web framework has the machine to itself."""
    pytest.importorskip("flask")
    pytest.importorskip("gunicorn")
    code = (
        "import flask, gunicorn\n"
        "from infersdk.runtime import threads\n"
        "threads.thread_budget = lambda: 7\n"
        "print(threads.default_threads())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "7"


@pytest.mark.parametrize(("chosen", "expected"), [(None, 5), (1, 1), (3, 3)])
def test_a_predictors_sessions_get_the_budget_or_the_users_number(
    onnx_conversion: Conversion,
    monkeypatch: pytest.MonkeyPatch,
    chosen: int | None,
    expected: int,
) -> None:
    given = []
    session_type = predictor_module.Session

    def open_session(*args: object, **kwargs: object) -> object:
        given.append(kwargs["threads"])
        return session_type(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(predictor_module, "Session", open_session)
    monkeypatch.setattr(predictor_module, "default_threads", lambda: 5)
    Predictor(onnx_conversion, execution=Execution(threads=chosen)).warm_up()
    assert given == [expected] * 3
