"""What /openapi.json says is what is answered, by schemathesis's checks against a real server.

INFERSDK_SCHEMATHESIS is how many examples of each operation are made up (by default few), INFERSDK_SCHEMATHESIS_SEED
where they begin:

    INFERSDK_SCHEMATHESIS=200 pytest tests/web/robustness/test_schemathesis.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.web.servers import ROOT, serve

N = int(os.environ.get("INFERSDK_SCHEMATHESIS", "2"))
SEED = os.environ.get("INFERSDK_SCHEMATHESIS_SEED", "1")

_CHECKS = "tests.web.robustness.schemathesis_checks"
_OURS = "negative_data_rejection,positive_data_acceptance"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "models", "phases"),
    [
        ({}, ("mixed", "texts", "network"), "examples,coverage,fuzzing"),
        ({"token": "secret"}, ("mixed", "network"), "fuzzing"),
    ],
    ids=["open", "token"],
)
def test_the_document_and_the_answers_agree(
    settings: dict[str, Any],
    models: tuple[str, ...],
    phases: str,
    model_paths: dict[str, Path],
    tmp_path: Path,
) -> None:
    pytest.importorskip("schemathesis")
    program = Path(sys.executable).with_name("st")
    config = tmp_path / "schemathesis.toml"
    config.write_text(f'hooks = "{_CHECKS}"\n[generation]\nmax-examples = {N}\n')
    environment = {
        "MODELS": json.dumps({name: str(model_paths[name]) for name in models}),
        "SETTINGS": json.dumps(settings),
    }
    header = ["-H", "Authorization: Bearer secret"] if settings else []
    app = "tests.web.robustness.served_app:asgi"
    with serve("uvicorn", app, tmp_path, environment=environment) as server:
        ran = subprocess.run(
            [
                *(program, "--config-file", config, "run"),
                f"http://127.0.0.1:{server.port}/openapi.json",
                *("--checks", "all", "--exclude-checks", _OURS, "--phases", phases),
                *("--seed", SEED, "--continue-on-failure", *header),
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert "Traceback" not in server.log()
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
    # That the checks were ours, and not none.
    assert "passed" in ran.stdout
