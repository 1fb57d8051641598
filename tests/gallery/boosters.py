"""XGBoost, LightGBM and CatBoost: every objective, booster and kind of column, in small models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.gallery.entry import Entry, Made

N_TRAIN = 200
XGB = {"n_estimators": 8, "max_depth": 3, "n_jobs": 1}
LGB = {"n_estimators": 8, "num_leaves": 7, "min_child_samples": 5, "n_jobs": 1, "verbose": -1}
CAT = {
    "iterations": 12,
    "depth": 3,
    "verbose": 0,
    "thread_count": 1,
    "allow_writing_files": False,
}


class Table:
    """300 rows of four columns with missing values, and the labels that models learn from."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.X = rng.normal(size=(300, 4))
        self.X[rng.random(self.X.shape) < 0.1] = np.nan
        self.full = np.nan_to_num(self.X)
        self.two = (self.full[:, 0] + self.full[:, 1] > 0).astype(int)
        self.three = self.two + (self.full[:, 2] > 0.5)
        self.positive = np.exp(self.full[:, 0] + 0.3 * self.full[:, 1])
        self.share = np.clip(self.positive / 9, 0.01, 0.99)
        self.targets = np.column_stack([self.positive, 50 - 3 * self.full[:, 2]])
        self.labels = np.column_stack([self.two, self.three > 1]).astype(int)
        self.groups = np.arange(300) // 20

    def frame(self, *, categories: bool) -> Any:
        """The same with names, whole numbers, booleans and text; `categories` as pandas' own."""
        import pandas as pd

        rng = np.random.default_rng(1)
        city = rng.choice(["Oslo", "Zürich", "Rome", "Bern", "Paris"], 300)
        shop = rng.integers(0, 12, 300)
        return pd.DataFrame(
            {
                "age": self.X[:, 0],
                "city": pd.Categorical(city) if categories else city,
                "shop": pd.Categorical(shop) if categories else shop,
                "member": self.full[:, 1] > 0,
                "count": rng.integers(0, 9, 300),
            }
        )


Fit = Callable[[Table], tuple[Any, Any]]
"""Gives a fitted model and all rows; it was fitted on the first N_TRAIN of them."""


def _entry(section: str, name: str, fit: Fit) -> Entry:
    def make() -> Made:
        model, rows = fit(Table())
        return Made(model, rows[:N_TRAIN], rows[N_TRAIN:])

    return Entry(section, name, make)


# --- XGBoost ------------------------------------------------------------------------------------


def _xgb(kind: str, label: str = "positive", rows: str = "X", **options: Any) -> Fit:
    def fit(table: Table) -> tuple[Any, Any]:
        import xgboost

        X, y = getattr(table, rows), getattr(table, label)
        extra = {"qid": table.groups[:N_TRAIN]} if kind == "XGBRanker" else {}
        model = getattr(xgboost, kind)(**(XGB | options))
        return model.fit(X[:N_TRAIN], y[:N_TRAIN], **extra), X

    return fit


def _xgb_survival(table: Table) -> tuple[Any, Any]:
    import xgboost

    matrix = xgboost.DMatrix(table.X[:N_TRAIN])
    matrix.set_float_info("label_lower_bound", table.positive[:N_TRAIN])
    matrix.set_float_info("label_upper_bound", table.positive[:N_TRAIN] + 1)
    params = {"objective": "survival:aft", "nthread": 1, "max_depth": 3}
    return xgboost.train(params, matrix, 8), table.X


def _xgb_booster(table: Table) -> tuple[Any, Any]:
    import xgboost

    rows = table.frame(categories=False)[["age", "shop", "member"]]
    matrix = xgboost.DMatrix(rows[:N_TRAIN], table.positive[:N_TRAIN])
    return xgboost.train({"nthread": 1, "max_depth": 3}, matrix, 8), rows


def _xgb_custom(table: Table) -> tuple[Any, Any]:
    return _xgb("XGBRegressor", objective=_squares)(table)


