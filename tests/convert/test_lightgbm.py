"""LightGBM models against LightGBM itself, on rows around every split."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infersdk.convert import lightgbm as converter
from infersdk.convert import lightgbm_graph
from infersdk.convert.tree_graph import EXACT
from infersdk.errors import InputError, UnsupportedModelError

pd = pytest.importorskip("pandas")
lgb = pytest.importorskip("lightgbm")

SMALL = {"n_estimators": 12, "num_leaves": 7, "min_child_samples": 5, "n_jobs": 1, "verbose": -1}
PLAIN = {"num_threads": 1, "verbose": -1, "num_leaves": 7, "min_data_in_leaf": 5}


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
    """Named columns: float, int, text and number categories, a constant category, bool."""
    _, full, _, _, _ = data
    rng = np.random.default_rng(1)
    made = pd.DataFrame(
        {
            "age": full[:, 0],
            "count": rng.integers(0, 9, 300),
            "city": pd.Categorical(rng.choice(["é", *"vwxyz"], 300)),
            "size": pd.Categorical(rng.choice([3, 5, 9], 300)),
            "member": full[:, 1] > 0,
            "only": pd.Categorical(["k"] * 300),
        }
    )
    made.loc[5:25, "city"] = None
    target = (made["city"].cat.codes % 3) * 2.0 + (made["size"] == 5) + made["age"] + made["count"]
    return made, target.to_numpy()


# Categories are few here; LightGBM's own defaults would not split on them.
CATEGORICAL = SMALL | {"cat_smooth": 1, "min_data_per_group": 2, "max_cat_to_onehot": 1}


def flips(converted, expected):
    return int((np.abs(converted - expected) > 1e-5 * max(1.0, np.abs(expected).max())).sum())


# --- objectives and boosting types --------------------------------------------------------------


@pytest.mark.parametrize("root", [False, True])
@pytest.mark.parametrize(
    "objective",
    ["regression", "regression_l1", "huber", "fair", "quantile", "mape"],
)
def test_regression_of_labels_and_of_their_square_roots(objective, root, data, assert_faithful):
    X, full, _, _, positive = data
    model = lgb.LGBMRegressor(objective=objective, reg_sqrt=root, **SMALL)
    model.fit(X, positive * np.sign(full[:, 2]))
    assert_faithful(converter, model)


@pytest.mark.parametrize(
    "objective", ["poisson", "gamma", "tweedie", "cross_entropy", "cross_entropy_lambda"]
)
def test_objectives_with_a_link_function(objective, data, assert_faithful):
    X, _, two, _, positive = data
    target = two if objective.startswith("cross") else positive
    model = lgb.LGBMRegressor(objective=objective, **SMALL).fit(X, target)
    assert_faithful(converter, model)
    assert_faithful(converter, model.booster_)


@pytest.mark.parametrize("objective", ["binary", "cross_entropy", "regression", "poisson"])
def test_a_binary_classifier(objective, data, assert_faithful):
    model = lgb.LGBMClassifier(objective=objective, **SMALL).fit(data[0], data[2])
    assert_faithful(converter, model)
    assert_faithful(converter, model.booster_)


@pytest.mark.parametrize("objective", ["multiclass", "multiclassova"])
def test_many_classes(objective, data, assert_faithful):
    model = lgb.LGBMClassifier(objective=objective, **SMALL).fit(data[0], data[3])
    assert_faithful(converter, model, n_distinct=3)
    assert_faithful(converter, model.booster_, n_distinct=3)


@pytest.mark.parametrize("objective", ["binary", "multiclassova"])
def test_a_sigmoid_of_another_slope(objective, data, assert_faithful):
    target = data[2] if objective == "binary" else data[3]
    model = lgb.LGBMClassifier(objective=objective, sigmoid=2.5, **SMALL).fit(data[0], target)
    assert_faithful(converter, model)
    assert_faithful(converter, model.booster_)


@pytest.mark.parametrize("boosting", ["gbdt", "dart", "goss", "rf"])
def test_boosting_types(boosting, data, assert_faithful):
    X, _, two, three, positive = data
    options = SMALL | {"boosting_type": boosting, "random_state": 0}
    if boosting == "rf":
        options |= {"subsample": 0.8, "subsample_freq": 1}
    assert_faithful(converter, lgb.LGBMRegressor(**options).fit(X, positive))
    assert_faithful(converter, lgb.LGBMClassifier(**options).fit(X, two))
    assert_faithful(converter, lgb.LGBMClassifier(**options).fit(X, three), n_distinct=3)


@pytest.mark.parametrize("objective", ["lambdarank", "rank_xendcg"])
def test_rankers(objective, data, assert_faithful):
    model = lgb.LGBMRanker(objective=objective, **SMALL).fit(data[0], data[3], group=[20] * 15)
    assert_faithful(converter, model)


def test_a_custom_objective_answers_raw_scores(data, assert_faithful):
    def logistic(label, score):
        return 1 / (1 + np.exp(-score)) - label, np.ones(len(label))

    model = lgb.LGBMClassifier(objective=logistic, **SMALL).fit(data[0], data[2])
    assert [m.name for m in converter.infer_signature(model).methods][:2] == [
        "predict",
        "predict_proba",
    ]
    assert_faithful(converter, model)


def test_labels_keep_their_type(data, assert_faithful):
    X, _, two, three, _ = data
    for classes in (np.array(["no", "maybe", "yes"]), np.array([-1.0, 0.0, 7.0])):
        assert_faithful(converter, lgb.LGBMClassifier(**SMALL).fit(X, classes[three]))
    assert_faithful(converter, lgb.LGBMClassifier(**SMALL).fit(X, two.astype(bool)))
    names = np.array(["no", "yes"], dtype=object)
    assert_faithful(converter, lgb.LGBMClassifier(**SMALL).fit(X, names[two]))
    assert_faithful(
        converter, lgb.LGBMClassifier(**SMALL).fit(X, pd.Series(names[two], dtype="str"))
    )


def test_early_stopping_answers_from_the_best_round(data, assert_faithful):
    X, _, _, three, _ = data
    training = lgb.Dataset(X[:150], three[:150], free_raw_data=False)
    booster = lgb.train(
        PLAIN | {"objective": "multiclass", "num_class": 3, "learning_rate": 1.0},
        training,
        12,
        valid_sets=[lgb.Dataset(X[150:], three[150:], reference=training)],
        callbacks=[lgb.early_stopping(2, verbose=False)],
        keep_training_booster=True,
    )
    assert 0 < booster.best_iteration < booster.current_iteration()
    assert_faithful(converter, booster, n_distinct=3)


def test_a_label_far_from_zero_costs_the_later_trees_no_digits(data, graph_answers):
    X, _, _, _, positive = data
    model = lgb.LGBMRegressor(**SMALL | {"n_estimators": 200}).fit(X, positive + 1e6)
    given, expected = graph_answers(converter, model, X)["predict"], model.predict(X)
    # One rounding of the sum to float32, and not one for each tree.
    assert np.abs(given - expected).max() <= np.spacing(np.float32(1e6))


def test_trees_that_never_split(data, graph_answers, assert_faithful):
    X, full, _, _, positive = data
    never = lgb.LGBMRegressor(**SMALL).fit(X, np.full(300, 3.25))
    np.testing.assert_allclose(graph_answers(converter, never, X)["predict"], 3.25)
    few = lgb.LGBMRegressor(min_split_gain=20.0, **SMALL).fit(X, positive)
    assert_faithful(converter, few)
    # A class too rare to split on: its trees are constants beside the others' trees.
    classes = (full[:, 0] > 0).astype(int)
    classes[:3] = 2
    assert_faithful(
        converter, lgb.LGBMClassifier(**SMALL | {"min_child_samples": 40}).fit(X, classes)
    )


def test_a_booster_read_back_from_its_file(data, assert_faithful, tmp_path):
    trained = lgb.LGBMClassifier(**SMALL).fit(data[0], data[3])
    trained.booster_.save_model(tmp_path / "model.txt")
    assert_faithful(converter, lgb.Booster(model_file=tmp_path / "model.txt"), n_distinct=3)


# --- missing values, zeros and linear leaves ----------------------------------------------------

NEAR_ZERO = np.array([0.0, -0.0, 1e-35, -1e-35, 1e-36, -1e-40, 1.1e-35, -1.1e-35, 1e-30, -1e-30])


@pytest.mark.parametrize(
    "options", [{}, {"zero_as_missing": True}, {"use_missing": False}], ids=lambda o: str(o)
)
@pytest.mark.parametrize("trained_with_missing", [True, False])
def test_every_kind_of_missing_value(options, trained_with_missing, data, assert_faithful):
    X, full, _, _, positive = data
    rng = np.random.default_rng(3)
    rows = np.where(rng.random(X.shape) < 0.3, 0.0, X if trained_with_missing else full)
    model = lgb.LGBMRegressor(**SMALL, **options).fit(rows, positive)
    assert_faithful(converter, model)
    assert_faithful(converter, model, rows=rows.astype(np.float32).astype(np.float64))
    near = np.tile(rows[:10].astype(np.float32).astype(np.float64), (4, 1))
    for column in range(4):
        near[column * 10 : column * 10 + 10, column] = NEAR_ZERO.astype(np.float32)
    assert_faithful(converter, model, rows=near)


def test_zero_missing_in_some_splits_only_is_refused(data):
    X, _, _, _, positive = data
    rows = np.where(np.isnan(X), 0.0, X)
    rows[::7] = np.nan
    first = lgb.LGBMRegressor(zero_as_missing=True, **SMALL).fit(rows, positive)
    model = lgb.LGBMRegressor(**SMALL).fit(rows, positive, init_model=first)
    with pytest.raises(UnsupportedModelError, match=r"zero_as_missing for the whole model"):
        converter.to_onnx(model, converter.infer_signature(model))


@pytest.mark.parametrize("with_missing", [True, False])
@pytest.mark.parametrize("n_classes", [0, 3])
def test_linear_leaves(n_classes, with_missing, data, assert_faithful):
    X, full, _, three, positive = data
    rows = X if with_missing else full
    options = SMALL | {"linear_tree": True}
    if n_classes:
        model = lgb.LGBMClassifier(**options).fit(rows, three)
    else:
        model = lgb.LGBMRegressor(**options).fit(rows, positive)
    assert "\nleaf_coeff=" in model.booster_.model_to_string()
    assert_faithful(converter, model)


# --- float64 ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def timestamps(data):
    """Seconds since 1970 over an hour: float32 holds one of 128."""
    rng = np.random.default_rng(5)
    seconds = 1.6e9 + rng.integers(0, 3600, 300).astype(np.float64)
    target = np.sin(seconds / 100) + data[1][:, 0]
    rows = np.column_stack([data[0][:, 0], seconds, data[1][:, 1]])
    return rows, target


class TestColumnsThatFloat32CannotTellApart:
    def test_float32_would_answer_differently(self, timestamps):
        rows, target = timestamps
        model = lgb.LGBMRegressor(**SMALL).fit(rows, target)
        rounded = rows.astype(np.float32).astype(np.float64)
        assert flips(model.predict(rounded), model.predict(rows)) > 10

    @pytest.mark.parametrize("factor", [1.0, 1e6])
    @pytest.mark.parametrize("known", [True, False])
    def test_they_are_compared_as_float64(self, known, factor, timestamps, assert_faithful):
        rows, target = timestamps
        rows = rows * [1.0, factor, 1.0]
        model = lgb.LGBMRegressor(**SMALL).fit(rows, target)
        example = rows if known else None
        signature = converter.infer_signature(model, example)
        assert [field.input == EXACT for field in signature.fields] == [False, True, False]
        assert [str(spec) for spec in signature.inputs] == ["float32 (N, 2)", "float64 (N, 1)"]
        notes = converter.to_onnx(model, signature, example=example).notes
        assert notes == ("compared as float64, which float32 could not tell apart: `f1`",)
        assert_faithful(converter, model, example=example)
        assert_faithful(converter, model, example=example, rows=rows)

    def test_one_split_is_enough(self, timestamps, assert_faithful):
        rows, _ = timestamps
        late = rows[:, 1:2] > 1.6e9 + 1800
        stump = SMALL | {"n_estimators": 1, "num_leaves": 2}
        model = lgb.LGBMRegressor(**stump).fit(rows[:, 1:2], late.ravel())
        assert [str(spec) for spec in converter.infer_signature(model).inputs] == ["float64 (N, 1)"]
        assert_faithful(converter, model)
        assert_faithful(converter, model, rows=rows[:, 1:2])

    def test_an_example_of_float32_numbers_needs_none_of_it(self, timestamps):
        rows, target = timestamps
        rows = rows.astype(np.float32)
        model = lgb.LGBMRegressor(**SMALL).fit(rows, target)
        assert len(converter.infer_signature(model, rows).inputs) == 1

    @pytest.mark.parametrize(("largest", "exact"), [(2**23, False), (2**31, True)])
    def test_whole_numbers_need_it_beyond_what_float32_holds(self, largest, exact, assert_faithful):
        rng = np.random.default_rng(0)
        rows = pd.DataFrame({"id": rng.integers(0, largest, 300)})
        model = lgb.LGBMRegressor(**SMALL).fit(rows, np.sin(rows["id"]))
        for example in (None, rows):
            signature = converter.infer_signature(model, example)
            assert (signature.fields[0].input == EXACT) == exact
            assert_faithful(converter, model, example=example)

    def test_an_example_shows_what_the_thresholds_hide(self, data):
        X, _, _, _, positive = data
        model = lgb.LGBMRegressor(**SMALL).fit(X, positive)
        assert len(converter.infer_signature(model).inputs) == 1
        limits = converter.read(model).thresholds(0)
        limit = next(t for t in limits if float(np.float32(t)) > t)
        row = np.array(
            [[limit, 0, 0, 0]]
        )  # goes left, but its float32 number is above the threshold
        assert len(converter.infer_signature(model, row).inputs) == 2

    def test_linear_leaves_are_left_to_the_parity_check(self, timestamps, graph_answers):
        """Coefficients times float32 timestamps lose digits, and the example shows it."""
        rows, target = timestamps
        model = lgb.LGBMRegressor(linear_tree=True, **SMALL).fit(rows, target)
        assert len(converter.infer_signature(model, rows).inputs) == 1
        given = graph_answers(converter, model, rows, example=rows)["predict"]
        assert flips(given, model.predict(rows)) > 10


# --- columns ------------------------------------------------------------------------------------


def test_an_array_model_has_plain_fields(data):
    model = lgb.LGBMRegressor(**SMALL).fit(data[0], data[4])
    signature = converter.infer_signature(model)
    assert signature.container == "array"
    assert [field.name for field in signature.fields] == ["f0", "f1", "f2", "f3"]
    assert {field.missing for field in signature.fields} == {"nan"}
    assert [str(spec) for spec in signature.inputs] == ["float32 (N, 4)"]


def test_a_frame_model_knows_its_columns(frame, assert_faithful):
    rows, target = frame
    model = lgb.LGBMRegressor(**CATEGORICAL).fit(rows, target)
    signature = converter.infer_signature(model, rows)
    assert signature.container == "dataframe"
    found = {f.name: (f.dtype, f.encoding, f.categories, f.source_dtype) for f in signature.fields}
    assert found == {
        "age": ("float", "value", None, "float64"),
        "count": ("int", "value", None, "int64"),
        "city": ("string", "code", (*"vwxyz", "é"), "category"),
        "size": ("int", "code", (3, 5, 9), "category"),
        "member": ("bool", "value", None, "bool"),
        "only": ("string", "code", ("k",), "category"),
    }
    without = converter.infer_signature(model)
    assert [f.categories for f in without.fields] == [f.categories for f in signature.fields]
    for example in (rows, None):
        assert_faithful(converter, model, example=example)
        assert_faithful(converter, model.booster_, example=example)
        assert_faithful(converter, model, example=example, rows=rows)


def test_a_category_never_seen_is_missing_as_in_lightgbm(frame, graph_answers):
    rows, target = frame
    model = lgb.LGBMRegressor(**CATEGORICAL).fit(rows, target)
    city = converter.infer_signature(model).fields[2]
    assert (city.unknown, city.missing) == ("allow", "nan")
    strange = rows[:40].assign(city=pd.Categorical(["nowhere"] * 40))
    given = graph_answers(converter, model, strange)["predict"]
    np.testing.assert_allclose(given, model.predict(strange), rtol=1e-5, atol=1e-5)


class TestOrderedCategories:
    """pandas' ordered categories are numbers to LightGBM, and it records no column for the list."""

    @pytest.fixture
    def trained(self, frame):
        rows, target = frame
        rng = np.random.default_rng(2)
        letters = rng.choice(np.array([*"abcd", None], dtype=object), 300)
        grade = pd.Categorical(letters, categories=list("abcd"), ordered=True)
        rows = rows.assign(grade=grade)
        # Missing is worth most: it goes another way than any code below 0 would.
        worth = np.where(grade.codes < 0, 20.0, 3.0 * grade.codes)
        model = lgb.LGBMRegressor(**CATEGORICAL).fit(rows, target + worth)
        return model, rows

    def test_the_example_tells_which_column_they_are(self, trained, assert_faithful):
        model, rows = trained
        assert converter.infer_signature(model, rows).fields[-1].categories == tuple("abcd")
        assert_faithful(converter, model, example=rows)

    def test_one_never_seen_is_missing(self, trained, graph_answers):
        model, rows = trained
        strange = rows[:40].assign(grade=pd.Categorical(["q"] * 40, ordered=True))
        given = graph_answers(converter, model, strange, example=rows)["predict"]
        np.testing.assert_allclose(given, model.predict(strange), rtol=1e-5, atol=1e-5)

    def test_without_example_it_cannot_be_told(self, trained):
        with pytest.raises(UnsupportedModelError, match=r"of 4 columns and names 3.*example="):
            converter.infer_signature(trained[0])


