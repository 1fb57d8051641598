"""Predictor.check(): every reason why rows would be refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import infersdk
from infersdk.errors import InputError

pytest.importorskip("sklearn", reason="the models are scikit-learn's")

NAMES = ("age", "city", "active", "income")

VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([1.5, 2.0, float("nan"), float("inf"), 1e300, 2**60 + 1])
    | st.sampled_from(["Oslo", "", "\ud800"])
    | st.lists(st.integers(), max_size=2)
)
BY_NAME = st.dictionaries(st.sampled_from((*NAMES, "other", "cit")), VALUES, max_size=5)
WHOLE = st.fixed_dictionaries({"age": VALUES, "city": VALUES, "active": VALUES, "income": VALUES})
BY_POSITION = st.lists(VALUES, min_size=3, max_size=5)
ROWS = (
    WHOLE
    | BY_NAME
    | st.lists(WHOLE | BY_NAME | BY_POSITION | VALUES, max_size=4)
    | st.lists(WHOLE, max_size=4)
)


@pytest.fixture(scope="module", params=["onnx", "native", "hybrid"])
def predictor(request: pytest.FixtureRequest) -> Iterator[infersdk.Predictor]:
    """One model under every plan."""
    import pandas as pd
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

    rng = np.random.default_rng(3)
    X = pd.DataFrame(
        {
            "age": rng.integers(18, 90, 60),
            "city": rng.choice(["Oslo", "Rome"], 60),
            "active": rng.random(60) < 0.5,
            "income": rng.normal(50, 9, 60),
        }
    )
    y = X["age"] > 50
    own = FunctionTransformer(_own_step if request.param == "hybrid" else None)
    encode = make_column_transformer(
        (OneHotEncoder(sparse_output=False, handle_unknown="ignore"), ["city"]),
        (own, ["income"]),
        remainder="passthrough",
    )
    model = make_pipeline(encode, LogisticRegression(max_iter=2000)).fit(X, y)
    loaded = infersdk.load(_native(model) if request.param == "native" else model, example=X)
    assert loaded.plan.kind == request.param
    yield loaded
    loaded.close()


def _own_step(X: Any) -> Any:
    return np.sin(np.asarray(X)) + len(str(type(X))) * 0


def _native(model: Any) -> Any:
    """The same model, of a class that no converter writes."""
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Own(ClassifierMixin, BaseEstimator):
        def __init__(self) -> None:
            self.feature_names_in_ = model.feature_names_in_
            self.n_features_in_ = model.n_features_in_
            self.classes_ = model.classes_

        def fit(self, X: Any, y: Any = None) -> Any:
            return self

        def __sklearn_is_fitted__(self) -> bool:
            return True

        def predict(self, X: Any) -> Any:
            return model.predict(X)

        def predict_proba(self, X: Any) -> Any:
            return model.predict_proba(X)

    return Own()


@given(rows=ROWS)
def test_it_finds_something_exactly_when_a_call_is_refused(
    predictor: infersdk.Predictor, rows: Any
) -> None:
    errors = predictor.check(rows)
    refused: InputError | None = None
    try:
        predictor.predict(rows)
    except InputError as error:
        refused = error
    except ValueError:
        # Of scikit-learn itself, which takes no table without rows.
        assert predictor.plan.kind == "native"
        assert rows == []
    if refused is None:
        assert errors == []
    else:
        # What stopped the call is among the rest, though a missing field is told by itself here.
        assert refused.row in {error.row for error in errors}


def test_each_error_is_that_of_its_value_alone(predictor: infersdk.Predictor) -> None:
    good = {"age": 30, "city": "Oslo", "active": True, "income": 2.0}
    rows = [good, {**good, "city": 3, "income": "x"}, good, {**good, "age": []}]
    errors = predictor.check(rows)
    assert [(error.row, error.field) for error in errors] == [
        (1, "city"),
        (1, "income"),
        (3, "age"),
    ]
    for error in errors:
        alone = [dict(good) for _ in rows]
        assert error.row is not None
        assert error.field is not None
        alone[error.row][error.field] = rows[error.row][error.field]
        with pytest.raises(InputError) as caught:
            predictor.predict(alone)
        assert str(caught.value) == str(error)


def test_no_more_than_the_limit(predictor: infersdk.Predictor) -> None:
    assert len(predictor.check([{}] * 100, limit=7)) == 7
    assert len(predictor.check([{"age": "x", "city": 1, "active": "", "income": ""}] * 100)) == 100
