"""Models of which a part stays in scikit-learn: the graph holds the rest, and the answers are the model's."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    BaggingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler

import infersdk
from infersdk.types import PlanPart
from tests.convert.own_estimators import Grouping, Hand, Mean, Picky, Ratio, words

FAST = infersdk.Execution(calibration_s=0)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    n = 160
    return pd.DataFrame(
        {
            "age": rng.normal(40, 12, n),
            "income": rng.lognormal(10, 1, n),
            "visits": rng.integers(0, 9, n),
            "city": rng.choice(["oslo", "bergen", "ulm"], n),
            "note": rng.choice(["red fox", "blue dog", "green cat jumps"], n),
        }
    )


@pytest.fixture(scope="module")
def labels(frame: pd.DataFrame) -> np.ndarray:
    noise = np.random.default_rng(1).normal(size=len(frame))
    return np.where((frame.age - 40) / 12 + (frame.city == "oslo") + noise > 0.3, "yes", "no")


@pytest.fixture(scope="module")
def matrix(frame: pd.DataFrame) -> np.ndarray:
    scaled = frame[["age", "visits"]].to_numpy(dtype=np.float64)
    return (scaled - scaled.mean(axis=0)) / scaled.std(axis=0)


def agree(model, example, parts, *, kind="hybrid"):
    """Load and compare every method; the parts that stay are those named."""
    predictor = infersdk.load(model, example=example, execution=FAST)
    assert predictor.plan.kind == kind, str(predictor.plan)
    left = {part.path: part.kind for part in predictor.plan.parts if part.runs == "source"}
    assert left == parts
    rows = example.iloc[:40] if hasattr(example, "iloc") else example[:40]
    for method in predictor.signature.methods:
        wanted = getattr(model, method.name)(rows)
        got = getattr(predictor, method.name)(rows)
        assert got.dtype == wanted.dtype
        if wanted.dtype.kind == "f":
            np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-7)
        else:
            np.testing.assert_array_equal(got, wanted)
    return predictor


def test_a_first_step_of_ones_own(matrix, labels):
    model = make_pipeline(Ratio(), StandardScaler(), RandomForestClassifier(8, random_state=0))
    predictor = agree(model.fit(matrix, labels), matrix, {"ratio": "Ratio"})
    step = predictor.signature.steps[0]
    assert (step.kind, step.method, step.columns, step.tensors) == ("source", "transform", None, ())
    assert "not a class of scikit-learn" in str(predictor.plan)
    assert predictor.plan.parts[1:] == (
        PlanPart("standardscaler", "StandardScaler", "onnx"),
        PlanPart("randomforestclassifier", "RandomForestClassifier", "onnx"),
    )


def test_a_step_in_the_middle_reads_what_the_graph_computed(matrix, labels):
    model = make_pipeline(StandardScaler(), Ratio(), LogisticRegression()).fit(matrix, labels)
    predictor = agree(model, matrix, {"ratio": "Ratio"})
    assert predictor.signature.steps[0].tensors == ("ratio.transform.rows",)


def test_two_steps_of_ones_own_in_a_row(matrix, labels):
    model = make_pipeline(Ratio(), Ratio(), LogisticRegression()).fit(matrix, labels)
    agree(model, matrix, {"ratio-1": "Ratio", "ratio-2": "Ratio"})


def test_a_final_estimator_of_ones_own(matrix, labels):
    agree(make_pipeline(StandardScaler(), Hand()).fit(matrix, labels), matrix, {"hand": "Hand"})
    target = matrix[:, 0] * 3
    agree(make_pipeline(StandardScaler(), Mean()).fit(matrix, target), matrix, {"mean": "Mean"})


def test_nothing_but_a_part_is_native(matrix, labels):
    for model in (Hand(), make_pipeline(Hand()), GridSearchCV(Hand(), {}, cv=2)):
        predictor = infersdk.load(model.fit(matrix, labels), example=matrix, execution=FAST)
        assert predictor.plan.kind == "native", str(predictor.plan)
        np.testing.assert_array_equal(predictor.predict(matrix), model.predict(matrix))


@pytest.fixture(scope="module")
def churn(frame, labels):
    """Own columns, text columns and a step that only takes DataFrames, beside what converts."""
    prepare = ColumnTransformer(
        [
            ("num", make_pipeline(SimpleImputer(), StandardScaler()), ["age", "income"]),
            ("ratio", Picky(), ["income", "visits"]),
            ("city", OneHotEncoder(), ["city"]),
            ("group", make_pipeline(Grouping(), OneHotEncoder()), ["city"]),
            ("text", TfidfVectorizer(tokenizer=words, token_pattern=None), "note"),
        ]
    )
    model = Pipeline([("prep", prepare), ("clf", RandomForestClassifier(12, random_state=0))])
    return model.fit(frame, labels)


def test_a_column_transformer_keeps_the_rest_in_the_graph(churn, frame):
    predictor = agree(
        churn,
        frame,
        {"prep.ratio": "Picky", "prep.group.grouping": "Grouping", "prep.text": "TfidfVectorizer"},
    )
    steps = {step.name: step for step in predictor.signature.steps}
    assert steps["prep.ratio.transform"].columns == (1, 2)
    assert steps["prep.text.transform"].columns == (4,)
    assert steps["prep.text.transform"].flat
    row = frame.iloc[3].to_dict()
    np.testing.assert_array_equal(predictor.predict(row), churn.predict(frame.iloc[3:4]))
    rows = frame.iloc[3:9].to_dict("records")
    np.testing.assert_array_equal(predictor.predict(rows), churn.predict(frame.iloc[3:9]))


def test_a_bad_row_is_refused_before_a_part_sees_it(churn, frame):
    predictor = infersdk.load(churn, example=frame, execution=FAST)
    row = frame.iloc[0].to_dict()
    calls = Picky.calls
    with pytest.raises(infersdk.InputError, match="income"):
        predictor.predict([row, {**row, "income": "much"}])
    assert Picky.calls == calls


def test_members_of_ensembles(matrix, labels):
    voting = VotingClassifier([("lr", LogisticRegression()), ("own", Hand())], voting="soft")
    agree(voting.fit(matrix, labels), matrix, {"own": "Hand"})
    hard = VotingClassifier([("lr", LogisticRegression()), ("own", Hand())])
    agree(hard.fit(matrix, labels), matrix, {"own": "Hand"})
    stack = StackingClassifier([("lr", LogisticRegression()), ("own", Hand())])
    agree(stack.fit(matrix, labels), matrix, {"own": "Hand"})
    target = matrix[:, 0] * 2 + 1
    stack = StackingRegressor([("r", Ridge()), ("own", Mean())], final_estimator=LinearRegression())
    agree(stack.fit(matrix, target), matrix, {"own": "Mean"})
    union = FeatureUnion([("poly", PolynomialFeatures()), ("own", Ratio())])
    agree(make_pipeline(union, Ridge()).fit(matrix, target), matrix, {"featureunion.own": "Ratio"})
    search = GridSearchCV(make_pipeline(Ratio(), LogisticRegression()), {}, cv=2)
    agree(search.fit(matrix, labels), matrix, {"best_estimator.ratio": "Ratio"})


def test_too_many_parts_are_one_model(matrix, labels):
    model = BaggingClassifier(Hand(), 12, random_state=0).fit(matrix, labels)
    predictor = infersdk.load(model, example=matrix, execution=FAST)
    assert predictor.plan.kind == "native"
    np.testing.assert_array_equal(predictor.predict(matrix), model.predict(matrix))


def test_texts_with_a_tokenizer_in_python(frame, labels):
    model = make_pipeline(
        TfidfVectorizer(tokenizer=words, token_pattern=None), LogisticRegression()
    )
    texts = frame.note.tolist()
    agree(model.fit(texts, labels), texts, {"tfidfvectorizer": "TfidfVectorizer"})


def test_a_secondary_method_alone_makes_no_model_hybrid(matrix, labels):
    class Halved(LogisticRegression):
        """A subclass may override anything, so it is a part."""

    model = make_pipeline(StandardScaler(), Halved()).fit(matrix, labels)
    agree(model, matrix, {"halved": "Halved"})
    plain = make_pipeline(StandardScaler(), LogisticRegression()).fit(matrix, labels)
    agree(plain, matrix, {}, kind="onnx")


def test_a_part_is_not_called_for_a_head_that_does_not_need_it(matrix, labels):
    model = make_pipeline(StandardScaler(), Ratio(), LogisticRegression()).fit(matrix, labels)
    predictor = infersdk.load(model, example=matrix, execution=FAST)
    calls = Ratio.calls
    predictor.predict(matrix[:3])
    assert Ratio.calls == calls + 1


def test_what_a_part_raises_says_where(matrix, labels):
    class Moody(Ratio):
        angry = False

        def transform(self, X):
            if type(self).angry:
                raise KeyError("not today")
            return super().transform(X)

    model = make_pipeline(Moody(), LogisticRegression()).fit(matrix, labels)
    predictor = infersdk.load(model, example=matrix, execution=FAST, name="churn")
    Moody.angry = True
    with pytest.raises(KeyError, match="not today") as caught:
        predictor.predict(matrix[:2])
    assert any("`moody.transform` of model `churn`" in note for note in caught.value.__notes__)
    Moody.angry = False
    assert len(predictor.predict(matrix[:2])) == 2


def test_a_part_that_changes_its_mind_is_found_out(matrix, labels):
    class Growing(Ratio):
        extra = 0

        def transform(self, X):
            return np.hstack([super().transform(X), np.zeros((len(X), type(self).extra))])

    model = make_pipeline(Growing(), LogisticRegression()).fit(matrix, labels)
    predictor = infersdk.load(model, example=matrix, execution=FAST)
    Growing.extra = 1
    with pytest.raises(infersdk.SessionError, match=r"shape \(2, 2\).*got.*\(2, 3\)"):
        predictor.predict(matrix[:2])


def test_from_threads_and_tasks(churn, frame):
    predictor = infersdk.load(churn, example=frame)
    wanted = churn.predict_proba(frame)
    wrong = []

    def ask(start):
        for i in range(start, len(frame), 8):
            got = predictor.predict_proba(frame.iloc[i : i + 1])
            if not np.allclose(got, wanted[i : i + 1], atol=1e-7):
                wrong.append(i)

    threads = [threading.Thread(target=ask, args=(start,)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []

    async def many():
        rows = [frame.iloc[i : i + 1] for i in range(20)]
        return await asyncio.gather(
            *(predictor.apredict(row, method="predict_proba") for row in rows)
        )

    np.testing.assert_allclose(np.concatenate(asyncio.run(many())), wanted[:20], atol=1e-7)
    predictor.close()
    with pytest.raises(infersdk.ClosedError):
        predictor.predict(frame.iloc[:1])


def test_pickled_and_copied(churn, frame):
    predictor = infersdk.load(churn, example=frame, execution=FAST)
    for other in (pickle.loads(pickle.dumps(predictor)), copy.deepcopy(predictor)):
        np.testing.assert_array_equal(other.predict(frame), churn.predict(frame))
        assert other.plan == predictor.plan


def test_what_sklearn_onnx_writes_wrong_stays_in_scikit_learn(matrix, labels, monkeypatch):
    """Where the proof fails because of an exporter's estimator, that one becomes a part."""
    from sklearn.naive_bayes import GaussianNB

    from infersdk.convert import sklearn_bayes, sklearn_foreign, sklearn_writer

    # As for a class that has no writer here.
    for key in [key for key in sklearn_writer._WRITERS if key[1] in sklearn_bayes.NAMES]:
        monkeypatch.delitem(sklearn_writer._WRITERS, key)
    model = make_pipeline(StandardScaler(), GaussianNB()).fit(matrix, labels)
    agree(model, matrix, {}, kind="onnx")
    real = sklearn_foreign._converted

    def off_by_a_little(writer, estimator, columns):
        outputs, dtype = real(writer, estimator, columns)
        name = outputs["probabilities"]
        zero = writer.builder.constant(0.01, np.dtype(dtype))
        return {**outputs, "probabilities": writer.builder.op("Add", name, zero)}, dtype

    monkeypatch.setattr(sklearn_foreign, "_converted", off_by_a_little)
    predictor = agree(model, matrix, {"gaussiannb": "GaussianNB"})
    assert "what sklearn-onnx writes answers differently" in str(predictor.plan)


def test_convert_refuses_what_is_no_onnx_model_as_a_whole(churn, frame):
    with pytest.raises(infersdk.ConversionError, match=r"(?s)prep.ratio \(Picky\).*register"):
        infersdk.convert(churn, example=frame)