def _squares(labels: Any, scores: Any) -> tuple[Any, Any]:
    return scores - labels, np.ones_like(labels)


def _xgb_stopped(table: Table) -> tuple[Any, Any]:
    import xgboost

    options = XGB | {"n_estimators": 60, "learning_rate": 1.0, "early_stopping_rounds": 2}
    model = xgboost.XGBClassifier(**options)
    X, y = table.X, table.three
    model.fit(X[:150], y[:150], eval_set=[(X[150:N_TRAIN], y[150:N_TRAIN])], verbose=False)
    return model, X


def _xgb_categories(**options: Any) -> Fit:
    def fit(table: Table) -> tuple[Any, Any]:
        import xgboost

        rows = table.frame(categories=True)
        model = xgboost.XGBClassifier(enable_categorical=True, **(XGB | options))
        return model.fit(rows[:N_TRAIN], table.three[:N_TRAIN]), rows

    return fit


def _xgb_stamps(table: Table) -> tuple[Any, Any]:
    import xgboost

    rows = 1.7e9 + table.full * 300
    return xgboost.XGBRegressor(**XGB).fit(rows[:N_TRAIN], table.positive[:N_TRAIN]), rows


_XGB_REGRESSION = [
    "reg:squarederror",
    "reg:squaredlogerror",
    "reg:pseudohubererror",
    "reg:absoluteerror",
    "reg:gamma",
    "reg:tweedie",
    "count:poisson",
    "survival:cox",
]

_XGBOOST = [
    *((f"XGBRegressor, {o}", _xgb("XGBRegressor", objective=o)) for o in _XGB_REGRESSION),
    ("XGBRegressor, reg:logistic", _xgb("XGBRegressor", "share", objective="reg:logistic")),
    (
        "XGBRegressor, reg:quantileerror, one quantile",
        _xgb("XGBRegressor", objective="reg:quantileerror", quantile_alpha=0.3),
    ),
    (
        "XGBRegressor, reg:quantileerror, three quantiles",
        _xgb("XGBRegressor", objective="reg:quantileerror", quantile_alpha=[0.1, 0.5, 0.9]),
    ),
    ("Booster, survival:aft", _xgb_survival),
    ("XGBRegressor, a custom objective", _xgb_custom),
    *(
        (f"XGBClassifier, {o}", _xgb("XGBClassifier", "two", objective=o))
        for o in ("binary:logistic", "binary:logitraw", "binary:hinge")
    ),
    *(
        (f"XGBClassifier, {o}", _xgb("XGBClassifier", "three", objective=o))
        for o in ("multi:softmax", "multi:softprob")
    ),
    *(
        (f"XGBRanker, {o}", _xgb("XGBRanker", "two", objective=o))
        for o in ("rank:ndcg", "rank:pairwise", "rank:map")
    ),
    *(
        (f"XGBRegressor, several targets, {s}", _xgb("XGBRegressor", "targets", multi_strategy=s))
        for s in ("one_output_per_tree", "multi_output_tree")
    ),
    ("XGBClassifier, several labels", _xgb("XGBClassifier", "labels")),
    ("XGBClassifier, dart", _xgb("XGBClassifier", "three", booster="dart", rate_drop=0.4)),
    ("XGBRegressor, dart", _xgb("XGBRegressor", booster="dart", rate_drop=0.4)),
    ("XGBClassifier, gblinear", _xgb("XGBClassifier", "three", booster="gblinear")),
    ("XGBRegressor, gblinear", _xgb("XGBRegressor", booster="gblinear")),
    ("XGBRFClassifier", _xgb("XGBRFClassifier", "three")),
    ("XGBRFRegressor", _xgb("XGBRFRegressor")),
    ("XGBRegressor, lossguide", _xgb("XGBRegressor", grow_policy="lossguide", max_leaves=9)),
    ("XGBRegressor, exact", _xgb("XGBRegressor", tree_method="exact")),
    ("XGBRegressor, missing=0", _xgb("XGBRegressor", rows="full", missing=0.0)),
    ("XGBClassifier, early stopping", _xgb_stopped),
    ("XGBClassifier, categories", _xgb_categories(max_cat_to_onehot=1)),
    ("XGBClassifier, categories one-hot", _xgb_categories(max_cat_to_onehot=99)),
    ("Booster, named columns", _xgb_booster),
    ("XGBRegressor, timestamps", _xgb_stamps),
]

