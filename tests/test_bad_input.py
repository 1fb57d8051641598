"""Bad input, end to end: what a request may hold that no model can answer.

Four models stand for all: a scikit-learn pipeline over a mixed DataFrame, XGBoost over an array, a torch
network and a plain ONNX graph over tensors. Every bad row must be refused by an InputError that names the
model, the field and the row at fault, and every odd but sound one answered as its plain form is. The good
row must get the same answer ever after, also when other threads send it at the same time.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import json
import threading
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from onnx import parser

import infersdk
from infersdk import InputError, Predictor

RNG = np.random.default_rng(0)


@dataclasses.dataclass(frozen=True)
class Served:
    """A model, what it is asked, and a row that it answers."""

    predictor: Predictor
    ask: Callable[[Any], Any]
    good: Any

    def answer(self, rows: Any) -> Any:
        """The answer as plain lists, to be compared exactly."""
        return _plain(self.ask(rows))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return np.asarray(value).tolist()


def assert_refused(
    served: Served,
    rows: Any,
    complaint: str,
    *,
    field: str | None = None,
    row: int | None = None,
) -> None:
    before = served.answer(served.good)
    for _ in range(2):
        with pytest.raises(InputError, match=complaint) as caught:
            served.ask(rows() if callable(rows) else rows)
        error = caught.value
        assert (error.field, error.row) == (field, row)
        # Nothing from outside floods the log.
        assert len(str(error)) < 1000
        assert str(error).isprintable()
        str(error).encode()
        assert served.answer(served.good) == before


# -- a pipeline over a mixed DataFrame -----------------------------------------------------------------

GOOD = {"age": 40, "income": 51000.5, "city": "Oslo", "member": True, "plan": "b"}
VALUES = list(GOOD.values())


def but(**changes: Any) -> dict[str, Any]:
    """The good row with other values."""
    return {**GOOD, **changes}


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in GOOD.items() if name not in names}


@pytest.fixture(scope="module")
def churn_model() -> Any:
    pd = pytest.importorskip("pandas")
    pytest.importorskip("sklearn")
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    n = 120
    frame = pd.DataFrame(
        {
            "age": RNG.integers(18, 80, n),
            "income": RNG.normal(5e4, 2e4, n),
            "city": RNG.choice(["Oslo", "Bergen", "Tromsø"], n),
            "member": RNG.random(n) < 0.5,
            "plan": RNG.choice(["a", "b"], n),
        }
    )
    frame.loc[::17, "income"] = np.nan
    steps = ColumnTransformer(
        [
            ("income", make_pipeline(SimpleImputer(), StandardScaler()), ["income"]),
            ("age", StandardScaler(), ["age"]),
            ("city", OneHotEncoder(handle_unknown="ignore"), ["city"]),
            ("plan", OneHotEncoder(), ["plan"]),
            ("member", "passthrough", ["member"]),
        ]
    )
    leaves = np.where((frame.age > 40) ^ (frame.city == "Oslo"), "yes", "no")
    model = Pipeline([("columns", steps), ("classifier", LogisticRegression())])
    return model.fit(frame, leaves), frame


@pytest.fixture(scope="module")
def churn(churn_model: Any) -> Served:
    model, frame = churn_model
    predictor = infersdk.load(model, example=frame, name="churn")
    assert predictor.plan.kind == "onnx"
    return Served(predictor, predictor.predict_proba, GOOD)


def test_the_good_row_gets_the_sources_answer(churn: Served, churn_model: Any) -> None:
    import pandas as pd

    model, _ = churn_model
    rows = pd.DataFrame([GOOD, but(income=None, city="Paris")])
    np.testing.assert_allclose(
        churn.ask([GOOD, but(income=None, city="Paris")]), model.predict_proba(rows), rtol=1e-5
    )
    assert churn.predictor.predict(GOOD).tolist() == model.predict(rows[:1]).tolist()


BAD_VALUES = {
    # field: values with part of the message
    "age": [
        ("40", "Expected a whole number, got '40'"),
        ("", "Expected a whole number"),
        (40.5, "Expected a whole number, got 40.5"),
        (None, "got None.*does not take missing values"),
        (float("nan"), "got nan.*does not take missing values"),
        (float("inf"), "finite"),
        (10**30, "holds exactly"),
        (2**53 + 1, "holds exactly"),
        (10**5000, "bits"),
        (40 + 0j, "complex"),
        ([40], "a list of 1"),
        ((40,), "a tuple of 1"),
        ({"value": 40}, "a dict of 1"),
        ({40}, "a set of 1"),
        (np.array([40]), r"int64 \(1,\)"),
        (b"40", "b'40'"),
        (dt.datetime(2020, 1, 1), "datetime"),
        (dt.timedelta(days=40), "timedelta"),
        (np.datetime64("2020-01-01"), "2020-01-01"),
        (np.timedelta64(40, "D"), "timedelta64"),
        (np.complex64(40), "complex64"),
        (object(), "object"),
        (lambda: 40, "function"),
        (..., "Ellipsis"),
        (int, "type"),
    ],
    "income": [
        ("51000.5", "Expected a number, got '51000.5'"),
        ("", "Expected a number"),
        ("nan", "Expected a number"),
        (10**400, "up to 1.8e308"),
        (1j, "complex"),
        ([1.0], "a list of 1"),
        ((x for x in [1.0]), "generator"),
        (b"1.0", "b'1.0'"),
    ],
    "city": [
        (3, "Expected a str, got 3"),
        (3.5, "Expected a str"),
        (True, "Expected a str"),
        (b"Oslo", "decode"),
        (["Oslo"], "a list of 1"),
        ({"Oslo"}, "a set of 1"),
        ("\ud800", "UTF-8"),
        ("Oslo\udcff", "UTF-8"),
        (dt.date(2020, 1, 1), "datetime.date"),
    ],
    "member": [
        (None, "got None.*does not take missing values"),
        (2, "Expected True or False, got 2"),
        (0.5, "Expected True or False"),
        (-1, "Expected True or False"),
        ("true", "Expected True or False"),
        ("", "Expected True or False"),
        (float("nan"), "does not take missing values"),
        ([], "a list of 0"),
    ],
    "plan": [
        ("c", "Expected one of 'a', 'b', got 'c'"),
        ("B", "Expected one of"),
        ("", "Expected one of"),
        (" b", "Expected one of"),
        ("b\0", "Expected one of"),
        ("x" * 10_000_000, "Expected one of"),
        (None, "does not take missing values"),
        (1, "Expected a str"),
        ("\ud800", "UTF-8|Expected one of"),
    ],
}


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        pytest.param(field, *item, id=f"{field}-{index}")
        for field, items in BAD_VALUES.items()
        for index, item in enumerate(items)
    ],
)
def test_bad_values(churn: Served, field: str, value: Any, complaint: str) -> None:
    assert_refused(churn, lambda: but(**{field: value}), complaint, field=field)
    # In the middle of others, and by position.
    assert_refused(
        churn, lambda: [GOOD, but(**{field: value}), GOOD], complaint, field=field, row=1
    )
    positional = [value if name == field else GOOD[name] for name in GOOD]
    assert_refused(churn, lambda: [VALUES, VALUES, positional], complaint, field=field, row=2)


def test_missing_values_of_pandas(churn: Served) -> None:
    import pandas as pd

    for missing in (pd.NA, pd.NaT):
        assert_refused(churn, but(age=missing), "does not take missing values", field="age")
        assert_refused(churn, but(plan=missing), "does not take missing values", field="plan")
        assert churn.answer(but(income=missing)) == churn.answer(but(income=None))
        assert churn.answer(but(city=missing)) == churn.answer(but(city=None))
    assert_refused(churn, but(age=pd.Timestamp("2020")), "Timestamp", field="age")


NO_ROWS = {
    "None": None,
    "text": "age=40",
    "JSON": json.dumps(GOOD),
    "bytes": b"{}",
    "bytearray": bytearray(b"{}"),
    "memoryview": memoryview(b"{}"),
    "a number": 40,
    "NaN": float("nan"),
    "a 0-d array": np.array(40.0),
    "a set": {1, 2, 3, 4, 5},
    "a frozenset": frozenset(range(5)),
    "values of a dict": GOOD.values(),
    "a range": range(5),
    "a deque": collections.deque([GOOD]),
    "a date": dt.date(2020, 1, 1),
    "a class": dict,
    "a module": np,
    "a function": repr,
    "Ellipsis": ...,
    "an object": object(),
    "3-d": np.ones((1, 1, 5), dtype=object),
    "4 columns": np.ones((2, 4), dtype=object),
    "6 columns": np.ones((2, 6), dtype=object),
    "no columns": np.ones((2, 0), dtype=object),
    "dicts in an array": np.array([GOOD, GOOD], dtype=object),
    "complex": np.ones((1, 5), dtype=complex),
    "dates": np.zeros((1, 5), dtype="M8[s]"),
    "bytes in an array": np.full((1, 5), b"1"),
}


@pytest.mark.parametrize("name", NO_ROWS)
def test_what_is_no_row(churn: Served, name: str) -> None:
    assert_refused(churn, lambda: NO_ROWS[name], "Expected rows of 5 fields .* - model `churn`")


def test_a_dataclass_is_told_how_to_become_a_row(churn: Served) -> None:
    @dataclasses.dataclass
    class Customer:
        age: int = 40

    assert_refused(churn, Customer, r"dataclasses\.asdict")


def test_iterators_are_not_consumed_in_silence(churn: Served) -> None:
    for make in (lambda: iter([GOOD]), lambda: (row for row in [GOOD]), lambda: map(dict, [GOOD])):
        assert_refused(churn, make, "Pass list")


@pytest.mark.parametrize(
    ("rows", "complaint", "field", "row"),
    [
        ({}, "Expected fields `age`, `income`", "age", None),
        (without("age"), "Expected field `age`, got a row without it", "age", None),
        (without("city", "plan"), "Expected fields `city`, `plan`", "city", None),
        (but(extra=1), "got also `extra`", "extra", None),
        (
            {**without("income"), "incomes": 1.0},
            "Did you mean `income` by `incomes`",
            "income",
            None,
        ),
        ({**without("age"), "Age": 40}, "Did you mean `age` by `Age`", "age", None),
        ({**GOOD, 1: 2}, "got also", "1 (int)", None),
        ({key.encode(): value for key, value in GOOD.items()}, "b'age'", "age", None),
        ({"row": GOOD}, "with `row`", "age", None),
        ({"rows": [GOOD]}, "with `rows`", "age", None),
        (
            {key: [value] for key, value in GOOD.items()},
            "many rows are a list of dicts",
            "age",
            None,
        ),
        ({**GOOD, "x" * 1_000_000: 1}, "got also `x", None, None),
        ({**GOOD, "\ud800": 1}, "got also", None, None),
        ({**GOOD, **{f"k{i}": i for i in range(10_000)}}, "more", "k0", None),
        ([GOOD, without("age")], "Expected field `age`", "age", 1),
        ([GOOD, {}], "Expected fields", "age", 1),
        ([GOOD, None], "Expected a row of 5 fields", None, 1),
        ([GOOD, 3], "Expected a row of 5 fields", None, 1),
        ([GOOD, "text"], "Expected a row of 5 fields", None, 1),
        ([GOOD, {1, 2}], "Expected a row of 5 fields", None, 1),
        ([GOOD, [GOOD]], "Expected 5 values", None, 1),
        ([VALUES, VALUES[:2]], "Expected 5 values, one for each field, got 2", None, 1),
        ([VALUES, [*VALUES, 1]], "Expected 5 values, one for each field, got 6", None, 1),
        ([VALUES, []], "Expected 5 values", None, 1),
        ([[VALUES]], "Expected 5 values", None, 0),
        (VALUES[::-1], "Expected a whole number", "age", None),
        (["a", "b"], "Expected 5 values", None, None),
        (collections.defaultdict(int, without("age")), "Expected field `age`", "age", None),
    ],
)
def test_names_and_numbers_of_fields(
    churn: Served, rows: Any, complaint: str, field: str | None, row: int | None
) -> None:
    before = churn.answer(GOOD)
    with pytest.raises(InputError, match=complaint) as caught:
        churn.ask(rows)
    assert caught.value.row == row
    if field is not None:
        assert caught.value.field == field
    assert caught.value.model == "churn"
    assert len(str(caught.value)) < 2000
    str(caught.value).encode()
    assert churn.answer(GOOD) == before


def test_a_list_that_holds_itself(churn: Served) -> None:
    rows: list[Any] = []
    rows.append(rows)
    assert_refused(churn, rows, "Expected 5 values", row=0)
    cycle: dict[str, Any] = dict(GOOD)
    cycle["age"] = cycle
    assert_refused(churn, cycle, "a dict of 5", field="age")


def test_bad_frames(churn: Served) -> None:
    import pandas as pd

    frame = pd.DataFrame([GOOD] * 3)
    nested = pd.MultiIndex.from_tuples([("a", "b"), ("a", "c")])
    for rows, complaint, field, row in (
        (frame.drop(columns="age"), "DataFrame without it", "age", None),
        (frame.assign(extra=1), "got also `extra`", "extra", None),
        (pd.concat([frame, frame[["age"]]], axis=1), "more than one `age`", None, None),
        (frame.assign(age="x"), "Expected a whole number, got 'x'", "age", 0),
        (frame.assign(age=pd.Series([40, 41, "x"], dtype=object)), "got 'x'", "age", 2),
        (frame.assign(age=[40, np.nan, 41]), "does not take missing", "age", 1),
        (frame.assign(age=[40, 41, 41.5]), "got 41.5", "age", 2),
        (frame.assign(age=pd.array([1, None, 2], dtype="Int64")), "<NA>", "age", 1),
        (frame.assign(age=pd.Timestamp("2020")), "Timestamp", "age", 0),
        (frame.assign(income=1j), "complex", "income", 0),
        (frame.assign(city=pd.Series(["a", 3, "b"], dtype=object)), "got 3", "city", 1),
        (frame.assign(member=pd.Series([True, None, False], dtype=object)), "None", "member", 1),
        (frame.assign(plan=["a", "b", "zzz"]), "Expected one of 'a', 'b'", "plan", 2),
        (frame["age"], "row without them", "age", None),
        (pd.DataFrame([[1, 2]], columns=nested), "DataFrame without them", "age", None),
        (pd.DataFrame(), "DataFrame without them", "age", None),
    ):
        assert_refused(churn, rows, complaint, field=field, row=row)
    # The same in a frame that is not small, whose columns are read as wholes.
    large = pd.DataFrame([GOOD] * 5000)
    large.loc[4321, "plan"] = "zzz"
    assert_refused(churn, large, "Expected one of 'a', 'b'", field="plan", row=4321)
    large = pd.DataFrame([GOOD] * 5000).astype({"age": float})
    large.loc[1234, "age"] = np.nan
    assert_refused(churn, large, "does not take missing", field="age", row=1234)


class Age(enum.IntEnum):
    FORTY = 40


class City(enum.StrEnum):
    OSLO = "Oslo"


class Row(NamedTuple):
    age: Any
    income: Any
    city: Any
    member: Any
    plan: Any


ODD_BUT_SOUND = {
    "whole float": but(age=40.0),
    "numpy scalars": but(age=np.int8(40), income=np.float64(51000.5), city=np.str_("Oslo")),
    "numpy bool": but(member=np.True_),
    "1 for True": but(member=1),
    "1.0 for True": but(member=1.0),
    "Decimal": but(age=decimal.Decimal(40), income=decimal.Decimal("51000.5")),
    "Fraction": but(age=fractions.Fraction(40), income=fractions.Fraction(102001, 2)),
    "enums": but(age=Age.FORTY, city=City.OSLO),
    "0-d array": but(age=np.array(40)),
    "long double": but(income=np.longdouble(51000.5)),
    "another order": dict(reversed(GOOD.items())),
    "OrderedDict": collections.OrderedDict(GOOD),
    "defaultdict": collections.defaultdict(int, GOOD),
    "read-only mapping": types.MappingProxyType(GOOD),
    "ChainMap": collections.ChainMap({"age": 40}, without("age")),
    "namedtuple": Row(*VALUES),
    "tuple": tuple(VALUES),
    "list": VALUES,
    "list of one dict": [GOOD],
    "list of one list": [VALUES],
    "list of one namedtuple": [Row(*VALUES)],
    "object array": np.array([VALUES], dtype=object),
    "1-d object array": np.array(VALUES, dtype=object),
}


@pytest.mark.parametrize("name", ODD_BUT_SOUND)
def test_odd_but_sound_rows(churn: Served, name: str) -> None:
    assert churn.answer(ODD_BUT_SOUND[name]) == churn.answer(GOOD)


def test_odd_but_sound_frames(churn: Served) -> None:
    import pandas as pd

    frame = pd.DataFrame([GOOD] * 3)
    expected = churn.answer([GOOD] * 3)
    for rows in (
        frame,
        frame[frame.columns[::-1]],
        frame.set_axis([7, 7, 7]),
        frame.astype({"city": "category", "plan": "category"}),
        frame.astype({"age": "int8", "member": "object"}),
        frame.astype({"age": "Int64", "income": "Float64", "member": "boolean", "city": "string"}),
        frame.astype(object),
        frame.to_records(index=False),
        frame.to_numpy(),
        frame.iloc[::-1],
        pd.DataFrame([GOOD] * 6)[::2],
    ):
        assert churn.answer(rows) == expected
    assert churn.answer(frame.iloc[0]) == expected[:1]


def test_no_rows_get_no_answers(churn: Served) -> None:
    import pandas as pd

    for rows in ([], (), np.empty((0, 5), dtype=object), pd.DataFrame([GOOD])[:0]):
        answer = churn.ask(rows)
        assert answer.shape == (0, 2)
        assert answer.dtype == np.float64


def test_missing_and_unknown_where_the_model_takes_them(churn: Served) -> None:
    missing = churn.answer(but(income=None))
    assert missing != churn.answer(GOOD)
    for value in (float("nan"), np.nan, np.float32("nan"), decimal.Decimal("nan")):
        assert churn.answer(but(income=value)) == missing
    unknown = churn.answer(but(city="Paris"))
    for value in ("", None, "Oslo\0", "OSLO", "x" * 100_000, "\N{GRINNING FACE}", float("nan")):
        assert churn.answer(but(city=value)) == unknown


# -- XGBoost over an array, torch and ONNX over tensors --------------------------------------------------

NUMBERS = [0.5, -1.0, 2.0, 0.25]
ARRAY = np.array([NUMBERS], np.float32)


@pytest.fixture(scope="module")
def boosted() -> Served:
    xgboost = pytest.importorskip("xgboost")
    X = RNG.normal(size=(100, 4)).astype(np.float32)
    model = xgboost.XGBClassifier(n_estimators=5, max_depth=3, n_jobs=1)
    model.fit(X, (X[:, 0] + X[:, 1] > 0).astype(int))
    predictor = infersdk.load(model, example=X, name="boosted")
    assert predictor.plan.kind == "onnx"
    np.testing.assert_allclose(
        predictor.predict_proba(ARRAY), model.predict_proba(ARRAY), rtol=1e-5
    )
    return Served(predictor, predictor.predict_proba, ARRAY)


@pytest.fixture(scope="module")
def network() -> Served:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)
    ).eval()
    predictor = infersdk.load(model, example=torch.zeros(3, 4), name="network")
    assert predictor.plan.kind == "onnx"
    with torch.no_grad():
        expected = model(torch.from_numpy(ARRAY))
    torch.testing.assert_close(predictor(torch.from_numpy(ARRAY)), expected)
    return Served(predictor, predictor, ARRAY)


@pytest.fixture(scope="module")
def plain() -> Served:
    model = parser.parse_model(
        """<ir_version: 10, opset_import: ["": 21]>
        plain (float[N, 4] input) => (float[N, 2] output)
        {
            w = Constant<value_floats = [1.0, -1.0, 0.5, 2.0, 1.0, 1.0, 3.0, -2.0]>()
            s = Constant<value_ints = [4, 2]>()
            m = Reshape(w, s)
            output = MatMul(input, m)
        }"""
    )
    predictor = infersdk.load(model, name="plain")
    return Served(predictor, predictor, ARRAY)


@pytest.fixture(params=["boosted", "network", "plain"])
def served(request: pytest.FixtureRequest) -> Served:
    """Each of the models over numbers."""
    result: Served = request.getfixturevalue(request.param)
    return result


BAD_ARRAYS: dict[str, Any] = {
    "3 columns": ARRAY[:, :3],
    "5 columns": np.ones((1, 5), np.float32),
    "3 values": ARRAY[0, :3],
    "3-d": ARRAY[None],
    "0-d": np.array(1.0, np.float32),
    "no columns": np.zeros((1, 0), np.float32),
    "nothing at all": np.zeros((0, 0)),
    "a number": 1.0,
    "complex": ARRAY.astype(complex),
    "text": ARRAY.astype(str),
    "bytes": np.full((1, 4), b"1"),
    "text in objects": np.array([["a", 1, 2, 3]], dtype=object),
    "dates": np.zeros((1, 4), "M8[s]"),
    "durations": np.zeros((1, 4), "m8[s]"),
    "raw bytes": np.zeros((1, 4), "V4"),
    "another structure": np.zeros(1, [("a", "f4"), ("b", "f4"), ("c", "f4"), ("d", "f4")]),
    "float overflow": np.array([[1e39, 0, 0, 0]]),
    "float overflow in a list": [[-1e300, 0.0, 0.0, 0.0]],
    "long double overflow": np.array([[0, 0, 0, "1e100"]], np.longdouble),
    "an integer past all floats": [[10**400, 0, 0, 0]],
    "a ragged list": [[1, 2, 3, 4], [1, 2]],
    "nested too deep": [[NUMBERS]],
    "a list of text": [["a", "b", "c", "d"]],
    "numbers and text": [[1, "2", 3, 4]],
    "complex in a list": [[1j, 2, 3, 4]],
    "dates in a list": [[dt.date(2020, 1, 1)] * 4],
    "None": None,
    "a str": "0.5,-1,2,0.25",
    "bytes themselves": b"abcd",
    "a set": {1, 2, 3, 4},
    "another name": {"x": ARRAY},
    "an empty dict": {},
    "nested dicts": {"input": {"input": ARRAY}},
    "a generator": lambda: (row for row in [NUMBERS]),
    "Ellipsis": ...,
    "an object": object(),
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_bad_arrays(served: Served, name: str) -> None:
    before = served.answer(served.good)
    rows = BAD_ARRAYS[name]
    for _ in range(2):
        with pytest.raises(InputError, match=r"^Expected .*, got ") as caught:
            served.ask(rows() if callable(rows) else rows)
        assert caught.value.model == served.predictor.name
        assert f"model `{served.predictor.name}`" in str(caught.value)
        assert len(str(caught.value)) < 1000
        assert served.answer(served.good) == before


def test_bad_arrays_are_located(boosted: Served, plain: Served) -> None:
    overflow = np.array([NUMBERS, [0, 0, 1e39, 0]])
    assert_refused(boosted, overflow, "up to 3.4e38", field="f2", row=1)
    assert_refused(plain, overflow, "out of float32's range", field="input")
    assert_refused(boosted, [NUMBERS, [0, "1", 0, 0]], "Expected a number", field="f1", row=1)
    assert_refused(boosted, [NUMBERS, NUMBERS[:3]], "Expected 4 values", row=1)
    assert_refused(plain, [NUMBERS, NUMBERS[:3]], "ragged", field="input")
    assert_refused(plain, ARRAY[0], "Add the batch axis", field="input")


def test_missing_numbers(boosted: Served, plain: Served, network: Served) -> None:
    """A booster takes them in every form; a tensor holds NaN, but no None."""
    missing = [None, -1.0, 2.0, 0.25]
    with_nan = np.array([[np.nan, *missing[1:]]], np.float32)
    expected = boosted.answer(with_nan)
    assert expected != boosted.answer(ARRAY)
    for rows in ([missing], missing, np.array([missing], dtype=object), with_nan.astype(float)):
        assert boosted.answer(rows) == expected
    for tensors in (plain, network):
        assert np.isnan(np.asarray(tensors.ask(with_nan))).all()
        for rows in ([missing], np.array([missing], dtype=object)):
            assert_refused(tensors, rows, "None in it", field="input")
        masked = np.ma.array(ARRAY, mask=[[1, 0, 0, 0]])
        assert_refused(tensors, masked, "masked array", field="input")


def _read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


def _unaligned(array: np.ndarray) -> np.ndarray:
    raw = np.zeros(array.nbytes + 1, np.uint8)
    view = raw[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


@pytest.mark.parametrize(
    "make",
    [
        lambda rows: rows.tolist(),
        lambda rows: [tuple(row) for row in rows.tolist()],
        lambda rows: list(rows),
        lambda rows: rows.astype(np.float64),
        lambda rows: rows.astype(np.float16),
        lambda rows: rows.astype(np.longdouble),
        lambda rows: rows.astype(object),
        lambda rows: rows.astype(">f4"),
        lambda rows: rows.astype(">f8"),
        np.asfortranarray,
        lambda rows: np.repeat(rows, 2, axis=0)[::2],
        lambda rows: np.repeat(rows, 2, axis=1)[:, ::2],
        lambda rows: rows[::-1].copy()[::-1],
        lambda rows: np.ascontiguousarray(rows[:, ::-1])[:, ::-1],
        _read_only,
        _unaligned,
        lambda rows: np.ma.array(rows),
    ],
)
def test_odd_but_sound_arrays(served: Served, make: Any) -> None:
    rows = np.array([NUMBERS, [1, 2, 3, 4], [0, 0, 0, -0.5]], np.float32)
    given = make(rows)
    expected = served.answer(rows)
    assert served.answer(given) == expected
    assert served.answer(served.good) == expected[:1]


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint8", "uint64", "bool"])
def test_whole_numbers_are_numbers(served: Served, dtype: str) -> None:
    rows = np.array([[1, 0, 1, 1]])
    assert served.answer(rows.astype(dtype)) == served.answer(rows.astype(np.float32))


def test_no_rows_of_an_array(served: Served) -> None:
    assert np.asarray(served.ask(ARRAY[:0])).shape == (0, 2)


def test_torch_tensors(boosted: Served, network: Served, plain: Served) -> None:
    torch = pytest.importorskip("torch")
    good = torch.from_numpy(ARRAY)
    for served in (boosted, network, plain):
        expected = served.answer(ARRAY)
        for rows in (
            good,
            good.double(),
            good.half(),
            good.bfloat16(),
            good.clone().requires_grad_(),
            good.repeat(1, 2)[:, :4],
            good.to_sparse(),
        ):
            answer = served.ask(rows)
            assert isinstance(answer, torch.Tensor)
            assert answer.tolist() == expected
        for rows in (
            good.to(torch.complex64),
            good[:, :3],
            good[None],
            torch.tensor(1.0),
            torch.ones(1, 4, device="meta"),
        ):
            with pytest.raises(InputError, match=r"^Expected"):
                served.ask(rows)
            assert served.answer(served.good) == expected


# -- a graph over several values of several kinds ------------------------------------------------------------

TEXT = np.array(["a"], dtype=object)
COUNT = np.array([3])


@pytest.fixture(scope="module")
def mixed() -> Served:
    model = parser.parse_model(
        """<ir_version: 10, opset_import: ["": 21]>
        mixed (float[N, 4] x, string[N] t, int64[N] k) => (float[N, 4] y, string[N] u, int64[N] j)
        { y = Neg(x) u = Identity(t) j = Add(k, k) }"""
    )
    predictor = infersdk.load(model, name="mixed")
    return Served(predictor, predictor, (ARRAY, TEXT, COUNT))


@pytest.mark.parametrize(
    ("rows", "complaint", "field", "row"),
    [
        ((ARRAY, TEXT, [3.0]), "Round it yourself", "k", None),
        ((ARRAY, TEXT, [3.5]), "Round it yourself", "k", None),
        ((ARRAY, TEXT, [2**63]), "int64's range", "k", None),
        ((ARRAY, TEXT, [-(2**63) - 1]), "64 bits|int64's range", "k", None),
        ((ARRAY, TEXT, [2**100]), "64 bits", "k", None),
        ((ARRAY, TEXT, np.array([2**63], np.uint64)), "int64's range", "k", None),
        ((ARRAY, TEXT, ["3"]), "Expected int64", "k", None),
        ((ARRAY, TEXT, np.array(["2020"], "M8[s]")), "datetime64", "k", None),
        ((ARRAY, [b"a"], COUNT), r"value\.decode", "t", 0),
        ((ARRAY, [1], COUNT), "Expected a str", "t", 0),
        ((ARRAY, [None], COUNT), "Expected a str", "t", 0),
        ((ARRAY, [float("nan")], COUNT), "Expected a str", "t", 0),
        ((ARRAY, ["\ud800"], COUNT), "UTF-8", "t", 0),
        ((ARRAY, "a", COUNT), "Add the batch axis", "t", None),
        ((ARRAY, np.array([b"a"]), COUNT), "decode", "t", None),
        ((ARRAY, [["a"]], COUNT), r"Expected string \(N,\)", "t", None),
        ((ARRAY, {"a"}, COUNT), "a set", "t", None),
        ((ARRAY, ["a", "b"], COUNT), "with N = 1, as in `x`", "t", None),
        ((None, TEXT, COUNT), "got None", "x", None),
        ((iter([1]), TEXT, COUNT), "Pass list", "x", None),
        ((ARRAY, TEXT), "3 inputs", None, None),
        ((ARRAY, TEXT, COUNT, COUNT), "3 inputs", None, None),
        (None, "3 inputs", None, None),
        ("abc", "3 inputs", None, None),
        (b"abc", "3 inputs", None, None),
        (ARRAY, "3 inputs", None, None),
        ({"x": ARRAY, "t": TEXT}, "Expected inputs", "k", None),
        ({"x": ARRAY, "t": TEXT, "k": COUNT, "z": 1}, "Expected inputs", "z", None),
        ({"x": ARRAY, "t": TEXT, "K": COUNT}, "Expected inputs", "k", None),
        ({b"x": ARRAY, "t": TEXT, "k": COUNT}, "b'x'", "x", None),
        ({}, "an empty dict", "x", None),
    ],
)
def test_bad_values_of_a_graph(
    mixed: Served, rows: Any, complaint: str, field: str | None, row: int | None
) -> None:
    before = mixed.answer(mixed.good)
    with pytest.raises(InputError, match=complaint) as caught:
        mixed.ask(rows)
    assert (caught.value.field, caught.value.row) == (field, row)
    assert caught.value.model == "mixed"
    assert mixed.answer(mixed.good) == before


@pytest.mark.parametrize(
    "rows",
    [
        {"x": ARRAY, "t": TEXT, "k": COUNT},
        ([NUMBERS], ["a"], [3]),
        (ARRAY.astype(np.float64), np.array(["a"]), np.array([3], np.int8)),
        (ARRAY, np.array(["a"], dtype=np.dtypes.StringDType()), np.array([3], ">i8")),
        [ARRAY, TEXT, COUNT],
    ],
)
def test_odd_but_sound_values_of_a_graph(mixed: Served, rows: Any) -> None:
    assert mixed.answer(rows) == mixed.answer(mixed.good)


# -- good and bad rows at once ----------------------------------------------------------------------------------


def _bad_rows_of(name: str) -> list[Any]:
    if name == "churn":
        values = [but(**{f: value}) for f, items in BAD_VALUES.items() for value, _ in items]
        return [row for row in values if len(str(row.get("plan"))) < 100]
    if name == "mixed":
        return [(ARRAY, ["\ud800"], COUNT), (ARRAY, [None], COUNT), (ARRAY, TEXT, [0.5]), None]
    return [rows for rows in BAD_ARRAYS.values() if not callable(rows)]


@pytest.mark.parametrize("name", ["churn", "boosted", "network", "plain", "mixed"])
def test_bad_rows_disturb_no_good_ones(request: pytest.FixtureRequest, name: str) -> None:
    served: Served = request.getfixturevalue(name)
    expected = served.answer(served.good)
    bad = _bad_rows_of(name)
    n_threads, n_calls = 6, 120
    start = threading.Barrier(n_threads)
    failures: list[str] = []

    def work(seed: int) -> None:
        start.wait()
        for i in range(n_calls):
            if (seed + i) % 2:
                try:
                    served.ask(bad[(seed * n_calls + i) % len(bad)])
                except InputError:
                    pass
                except Exception as error:
                    failures.append(f"{type(error).__name__}: {error}")
                else:
                    failures.append(f"bad row {i} of thread {seed} was answered")
            elif served.answer(served.good) != expected:
                failures.append(f"call {i} of thread {seed}: another answer")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert served.answer(served.good) == expected
