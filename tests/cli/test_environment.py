"""What the doctor knows of packages, and what it makes of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from infersdk.cli.environment import RULES, TESTED, examine, judge
from infersdk.cli.versions import VARIANTS, holds, installed, release, requirements

ROOT = Path(__file__).parents[2]
SOUND = {"numpy": "2.4.6", "onnx": "1.23.2", "onnxruntime": "1.31.1"}


def _pins() -> dict[str, str]:
    text = (ROOT / "constraints.txt").read_text()
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([0-9.]+)", text, re.MULTILINE))


@pytest.mark.parametrize(
    ("condition", "truth"),
    [
        ("protobuf >= 7", True),
        ("protobuf<7", False),
        ("protobuf == 7.1", True),
        ("protobuf > 7.1.0", False),
        ("torch", False),
        ("torch < 99", False),
        ("xgboost >= 3.2", True),
        ("xgboost-cpu <= 3.2.0", True),
    ],
)
def test_conditions(condition: str, truth: bool) -> None:
    assert holds(condition, {"protobuf": "7.1.0", "xgboost-cpu": "3.2.0"}) is truth


def test_a_condition_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="Expected a condition such as"):
        holds("protobuf => 7", {})


def test_versions_compare_by_their_numbers() -> None:
    assert release("2.13.0+cpu") == (2, 13)
    assert release("10.0rc1") == (10,) > release("9.9")
    assert release("unknown") == (0,)


def test_requirements_are_those_of_pyproject() -> None:
    asked = {name: (extra, conditions) for name, extra, conditions in requirements()}
    assert asked["numpy"][0] is None
    assert asked["numpy"][1][0].startswith("numpy >=")
    assert asked["lightgbm"][0] in ("lightgbm", "all", "test")
    assert requirements("no-such-distribution") == []
    assert installed(["no-such-distribution", "numpy"]).keys() == {"numpy"}


def test_the_tested_versions_are_those_of_the_constraints() -> None:
    pins = _pins()
    for name, newest in TESTED.items():
        pinned = [pins[one] for one in VARIANTS.get(name, (name,)) if one in pins]
        if pinned:
            assert release(pinned[0])[:2] == release(newest), name


def test_every_rule_names_known_conditions_and_says_what_to_do() -> None:
    for rule in RULES:
        assert rule.why
        assert rule.do
        for condition in (*rule.when, *rule.unless):
            assert holds(condition, {}) is False


def test_a_sound_environment_has_no_findings() -> None:
    assert judge(SOUND) == ()


@pytest.mark.parametrize(
    ("packages", "level", "what", "do"),
    [
        (
            {"skl2onnx": "1.20.0", "protobuf": "7.0.1"},
            "problem",
            "protobuf 7.0.1 and skl2onnx 1.20.0",
            "protobuf>=6.31.1,<7",
        ),
        ({"numpy": "1.26.4"}, "problem", "numpy 1.26.4", "numpy>=2.0"),
        (
            {"onnxruntime-gpu": "1.31.1"},
            "problem",
            "onnxruntime and onnxruntime-gpu",
            "pip uninstall onnxruntime onnxruntime-gpu",
        ),
        ({"tf2onnx": "1.16.1"}, "problem", "tf2onnx 1.16.1 and numpy", "tf2onnx>=1.17"),
        ({"lightgbm": "3.3.5"}, "problem", "lightgbm 3.3.5", "lightgbm>=4.6"),
        ({"xgboost": "99.0"}, "note", "xgboost 99.0", "parity report"),
        ({"torch": "2.13.0"}, "note", "torch 2.13.0 without onnxscript", "infersdk[torch]"),
        (
            {"scikit-learn": "1.9.1", "skl2onnx": "1.18.0"},
            "note",
            "scikit-learn 1.9.1 and skl2onnx 1.18.0",
            "skl2onnx>=1.20",
        ),
    ],
)
def test_known_bad_combinations_are_found(
    packages: dict[str, str], level: str, what: str, do: str
) -> None:
    found = judge({**SOUND, **packages})
    assert len(found) == 1
    assert found[0].level == level
    assert found[0].what.startswith(what)
    assert do in found[0].do


def test_a_missing_and_a_broken_runtime_are_told_apart() -> None:
    missing = judge({"numpy": "2.4.6", "onnx": "1.23.2"})
    assert [finding.what for finding in missing] == ["onnxruntime is not installed"]
    assert "infersdk[cpu]" in missing[0].do
    broken = judge(SOUND, library_problem="cannot open shared object file")
    assert broken[0].why == "cannot open shared object file"


def test_problems_come_before_notes_and_a_gpu_that_lies_idle_is_noted() -> None:
    found = judge(
        {**SOUND, "torch": "2.13.0", "numpy": "1.26.4"},
        providers=("CPUExecutionProvider",),
        has_gpu=True,
    )
    assert [finding.level for finding in found] == ["problem", "note", "note"]
    assert found[-1].what == "NVIDIA GPU"
    idle = judge(SOUND, providers=("CUDAExecutionProvider", "CPUExecutionProvider"), has_gpu=True)
    assert idle == ()


def test_spark_needs_java() -> None:
    packages = {**SOUND, "pyspark": "4.3.0"}
    assert judge(packages) == ()
    (found,) = judge(packages, has_java=False)
    assert (found.level, found.what) == ("note", "pyspark 4.3.0 without Java")


def test_this_environment_is_examined_without_importing_a_framework() -> None:
    code = """
import sys
from infersdk.cli.environment import examine
found = examine()
assert found.onnxruntime, found.library
assert "CPUExecutionProvider" in found.providers
assert 1 <= found.threads <= found.cores
heavy = {"onnxruntime", "pandas", "sklearn", "xgboost", "lightgbm", "torch", "tensorflow", "jax", "typer", "rich"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_telemetry_is_off_unless_its_user_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    assert examine().telemetry is False
    assert "ORT_DISABLE_TELEMETRY" not in os.environ
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    assert examine().telemetry is True
