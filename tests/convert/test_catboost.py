"""CatBoost models against CatBoost itself, on rows around every border."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infersdk.convert import catboost as converter
from infersdk.convert import catboost_graph, catboost_hash
from infersdk.errors import UnsupportedModelError

pd = pytest.importorskip("pandas", reason="CatBoost needs it")
cb = pytest.importorskip("catboost", reason="the models are CatBoost's")

SMALL = {
    "iterations": 12,
    "depth": 3,
    "verbose": 0,
    "thread_count": 1,
    "allow_writing_files": False,
}
CITIES = [
    "Oslo",
    "Zürich",
    "",
    "a name that is longer than thirty-two bytes, and longer than 64: Å",
]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4))
    X[rng.random(X.shape) < 0.1] = np.nan
    full = np.nan_to_num(X)
    two = (full[:, 0] + full[:, 1] > 0).astype(int)
    three = two + (full[:, 2] > 0.5)
    positive = np.exp(full[:, 0] + 0.3 * full[:, 1])
    return X, full, two, three, positive


@pytest.fixture(scope="module")
def frame(data):
    """Named columns: numbers with and without missing values, text, whole numbers and booleans."""
    X, _, _, _, _ = data
    rng = np.random.default_rng(1)
    made = pd.DataFrame(
        {
            "age": X[:, 0],
            "city": rng.choice(CITIES, 300),
            "shop": rng.integers(-3, 12, 300),
            "member": rng.random(300) > 0.5,
            "count": rng.integers(0, 9, 300),
            "kind": pd.Categorical(rng.choice(list("xyz"), 300)),
        }
    )
    target = (made["city"] == "Oslo") * 2.0 + made["shop"] % 3 + made["member"] * made["count"]
    return made, target.to_numpy() + np.nan_to_num(X[:, 0])


CATEGORICAL = ["city", "shop", "member", "kind"]


# --- losses -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss",
    [
        "RMSE",
        "MAE",
        "MAPE",
        "Quantile:alpha=0.3",
        "MultiQuantile:alpha=0.1,0.5,0.9",
        "LogLinQuantile:alpha=0.5",
        "Poisson",
        "Tweedie:variance_power=1.5",
        "Lq:q=3",
        "Huber:delta=1",
        "Expectile:alpha=0.3",
        "LogCosh",
        "Cox",
        "RMSEWithUncertainty",
    ],
)
def test_regression(loss, data, assert_faithful):
    X, _, _, _, positive = data
    model = cb.CatBoostRegressor(loss_function=loss, **SMALL)
    assert_faithful(converter, model.fit(X, positive))


@pytest.mark.parametrize("loss", ["MultiRMSE", "MultiRMSEWithMissingValues"])
def test_several_targets(loss, data, assert_faithful):
    X, full, _, _, positive = data
    targets = np.column_stack([positive, 50 - 3 * full[:, 2]])
    model = cb.CatBoostRegressor(loss_function=loss, **SMALL).fit(X, targets)
    assert converter.infer_signature(model).methods[0].shape == (2,)
    assert_faithful(converter, model)


def test_accelerated_failure_times(data, assert_faithful):
    X, _, _, _, positive = data
    model = cb.CatBoostRegressor(loss_function="SurvivalAft:dist=Normal", **SMALL)
    assert_faithful(converter, model.fit(X, np.column_stack([positive, positive + 1])))


@pytest.mark.parametrize(
    "loss",
    [
        "YetiRank",
        "YetiRankPairwise",
        "PairLogit",
        "QueryRMSE",
        "QuerySoftMax",
        "LambdaMart",
        "GroupQuantile",
    ],
)
def test_rankers(loss, data, assert_faithful):
    X, _, two, _, _ = data
    model = cb.CatBoostRanker(loss_function=loss, **SMALL)
    assert_faithful(converter, model.fit(X, two * 1.0, group_id=np.arange(300) // 20))


@pytest.mark.parametrize("loss", ["Logloss", "CrossEntropy", "Focal:focal_alpha=0.5;focal_gamma=2"])
def test_a_binary_classifier(loss, data, assert_faithful):
    X, _, two, _, _ = data
    target = np.clip(two * 0.8 + 0.1, 0, 1) if loss == "CrossEntropy" else two
    model = cb.CatBoostClassifier(loss_function=loss, **SMALL).fit(X, target)
    assert [m.name for m in converter.infer_signature(model).methods] == [
        "predict",
        "predict_proba",
        "predict_log_proba",
    ]
    assert_faithful(converter, model)


@pytest.mark.parametrize("loss", ["MultiClass", "MultiClassOneVsAll"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_many_classes(loss, n_classes, data, assert_faithful):
    X, _, two, three, _ = data
    model = cb.CatBoostClassifier(loss_function=loss, **SMALL)
    assert_faithful(converter, model.fit(X, two if n_classes == 2 else three), n_distinct=n_classes)


@pytest.mark.parametrize("loss", ["MultiLogloss", "MultiCrossEntropy"])
def test_many_labels_per_row(loss, data, assert_faithful):
    X, _, two, three, _ = data
    targets = np.column_stack([two, three > 1]) * (0.9 if loss == "MultiCrossEntropy" else 1)
    model = cb.CatBoostClassifier(loss_function=loss, **SMALL).fit(X, targets)
    assert_faithful(converter, model)


@pytest.mark.parametrize("loss", ["Logloss", "MultiClass", "Poisson", "RMSEWithUncertainty"])
def test_the_plain_class_answers_raw_values(loss, data, assert_faithful):
    X, _, two, three, positive = data
    target = {"Logloss": two, "MultiClass": three}.get(loss, positive)
    assert_faithful(converter, cb.CatBoost(SMALL | {"loss_function": loss}).fit(X, target))


@pytest.mark.parametrize("threshold", [0.2, 0.9])
@pytest.mark.parametrize("loss", ["Logloss", "MultiClass", "MultiLogloss"])
def test_another_probability_threshold(loss, threshold, data, assert_faithful):
    X, _, two, three, _ = data
    targets = {"Logloss": two, "MultiClass": three, "MultiLogloss": np.column_stack([two, 1 - two])}
    model = cb.CatBoostClassifier(loss_function=loss, **SMALL).fit(X, targets[loss])
    model.set_probability_threshold(threshold)
    assert_faithful(converter, model)


@pytest.mark.parametrize(
    "names",
    [
        [False, True],
        [3, 7],
        [-1, 0, 1],
        [0.5, 2.0],
        [0.0, 0.5, 1.5],
        ["no", "yes"],
        ["é", "a much longer name", "c"],
        [b"bytes".decode(), "x"],
    ],
)
def test_labels_keep_their_type(names, data, assert_faithful):
    X, _, two, three, _ = data
    target = np.array(names)[two if len(names) == 2 else three]
    model = cb.CatBoostClassifier(**SMALL).fit(X, target)
    assert_faithful(converter, model, n_distinct=len(names))


# --- trees --------------------------------------------------------------------------------------


@pytest.mark.parametrize("nan_mode", ["Min", "Max"])
@pytest.mark.parametrize("policy", ["SymmetricTree", "Depthwise", "Lossguide"])
def test_tree_shapes_and_missing_values(policy, nan_mode, data, frame, assert_faithful):
    X, _, _, three, _ = data
    options = SMALL | {"grow_policy": policy, "nan_mode": nan_mode, "depth": 5}
    model = cb.CatBoostClassifier(**options).fit(X, three)
    assert_faithful(converter, model, n_distinct=3)
    rows, target = frame
    model = cb.CatBoostRegressor(cat_features=CATEGORICAL, **options).fit(rows, target)
    assert_faithful(converter, model, example=rows)


def test_missing_values_that_training_never_saw(data, assert_faithful):
    X, full, _, _, positive = data
    for nan_mode in ("Min", "Forbidden"):
        model = cb.CatBoostRegressor(nan_mode=nan_mode, **SMALL).fit(full, positive)
        assert_faithful(converter, model, rows=X)


def test_trees_without_splits(data, graph_answers):
    X, _, _, _, positive = data
    model = cb.CatBoostRegressor(**SMALL).fit(X * 0, positive)
    np.testing.assert_allclose(
        graph_answers(converter, model, X[:7])["predict"], model.predict(X[:7])
    )


def test_deep_trees(data, assert_faithful):
    options = SMALL | {"depth": 10, "iterations": 3}
    assert_faithful(converter, cb.CatBoostRegressor(**options).fit(data[0], data[4]))


def test_trees_that_would_be_too_many_nodes_are_refused(data, monkeypatch):
    model = cb.CatBoostRegressor(**SMALL).fit(data[0], data[4])
    monkeypatch.setattr(catboost_graph, "_MAX_NODES", 100)
    with pytest.raises(UnsupportedModelError, match="180 nodes of a graph, more than 100"):
        converter.to_onnx(model, converter.infer_signature(model))


def test_early_stopping_leaves_the_later_trees_out(data, assert_faithful):
    X, _, _, three, _ = data
    options = SMALL | {"iterations": 60, "learning_rate": 1.0}
    model = cb.CatBoostClassifier(early_stopping_rounds=3, **options)
    model.fit(X[:150], three[:150], eval_set=(X[150:], three[150:]))
    assert model.tree_count_ < 60
    assert_faithful(converter, model, n_distinct=3)


@pytest.mark.parametrize("kind", [cb.CatBoostRegressor, cb.CatBoost])
def test_a_model_read_back_from_its_file(kind, data, assert_faithful, tmp_path):
    trained = cb.CatBoostRegressor(loss_function="Poisson", **SMALL).fit(data[0], data[4])
    trained.save_model(tmp_path / "model.cbm")
    model = kind()
    model.load_model(tmp_path / "model.cbm")
    assert_faithful(converter, model)


def test_a_sum_of_models(data, assert_faithful):
    X, _, _, _, positive = data
    models = [cb.CatBoostRegressor(**SMALL).fit(X, positive * n) for n in (1, 2)]
    assert_faithful(converter, cb.sum_models(models, weights=[0.5, 2.0]))


def test_large_numbers_are_rounded_as_catboost_rounds_them(data, assert_faithful):
    """CatBoost itself reads float32; timestamps that it merges are merged here too."""
    X, _, _, _, positive = data
    stamps = 1.7e9 + np.nan_to_num(X) * 300
    model = cb.CatBoostRegressor(**SMALL).fit(stamps, positive)
    assert_faithful(converter, model)
    rng = np.random.default_rng(0)
    assert_faithful(converter, model, rows=1.7e9 + rng.normal(size=(500, 4)) * 300)


def test_ids_are_rounded_as_catboost_rounds_them():
    import infersdk

    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"id": 10**9 + rng.integers(0, 5000, 300), "n": np.arange(300)})
    model = cb.CatBoostRegressor(**SMALL).fit(rows, rows["id"] // 500 % 3 + rows["n"] / 300)
    predictor = infersdk.load(model, example=rows)
    assert predictor.plan.kind == "onnx", str(predictor.plan)
    np.testing.assert_allclose(predictor.predict(rows), model.predict(rows), rtol=1e-5)


def test_answers_far_from_zero_keep_their_digits(data, graph_answers):
    X, _, _, _, positive = data
    model = cb.CatBoostRegressor(**SMALL).fit(X, positive + 1e6)
    given = graph_answers(converter, model, X)["predict"]
    np.testing.assert_allclose(given, model.predict(X), atol=0.07)  # half a float32 at 1e6


# --- categories ---------------------------------------------------------------------------------


def test_hashes_are_catboosts_own(tmp_path):
    """Of text of every length, outside ASCII too; CatBoost tells its own in its export to Python."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .-_"))
    texts = ["".join(rng.choice(letters, size)) for size in [*range(1, 140), 191, 192, 193, 400]]
    column = np.array([[text] for text in texts] * 2, dtype=object)
    pool = cb.Pool(column, rng.random(len(column)), cat_features=[0])
    model = cb.CatBoostRegressor(**SMALL | {"iterations": 1}).fit(pool)
    model.save_model(str(tmp_path / "model.py"), format="python", pool=pool)
    text = (tmp_path / "model.py").read_text()
    listed = text[text.index("cat_features_hashes") :]
    listed = "{" + listed[listed.index("{") + 1 : listed.index("}")].rstrip().rstrip(",") + "}"
    theirs = json.loads(listed)
    assert set(theirs) == set(texts)
    for name, hashed in theirs.items():
        assert catboost_hash.category_hash(name) % 2**32 == hashed % 2**32, name