def test_category_codes_in_an_array(frame, assert_faithful):
    rows, target = frame
    city = rows["city"].cat.codes.replace(-1, np.nan)
    coded = np.column_stack([rows["age"], city, rows["size"].cat.codes])
    model = lgb.LGBMRegressor(**CATEGORICAL).fit(coded, target, categorical_feature=[1, 2])
    assert converter.infer_signature(model).container == "array"
    assert_faithful(converter, model)
    strange = np.array([-5.0, -0.5, 0.5, 1.7, 2.0, 2.9, 17.0, 1e6, np.nan])
    assert_faithful(converter, model, rows=np.column_stack([np.zeros(9), strange, np.ones(9)]))


def test_many_categories(assert_faithful):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 150, 1500).astype(np.float64)
    target = rng.normal(size=150)[codes.astype(int)]
    options = CATEGORICAL | {"max_cat_threshold": 64, "num_leaves": 15}
    model = lgb.LGBMRegressor(**options).fit(codes[:, None], target, categorical_feature=[0])
    assert_faithful(converter, model, n_distinct=10)


def test_blanks_in_names_come_from_the_example(frame):
    rows, target = frame
    rows = rows[["age", "count"]].rename(columns={"age": "the age"})
    model = lgb.LGBMRegressor(**SMALL).fit(rows, target)
    assert [f.name for f in converter.infer_signature(model).fields] == ["the_age", "count"]
    assert [f.name for f in converter.infer_signature(model, rows).fields] == ["the age", "count"]


