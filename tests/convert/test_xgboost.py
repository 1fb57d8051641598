"""XGBoost models against XGBoost itself, on rows around every split."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infersdk.convert import xgboost as converter
from infersdk.convert import xgboost_dump
from infersdk.errors import InputError, UnsupportedModelError

pd = pytest.importorskip("pandas")
xgb = pytest.importorskip("xgboost")

keeps_base_score = pytest.mark.skipif(
    tuple(map(int, xgb.__version__.split(".")[:2])) < (3, 2),
    reason="XGBoost before 3.2 refuses a base score of 0 or 1",
)

SMALL = {"n_estimators": 12, "max_depth": 4, "n_jobs": 1}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4)).astype(np.float32)
    X[rng.random(X.shape) < 0.1] = np.nan
    full = np.nan_to_num(X)
    two = (full[:, 0] + full[:, 1] > 0).astype(int)
    three = two + (full[:, 2] > 0.5)
    positive = np.exp(full[:, 0] + 0.3 * full[:, 1])
    return X, full, two, three, positive


@pytest.fixture(scope="module")
def frame(data):
    """Named columns: float, int with many values, text and number categories, bool."""
    _, full, _, _, _ = data
    rng = np.random.default_rng(1)
    made = pd.DataFrame(
        {
            "age": full[:, 0].astype(np.float64),
            "count": rng.integers(0, 9, 300),
            "city": pd.Categorical(rng.choice(list("uvwxyz"), 300)),
            "size": pd.Categorical(rng.choice([3, 5, 9], 300)),
            "member": full[:, 1] > 0,
        }
    )
    made.loc[5:25, "city"] = None
    target = (made["city"].cat.codes % 3) * 2.0 + (made["size"] == 5) + made["age"] + made["count"]
    return made, target.to_numpy()


def label_for(objective, data):
    _, _, two, three, positive = data
    if objective.startswith(("binary:", "reg:logistic", "rank:map")):
        return two
    if objective.startswith(("multi:", "rank:")):
        return three
    return positive


# --- objectives ---------------------------------------------------------------------------------

SINGLE_OUTPUT = sorted(
    xgboost_dump.KNOWN
    - xgboost_dump.MULTICLASS
    - {"survival:aft", "reg:quantileerror", "reg:linear"}
)


@pytest.mark.parametrize("base_score", [None, 0.3])
@pytest.mark.parametrize("objective", SINGLE_OUTPUT)
def test_a_booster_answers_in_the_objectives_own_scale(
    objective, base_score, data, assert_faithful
):
    params = {"objective": objective, "nthread": 1, "max_depth": 3}
    if base_score is not None:
        params["base_score"] = base_score
    booster = xgb.train(params, xgb.DMatrix(data[0], label_for(objective, data)), 6)
    assert_faithful(converter, booster)


def test_accelerated_failure_times(data, assert_faithful):
    matrix = xgb.DMatrix(data[0])
    matrix.set_float_info("label_lower_bound", data[4])
    matrix.set_float_info("label_upper_bound", data[4])
    booster = xgb.train({"objective": "survival:aft", "nthread": 1, "max_depth": 3}, matrix, 6)
    assert_faithful(converter, booster)


@pytest.mark.parametrize(
    "objective", ["reg:logistic", "survival:cox", "count:poisson", "reg:gamma"]
)
def test_a_regressor_with_a_link_function(objective, data, assert_faithful):
    model = xgb.XGBRegressor(objective=objective, **SMALL)
    assert_faithful(converter, model.fit(data[0], label_for(objective, data)))


@pytest.mark.parametrize(
    "objective", ["binary:logistic", "binary:logitraw", "binary:hinge", "reg:logistic"]
)
def test_a_binary_classifier(objective, data, assert_faithful):
    model = xgb.XGBClassifier(objective=objective, **SMALL).fit(data[0], data[2])
    assert_faithful(converter, model)


@pytest.mark.parametrize("objective", ["multi:softprob", "multi:softmax"])
def test_many_classes(objective, data, assert_faithful):
    model = xgb.XGBClassifier(objective=objective, **SMALL).fit(data[0], data[3])
    assert_faithful(converter, model, n_distinct=3)
    assert_faithful(converter, model.get_booster(), n_distinct=3)


def test_small_probabilities_keep_their_digits(data, graph_answers):
    """ONNX Runtime's Sigmoid is cut off at exp(-18); these are far below."""
    X, _, two, _, _ = data
    model = xgb.XGBClassifier(
        base_score=1e-6,
        n_estimators=20,
        learning_rate=1,
        reg_lambda=0,
        min_child_weight=0,
        n_jobs=1,
    ).fit(X, two * 0)
    expected = model.predict_proba(X)
    assert 0 < expected[:, 1].max() < 1e-12
    given = graph_answers(converter, model, X)["predict_proba"]
    np.testing.assert_allclose(given, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "base_score",
    [
        1e-9,
        1e-3,
        1 - 1e-7,
        pytest.param(0.0, marks=keeps_base_score),
        pytest.param(1.0, marks=keeps_base_score),
    ],
)
def test_extreme_base_scores_are_kept_from_0_and_1_as_xgboost_does(base_score, data, graph_answers):
    params = {"objective": "binary:logistic", "base_score": base_score, "nthread": 1}
    params |= {"min_child_weight": 0, "learning_rate": 0.01}
    booster = xgb.train(params, xgb.DMatrix(data[0], data[2]), 3)
    expected = booster.predict(xgb.DMatrix(data[0]))
    given = graph_answers(converter, booster, data[0])["predict"]
    np.testing.assert_allclose(given, expected, rtol=1e-5)