# --- LightGBM -----------------------------------------------------------------------------------


def _lgb(kind: str, label: str = "positive", rows: str = "X", **options: Any) -> Fit:
    def fit(table: Table) -> tuple[Any, Any]:
        import lightgbm

        X, y = getattr(table, rows), getattr(table, label)
        extra = {"group": [20] * (N_TRAIN // 20)} if kind == "LGBMRanker" else {}
        model = getattr(lightgbm, kind)(**(LGB | options))
        return model.fit(X[:N_TRAIN], y[:N_TRAIN], **extra), X

    return fit


def _lgb_frame(*columns: str, categories: bool = False, **options: Any) -> Fit:
    def fit(table: Table) -> tuple[Any, Any]:
        import lightgbm

        rows = table.frame(categories=categories)
        rows = rows[list(columns)] if columns else rows
        few = {"cat_smooth": 1, "min_data_per_group": 2, "max_cat_to_onehot": 1}
        model = lightgbm.LGBMClassifier(**(LGB | few | options))
        return model.fit(rows[:N_TRAIN], table.three[:N_TRAIN]), rows

    return fit


def _lgb_booster(table: Table) -> tuple[Any, Any]:
    import lightgbm

    data = lightgbm.Dataset(table.X[:N_TRAIN], table.positive[:N_TRAIN])
    params = {"num_threads": 1, "verbose": -1, "num_leaves": 7, "min_data_in_leaf": 5}
    return lightgbm.train(params, data, 8), table.X


def _lgb_stamps(linear: bool) -> Fit:
    def fit(table: Table) -> tuple[Any, Any]:
        import lightgbm

        rows = 1.7e9 + table.full * 300
        model = lightgbm.LGBMRegressor(linear_tree=linear, **LGB)
        return model.fit(rows[:N_TRAIN], table.positive[:N_TRAIN]), rows

    return fit


def _lgb_ids(table: Table) -> tuple[Any, Any]:
    import lightgbm
    import pandas as pd

    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"id": 10**15 + rng.integers(0, 500, 300), "n": table.full[:, 0]})
    target = rows["n"] + (rows["id"] % 250 > 99)
    return lightgbm.LGBMRegressor(**LGB).fit(rows[:N_TRAIN], target[:N_TRAIN]), rows


def _lgb_stopped(table: Table) -> tuple[Any, Any]:
    import lightgbm

    model = lightgbm.LGBMClassifier(**(LGB | {"n_estimators": 60, "learning_rate": 1.0}))
    stop = [lightgbm.early_stopping(2, verbose=False)]
    X, y = table.X, table.three
    model.fit(X[:150], y[:150], eval_set=[(X[150:N_TRAIN], y[150:N_TRAIN])], callbacks=stop)
    return model, X


_BAGGED = {"boosting_type": "rf", "bagging_freq": 1, "bagging_fraction": 0.7}