def test_names_given_by_hand_make_a_frame_of_an_array(data, assert_faithful):
    labeled = lgb.Dataset(data[0], data[4], feature_name=["w", "x", "y", "z"])
    booster = lgb.train(PLAIN, labeled, 5)
    signature = converter.infer_signature(booster)
    assert signature.container == "dataframe"
    assert [field.name for field in signature.fields] == ["w", "x", "y", "z"]
    assert_faithful(converter, booster)


# --- edge rows ----------------------------------------------------------------------------------


def test_edge_rows_hold_both_float32_neighbors_of_every_threshold(data):
    model = lgb.LGBMRegressor(**SMALL | {"n_estimators": 3}).fit(data[0], data[4])
    signature = converter.infer_signature(model)
    rng = np.random.default_rng(0)
    rows = converter.edge_rows(model, signature, None, n_rows=2000, rng=rng)
    assert rows.shape == (2000, 4)
    assert np.isnan(rows).any(axis=0).all()
    table = model.booster_.trees_to_dataframe()
    for index in range(4):
        splits = table.loc[table["split_feature"] == f"Column_{index}", "threshold"]
        for threshold in splits.astype(float):
            nearest = np.float32(threshold)
            away = np.nextafter(
                nearest, np.float32(-np.inf if float(nearest) > threshold else np.inf)
            )
            assert {float(nearest), float(away)} <= set(rows[:, index])


