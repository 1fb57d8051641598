"""The PyTorch converter, judged by torch itself; graphs are run by onnxruntime's own Python API."""

from __future__ import annotations

import copy
import io
import logging
import subprocess
import sys
import threading
import warnings
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest

import infersdk
from infersdk.convert import torch as converter
from infersdk.convert.conversion import convert_model
from infersdk.convert.torch_silence import quiet
from infersdk.errors import ConversionError, UnsupportedModelError
from infersdk.types import TensorSpec

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("onnxscript", reason="PyTorch's exporter needs onnxscript")
nn = torch.nn

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*nested tensors.*"),
    pytest.mark.filterwarnings("ignore:.*deprecated.*"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclass
class Scores:
    logits: torch.Tensor
    total: torch.Tensor


class Image(nn.Module):
    """A small CNN whose answers differ between training and eval mode."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5)
        )
        self.head = nn.Linear(6, 4)

    def forward(self, image):
        return self.head(self.features(image).mean((2, 3)))


class Series(nn.Module):
    def __init__(self, kind=nn.LSTM):
        super().__init__()
        self.recurrent = kind(4, 5, batch_first=True, bidirectional=True)
        self.head = nn.Linear(10, 3)

    def forward(self, x):
        return self.head(self.recurrent(x)[0][:, -1])


class Text(nn.Module):
    def __init__(self, nested=False):
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        self.position = nn.Parameter(torch.randn(40, 16))
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=nested)
        self.head = nn.Linear(16, 3)

    def forward(self, input_ids, attention_mask):
        x = self.embedding(input_ids) + self.position[: input_ids.shape[1]]
        return self.head(self.encoder(x, src_key_padding_mask=attention_mask == 0)[:, 0])


class Pooled(Text):
    def forward(self, input_ids, attention_mask):
        x = self.embedding(input_ids) + self.position[: input_ids.shape[1]]
        return self.encoder(x, src_key_padding_mask=attention_mask == 0).mean(1)


class Containers(nn.Module):
    """Gives its two answers in whichever container it is asked for."""

    def __init__(self, form):
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.form = form

    def forward(self, x):
        first, second = self.linear(x), x.sum(1)
        return {
            "tuple": lambda: (first, second),
            "named tuple": lambda: Pair(first, second),
            "list": lambda: [first, second],
            # The names of an input and of an inner value of the graph.
            "dict": lambda: {"x": first, "linear": second},
            "ordered dict": lambda: OrderedDict(logits=first, total=second),
            "dataclass": lambda: Scores(first, second),
            "same": lambda: (first, first, x),
            "nested": lambda: (first, (second, second)),
            "none": lambda: (first, None),
            "scalar": lambda: (first, 3),
            "text": lambda: "answer",
            "complex": lambda: torch.complex(first, first),
        }[self.form]()


class OneDict(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, batch):
        return self.linear(batch["a"]) + batch["b"]


class Skipping(nn.Module):
    """Has an optional argument between the two that are used."""

    def forward(self, x, type_ids=None, mask=None):
        answer = x if type_ids is None else x + type_ids
        return answer if mask is None else answer * mask


class Branch(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x * 2
        return x - 1


class BySize(nn.Module):
    def forward(self, x):
        return x * 2 if x.shape[0] > 4 else x - 1


class Loop(nn.Module):
    """Python's loop over the length is unrolled, so the graph is right for one length only."""

    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(4, 5)

    def forward(self, x):
        state = x.new_zeros(x.shape[0], 5)
        for step in range(x.shape[1]):
            state = self.cell(x[:, step], state)
        return state


class Classed(nn.Module):
    """A class token for each row: ``len(x)`` is a plain number to torch.export, unless it reads bytecode."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

    def forward(self, x):
        return self.encoder(torch.cat([self.token.expand(len(x), -1, -1), x], 1))[:, 0]


class Centered(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


class Squeezed(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 1)

    def forward(self, x):
        return self.linear(x).squeeze()


class Noisy(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x, 0.5)


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return x + self.calls


class Choice(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        return self.linear(x).argmax(1)


class Scripted(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x, shift):
        y = self.norm(self.linear(x)) + shift
        if bool(y.sum() > 0):
            return y * 2, y
        return y - 1, y


class Converted:
    """A model, its example and what the converter made of them."""

    def __init__(self, model, example=None, **options):
        self.model, self.example = model, example
        self.signature = converter.infer_signature(model, example)
        written = converter.to_onnx(model, self.signature, example=example, **options)
        self.graph, self.notes = written.graph, written.notes
        onnx.checker.check_model(self.graph)
        self.session = onnxruntime.InferenceSession(self.graph.SerializeToString())

    @property
    def inputs(self):
        return {item.name: tuple(item.shape) for item in self.session.get_inputs()}

    @property
    def outputs(self):
        return {item.name: tuple(item.shape) for item in self.session.get_outputs()}

    def run(self, *tensors):
        feeds = {
            item.name: tensor.numpy()
            for item, tensor in zip(self.session.get_inputs(), tensors, strict=True)
        }
        return self.session.run(None, feeds)

    def assert_like(self, expected, *tensors, rtol=1e-4, atol=1e-5):
        """Compare with the tensors that eager torch gave."""
        answers = self.run(*tensors)
        assert len(answers) == len(expected)
        for ours, theirs in zip(answers, expected, strict=True):
            assert ours.shape == tuple(theirs.shape)
            np.testing.assert_allclose(ours, theirs.numpy(), rtol=rtol, atol=atol)


def eager(model, *args, **kwargs):
    """What a copy of the model in eval mode answers."""
    with torch.inference_mode():
        return copy.deepcopy(model).eval()(*args, **kwargs)


def state_of(model):
    return (
        {name: tensor.clone() for name, tensor in model.state_dict().items()},
        [module.training for module in model.modules()],
        [parameter.requires_grad for parameter in model.parameters()],
    )


def assert_untouched(model, before):
    tensors, training, gradients = before
    after = model.state_dict()
    assert list(after) == list(tensors)
    for name, tensor in tensors.items():
        assert torch.equal(after[name], tensor), name
    assert [module.training for module in model.modules()] == training
    assert [parameter.requires_grad for parameter in model.parameters()] == gradients


def trained(model):
    """Give batch norms something to remember, and leave the model in training mode."""
    model.train()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
    return model


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(7)


@pytest.fixture(scope="module")
def image():
    torch.manual_seed(1)
    model = trained(Image())
    before = state_of(model)
    converted = Converted(model, torch.randn(2, 3, 12, 10))
    assert_untouched(model, before)
    return converted


@pytest.fixture(scope="module")
def text():
    torch.manual_seed(2)
    mask = torch.ones(5, 9, dtype=torch.int64)
    mask[2, 4:] = 0
    example = {"attention_mask": mask, "input_ids": torch.randint(0, 50, (5, 9))}
    return Converted(Text().eval(), example)


@pytest.fixture(scope="module")
def series():
    torch.manual_seed(3)
    return Converted(Series(), torch.randn(3, 6, 4))


# -- parity with torch -----------------------------------------------------------------------------


def test_a_model_in_training_mode_is_converted_as_eval_answers(image):
    assert image.inputs == {"image": ("N", 3, "height", "width")}
    assert image.outputs == {"output": ("N", 4)}
    for shape in ((1, 3, 12, 10), (2, 3, 12, 10), (7, 3, 5, 6)):
        x = torch.randn(shape)
        image.assert_like([eager(image.model, x)], x)
    assert any("eval()" in note for note in image.notes)


def test_a_first_linear_layer_needs_no_example():
    model = trained(nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)))
    converted = Converted(model)
    assert converted.inputs == {"input": ("N", 4)}
    for n_rows in (1, 2, 3, 5, 64):
        x = torch.randn(n_rows, 4)
        converted.assert_like([eager(model, x)], x)
    assert any("made up" in note for note in converted.notes)


def test_recurrent_layers_take_any_length(series):
    assert series.inputs == {"x": ("N", "length", 4)}
    for shape in ((1, 1, 4), (2, 6, 4), (3, 5, 4), (4, 50, 4)):
        x = torch.randn(shape)
        series.assert_like([eager(series.model, x)], x)


def test_a_transformer_takes_any_length_and_padding(text):
    # In the order of forward()'s parameters, not of the example's keys.
    assert list(text.inputs.items()) == [
        ("input_ids", ("N", "length")),
        ("attention_mask", ("N", "length")),
    ]
    for n_rows, length in ((1, 3), (2, 9), (4, 17), (3, 40)):
        ids = torch.randint(0, 50, (n_rows, length))
        mask = (torch.arange(length) < torch.randint(1, length + 1, (n_rows, 1))).long()
        text.assert_like([eager(text.model, ids, mask)], ids, mask)


@pytest.mark.parametrize(
    ("form", "method", "names"),
    [
        ("tuple", ("tuple", None), ("output_0", "output_1")),
        ("named tuple", ("tuple", None), ("output_0", "output_1")),
        ("list", ("list", None), ("output_0", "output_1")),
        ("dict", ("dict", ("x", "linear")), ("x_out", "linear")),
        ("ordered dict", ("dict", ("logits", "total")), ("logits", "total")),
        ("dataclass", ("dict", ("logits", "total")), ("logits", "total")),
    ],
)
def test_answers_keep_their_container(form, method, names):
    signature = converter.infer_signature(Containers(form), torch.randn(3, 4))
    (given,) = signature.methods
    assert (given.name, given.form, given.keys, given.outputs) == ("__call__", *method, names)
    assert signature.outputs == (
        TensorSpec(names[0], "float32", ("N", 3)),
        TensorSpec(names[1], "float32", ("N",)),
    )


@pytest.mark.parametrize("form", ["list", "dict", "dataclass"])
def test_several_answers_are_several_outputs(form):
    model = Containers(form)
    converted = Converted(model, torch.randn(3, 4))
    names = converted.signature.methods[0].outputs
    assert converted.outputs == {names[0]: ("N", 3), names[1]: ("N",)}
    x = torch.randn(5, 4)
    converted.assert_like([eager(model.linear, x), x.sum(1)], x)


def test_one_tensor_may_be_given_twice_and_an_input_handed_on():
    model = Containers("same")
    converted = Converted(model, torch.randn(3, 4))
    x = torch.randn(2, 4)
    first = eager(model.linear, x)
    converted.assert_like([first, first, x], x)


def test_a_dict_may_be_the_one_argument():
    model = OneDict()
    converted = Converted(model, {"a": torch.randn(3, 4), "b": torch.randn(3, 1)})
    assert converted.inputs == {"a": ("N", 4), "b": ("N", 1)}
    a, b = torch.randn(5, 4), torch.randn(5, 1)
    converted.assert_like([eager(model, {"a": a, "b": b})], a, b)


def test_named_tensors_skip_optional_arguments():
    converted = Converted(Skipping(), {"mask": torch.randn(3, 4), "x": torch.randn(3, 4)})
    assert list(converted.inputs) == ["x", "mask"]
    x, mask = torch.randn(2, 4), torch.randn(2, 4)
    converted.assert_like([x * mask], x, mask)


def test_half_precision_stays():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).half()
    converted = Converted(model, torch.randn(3, 4).half())
    assert {spec.dtype for spec in (*converted.signature.inputs, *converted.signature.outputs)} == {
        "float16"
    }
    x = torch.randn(6, 4).half()
    converted.assert_like([eager(model, x)], x, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("make", [lambda: nn.Linear(4, 3), Series], ids=["linear", "recurrent"])
def test_bfloat16_weights_are_widened_exactly(make):
    model = make().bfloat16()
    before = state_of(model)
    example = torch.randn(3, 4) if isinstance(model, nn.Linear) else torch.randn(3, 6, 4)
    converted = Converted(model, example.bfloat16())
    assert {spec.dtype for spec in (*converted.signature.inputs, *converted.signature.outputs)} == {
        "float32"
    }
    x = torch.randn_like(example)
    wide = copy.deepcopy(model).float()
    converted.assert_like([eager(wide, x)], x)
    # What the note says of the difference to bfloat16's own arithmetic is about three digits.
    converted.assert_like([eager(model, x.bfloat16()).float()], x, rtol=5e-2, atol=5e-2)
    assert any("bfloat16" in note for note in converted.notes)
    reference = converter.reference(model, "__call__", x)
    assert reference.dtype == torch.float32
    assert converter.call(model, "__call__", x).dtype == torch.bfloat16
    assert_untouched(model, before)


def test_double_precision_stays_and_numpy_takes_the_weights_dtype():
    rows = np.random.default_rng(0).standard_normal((3, 4))
    assert converter.infer_signature(nn.Linear(4, 3), rows).inputs[0].dtype == "float32"
    model = nn.Linear(4, 3).double()
    converted = Converted(model, rows)
    assert converted.signature.inputs[0].dtype == "float64"
    x = torch.from_numpy(rows)
    converted.assert_like([eager(model, x)], x, rtol=1e-9, atol=1e-9)


def test_whole_numbers_as_answers():
    model = Choice()
    converted = Converted(model, torch.randn(3, 4))
    assert converted.signature.outputs[0].dtype == "int64"
    x = torch.randn(50, 4)
    assert np.array_equal(converted.run(x)[0], eager(model, x).numpy())


def test_equal_scores_are_no_difference():
    class Best(nn.Module):
        def forward(self, x):
            values, indices = x.topk(2, -1)
            return {"values": values, "indices": indices}

    conversion = convert_model(Best(), example=torch.randn(5, 6))
    assert conversion.plan.kind == "onnx"
    assert conversion.parity.passed
    assert conversion.parity.label_flips == 0


def test_squeeze_keeps_the_batch_axis_of_a_single_row():
    model = Squeezed()
    converted = Converted(model, torch.randn(1, 4))
    assert converted.outputs == {"output": ("N",)}
    x = torch.randn(5, 4)
    converted.assert_like([eager(model, x)], x)
    assert converted.run(x[:1])[0] == pytest.approx(eager(model, x[:1]).numpy(), rel=1e-5)


# -- TorchScript and exported programs -------------------------------------------------------------


@pytest.mark.parametrize("as_dict", [False, True], ids=["tuple", "dict"])
def test_a_script_keeps_its_branches(as_dict):
    source = trained(Scripted())
    script = torch.jit.script(source)
    before = state_of(script)
    x, shift = torch.randn(3, 4), torch.randn(3, 3)
    converted = Converted(script, {"shift": shift, "x": x} if as_dict else (x, shift))
    assert list(converted.inputs) == ["x", "shift"]
    for sign in (50.0, -50.0):
        x, shift = torch.randn(4, 4), torch.full((4, 3), sign)
        converted.assert_like(eager(source, x, shift), x, shift)
    assert_untouched(script, before)


def test_a_trace_is_its_own_source():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trace = torch.jit.trace(Series().eval(), torch.randn(2, 6, 4))
    converted = Converted(trace, torch.randn(3, 6, 4))
    assert converted.inputs == {"x": ("N", "length", 4)}
    for shape in ((1, 6, 4), (2, 9, 4)):
        x = torch.randn(shape)
        converted.assert_like([eager(trace, x)], x)


def test_a_script_that_gives_dicts_is_refused():
    script = torch.jit.script(nn.Linear(4, 3))

    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = script

        def forward(self, x):
            return {"a": self.inner(x)}

    with pytest.raises(UnsupportedModelError, match="no dicts"):
        Converted(torch.jit.script(Wrapped()), torch.randn(3, 4))


@pytest.fixture(scope="module")
def program():
    torch.manual_seed(4)
    auto = torch.export.Dim.AUTO
    ids = torch.randint(0, 50, (3, 9))
    exported = torch.export.export(
        Text().eval(),
        (ids,),
        {"attention_mask": torch.ones_like(ids)},
        dynamic_shapes={
            "input_ids": {0: auto, 1: auto},
            "attention_mask": {0: auto, 1: auto},
        },
    )
    buffer = io.BytesIO()
    torch.export.save(exported, buffer)
    buffer.seek(0)
    return torch.export.load(buffer)


def test_an_exported_program_brings_its_own_example(program):
    converted = Converted(program)
    assert list(converted.inputs.items()) == [
        ("input_ids", ("N", "length")),
        ("attention_mask", ("N", "length")),
    ]
    ids = torch.randint(0, 50, (2, 5))
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    with torch.inference_mode():
        expected = program.module()(ids, attention_mask=mask)
    converted.assert_like([expected], ids, mask)
    as_rows = {"input_ids": ids, "attention_mask": mask}
    assert torch.equal(converter.call(program, "__call__", as_rows), expected)
    assert torch.equal(converter.call(program, "__call__", (ids, mask)), expected)


def test_an_exported_program_keeps_its_fixed_axes():
    program = torch.export.export(Image().eval(), (torch.randn(2, 3, 8, 8),))
    converted = Converted(program)
    assert converted.inputs == {"image": (2, 3, 8, 8)}
    x = torch.randn(2, 3, 8, 8)
    converted.assert_like([program.module()(x).detach()], x)


def test_an_exported_program_that_trains_is_refused_and_left_alone():
    program = torch.export.export(Image().train(), (torch.randn(2, 3, 8, 8),))
    before = {name: tensor.clone() for name, tensor in program.state_dict.items()}
    with pytest.raises(UnsupportedModelError, match="two answers"):
        Converted(program)
    assert all(torch.equal(program.state_dict[name], tensor) for name, tensor in before.items())


def test_compiled_and_parallel_models_are_unwrapped():
    model = nn.Linear(4, 3)
    x = torch.randn(5, 4)
    converted = Converted(nn.DataParallel(torch.compile(model)), torch.randn(2, 4))
    converted.assert_like([eager(model, x)], x)


# -- what must never be silently wrong -------------------------------------------------------------


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_branch_on_values_is_refused_with_its_line(sign):
    example = torch.full((3, 4), sign)
    signature = converter.infer_signature(Branch(), example)
    with pytest.raises(UnsupportedModelError, match=r"test_torch\.py:\d+ `if x\.sum\(\) > 0"):
        converter.to_onnx(Branch(), signature, example=example)


def test_a_branch_on_values_is_served_natively():
    conversion = convert_model(Branch(), example=torch.ones(3, 4))
    assert conversion.plan.kind == "native"
    assert "values of a tensor" in conversion.plan.reason
    for rows in (torch.ones(2, 4), -torch.ones(2, 4)):
        assert torch.equal(conversion.call("__call__", rows), Branch()(rows))


def test_a_branch_on_the_number_of_rows_is_refused():
    example = torch.randn(6, 4)
    signature = converter.infer_signature(BySize(), example)
    with pytest.raises(ConversionError, match="differently"):
        converter.to_onnx(BySize(), signature, example=example)


def test_an_unrolled_loop_fixes_the_length_and_says_so():
    model = Loop()
    converted = Converted(model, torch.randn(3, 6, 4))
    assert converted.inputs == {"x": ("N", 6, 4)}
    assert any("`length`" in note for note in converted.notes)
    for n_rows in (1, 2, 5):
        x = torch.randn(n_rows, 6, 4)
        converted.assert_like([eager(model, x)], x)


def test_the_number_of_rows_as_a_plain_number_stays_open():
    model = Classed()
    converted = Converted(model, torch.randn(2, 4, 8))
    assert converted.inputs == {"x": ("N", "length", 8)}
    for shape in ((1, 4, 8), (3, 4, 8), (5, 9, 8)):
        x = torch.randn(shape)
        converted.assert_like([eager(model, x)], x)


def test_rows_that_influence_each_other_are_not_a_batch():
    converted = Converted(Centered(), torch.ones(1, 4))
    assert converted.inputs == {"x": ("rows", "length")}
    assert any("rows beside it" in note for note in converted.notes)
    x = torch.randn(5, 4)
    converted.assert_like([x - x.mean(0)], x)


class Deciding(nn.Module):
    def __init__(self, limit):
        super().__init__()
        self.limit = limit

    def forward(self, x):
        return torch.cond(x.sum() > self.limit, lambda y: y * 2.0, lambda y: y - 1.0, (x,))


class DecidingInPython(nn.Module):
    def forward(self, x):
        return x * 2.0 if x.sum() > 0 else x - 1.0


@pytest.mark.slow
@pytest.mark.parametrize("limit", [0.0, 1e6], ids=["by the sign", "far from the example"])
def test_rows_that_decide_together_are_not_a_batch(limit):
    # Positive rows only, each of which would take the same branch alone.
    model = Deciding(limit)
    with infersdk.load(model, example=torch.rand(6, 3)) as predictor:
        assert predictor.signature.inputs[0].shape[0] == "rows"
        assert predictor.plan.kind == "onnx"
        for rows in (torch.randn(4, 3) + 5.0, torch.randn(4, 3) - 5.0, torch.full((4, 3), 1e6)):
            expected = rows * 2.0 if rows.sum() > limit else rows - 1.0
            np.testing.assert_allclose(predictor(rows.numpy()), expected.numpy(), rtol=1e-6)


def test_rows_that_decide_together_in_python_are_not_a_batch():
    signature = converter.infer_signature(DecidingInPython(), torch.rand(6, 3))
    assert signature.inputs[0].shape[0] == "rows"


@pytest.mark.parametrize("model", [Noisy(), Counting()], ids=["random", "stateful"])
def test_answers_that_change_from_call_to_call_are_refused(model):
    before = state_of(model)
    example = torch.randn(3, 4)
    signature = converter.infer_signature(model, example)
    with pytest.raises(UnsupportedModelError, match="two answers"):
        converter.to_onnx(model, signature, example=example)
    assert_untouched(model, before)


def test_padding_that_torch_cuts_off_in_eval_mode_is_found():
    # Nothing is masked in the example; the converter has to come up with padding itself.
    ids = torch.randint(0, 50, (3, 6))
    model = Pooled(nested=True).eval()
    signature = converter.infer_signature(model, (ids, torch.ones_like(ids)))
    with pytest.raises(ConversionError, match="enable_nested_tensor=False"):
        converter.to_onnx(model, signature, example=(ids, torch.ones_like(ids)))


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ("nested", "Return the tensors flat"),
        ("none", "NoneType at"),
        ("scalar", "int at"),
        ("text", "got str"),
        ("complex", "complex64"),
    ],
)
def test_answers_that_no_graph_can_give_are_refused_but_studied(form, reason):
    model = Containers(form)
    example = torch.randn(3, 4)
    signature = converter.infer_signature(model, example)
    assert signature.inputs == (TensorSpec("x", "float32", ("N", 4)),)
    assert signature.outputs == ()
    with pytest.raises(UnsupportedModelError, match=reason):
        converter.to_onnx(model, signature, example=example)


def test_a_model_that_cannot_be_copied_is_served_but_not_converted():
    model = nn.Sequential(nn.Linear(4, 3))
    model.lock = threading.Lock()
    with pytest.raises(ConversionError, match="cannot be copied"):
        converter.infer_signature(model)
    model.eval()
    signature = converter.infer_signature(model)
    with pytest.raises(ConversionError, match="cannot be copied"):
        converter.to_onnx(model, signature)
    x = torch.randn(2, 4)
    assert torch.equal(converter.call(model, "__call__", x), model(x))


def test_torchscript_too_large_for_one_message_is_refused(monkeypatch):
    monkeypatch.setattr(converter, "_LARGEST_SCRIPT_BYTES", 50)
    model = torch.jit.script(nn.Linear(4, 3))  # 60 bytes
    example = torch.randn(2, 4)
    with pytest.raises(ConversionError, match="GB of weights"):
        converter.to_onnx(model, converter.infer_signature(model, example), example=example)


# -- examples --------------------------------------------------------------------------------------


def test_a_model_that_does_not_know_its_inputs_needs_an_example():
    with pytest.raises(ConversionError, match="example is needed: Image"):
        converter.infer_signature(Image())
    with pytest.raises(ConversionError, match="example is needed"):
        converter.infer_signature(nn.Sequential(nn.Conv2d(3, 4, 3)))
    rng = np.random.default_rng(0)
    signature = converter.infer_signature(Image(), torch.randn(2, 3, 8, 8))
    assert converter.edge_rows(Image(), signature, None, n_rows=4, rng=rng) is None


@pytest.mark.parametrize(
    ("example", "reason"),
    [
        ([[1.0, 2.0, 3.0, 4.0]], "got a list of list"),
        ((), "an empty tuple"),
        ({}, "an empty dict"),
        ("rows", "got a str"),
        ({"y": torch.zeros(2, 4), "z": torch.zeros(2, 4)}, r"\(x, type_ids, mask\), got y, z"),
        ({"x": 3}, "got int - input `x`"),
        (np.array([["a"]]), "dtype <U1"),
        ((torch.zeros(2, 4),) * 4, "at most 3 tensors"),
        (torch.zeros(2, 4, 5)[:, :, :0], None),
    ],
    ids=[
        "list",
        "empty tuple",
        "empty dict",
        "str",
        "names",
        "number",
        "text",
        "many",
        "no values",
    ],
)
def test_examples_that_do_not_fit_are_explained(example, reason):
    if reason is None:
        assert converter.infer_signature(Skipping(), example).inputs[0].shape[0] == "N"
        return
    if isinstance(example, dict) and "y" in example:
        example = {"x": torch.zeros(2, 4), **example}
        reason = r"\(x, type_ids, mask\), got x, y, z"
    with pytest.raises(ConversionError, match=reason):
        converter.infer_signature(Skipping(), example)


def test_an_example_that_the_model_refuses_is_explained():
    with pytest.raises(
        ConversionError, match=r"own example \(input float32 \(2, 7\)\): RuntimeError"
    ):
        converter.infer_signature(nn.Linear(4, 3), torch.zeros(2, 7))


# -- calling the source ----------------------------------------------------------------------------


def test_call_answers_as_eval_and_follows_training():
    model = trained(Image())
    before = state_of(model)
    x = torch.randn(3, 3, 8, 8)
    assert torch.equal(converter.call(model, "__call__", x), eager(model, x))
    assert_untouched(model, before)
    with torch.no_grad():
        model.head.weight.add_(1.0)
    assert torch.equal(converter.call(model, "__call__", x), eager(model, x))
    model.head = nn.Linear(6, 2)
    assert torch.equal(converter.call(model, "__call__", x), eager(model, x))
    assert not converter.call(model, "__call__", x).requires_grad


def test_call_answers_in_kind():
    model = OneDict().eval()
    rows = {"a": np.ones((2, 4), np.float32), "b": np.ones((2, 1), np.float32)}
    arrays = converter.call(model, "__call__", rows)
    tensors = converter.call(model, "__call__", {k: torch.from_numpy(v) for k, v in rows.items()})
    assert isinstance(arrays, np.ndarray)
    assert np.array_equal(arrays, tensors.numpy())
    scores = converter.call(Containers("dataclass").eval(), "__call__", rows["a"])
    assert list(scores) == ["logits", "total"]
    assert isinstance(scores["total"], np.ndarray)
    with pytest.raises(UnsupportedModelError, match="`predict`"):
        converter.call(model, "predict", rows)


def test_calls_from_threads_leave_a_training_model_alone():
    model = trained(Image())
    x = torch.randn(2, 3, 8, 8)
    expected = eager(model, x)
    start = threading.Barrier(5)
    wrong = []

    def ask():
        start.wait()
        for _ in range(20):
            if not torch.equal(converter.call(model, "__call__", x), expected):
                wrong.append("answer")

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    start.wait()
    flags = {module.training for _ in range(200) for module in model.modules()}
    for thread in threads:
        thread.join()
    assert flags == {True}
    assert wrong == []


# -- made-up rows ----------------------------------------------------------------------------------


def test_edge_rows_keep_numbers_in_range_and_the_container(text):
    rows = converter.edge_rows(
        text.model, text.signature, text.example, n_rows=40, rng=np.random.default_rng(0)
    )
    assert list(rows) == ["input_ids", "attention_mask"]
    assert rows["input_ids"].shape == rows["attention_mask"].shape == (40, 9)
    for name, tensor in rows.items():
        assert tensor.dtype == torch.int64
        assert set(tensor.unique().tolist()) <= set(text.example[name].unique().tolist())
    text.assert_like([converter.reference(text.model, "__call__", rows)], *rows.values())


def test_edge_rows_turn_signs_and_reach_zero(series):
    rng = np.random.default_rng(0)
    rows = converter.edge_rows(series.model, series.signature, series.example, n_rows=200, rng=rng)
    assert rows.shape == (200, 6, 4)
    assert len(torch.unique(rows, dim=0)) > 100
    assert (rows == 0).all((1, 2)).any()
    assert rows.abs().max() > series.example.abs().max()
    again = converter.edge_rows(
        series.model, series.signature, series.example, n_rows=200, rng=np.random.default_rng(0)
    )
    assert torch.equal(rows, again)
    assert isinstance(
        converter.edge_rows(series.model, series.signature, (series.example,), n_rows=3, rng=rng),
        tuple,
    )


def test_edge_rows_of_large_rows_are_few(image):
    example = torch.zeros(1, 3, 700, 500)
    rows = converter.edge_rows(
        image.model, image.signature, example, n_rows=1000, rng=np.random.default_rng(0)
    )
    assert rows.shape == (8, 3, 700, 500)


# -- the file and the process ----------------------------------------------------------------------


def test_the_graph_tells_nothing_about_this_machine(image):
    data = image.graph.SerializeToString()
    for trace in (b"stack_trace", b"test_torch", str(__file__).encode(), b"s77"):
        assert trace not in data
    assert not image.graph.graph.value_info


def test_the_opset_can_be_chosen():
    converted = Converted(nn.Linear(4, 3), opset=18)
    assert [(item.domain, item.version) for item in converted.graph.opset_import] == [("", 18)]


def test_conversion_is_silent(capfd):
    class Chatty(nn.Module):
        def forward(self, x):
            sys.stdout.write("forward")
            warnings.warn("forward", stacklevel=2)
            return x + 1

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Converted(Chatty(), torch.randn(3, 4))
        example = torch.ones(3, 4)
        signature = converter.infer_signature(Branch(), example)
        with pytest.raises(UnsupportedModelError):
            converter.to_onnx(Branch(), signature, example=example)
    assert capfd.readouterr() == ("", "")
    assert caught == []


def test_silence_of_several_threads_ends_with_the_last(capsys):
    streams, filters = (sys.stdout, sys.stderr), list(warnings.filters)
    levels = {name: logging.getLogger(name).level for name in ("torch", "torch.onnx")}
    first_inside, second_inside = threading.Event(), threading.Event()

    def first():
        with quiet():
            first_inside.set()
            second_inside.wait()
            sys.stdout.write("first")

    def second():
        first_inside.wait()
        with quiet():
            second_inside.set()
            threads[0].join()
            sys.stdout.write("second")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    for thread in threads:
        thread.start()
    second_inside.wait()
    sys.stdout.write("outside")
    for thread in threads:
        thread.join()
    assert capsys.readouterr().out == "outside"
    assert (sys.stdout, sys.stderr) == streams
    assert warnings.filters == filters
    assert {name: logging.getLogger(name).level for name in levels} == levels


def test_models_are_recognized_without_importing_torch():
    code = (
        "import sys\n"
        "from infersdk.convert import torch as converter\n"
        "assert not converter.can_convert(object())\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert converter.can_convert(Image())
    assert converter.can_convert(torch.jit.script(nn.Linear(2, 2)))


# -- through the front door ------------------------------------------------------------------------


def test_a_loaded_image_model_answers_tensors_and_arrays(image):
    predictor = infersdk.load(image.model, example=image.example)
    assert predictor.plan.kind == "onnx"
    x = torch.randn(3, 3, 12, 10)
    expected = eager(image.model, x)
    answer = predictor(x)
    assert isinstance(answer, torch.Tensor)
    torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(predictor(x.numpy()), expected.numpy(), rtol=1e-4, atol=1e-5)


def test_a_loaded_text_model_takes_other_lengths(text):
    predictor = infersdk.load(text.model, example=text.example)
    assert predictor.plan.kind == "onnx"
    assert predictor.parity.passed
    ids = torch.randint(0, 50, (2, 14))
    mask = torch.ones_like(ids)
    answer = predictor({"input_ids": ids, "attention_mask": mask})
    torch.testing.assert_close(answer, eager(text.model, ids, mask), rtol=1e-4, atol=1e-5)


def test_a_loaded_bfloat16_model_is_proven_in_float32():
    model = nn.Linear(4, 3).bfloat16()
    predictor = infersdk.load(model, example=torch.randn(8, 4).bfloat16())
    assert predictor.plan.kind == "onnx"
    assert predictor.parity.passed
    x = torch.randn(5, 4)
    expected = eager(copy.deepcopy(model).float(), x)
    torch.testing.assert_close(predictor(x), expected, rtol=1e-4, atol=1e-5)


def test_natively_served_tensors_go_to_the_arguments_of_their_names():
    class Picky(Skipping):
        def forward(self, x, type_ids=None, mask=None):
            answer = super().forward(x, type_ids, mask)
            return answer * 2 if answer.sum() > 0 else answer

    x, mask = torch.randn(3, 4), torch.randn(3, 4)
    predictor = infersdk.load(Picky(), example={"mask": mask, "x": x})
    assert predictor.plan.kind == "native"
    answer = predictor({"x": x, "mask": mask})
    torch.testing.assert_close(answer, Picky()(x, mask=mask))
