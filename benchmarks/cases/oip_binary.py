"""An image as JSON and as raw bytes, to one server: ``python -m benchmarks.cases.oip_binary [--seconds 5]``

Not part of ``make bench``, whose web apps all take the same rows. One image of 1x3x296x296 values (a megabyte of
float32, a quarter of one of uint8) is POSTed to a small convolutional network by the Open Inference Protocol: as a
list in JSON, and by the binary tensor extension. The two forms take turns on one server in each round, and each must
first give ONNX Runtime's own answer. The ratio is of requests a second within rounds; ``cpu`` is the server's
processor time for one request. That a body of raw bytes is copied at most once on its way to the model is a test's
affair: ``tests/web/protocols/test_oip.py``.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.web import wrk
from benchmarks.web.server import Serving, serving

__all__ = ["Form", "main"]

SHAPE = (1, 3, 296, 296)
PATH = "/models/v2/models/image/infer"
SCRIPT = Path(__file__).parents[1] / "web" / "body.lua"
CONNECTIONS = 8
DATATYPES = {"float32": "FP32", "uint8": "UINT8"}
SERVERS = {
    "uvicorn": "benchmarks.web.apps.asgi_oip",
    "granian-asgi": "benchmarks.web.apps.asgi_oip",
    "gunicorn": "benchmarks.web.apps.flask_oip",
}


@dataclass(frozen=True, slots=True)
class Form:
    """One way to send the image.

    Attributes
    ----------
    name : str
    body : Path
    headers : Mapping of str to str
    """

    name: str
    body: Path
    headers: Mapping[str, str]


def write_model(path: Path, dtype: str) -> None:
    """Write a network of one convolution, seeded: a few hundred microseconds of work."""
    from onnx import helper, numpy_helper, save

    rng = np.random.default_rng(0)
    weights = {
        "kernel": rng.normal(size=(4, 3, 8, 8)).astype(np.float32),
        "dense": rng.normal(size=(4, 10)).astype(np.float32),
    }
    number = {"float32": 1, "uint8": 2}[dtype]
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["floats"], to=1),
            helper.make_node("Conv", ["floats", "kernel"], ["found"], strides=[8, 8]),
            helper.make_node("Relu", ["found"], ["positive"]),
            helper.make_node("GlobalAveragePool", ["positive"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("MatMul", ["flat", "dense"], ["scores"]),
        ],
        "image",
        [helper.make_tensor_value_info("image", number, ["N", *SHAPE[1:]])],
        [helper.make_tensor_value_info("scores", 1, ["N", 10])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)


def make_image(dtype: str) -> NDArray[Any]:
    rng = np.random.default_rng(1)
    if dtype == "uint8":
        return rng.integers(0, 256, SHAPE, dtype=np.uint8)
    return rng.random(SHAPE, dtype=np.float32)


def write_forms(folder: Path, image: NDArray[Any]) -> list[Form]:
    """Write both bodies."""
    tensor = {"name": "image", "datatype": DATATYPES[image.dtype.name], "shape": SHAPE}
    flat = [float(str(value)) if image.dtype.kind == "f" else int(value) for value in image.ravel()]
    text = json.dumps({"inputs": [{**tensor, "data": flat}]}, separators=(",", ":"))
    (folder / "json").write_text(text)
    header = json.dumps(
        {"inputs": [{**tensor, "parameters": {"binary_data_size": image.nbytes}}]},
    ).encode()
    header += b" " * (-len(header) % 16)  # so that the numbers lie where they can be read
    (folder / "binary").write_bytes(header + image.tobytes())
    return [
        Form("json", folder / "json", {"Content-Type": "application/json"}),
        Form(
            "binary",
            folder / "binary",
            {
                "Content-Type": "application/octet-stream",
                "Inference-Header-Content-Length": str(len(header)),
            },
        ),
    ]


def check(port: int, form: Form, expected: NDArray[Any]) -> None:
    """Ask once, and compare.

    Raises
    ------
    AssertionError
        The answer is another.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", PATH, form.body.read_bytes(), dict(form.headers))
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise AssertionError(f"{form.name}: {response.status} {content[:500]!r}")
    (output,) = json.loads(content)["outputs"]
    np.testing.assert_allclose(
        np.reshape(output["data"], output["shape"]), expected, rtol=1e-4, atol=1e-4
    )