def test_edge_rows_show_what_float32_loses(timestamps):
    rows, target = timestamps
    model = lgb.LGBMRegressor(**SMALL).fit(rows, target)
    rng = np.random.default_rng(0)
    edges = converter.edge_rows(model, converter.infer_signature(model), None, n_rows=300, rng=rng)
    rounded = edges.astype(np.float32).astype(np.float64)
    assert flips(model.predict(rounded), model.predict(edges)) > 10


def test_edge_rows_of_a_frame_keep_its_dtypes(frame):
    rows, target = frame
    model = lgb.LGBMRegressor(**CATEGORICAL).fit(rows, target)
    signature = converter.infer_signature(model, rows)
    rng = np.random.default_rng(0)
    edges = converter.edge_rows(model, signature, rows, n_rows=300, rng=rng)
    assert list(edges.columns) == list(rows.columns)
    assert edges["member"].dtype == bool
    assert set(edges["city"].dropna()) == {*"vwxyz", "é"}
    counts = edges["count"].dropna()
    assert (counts == np.floor(counts)).all()


# --- what is refused ----------------------------------------------------------------------------


def test_a_model_that_is_not_fitted_is_refused():
    with pytest.raises(UnsupportedModelError, match="fitted LGBMClassifier"):
        converter.infer_signature(lgb.LGBMClassifier())