# --- several outputs ----------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["one_output_per_tree", "multi_output_tree"])
class TestSeveralOutputs:
    def test_regression(self, strategy, data, assert_faithful):
        X, full, _, _, positive = data
        targets = np.column_stack([positive, -3 * full[:, 2] + 50])
        model = xgb.XGBRegressor(multi_strategy=strategy, **SMALL).fit(X, targets)
        assert converter.infer_signature(model).methods[0].shape == (2,)
        assert_faithful(converter, model)
        assert_faithful(converter, model.get_booster())

    def test_many_labels_per_row(self, strategy, data, assert_faithful):
        X, full, two, three, _ = data
        labels = np.column_stack([two, three > 1, full[:, 3] > 0]).astype(int)
        model = xgb.XGBClassifier(multi_strategy=strategy, **SMALL).fit(X, labels)
        assert_faithful(converter, model)

    def test_classes(self, strategy, data, assert_faithful):
        model = xgb.XGBClassifier(multi_strategy=strategy, **SMALL).fit(data[0], data[3])
        assert_faithful(converter, model, n_distinct=3)


def test_quantiles(data, assert_faithful):
    model = xgb.XGBRegressor(
        objective="reg:quantileerror", quantile_alpha=[0.1, 0.5, 0.9], **SMALL
    ).fit(data[0], data[4])
    assert_faithful(converter, model)


def test_trees_that_never_split(data, assert_faithful, graph_answers):
    X, _, _, _, positive = data
    targets = np.column_stack([positive, np.ones(len(X))])
    partly = xgb.XGBRegressor(**SMALL).fit(X, targets)  # the second target has nothing to learn
    assert_faithful(converter, partly)
    never = xgb.XGBRegressor(gamma=1e9, **SMALL).fit(X, positive)
    answer = graph_answers(converter, never, X[:7])["predict"]
    np.testing.assert_allclose(answer, never.predict(X[:7]), rtol=1e-6)


def test_pruned_trees_leave_their_deleted_nodes_out(data, assert_faithful):
    model = xgb.XGBRegressor(tree_method="exact", gamma=20, **SMALL).fit(data[0], data[4])
    dump = json.loads(bytes(model.get_booster().save_raw("json")))
    trees = dump["learner"]["gradient_booster"]["model"]["trees"]
    assert any(int(tree["tree_param"]["num_deleted"]) for tree in trees)
    assert_faithful(converter, model)


# --- boosters, missing values, rounds -----------------------------------------------------------


@pytest.mark.parametrize("kind", ["binary", "classes", "targets"])
@pytest.mark.parametrize("booster", ["dart", "gblinear"])
def test_other_boosters(booster, kind, data, assert_faithful):
    X, full, two, three, positive = data
    options = {"n_estimators": 10, "n_jobs": 1, "booster": booster}
    if booster == "dart":
        options |= {"rate_drop": 0.5, "max_depth": 3, "random_state": 0}
    if kind == "targets":
        model = xgb.XGBRegressor(**options).fit(X, np.column_stack([positive, full[:, 1] + 9]))
    else:
        model = xgb.XGBClassifier(**options).fit(X, two if kind == "binary" else three)
    assert_faithful(converter, model)
    assert_faithful(converter, model.get_booster())