_LIGHTGBM = [
    *(
        (f"LGBMRegressor, {o}", _lgb("LGBMRegressor", objective=o))
        for o in (
            "regression",
            "regression_l1",
            "huber",
            "fair",
            "poisson",
            "quantile",
            "mape",
            "gamma",
            "tweedie",
        )
    ),
    *(
        (f"LGBMRegressor, {o}", _lgb("LGBMRegressor", "share", objective=o))
        for o in ("cross_entropy", "cross_entropy_lambda")
    ),
    ("LGBMRegressor, reg_sqrt", _lgb("LGBMRegressor", reg_sqrt=True)),
    ("LGBMRegressor, a custom objective", _lgb("LGBMRegressor", objective=_squares)),
    ("LGBMClassifier, binary", _lgb("LGBMClassifier", "two")),
    ("LGBMClassifier, multiclass", _lgb("LGBMClassifier", "three")),
    (
        "LGBMClassifier, multiclassova",
        _lgb("LGBMClassifier", "three", objective="multiclassova"),
    ),
    *(
        (f"LGBMRanker, {o}", _lgb("LGBMRanker", "two", objective=o))
        for o in ("lambdarank", "rank_xendcg")
    ),
    ("LGBMClassifier, dart", _lgb("LGBMClassifier", "three", boosting_type="dart")),
    ("LGBMRegressor, goss", _lgb("LGBMRegressor", data_sample_strategy="goss")),
    ("LGBMClassifier, rf", _lgb("LGBMClassifier", "three", **_BAGGED)),
    ("LGBMRegressor, rf", _lgb("LGBMRegressor", **_BAGGED)),
    ("LGBMRegressor, extra_trees", _lgb("LGBMRegressor", extra_trees=True)),
    ("LGBMRegressor, linear_tree", _lgb("LGBMRegressor", linear_tree=True)),
    ("LGBMClassifier, linear_tree", _lgb("LGBMClassifier", "three", linear_tree=True)),
    ("LGBMRegressor, zero_as_missing", _lgb("LGBMRegressor", rows="full", zero_as_missing=True)),
    ("LGBMRegressor, use_missing=False", _lgb("LGBMRegressor", use_missing=False)),
    ("LGBMClassifier, early stopping", _lgb_stopped),
    ("LGBMClassifier, categories", _lgb_frame(categories=True)),
    ("LGBMClassifier, named columns", _lgb_frame("age", "shop", "member", "count")),
    ("Booster", _lgb_booster),
    ("LGBMRegressor, timestamps", _lgb_stamps(linear=False)),
    ("LGBMRegressor, timestamps, linear_tree", _lgb_stamps(linear=True)),
    ("LGBMRegressor, ids of 16 digits", _lgb_ids),
    ("LGBMClassifier, pred_early_stop", _lgb("LGBMClassifier", "two", pred_early_stop=True)),
]

# --- CatBoost -----------------------------------------------------------------------------------


def _cat(kind: str, label: str = "positive", rows: str = "X", **options: Any) -> Fit:
    def fit(table: Table) -> tuple[Any, Any]:
        import catboost

        X, y = getattr(table, rows), getattr(table, label)
        extra = {"group_id": table.groups[:N_TRAIN]} if kind == "CatBoostRanker" else {}
        y = y.astype(float) if kind == "CatBoostRanker" else y
        made = getattr(catboost, kind)
        model = made(CAT | options) if kind == "CatBoost" else made(**(CAT | options))
        return model.fit(X[:N_TRAIN], y[:N_TRAIN], **extra), X

    return fit


def _cat_frame(label: str = "three", kind: str = "CatBoostClassifier", **options: Any) -> Fit:
    def fit(table: Table) -> tuple[Any, Any]:
        import catboost

        rows = table.frame(categories=False)
        odd = (rows["city"] == "Oslo") ^ rows["member"] ^ (rows["shop"] % 3 == 0)
        target = getattr(table, label) + odd.to_numpy()
        model = getattr(catboost, kind)(
            cat_features=["city", "shop", "member"], **(CAT | {"iterations": 20} | options)
        )
        return model.fit(rows[:N_TRAIN], target[:N_TRAIN]), rows

    return fit


def _cat_threshold(table: Table) -> tuple[Any, Any]:
    model, rows = _cat("CatBoostClassifier", "two")(table)
    model.set_probability_threshold(0.8)
    return model, rows


