"""Settings of the whole test run."""

from __future__ import annotations

import os

# Before any framework is imported: tests run side by side on few cores, and the OpenMP pools of
# several frameworks in one process would fight over them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

from hypothesis import HealthCheck, settings

settings.register_profile(
    "infersdk", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("infersdk")

pytest_plugins = ["pytester"]