@pytest.mark.parametrize("one_hot", [2, 100])
@pytest.mark.parametrize("complexity", [1, 3])
def test_categories(one_hot, complexity, frame, assert_faithful):
    rows, target = frame
    model = cb.CatBoostRegressor(
        cat_features=CATEGORICAL,
        one_hot_max_size=one_hot,
        max_ctr_complexity=complexity,
        **SMALL | {"iterations": 40, "depth": 5},
    ).fit(rows, target)
    assert_faithful(converter, model, example=rows)
    assert_faithful(converter, model, rows=rows, example=rows)


@pytest.fixture(scope="module")
def entangled(frame):
    """A model with statistics over several columns, and over the yes and no of splits."""
    rows, _ = frame
    odd = (rows["city"] == "Oslo") ^ rows["member"] ^ (rows["shop"] % 3 == 0)
    target = odd * np.where(rows["age"] > 0, 3.0, 1.0) + (rows["kind"] == "x")
    return cb.CatBoostRegressor(
        cat_features=CATEGORICAL, max_ctr_complexity=4, **SMALL | {"iterations": 60, "depth": 5}
    ).fit(rows, target)


def test_statistics_of_several_columns(entangled, frame, assert_faithful):
    source = converter.read(entangled)
    shapes = [source.ctrs[number].elements for number in source.used_ctrs]
    assert max(map(len, shapes)) >= 3
    assert any(element.border is not None for shape in shapes for element in shape)
    assert any(element.value is not None for shape in shapes for element in shape)
    assert_faithful(converter, entangled, example=frame[0])
    assert_faithful(converter, entangled, rows=frame[0], example=frame[0])