def test_prediction_that_stops_early_is_refused(data):
    model = lgb.LGBMClassifier(pred_early_stop=True, **SMALL).fit(data[0], data[2])
    with pytest.raises(UnsupportedModelError, match="pred_early_stop"):
        converter.to_onnx(model, converter.infer_signature(model))


def test_a_dataset_is_no_example(data):
    model = lgb.LGBMRegressor(**SMALL).fit(data[0], data[4])
    with pytest.raises(InputError, match=r"lightgbm\.Dataset.*Pass what it was made of"):
        converter.infer_signature(model, lgb.Dataset(data[0]))


def test_an_objective_without_a_known_link_is_refused(data, monkeypatch):
    model = lgb.LGBMRegressor(**SMALL).fit(data[0], data[4])
    signature = converter.infer_signature(model)
    read = converter.read
    monkeypatch.setattr(
        converter, "read", lambda model: dataclasses.replace(read(model), objective="new")
    )
    assert "new" not in lightgbm_graph.KNOWN
    with pytest.raises(UnsupportedModelError, match=r"'new'.*nearest is regression"):
        converter.to_onnx(model, signature)


# --- manners ------------------------------------------------------------------------------------


def test_only_lightgbm_models_are_taken(data):
    class Own(lgb.LGBMRegressor):
        pass

    class Remote(lgb.LGBMRegressor):
        __module__ = "lightgbm.dask"

    assert converter.can_convert(Own())
    assert converter.can_convert(lgb.train(PLAIN, lgb.Dataset(data[0], data[4]), 1))
    assert not converter.can_convert(Remote())
    assert not converter.can_convert(object())


