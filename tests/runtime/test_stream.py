"""Models with a state: what each caller carries from call to call."""

from __future__ import annotations

import asyncio
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, parser

import infersdk
from infersdk import Execution
from infersdk.runtime.stream import Stream

CELL = """
<ir_version: 10, opset_import: ["": 20]>
cell (float[N, 3] x, float[N, 4] state, float scale) => (float[N, 4] y, float[N, 4] next)
<float[3, 4] W = {0.1, -0.2, 0.3, 0.4, 0.5, 0.6, -0.7, 0.8, 0.9, 1.0, -1.1, 1.2},
 float[4, 4] U = {0.3, 0.1, 0.0, -0.2, 0.5, 0.2, 0.1, 0.0, -0.4, 0.1, 0.3, 0.2, 0.1, 0.0, 0.2, -0.6}>
{
    a = MatMul(x, W)
    b = MatMul(state, U)
    c = Add(a, b)
    next = Tanh(c)
    y = Mul(next, scale)
}
"""
ROWS = CELL.replace(", float scale", "").replace("Mul(next, scale)", "Neg(next)")
N_STEPS = 12


def _cell(text: str = CELL) -> ModelProto:
    return parser.parse_model(text)


SCALE = np.array(2.0, np.float32)


def _oracle(model: ModelProto, steps: np.ndarray, **fixed: np.ndarray) -> list[np.ndarray]:
    """One caller after another through onnxruntime's own Python API."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    state = np.zeros((1, 4), np.float32)
    answers = []
    for x in steps:
        y, state = session.run(["y", "next"], {"x": x, "state": state, **fixed})
        answers.append(y)
    return answers


def _steps(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(N_STEPS, 1, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def predictor() -> Any:
    with infersdk.load(_cell(), name="cell", execution=Execution(threads=1)) as predictor:
        yield predictor


def _stream(predictor: Any, **settings: Any) -> Stream:
    return predictor.stream({"state": "next"}, fixed={"scale": SCALE}, **settings)


def test_state_is_carried_from_call_to_call(predictor: Any) -> None:
    steps = _steps(0)
    stream = _stream(predictor)
    ours = [stream(x) for x in steps]
    np.testing.assert_array_equal(ours, _oracle(_cell(), steps, scale=SCALE))
    np.testing.assert_array_equal(stream.state["state"], ours[-1] / 2)


def test_inputs_by_name_and_by_position_are_one(predictor: Any) -> None:
    x = _steps(1)[0]
    np.testing.assert_array_equal(_stream(predictor)(x), _stream(predictor)(x=x))


def test_state_goes_on_elsewhere_and_starts_anew(predictor: Any) -> None:
    steps = _steps(2)
    expected = _oracle(_cell(), steps, scale=SCALE)
    first = _stream(predictor)
    for x in steps[:5]:
        first(x)
    sent = pickle.loads(pickle.dumps(first.state))
    second = _stream(predictor, initial=sent)
    np.testing.assert_array_equal([second(x) for x in steps[5:]], expected[5:])
    second.reset()
    np.testing.assert_array_equal(second(steps[0]), expected[0])


def test_threads_and_tasks_keep_their_own_states() -> None:
    # Rows of this model are independent: calls of several streams may share a run.
    model = _cell(ROWS)
    callers = [_steps(seed) for seed in range(8)]
    expected = [_oracle(model, steps) for steps in callers]
    with infersdk.load(
        model, name="rows", execution=Execution(threads=1, release_gil=True)
    ) as predictor:

        def follow(steps: np.ndarray) -> list[np.ndarray]:
            stream = predictor.stream({"state": "next"})
            return [stream(x) for x in steps]

        with ThreadPoolExecutor(8) as pool:
            ours = list(pool.map(follow, callers))
        np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-6)

        async def afollow(steps: np.ndarray) -> list[np.ndarray]:
            stream = predictor.stream({"state": "next"})
            return [await stream.acall(x) for x in steps]

        async def all_of_them() -> list[Any]:
            return await asyncio.gather(*map(afollow, callers))

        np.testing.assert_allclose(asyncio.run(all_of_them()), expected, rtol=1e-6, atol=1e-6)


def test_a_call_that_fails_leaves_the_state(predictor: Any) -> None:
    steps = _steps(3)
    stream = _stream(predictor)
    stream(steps[0])
    before = stream.state["state"].copy()
    with pytest.raises(infersdk.InputError):
        stream(np.zeros((1, 7), np.float32))
    np.testing.assert_array_equal(stream.state["state"], before)
    np.testing.assert_array_equal(stream(steps[1]), _oracle(_cell(), steps, scale=SCALE)[1])


def test_two_calls_at_once_are_refused() -> None:
    inside, go_on = threading.Event(), threading.Event()

    class Slow:
        """Answers when it is told to."""

        def __init__(self, predictor: Any) -> None:
            self.name, self.signature = predictor.name, predictor.signature

        def __call__(self, rows: Any, **options: Any) -> dict[str, Any]:
            inside.set()
            assert go_on.wait(60)
            return {"y": rows["x"], "next": rows["state"]}

    with infersdk.load(_cell(ROWS)) as predictor, ThreadPoolExecutor(1) as pool:
        stream = Stream(Slow(predictor), {"state": "next"})  # type: ignore[arg-type]
        x = _steps(4)[0]
        first = pool.submit(stream, x)
        assert inside.wait(60)
        with pytest.raises(infersdk.SessionError, match="one stream for each caller"):
            stream(x)
        go_on.set()
        np.testing.assert_array_equal(first.result(60), x)


def test_a_torch_module_with_a_tuple_for_an_answer() -> None:
    torch = pytest.importorskip("torch", reason="the source model is PyTorch's")

    class Recurrent(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = torch.nn.GRUCell(3, 4)

        def forward(self, x: Any, h: Any) -> Any:
            h = self.cell(x, h)
            return 2 * h, h

    torch.manual_seed(0)
    module = Recurrent().eval()
    steps = _steps(5)
    example = (torch.zeros(2, 3), torch.zeros(2, 4))
    with infersdk.load(module, example=example) as predictor:
        stream = predictor.stream({"h": 1}, initial={"h": np.zeros((1, 4), np.float32)})
        ours = [stream(x) for x in steps]
    h = torch.zeros(1, 4)
    with torch.no_grad():
        for x, y in zip(steps, ours, strict=True):
            expected, h = module(torch.from_numpy(x), h)
            np.testing.assert_allclose(y, expected.numpy(), rtol=1e-5, atol=1e-6)


def test_mistakes_are_named(predictor: Any) -> None:
    with pytest.raises(
        ValueError, match=r"inputs of model `cell`, which are x, state, scale, got 'h'"
    ):
        predictor.stream({"h": "next"})
    with pytest.raises(ValueError, match=r"among the outputs .* 'y', 'next', got 'nxt'"):
        predictor.stream({"state": "nxt"})
    with pytest.raises(ValueError, match=r"both - state"):
        predictor.stream({"state": "next"}, fixed={"state": 1})
    with pytest.raises(ValueError, match=r"first state of state, got x"):
        _stream(predictor, initial={"x": 1})
    stream = _stream(predictor)
    with pytest.raises(infersdk.InputError, match=r"at most 1 inputs \(x\), got 2"):
        stream(1, 2)
    with pytest.raises(infersdk.InputError, match=r"each of the inputs x once, got `scale`"):
        stream(scale=1)
    with pytest.raises(infersdk.InputError, match="`x` twice"):
        stream(1, x=1)
    with pytest.raises(TypeError, match=r"send stream\.state"):
        pickle.dumps(stream)
    assert repr(stream) == "<Stream through `cell`: state <- next>"


def test_a_model_without_a_next_state_is_refused() -> None:
    text = '<ir_version: 10, opset_import: ["": 20]> f (float[N] x) => (float[N] y) { y = Neg(x) }'
    with (
        infersdk.load(_cell(text), name="flat") as predictor,
        pytest.raises(ValueError, match="answers several of them"),
    ):
        predictor.stream({"x": "y"})