@pytest.mark.parametrize("booster", ["gbtree", "dart", "gblinear"])
@pytest.mark.parametrize("missing", [0.0, -999.0, 0.1])
def test_another_value_for_missing(missing, booster, data, assert_faithful):
    X, _, _, _, positive = data
    rows = np.where(np.isnan(X), np.float32(missing), X)
    model = xgb.XGBRegressor(missing=missing, n_estimators=8, n_jobs=1, booster=booster)
    model.fit(rows, positive)
    assert_faithful(converter, model)  # the edge rows hold the value, and NaN too
    assert_faithful(converter, model, rows=rows.astype(np.float64))


def test_early_stopping_answers_from_the_best_round(data, assert_faithful):
    X, _, _, three, _ = data
    model = xgb.XGBClassifier(early_stopping_rounds=2, learning_rate=1.0, **SMALL)
    model.fit(X[:150], three[:150], eval_set=[(X[150:], three[150:])], verbose=False)
    n_rounds = model.get_booster().num_boosted_rounds()
    assert model.best_iteration + 1 < n_rounds
    notes = converter.to_onnx(model, converter.infer_signature(model)).notes
    assert notes == (
        f"early stopping: the first {model.best_iteration + 1} of {n_rounds} rounds answer",
    )
    assert_faithful(converter, model, n_distinct=3)
    # A Booster on its own uses every round.
    assert_faithful(converter, model.get_booster())
    booster = model.get_booster()
    assert converter.to_onnx(booster, converter.infer_signature(booster)).notes == ()


def test_forests(data, assert_faithful):
    assert_faithful(converter, xgb.XGBRFClassifier(**SMALL).fit(data[0], data[3]))
    assert_faithful(converter, xgb.XGBRFRegressor(**SMALL).fit(data[0], data[4]))


@pytest.mark.parametrize("objective", ["rank:ndcg", "rank:pairwise", "rank:map"])
def test_rankers(objective, data, assert_faithful):
    relevance = data[2] if objective == "rank:map" else data[3]
    groups = np.arange(300) // 20
    model = xgb.XGBRanker(objective=objective, **SMALL).fit(data[0], relevance, qid=groups)
    assert_faithful(converter, model)


def test_a_model_read_back_from_its_file(data, assert_faithful, tmp_path):
    trained = xgb.XGBClassifier(**SMALL).fit(data[0], data[3])
    trained.save_model(tmp_path / "model.json")
    model = xgb.XGBClassifier()
    model.load_model(tmp_path / "model.json")
    assert_faithful(converter, model, n_distinct=3)
    assert_faithful(converter, xgb.Booster(model_file=tmp_path / "model.json"))


# --- columns ------------------------------------------------------------------------------------


def test_an_array_model_has_plain_fields(data):
    model = xgb.XGBRegressor(**SMALL).fit(data[0], data[4])
    signature = converter.infer_signature(model)
    assert signature.container == "array"
    assert [field.name for field in signature.fields] == ["f0", "f1", "f2", "f3"]
    assert {field.missing for field in signature.fields} == {"nan"}
    assert str(signature.inputs[0]) == "float32 (N, 4)"


def test_a_frame_model_knows_its_columns(frame):
    rows, target = frame
    model = xgb.XGBRegressor(enable_categorical=True, **SMALL).fit(rows, target)
    for example in (None, rows):
        signature = converter.infer_signature(model, example)
        assert signature.container == "dataframe"
        found = {
            f.name: (f.dtype, f.encoding, f.categories, f.source_dtype) for f in signature.fields
        }
        assert found == {
            "age": ("float", "value", None, "float64"),
            "count": ("int", "value", None, "int64"),
            "city": ("string", "code", tuple("uvwxyz"), "category"),
            "size": ("int", "code", (3, 5, 9), "category"),
            "member": ("bool", "value", None, "bool"),
        }
        assert [field.column for field in signature.fields] == [0, 1, 2, 3, 4]


