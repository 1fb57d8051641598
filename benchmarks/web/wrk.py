"""wrk, the load generator: run it, and read what it says.

wrk answers in a few microseconds what a client in Python needs hundreds for, so most of the two cores is left to
the server. One thread of it is enough. ``rotate.lua`` sends another body each time, and prints the figures as
one line of JSON.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Load", "MissingToolError", "WrkError", "find", "load", "read"]

SCRIPT = Path(__file__).with_name("rotate.lua")
MARK = "FIGURES "
CONNECTIONS = 32


class MissingToolError(Exception):
    """A program that the benchmark runs is not installed."""


class WrkError(Exception):
    """wrk failed, or did not say what it measured."""


@dataclass(frozen=True, slots=True)
class Load:
    """What came of one run of wrk.

    Parameters
    ----------
    requests_per_s : float
    p50_ms, p99_ms, max_ms : float
        Of a request, from sending it to the end of its answer.
    requests : int
    errors : dict of str to int
        How many of each kind: ``connect``, ``read``, ``write`` and ``timeout`` of sockets, ``status`` for answers
        of 400 and above. Kinds that did not occur are left out.
    """

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    requests: int
    errors: dict[str, int]


def find() -> str:
    """The path of wrk.

    Raises
    ------
    MissingToolError
        It is not installed.
    """
    path = shutil.which("wrk")
    if path is None:
        raise MissingToolError(
            "The web benchmarks need wrk, which is not installed: apt-get install wrk"
        )
    return path


def load(port: int, path: str, bodies: Path, *, seconds: int) -> Load:
    """POST bodies to 127.0.0.1, from 32 connections, as fast as the answers come.

    Parameters
    ----------
    port : int
    path : str
    bodies : Path
        A file with one JSON body a line.
    seconds : int

    Raises
    ------
    MissingToolError
        wrk is not installed.
    WrkError
        It ended with an error, or did not say what it measured.
    """
    command = [
        *(find(), "--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{seconds}s"),
        *("--timeout", "10s", "--script", str(SCRIPT), f"http://127.0.0.1:{port}{path}"),
        *("--", str(bodies)),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds + 60, check=False
    )
    if done.returncode:
        raise WrkError(f"wrk ended with {done.returncode}: {done.stdout}{done.stderr}")
    return read(done.stdout)


def read(said: str) -> Load:
    """Read the figures from what wrk printed.

    Raises
    ------
    WrkError
        They are not there.
    """
    for line in said.splitlines():
        if line.startswith(MARK):
            figures = json.loads(line.removeprefix(MARK))
            return Load(
                requests_per_s=figures["requests"] / (figures["duration_us"] / 1e6),
                p50_ms=figures["p50_us"] / 1e3,
                p99_ms=figures["p99_us"] / 1e3,
                max_ms=figures["max_us"] / 1e3,
                requests=figures["requests"],
                errors={kind: count for kind, count in figures["errors"].items() if count},
            )
    raise WrkError(f"Expected wrk to print a line that begins with {MARK!r}, got: {said!r}")