def load(server: Serving, form: Form, seconds: int) -> tuple[wrk.Load, float]:
    """Post one form as fast as answers come; also microseconds of processor time a request."""
    command = [
        *(wrk.find(), "--threads", "1", "--connections", str(CONNECTIONS)),
        *("--duration", f"{seconds}s", "--timeout", "20s", "--script", str(SCRIPT)),
        *(f"http://127.0.0.1:{server.port}{PATH}", "--", str(form.body)),
        *(part for header in form.headers.items() for part in header),
    ]
    before_s = server.cpu_s()
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds + 60, check=False
    )
    if done.returncode:
        raise wrk.WrkError(f"wrk ended with {done.returncode}: {done.stdout}{done.stderr}")
    found = wrk.read(done.stdout)
    return found, 1e6 * (server.cpu_s() - before_s) / max(1, found.requests)


def measure(server_name: str, dtype: str, rounds: int, seconds: int) -> dict[str, Any]:
    """Measure both forms on a server that is fresh in each round."""
    import onnxruntime

    turns: list[dict[str, tuple[wrk.Load, float]]] = []
    with tempfile.TemporaryDirectory(prefix="infersdk-bench-") as name:
        folder = Path(name)
        write_model(folder / "image.onnx", dtype)
        image = make_image(dtype)
        session = onnxruntime.InferenceSession(
            folder / "image.onnx", providers=["CPUExecutionProvider"]
        )
        (expected,) = session.run(None, {"image": image})
        forms = write_forms(folder, image)
        for number in range(rounds):
            with serving(server_name, SERVERS[server_name], folder) as server:
                for form in forms:
                    check(server.port, form, expected)
                    load(server, form, 1)
                order = forms if number % 2 else forms[::-1]
                turns.append({form.name: load(server, form, seconds) for form in order})
        sizes = {form.name: form.body.stat().st_size for form in forms}
    ratios = [turn["binary"][0].requests_per_s / turn["json"][0].requests_per_s for turn in turns]
    return {
        "server": server_name,
        "dtype": dtype,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "forms": {
            form: {
                "body_bytes": sizes[form],
                "requests_per_s": statistics.median(turn[form][0].requests_per_s for turn in turns),
                "p50_ms": statistics.median(turn[form][0].p50_ms for turn in turns),
                "p99_ms": statistics.median(turn[form][0].p99_ms for turn in turns),
                "cpu_us": statistics.median(turn[form][1] for turn in turns),
                "errors": [turn[form][0].errors for turn in turns if turn[form][0].errors],
            }
            for form in sizes
        },
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cases.oip_binary")
    parser.add_argument("--seconds", type=int, default=5, help="of each turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=["uvicorn", "gunicorn"])
    parser.add_argument("--dtypes", nargs="+", choices=DATATYPES, default=list(DATATYPES))
    parser.add_argument("--json", type=Path, help="write all figures there as well")
    options = parser.parse_args(arguments)
    print(
        f"{'server':<14}{'dtype':<9}{'form':<8}{'MB':>7}{'req/s':>9}{'p50 ms':>9}{'p99 ms':>9}"
        f"{'cpu us':>9}  ratio"
    )
    found = []
    for server in options.servers:
        for dtype in options.dtypes:
            result = measure(server, dtype, options.rounds, options.seconds)
            found.append(result)
            for form, figures in result["forms"].items():
                ratio = ""
                if form == "binary":
                    low, high = min(result["ratios"]), max(result["ratios"])
                    ratio = f"{result['ratio']:.1f} ({low:.1f}-{high:.1f})"
                print(
                    f"{server:<14}{dtype:<9}{form:<8}{figures['body_bytes'] / 1e6:>7.2f}"
                    f"{figures['requests_per_s']:>9,.0f}{figures['p50_ms']:>9.1f}"
                    f"{figures['p99_ms']:>9.1f}{figures['cpu_us']:>9,.0f}  {ratio}"
                    + (f"  INVALID: {figures['errors']}" if figures["errors"] else ""),
                    flush=True,
                )
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return int(any(form["errors"] for result in found for form in result["forms"].values()))


if __name__ == "__main__":
    raise SystemExit(main())