def test_the_model_is_only_read(data):
    model = lgb.LGBMClassifier(**SMALL).fit(data[0], data[3])
    before = model.booster_.model_to_string(), model.get_params()
    converter.to_onnx(model, converter.infer_signature(model))
    assert (model.booster_.model_to_string(), model.get_params()) == before


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**16),
    leaves=st.integers(2, 15),
    scale=st.sampled_from([1e-30, 1e-3, 1.0, 1e6, 1e30]),
    options=st.sampled_from([{}, {"zero_as_missing": True}, {"use_missing": False}]),
)
def test_random_models_on_random_rows(seed, leaves, scale, options, assert_faithful):
    rng = np.random.default_rng(seed)
    X = (rng.normal(size=(60, 3)) * scale).round(rng.integers(0, 40)).astype(np.float32)
    X[rng.random(X.shape) < 0.15] = np.nan
    X[:, 2] = rng.integers(-2, 3, 60)
    X = X.astype(np.float64)
    model = lgb.LGBMRegressor(
        n_estimators=4,
        num_leaves=leaves,
        min_child_samples=2,
        min_data_in_bin=1,
        n_jobs=1,
        verbose=-1,
        **options,
    ).fit(X, rng.normal(size=60))
    assert_faithful(converter, model, example=X, n_distinct=1)
    assert_faithful(converter, model, example=X, rows=X, n_distinct=1)