@pytest.mark.parametrize(
    "kind",
    [
        "Borders:TargetBorderCount=3",
        "Buckets:TargetBorderCount=3",
        "BinarizedTargetMeanValue",
        "Counter:CtrBorderCount=20:Prior=0.3",
    ],
)
def test_kinds_of_target_statistics(kind, frame, assert_faithful):
    rows, target = frame
    model = cb.CatBoostRegressor(
        cat_features=CATEGORICAL,
        simple_ctr=[kind],
        combinations_ctr=[kind],
        **SMALL | {"iterations": 30, "depth": 4},
    ).fit(rows, target)
    assert converter.read(model).used_ctrs
    assert_faithful(converter, model, example=rows)


def test_statistics_over_several_classes(frame, assert_faithful):
    rows, target = frame
    model = cb.CatBoostClassifier(cat_features=CATEGORICAL, **SMALL | {"iterations": 30})
    model.fit(rows, np.digitize(target, np.quantile(target, [0.3, 0.7])))
    assert_faithful(converter, model, example=rows, n_distinct=3)


def test_combinations_too_many_for_a_table_are_numbered(
    entangled, frame, assert_faithful, monkeypatch
):
    rows, _ = frame
    monkeypatch.setattr(catboost_graph, "_MAX_TABLE", 10)
    assert_faithful(converter, entangled, example=rows)
    monkeypatch.setattr(catboost_graph, "_MAX_COMBINATIONS", 10)
    with pytest.raises(UnsupportedModelError, match=r"`city`.* more than 10.*max_ctr_complexity"):
        converter.to_onnx(entangled, converter.infer_signature(entangled, rows))