def _cat_names(table: Table) -> tuple[Any, Any]:
    table.named = np.array(["low", "middle", "high"], dtype=object)[table.three]  # type: ignore[attr-defined]
    return _cat("CatBoostClassifier", "named")(table)


def _cat_lacking(table: Table) -> tuple[Any, Any]:
    """Rows of one city only, after a training that saw five."""
    model, rows = _cat_frame()(table)
    return model, rows[rows["city"] == "Oslo"].sample(300, replace=True, random_state=0)


def _cat_text(table: Table) -> tuple[Any, Any]:
    import catboost

    rows = table.frame(categories=False)[["age"]]
    rows["text"] = np.array(["good day", "bad night", "so so"], dtype=object)[table.three]
    model = catboost.CatBoostClassifier(text_features=["text"], **CAT)
    return model.fit(rows[:N_TRAIN], table.two[:N_TRAIN]), rows


_CATBOOST = [
    *(
        (f"CatBoostRegressor, {o}", _cat("CatBoostRegressor", loss_function=o))
        for o in (
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
        )
    ),
    *(
        (f"CatBoostRegressor, {o}", _cat("CatBoostRegressor", "targets", loss_function=o))
        for o in ("MultiRMSE", "MultiRMSEWithMissingValues", "SurvivalAft:dist=Normal")
    ),
    ("CatBoostClassifier, Logloss", _cat("CatBoostClassifier", "two")),
    (
        "CatBoostClassifier, CrossEntropy",
        _cat("CatBoostClassifier", "share", loss_function="CrossEntropy"),
    ),
    (
        "CatBoostClassifier, Focal",
        _cat("CatBoostClassifier", "two", loss_function="Focal:focal_alpha=0.5;focal_gamma=2"),
    ),
    ("CatBoostClassifier, MultiClass", _cat("CatBoostClassifier", "three")),
    (
        "CatBoostClassifier, MultiClassOneVsAll",
        _cat("CatBoostClassifier", "three", loss_function="MultiClassOneVsAll"),
    ),
    (
        "CatBoostClassifier, MultiLogloss",
        _cat("CatBoostClassifier", "labels", loss_function="MultiLogloss"),
    ),
    (
        "CatBoostClassifier, MultiCrossEntropy",
        _cat("CatBoostClassifier", "labels", loss_function="MultiCrossEntropy"),
    ),
    ("CatBoostClassifier, classes of text", _cat_names),
    ("CatBoostClassifier, probability threshold", _cat_threshold),
    *(
        (f"CatBoostRanker, {o}", _cat("CatBoostRanker", "two", loss_function=o))
        for o in ("YetiRank", "PairLogit", "QueryRMSE", "QuerySoftMax", "LambdaMart")
    ),
    ("CatBoost, MultiClass", _cat("CatBoost", "three", loss_function="MultiClass")),
    *(
        (f"CatBoostClassifier, {p}", _cat("CatBoostClassifier", "three", grow_policy=p))
        for p in ("Depthwise", "Lossguide")
    ),
    ("CatBoostRegressor, nan_mode=Max", _cat("CatBoostRegressor", nan_mode="Max")),
    ("CatBoostClassifier, categories", _cat_frame()),
    ("CatBoostClassifier, categories one-hot", _cat_frame(one_hot_max_size=50)),
    ("CatBoostClassifier, combinations of categories", _cat_frame(max_ctr_complexity=4)),
    (
        "CatBoostRegressor, categories, Lossguide",
        _cat_frame("positive", "CatBoostRegressor", grow_policy="Lossguide"),
    ),
    ("CatBoostClassifier, categories not all in the example", _cat_lacking),
    ("CatBoostClassifier, text_features", _cat_text),
]

ENTRIES = [
    _entry(section, name, fit)
    for section, entries in (
        ("XGBoost", _XGBOOST),
        ("LightGBM", _LIGHTGBM),
        ("CatBoost", _CATBOOST),
    )
    for name, fit in entries
]