# --- as a Predictor -----------------------------------------------------------------------------


def test_a_predictor_answers_dicts_and_frames(frame):
    import infersdk

    rows, target = frame
    labels = np.where(target > 5, "high", "low")
    model = lgb.LGBMClassifier(**CATEGORICAL).fit(rows, labels)
    predictor = infersdk.load(model, example=rows)
    assert predictor.plan.kind == "onnx", str(predictor.plan)
    np.testing.assert_array_equal(predictor.predict(rows), model.predict(rows))
    one = {"age": 0.5, "count": 3, "city": "nowhere", "size": 9, "member": True, "only": None}
    as_frame = rows.iloc[:1].assign(age=0.5, count=3, member=True)
    for name, value in (("city", None), ("size", 9), ("only", None)):
        as_frame[name] = pd.Categorical([value], categories=rows[name].cat.categories)
    np.testing.assert_allclose(
        predictor.predict_proba(one), model.predict_proba(as_frame), rtol=1e-5
    )


def test_a_predictor_takes_float64_columns_as_they_are(timestamps):
    import infersdk

    rows, target = timestamps
    model = lgb.LGBMRegressor(**SMALL).fit(rows, target)
    predictor = infersdk.load(model, example=rows)
    assert predictor.plan.kind == "onnx", str(predictor.plan)
    np.testing.assert_allclose(predictor.predict(rows), model.predict(rows), rtol=1e-5, atol=1e-6)
    one = predictor.predict({"f0": rows[0, 0], "f1": rows[0, 1], "f2": rows[0, 2]})
    np.testing.assert_allclose(one, model.predict(rows[:1]), rtol=1e-5, atol=1e-6)


def test_a_predictor_falls_back_where_float32_loses_digits(timestamps):
    import infersdk

    rows, target = timestamps
    model = lgb.LGBMRegressor(linear_tree=True, **SMALL).fit(rows, target)
    predictor = infersdk.load(model, example=rows)
    assert predictor.plan.kind == "native"
    np.testing.assert_allclose(predictor.predict(rows), model.predict(rows))


@pytest.mark.parametrize("start", [10**9, 10**15, 10**18])
@pytest.mark.parametrize("used", [True, False])
def test_ids_beyond_what_float32_holds(start, used):
    """They are compared as float64; a column that no tree reads must not refuse them either."""
    import infersdk

    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"id": start + rng.integers(0, 500, 300), "n": rng.normal(size=300)})
    model = lgb.LGBMRegressor(**SMALL)
    model.fit(rows, rows["n"] + (rows["id"] % 250 > 99) * float(used))
    predictor = infersdk.load(model, example=rows)
    assert predictor.plan.kind == "onnx", str(predictor.plan)
    np.testing.assert_allclose(predictor.predict(rows), model.predict(rows), rtol=1e-5, atol=1e-6)


def test_numbers_beyond_float32_are_compared_as_float64(data):
    import infersdk

    _, full, _, _, positive = data
    rows = full * 1e50
    model = lgb.LGBMRegressor(**SMALL).fit(rows, positive)
    predictor = infersdk.load(model, example=rows)
    assert predictor.plan.kind == "onnx", str(predictor.plan)
    np.testing.assert_allclose(predictor.predict(rows), model.predict(rows), rtol=1e-5, atol=1e-6)


def test_infinity_is_a_number_like_any_other():
    import infersdk

    X = np.random.default_rng(0).normal(size=(300, 3))
    model = lgb.LGBMClassifier(n_estimators=5, n_jobs=1, verbose=-1).fit(X, X[:, 0] > 0)
    rows = np.array([[np.inf, 0.0, -np.inf], [-np.inf, np.inf, 1.0]])
    predictor = infersdk.load(model, example=X)
    np.testing.assert_allclose(predictor.predict_proba(rows), model.predict_proba(rows), rtol=1e-6)