def test_a_category_never_seen_is_refused_because_xgboost_takes_it_for_another(frame):
    rows, target = frame
    model = xgb.XGBRegressor(enable_categorical=True, **SMALL).fit(rows, target)
    city = converter.infer_signature(model).fields[2]
    assert (city.unknown, city.missing) == ("refuse", "nan")


@pytest.mark.parametrize("onehot", [1, 100])
@pytest.mark.parametrize("missing", [np.nan, 0.0])
def test_categorical_splits(onehot, missing, frame, assert_faithful):
    rows, target = frame
    model = xgb.XGBRegressor(
        enable_categorical=True, max_cat_to_onehot=onehot, missing=missing, **SMALL
    ).fit(rows, target)
    assert_faithful(converter, model)
    assert_faithful(converter, model, example=rows)
    assert_faithful(converter, model, rows=rows, example=rows)
    if np.isnan(missing):
        assert_faithful(converter, model.get_booster(), example=rows)


def test_category_codes_in_an_array(frame, assert_faithful):
    rows, target = frame
    city = rows["city"].cat.codes.replace(-1, np.nan)
    coded = np.column_stack([rows["age"], city, rows["size"].cat.codes])
    model = xgb.XGBRegressor(
        enable_categorical=True, feature_types=["q", "c", "c"], max_cat_to_onehot=1, **SMALL
    ).fit(coded, target)
    assert_faithful(converter, model)
    strange = np.array([-5.0, -0.5, 0.5, 1.7, 2.0, 2.9, 17.0, 1e6, np.nan])
    odd = np.column_stack([np.zeros(9), strange, np.ones(9)])
    assert_faithful(converter, model, rows=odd)
    assert_faithful(converter, model.get_booster(), rows=odd)


class TestTextOutsideAscii:
    """XGBoost cuts the bytes of such categories off, so that they cannot be read back."""

    @pytest.fixture
    def trained(self, frame):
        rows, _ = frame
        names = {"u": "éa", "v": "日本", "w": "w", "x": "x", "y": "y", "z": "z"}
        rows = rows.assign(city=rows["city"].cat.rename_categories(names))
        target = (rows["city"].cat.codes % 3) * 2.0 + rows["age"]
        model = xgb.XGBRegressor(enable_categorical=True, max_cat_to_onehot=1, **SMALL)
        return model.fit(rows, target), rows

    def test_the_example_tells_them(self, trained, assert_faithful):
        model, rows = trained
        assert_faithful(converter, model, example=rows)

    def test_without_example_they_are_unknown(self, trained):
        with pytest.raises(UnsupportedModelError, match=r"`city`.*outside ASCII.*example="):
            converter.infer_signature(trained[0])

    def test_an_example_in_another_order_is_refused(self, trained):
        model, rows = trained
        turned = rows["city"].cat.reorder_categories(list(rows["city"].cat.categories)[::-1])
        with pytest.raises(UnsupportedModelError, match=r"`city` as in training"):
            converter.infer_signature(model, rows.assign(city=turned))


