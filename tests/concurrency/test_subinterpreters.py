"""A subinterpreter is told at once that infersdk does not work there, and what to do."""

from __future__ import annotations

import importlib.util

import pytest

from tests.concurrency.conftest import RunProgram

pytestmark = pytest.mark.skipif(
    not any(map(importlib.util.find_spec, ("_interpreters", "_xxsubinterpreters"))),
    reason="this Python has no subinterpreters",
)

# Modules of the interpreters differ by version: what is raised is written down inside.
PRELUDE = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

SOURCE = '''
import os
try:
    import infersdk
except ImportError as error:
    said = str(error)
else:
    said = "imported"
os.write({fd}, said.encode())
'''

def said_inside():
    reading, writing = os.pipe()
    interpreter = interpreters.create()
    interpreters.run_string(interpreter, SOURCE.format(fd=writing))
    os.close(writing)
    interpreters.destroy(interpreter)
    with open(reading) as file:
        return file.read()
"""


@pytest.mark.parametrize("main", ["uses infersdk too", "does not"])
def test_the_import_is_refused(run_program: RunProgram, main: str) -> None:
    use = "import infersdk" if main == "uses infersdk too" else ""
    said = run_program(PRELUDE + use + "\nprint(said_inside())\nimport infersdk\n")
    assert "infersdk works in the main interpreter of a process only" in said
    assert "WSGIApplicationGroup %{GLOBAL}" in said


def test_the_main_interpreter_goes_on_answering(run_program: RunProgram) -> None:
    run_program(
        PRELUDE
        + """
import infersdk
from tests.concurrency.models import rows_of

row = rows_of(1, seed=1)[0]
predictor = infersdk.load(f"{folder}/mlp.onnx", batching=infersdk.Batching(enabled=True))
expected = predictor.predict(row).tobytes()
said_inside()
assert predictor.predict(row).tobytes() == expected
"""
    )