def test_fields_are_described_by_the_example(frame):
    rows, target = frame
    model = cb.CatBoostRegressor(cat_features=CATEGORICAL, **SMALL).fit(rows, target)
    signature = converter.infer_signature(model, rows)
    assert signature.container == "dataframe"
    found = {field.name: (field.dtype, field.encoding, field.missing) for field in signature.fields}
    assert found == {
        "age": ("float", "value", "nan"),
        "city": ("string", "code", "refuse"),
        "shop": ("int", "code", "refuse"),
        "member": ("bool", "code", "refuse"),
        "count": ("int", "value", "nan"),
        "kind": ("string", "code", "refuse"),
    }
    assert signature.fields[1].categories == tuple(sorted(CITIES))
    assert signature.fields[2].categories == tuple(range(-3, 12))


def test_categories_in_an_array(data, assert_faithful):
    _, full, _, three, positive = data
    column = np.array(["a", "b", 7], dtype=object)[three]
    rows = np.column_stack([column, full[:, 1], (full[:, 2] * 3).astype(int)]).astype(object)
    model = cb.CatBoostRegressor(cat_features=[0, 2], **SMALL).fit(rows, positive)
    table = pd.DataFrame({"0": rows[:, 0].astype(str), "1": full[:, 1], "2": rows[:, 2]})
    for example in (rows, rows.tolist(), [dict(zip("012", row, strict=True)) for row in rows]):
        signature = converter.infer_signature(model, example)
        assert signature.fields[0].categories == ("7", "a", "b")
        assert signature.fields[2].dtype == "int"
        assert_faithful(converter, model, rows=table, example=example)