@pytest.mark.parametrize("start", [10**8, 10**15, 10**18])
def test_ids_are_rounded_as_xgboost_rounds_them(start):
    import infersdk

    rng = np.random.default_rng(0)
    step = max(1, start >> 20)
    rows = pd.DataFrame({"id": start + rng.integers(0, 500, 300) * step, "n": np.arange(300)})
    model = xgb.XGBRegressor(**SMALL).fit(rows, (rows["id"] // step) % 7 + rows["n"] / 300)
    predictor = infersdk.load(model, example=rows)
    assert predictor.plan.kind == "onnx", str(predictor.plan)
    assert [field.dtype for field in predictor.signature.fields] == ["float", "int"]
    np.testing.assert_allclose(predictor.predict(rows), model.predict(rows), rtol=1e-5)
    named = xgb.Booster(model_file=bytearray(model.get_booster().save_raw()))
    signature = converter.infer_signature(named)  # the thresholds tell it too
    assert signature.fields[0].dtype == "float"


def test_a_booster_over_named_columns(data, assert_faithful):
    names = ["a b", "[c]"[1:2], "d", "é"]
    matrix = xgb.DMatrix(data[0], data[4], feature_names=names)
    booster = xgb.train({"nthread": 1, "max_depth": 3}, matrix, 5)
    signature = converter.infer_signature(booster)
    assert signature.container == "dataframe"
    assert [field.name for field in signature.fields] == names
    assert_faithful(converter, booster)


# --- edge rows ----------------------------------------------------------------------------------


def test_edge_rows_hold_both_neighbors_of_every_threshold(data):
    model = xgb.XGBRegressor(n_estimators=3, max_depth=3, n_jobs=1).fit(data[0], data[4])
    signature = converter.infer_signature(model)
    rng = np.random.default_rng(0)
    rows = converter.edge_rows(model, signature, None, n_rows=2000, rng=rng)
    assert rows.shape == (2000, 4)
    assert rows.dtype == np.float64
    assert np.isnan(rows).any(axis=0).all()
    table = model.get_booster().trees_to_dataframe()
    for index, name in enumerate(["f0", "f1", "f2", "f3"]):
        splits = table.loc[table["Feature"] == name, "Split"].to_numpy(np.float32)
        for threshold in splits:
            below = np.nextafter(threshold, np.float32(-np.inf))
            assert {float(threshold), float(below)} <= set(rows[:, index])


def test_edge_rows_follow_the_example_between_the_edges(data):
    X, _, _, _, positive = data
    model = xgb.XGBRegressor(n_estimators=1, max_depth=1, n_jobs=1).fit(X[:, :2], positive)
    signature = converter.infer_signature(model)
    example = np.column_stack([X[:, 0], np.full(300, 1234.5)])
    rng = np.random.default_rng(0)
    rows = converter.edge_rows(model, signature, example, n_rows=50, rng=rng)
    assert set(rows[~np.isnan(rows[:, 1]), 1]) == {1234.5}


def test_edge_rows_of_a_frame_keep_its_dtypes(frame):
    rows, target = frame
    model = xgb.XGBRegressor(enable_categorical=True, **SMALL).fit(rows, target)
    rng = np.random.default_rng(0)
    edges = converter.edge_rows(model, converter.infer_signature(model), None, n_rows=300, rng=rng)
    assert list(edges.columns) == list(rows.columns)
    assert edges["member"].dtype == bool
    assert set(edges["city"].dropna()) == set("uvwxyz")
    assert edges["city"].isna().any()
    counts = edges["count"].dropna()
    assert (counts == np.floor(counts)).all()


# --- what is refused ----------------------------------------------------------------------------


def test_a_model_that_is_not_fitted_is_refused():
    with pytest.raises(UnsupportedModelError, match="fitted XGBClassifier"):
        converter.infer_signature(xgb.XGBClassifier())


def test_a_dmatrix_is_no_example(data):
    booster = xgb.train({"nthread": 1}, xgb.DMatrix(data[0], data[4]), 1)
    for example in (xgb.DMatrix(data[0]), xgb.QuantileDMatrix(data[0])):
        with pytest.raises(InputError, match=r"xgboost\..*DMatrix.*Pass what it was made of"):
            converter.infer_signature(booster, example)


def test_an_objective_without_a_known_link_is_refused(data, monkeypatch):
    model = xgb.XGBRegressor(n_estimators=1, n_jobs=1).fit(data[0], data[4])
    signature = converter.infer_signature(model)
    read = converter.read
    monkeypatch.setattr(
        converter, "read", lambda model: dataclasses.replace(read(model), objective="reg:new")
    )
    with pytest.raises(UnsupportedModelError, match=r"'reg:new'.*nearest is reg:squarederror"):
        converter.to_onnx(model, signature)


def test_old_opsets(data, graph_answers):
    model = xgb.XGBClassifier(n_estimators=3, n_jobs=1).fit(data[0], data[2])
    answers = graph_answers(converter, model, data[0], opset=13)
    np.testing.assert_array_equal(answers["predict"], model.predict(data[0]))
    with pytest.raises(UnsupportedModelError, match="opset 13"):
        converter.to_onnx(model, converter.infer_signature(model), opset=12)


# --- manners ------------------------------------------------------------------------------------


def test_only_xgboost_models_are_taken(data):
    class Own(xgb.XGBRegressor):
        pass

    class Remote(xgb.XGBRegressor):
        __module__ = "xgboost.dask"

    assert converter.can_convert(Own())
    assert converter.can_convert(xgb.train({"nthread": 1}, xgb.DMatrix(data[0], data[4]), 1))
    assert not converter.can_convert(Remote())
    assert not converter.can_convert(object())


def test_importing_the_converter_imports_no_framework():
    code = (
        "import sys, infersdk.convert.xgboost, infersdk.convert.lightgbm;"
        "print({'xgboost', 'lightgbm', 'pandas', 'sklearn', 'onnxruntime'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_model_is_only_read(data):
    model = xgb.XGBClassifier(**SMALL).fit(data[0], data[3])
    before = bytes(model.get_booster().save_raw("json")), model.get_params()
    converter.to_onnx(model, converter.infer_signature(model))
    after = bytes(model.get_booster().save_raw("json")), model.get_params()
    assert json.loads(before[0]) == json.loads(after[0])
    assert str(before[1]) == str(after[1])


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**16),
    depth=st.integers(1, 6),
    scale=st.sampled_from([1e-30, 1e-3, 1.0, 1e6, 1e30]),
    method=st.sampled_from(["hist", "exact"]),
)
def test_random_models_on_random_rows(seed, depth, scale, method, assert_faithful):
    rng = np.random.default_rng(seed)
    X = (rng.normal(size=(60, 3)) * scale).round(rng.integers(0, 40)).astype(np.float32)
    X[rng.random(X.shape) < 0.15] = np.nan
    X[:, 2] = rng.integers(-2, 3, 60)
    model = xgb.XGBRegressor(
        n_estimators=4, max_depth=depth, tree_method=method, n_jobs=1, min_child_weight=0
    ).fit(X, rng.normal(size=60))
    assert_faithful(converter, model, n_distinct=1)
    assert_faithful(converter, model, rows=X.astype(np.float64), n_distinct=1)


# --- as a Predictor -----------------------------------------------------------------------------


def test_a_predictor_answers_dicts_frames_and_arrays(frame, data):
    import infersdk

    rows, target = frame
    model = xgb.XGBClassifier(enable_categorical=True, **SMALL).fit(rows, target > 5)
    predictor = infersdk.load(model, example=rows)
    assert predictor.plan.kind == "onnx", str(predictor.plan)
    np.testing.assert_array_equal(predictor.predict(rows), model.predict(rows))
    one = {"age": 0.5, "count": 3, "city": None, "size": 9, "member": True}
    as_frame = rows.iloc[:1].assign(age=0.5, count=3, member=True)
    as_frame["city"] = pd.Categorical([None], categories=list("uvwxyz"))
    as_frame["size"] = pd.Categorical([9], categories=[3, 5, 9])
    np.testing.assert_allclose(
        predictor.predict_proba(one), model.predict_proba(as_frame), rtol=1e-5
    )
    with pytest.raises(infersdk.InputError, match="`city`"):
        predictor.predict(one | {"city": "nowhere"})

    ranker = xgb.XGBRanker(**SMALL).fit(data[0], data[3], qid=np.arange(300) // 20)
    predictor = infersdk.load(ranker, example=data[0])
    assert predictor.plan.kind == "onnx", str(predictor.plan)
    np.testing.assert_allclose(predictor.predict(data[0]), ranker.predict(data[0]), atol=1e-6)


@pytest.mark.parametrize("objective", ["reg:logistic", "survival:cox"])
def test_no_example_is_needed_for_the_proof(objective, data):
    import infersdk

    model = xgb.XGBRegressor(objective=objective, **SMALL).fit(data[0], label_for(objective, data))
    predictor = infersdk.load(model)
    assert predictor.plan.kind == "onnx", str(predictor.plan)
    assert predictor.parity.n_edge_rows > 100
    assert predictor.parity.passed


def test_infinity_goes_where_xgboost_takes_it():
    import infersdk

    X = np.random.default_rng(0).normal(size=(200, 3))
    model = xgb.XGBClassifier(n_estimators=5, max_depth=3, n_jobs=1).fit(X, X[:, 0] > 0)
    rows = np.array([[np.inf, 0.0, -np.inf], [-np.inf, np.inf, 1.0]])
    predictor = infersdk.load(model, example=X)
    np.testing.assert_allclose(predictor.predict_proba(rows), model.predict_proba(rows), rtol=1e-5)
    booster = infersdk.load(model.get_booster(), example=X)
    with pytest.raises(xgb.core.XGBoostError, match="inf"):
        model.get_booster().predict(xgb.DMatrix(rows))
    with pytest.raises(infersdk.InputError, match="finite number"):
        booster.predict(rows)