@pytest.mark.parametrize("dtype", ["object", "string", "category"])
def test_columns_of_text_of_any_dtype(dtype, frame, assert_faithful):
    rows, target = frame
    rows = rows[["age", "city", "shop"]].astype({"city": dtype, "shop": "category"})
    model = cb.CatBoostRegressor(cat_features=["city", "shop"], **SMALL).fit(rows, target)
    assert_faithful(converter, model, example=rows)
    field = converter.infer_signature(model, rows).fields[1]
    assert (field.dtype, field.source_dtype) == ("string", None)  # pandas would lose the unknown


@pytest.mark.parametrize("one_hot", [2, 100])
@pytest.mark.parametrize("few", [None, 3])
def test_an_example_that_lacks_categories_is_not_enough(one_hot, few, frame):
    rows, target = frame
    options = SMALL | {"iterations": 40, "one_hot_max_size": one_hot}
    model = cb.CatBoostRegressor(cat_features=["city", "shop"], **options)
    model.fit(rows.drop(columns=["member", "kind"]), target)
    signature = converter.infer_signature(model, None if few is None else rows[:few])
    with pytest.raises(UnsupportedModelError, match=r"keeps hashes.*`(city|shop)`.*example="):
        converter.to_onnx(model, signature)


# --- what is refused ----------------------------------------------------------------------------


def test_a_model_that_is_not_fitted_is_refused():
    with pytest.raises(UnsupportedModelError, match="fitted CatBoostClassifier"):
        converter.infer_signature(cb.CatBoostClassifier())


def test_a_pool_is_no_example(data):
    import infersdk

    model = cb.CatBoostRegressor(**SMALL).fit(data[0], data[4])
    with pytest.raises(infersdk.InputError, match=r"catboost\.Pool.*Pass what it was made of"):
        infersdk.load(model, example=cb.Pool(data[0]))


class OwnLoss:
    def calc_ders_range(self, approxes, targets, weights):
        return [(target - approx, -1.0) for approx, target in zip(approxes, targets, strict=True)]


def test_a_custom_loss_of_a_classifier_is_refused_and_of_a_regressor_is_raw(data, assert_faithful):
    X, _, two, _, positive = data
    options = {"loss_function": OwnLoss(), **SMALL, "iterations": 3}
    model = cb.CatBoostRegressor(eval_metric="RMSE", **options).fit(X, positive)
    assert_faithful(converter, model)
    model = cb.CatBoostClassifier(eval_metric="Logloss", **options).fit(X, two)
    with pytest.raises(UnsupportedModelError, match=r"'PythonUserDefinedPerObject'.*link function"):
        converter.to_onnx(model, converter.infer_signature(model))


@pytest.mark.parametrize("kind", ["text", "embedding"])
@pytest.mark.filterwarnings("ignore")
def test_text_and_embeddings_are_served_natively(kind, data):
    import infersdk

    _, full, two, _, _ = data
    column = ["good day", "bad night", "so so", "fine"] * 75
    if kind == "embedding":
        column = [list(row) for row in full[:, :3]]
    rows = pd.DataFrame({"what": column, "a": full[:, 0]})
    model = cb.CatBoostClassifier(**{f"{kind}_features": ["what"]}, **SMALL).fit(rows, two)
    predictor = infersdk.load(model, example=rows)
    assert predictor.plan.kind == "native"
    assert f"Turn {kind} features into numbers" in predictor.plan.reason
    np.testing.assert_array_equal(predictor.predict(rows), model.predict(rows))


# --- manners ------------------------------------------------------------------------------------


def test_only_catboost_models_are_taken():
    class Own(cb.CatBoostRegressor):
        pass

    assert converter.can_convert(Own())
    assert not converter.can_convert(cb.Pool([[1.0]]))
    assert not converter.can_convert(object())


def test_importing_the_converter_imports_no_framework():
    code = (
        "import sys, infersdk.convert.catboost;"
        "print({'catboost', 'pandas', 'onnxruntime'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_old_opsets(frame, graph_answers):
    rows, target = frame
    model = cb.CatBoostClassifier(cat_features=CATEGORICAL, **SMALL).fit(rows, target > 2)
    answers = graph_answers(converter, model, rows, example=rows, opset=13)
    np.testing.assert_array_equal(answers["predict"], model.predict(rows))


def test_the_model_is_only_read(data, tmp_path):
    model = cb.CatBoostClassifier(**SMALL).fit(data[0], data[3])
    before = model._serialize_model(), model.get_params()
    converter.to_onnx(model, converter.infer_signature(model))
    assert (model._serialize_model(), model.get_params()) == before


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    depth=st.integers(1, 6),
    policy=st.sampled_from(["SymmetricTree", "Depthwise", "Lossguide"]),
    scale=st.sampled_from([1e-30, 1e-3, 1.0, 1e6, 1e30]),
    nan_mode=st.sampled_from(["Min", "Max"]),
)
def test_random_models_on_random_rows(seed, depth, policy, scale, nan_mode, assert_faithful):
    rng = np.random.default_rng(seed)
    X = (rng.normal(size=(60, 3)) * scale).round(rng.integers(0, 40))
    X[rng.random(X.shape) < 0.15] = np.nan
    X[:, 2] = rng.integers(-2, 3, 60)
    options = SMALL | {"depth": depth, "iterations": 4, "grow_policy": policy, "nan_mode": nan_mode}
    model = cb.CatBoostRegressor(**options).fit(X, rng.normal(size=60))
    assert_faithful(converter, model, n_distinct=1)
    assert_faithful(converter, model, rows=X, n_distinct=1)


# --- as a Predictor -----------------------------------------------------------------------------


def test_a_predictor_answers_dicts_and_frames(frame):
    import infersdk

    rows, target = frame
    names = np.array(["low", "middle", "high"], dtype=object)
    classes = names[np.digitize(target, np.quantile(target, [0.3, 0.7]))]
    model = cb.CatBoostClassifier(cat_features=CATEGORICAL, **SMALL).fit(rows, classes)
    predictor = infersdk.load(model, example=rows)
    assert predictor.plan.kind == "onnx", str(predictor.plan)
    given = predictor.predict(rows)
    assert given.shape == (300, 1)
    np.testing.assert_array_equal(given, model.predict(rows))
    one = {"age": None, "city": "Atlantis", "shop": 99, "member": True, "count": 3, "kind": "y"}
    alone = pd.DataFrame([one | {"age": np.nan}])
    np.testing.assert_allclose(predictor.predict_proba(one), model.predict_proba(alone), rtol=1e-5)
    with pytest.raises(infersdk.InputError, match="`city`"):
        predictor.predict(one | {"city": None})


def test_a_predictor_is_native_where_categories_are_not_known(frame):
    import infersdk

    rows, target = frame
    model = cb.CatBoostRegressor(cat_features=CATEGORICAL, **SMALL).fit(rows, target)
    predictor = infersdk.load(model, example=rows[:4])
    assert predictor.plan.kind == "native"
    assert "Pass the training rows as example=" in predictor.plan.reason
    np.testing.assert_array_equal(predictor.predict(rows), model.predict(rows))


def test_no_example_is_needed_for_numbers(data):
    import infersdk

    model = cb.CatBoostClassifier(**SMALL).fit(data[0], data[3])
    predictor = infersdk.load(model)
    assert predictor.plan.kind == "onnx", str(predictor.plan)
    assert predictor.parity.n_edge_rows > 100


@pytest.mark.parametrize("labels", [[0, 1, 2], ["a", "b", "c"], [3, 5]])
def test_inside_scikit_learn(labels, data):
    pytest.importorskip("sklearn", reason="the containers are scikit-learn's")
    from sklearn.ensemble import VotingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    import infersdk

    _, full, two, three, _ = data
    target = np.array(labels)[two if len(labels) == 2 else three]
    parts = [("trees", cb.CatBoostClassifier(**SMALL)), ("linear", LogisticRegression())]
    for model in (
        make_pipeline(StandardScaler(), cb.CatBoostClassifier(**SMALL)),
        VotingClassifier(parts, voting="soft"),
    ):
        model.fit(full, target)
        predictor = infersdk.load(model, example=full)
        assert predictor.plan.kind == "onnx", str(predictor.plan)
        given, expected = predictor.predict(full), model.predict(full)
        assert given.shape == expected.shape
        np.testing.assert_array_equal(given, expected)
        np.testing.assert_allclose(
            predictor.predict_proba(full), model.predict_proba(full), atol=1e-6
        )


def test_categories_inside_scikit_learn_are_served_natively(frame):
    pytest.importorskip("sklearn", reason="the containers are scikit-learn's")
    from sklearn.pipeline import make_pipeline

    import infersdk

    rows, target = frame
    model = make_pipeline(cb.CatBoostRegressor(cat_features=CATEGORICAL, **SMALL))
    model.fit(rows, target)
    predictor = infersdk.load(model, example=rows)
    assert predictor.plan.kind == "native"
    assert "categorical features belong to a DataFrame" in str(predictor.plan)
    np.testing.assert_array_equal(predictor.predict(rows), model.predict(rows))
