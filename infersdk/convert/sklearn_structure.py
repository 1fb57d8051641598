"""How a fitted model is put together, and what its steps remember about the columns they were given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from infersdk.convert.sklearn_writer import RESAMPLER, class_name, is_missing

__all__ = [
    "HOLDERS",
    "TEXT_VECTORIZERS",
    "Hint",
    "first_step",
    "follow",
    "has_names",
    "inner_models",
    "named_parts",
    "parts",
    "plain",
]

TEXT_VECTORIZERS = frozenset({"CountVectorizer", "HashingVectorizer", "TfidfVectorizer"})
_ENCODERS = frozenset({"OneHotEncoder", "OrdinalEncoder", "TargetEncoder"})


@dataclass(slots=True)
class Hint:
    """What the fitted steps say about one column of the input."""

    used: bool = False
    text: bool = False
    vector: bool = False
    categories: tuple[Any, ...] | None = None


def parts(model: Any) -> Iterator[Any]:
    """Every fitted estimator inside a model, itself first, in the order rows pass them."""
    yield model
    name = class_name(model)
    if name is None:
        return
    inner: list[Any] = []
    if name == "Pipeline":
        inner = [step for _, step in model.steps]
    elif name == "ColumnTransformer":
        inner = [step for _, step, _ in model.transformers_]
    elif name == "FeatureUnion":
        inner = [step for _, step in model.transformer_list]
    elif name == "CalibratedClassifierCV":
        inner = [part.estimator for part in model.calibrated_classifiers_]
    elif hasattr(model, "best_estimator_"):
        inner = [model.best_estimator_]
    elif name in ("StackingClassifier", "StackingRegressor"):
        inner = [*model.estimators_, model.final_estimator_]
    elif name in HOLDERS:
        inner = list(np.ravel(np.asarray(model.estimators_, dtype=object)))
    elif name == "TransformedTargetRegressor":
        inner = [model.regressor_]
    elif name == "FixedThresholdClassifier":
        inner = [getattr(model, "estimator_", model.estimator)]
    elif name in _OF_ONE:
        inner = [model.estimator_]
    for part in inner:
        if part is not None and not isinstance(part, str):
            yield from parts(part)


def named_parts(model: Any) -> Iterator[tuple[str, Any]]:
    """Every fitted estimator inside a model with its path, itself first, as ``prepare.text``.

    Names are scikit-learn's own where a container gives them, else numbers.
    """
    yield from _named(model, "model" if not _named_inner(model) else "")


def _named(model: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path or "model", model
    for name, part in _named_inner(model):
        if part is not None and not isinstance(part, str):
            yield from _named(part, f"{path}.{name}" if path else name)


def _named_inner(model: Any) -> list[tuple[str, Any]]:
    name = class_name(model)
    if name is None:
        return []
    if name == "Pipeline":
        return list(model.steps)
    if name == "ColumnTransformer":
        return [(label, step) for label, step, _ in model.transformers_]
    if name == "FeatureUnion":
        return list(model.transformer_list)
    if name in ("StackingClassifier", "StackingRegressor", "VotingClassifier", "VotingRegressor"):
        labels = [label for label, part in model.estimators if not isinstance(part, str)]
        named = list(zip(labels, model.estimators_, strict=True))
        final = getattr(model, "final_estimator_", None)
        return named if final is None else [*named, ("final_estimator", final)]
    # The rest holds its parts in the order in which `parts` meets them.
    inner: list[Any] = []
    if name == "CalibratedClassifierCV":
        inner = [part.estimator for part in model.calibrated_classifiers_]
    elif hasattr(model, "best_estimator_"):
        return [("best_estimator", model.best_estimator_)]
    elif name in HOLDERS:
        inner = list(np.ravel(np.asarray(model.estimators_, dtype=object)))
    elif name == "TransformedTargetRegressor":
        return [("regressor", model.regressor_)]
    elif name == "FixedThresholdClassifier":
        return [("estimator", getattr(model, "estimator_", model.estimator))]
    elif name in _OF_ONE:
        return [("estimator", model.estimator_)]
    return [(str(index), part) for index, part in enumerate(inner)]


HOLDERS = frozenset(
    {
        "AdaBoostClassifier",
        "BaggingClassifier",
        "BaggingRegressor",
        "ClassifierChain",
        "MultiOutputClassifier",
        "MultiOutputRegressor",
        "OneVsOneClassifier",
        "OneVsRestClassifier",
        "RegressorChain",
        "VotingClassifier",
        "VotingRegressor",
    }
)

_OF_ONE = frozenset(
    {"RANSACRegressor", "RFE", "RFECV", "SelfTrainingClassifier", "TunedThresholdClassifierCV"}
)
_CONTAINERS = frozenset({"Pipeline", "FeatureUnion", "ColumnTransformer"})


def first_step(model: Any) -> Any:
    """The first estimator that reads the rows itself."""
    for part in parts(model):
        name = class_name(part)
        holds = name in _CONTAINERS or name in HOLDERS or hasattr(part, "best_estimator_")
        wraps = name in ("CalibratedClassifierCV", "StackingClassifier", "StackingRegressor")
        wraps = wraps or name in ("FixedThresholdClassifier", "TunedThresholdClassifierCV")
        if name == "ColumnTransformer" or not (holds or wraps or name == RESAMPLER):
            return part
    return model


def follow(model: Any, columns: Sequence[Sequence[int]], hints: list[Hint]) -> list[list[int]]:
    """Follow columns through a model and note what its steps say about them.

    ``columns`` holds, for each column that reaches the model, the input columns it is made of one to
    one (one or none). Returned is the same for what the model makes of them.
    """
    name = class_name(model)
    if name == "Pipeline":
        for _, step in model.steps:
            if step is not None and step != "passthrough":
                columns = follow(step, columns, hints)
        return [list(item) for item in columns]
    if name == "ColumnTransformer":
        result: list[list[int]] = []
        positions = model._transformer_to_input_indices
        for label, step, _ in model.transformers_:
            # Of what a step before made new, only the steps themselves know how much it is.
            chosen = [
                columns[int(index)] if int(index) < len(columns) else []
                for index in positions[label]
            ]
            if step == "drop":
                continue
            if isinstance(step, str):
                _use(chosen, hints)
                made = [list(item) for item in chosen]
            else:
                made = follow(step, chosen, hints) if chosen else []
            place = model.output_indices_[label]
            width = place.stop - place.start
            result.extend(made if len(made) == width else [[] for _ in range(width)])
        return result
    if name == RESAMPLER:
        return [list(item) for item in columns]
    inner = inner_models(model)
    if inner:
        alike: list[list[int]] = []
        for part in inner:
            alike = follow(part, columns, hints)
        return alike if len(inner) == 1 else []
    _use(columns, hints)
    if name in _ENCODERS:
        for item, categories in zip(columns, model.categories_, strict=False):
            for index in item:
                values = [plain(value) for value in categories]
                known = tuple(value for value in values if not is_missing(value))
                hints[index].categories = hints[index].categories or known
                if any(isinstance(value, str) for value in known):
                    hints[index].text = True
        return []
    if name is not None and name.startswith("category_encoders."):
        return _follow_encoder(model, columns, hints)
    if name == "SimpleImputer":
        for item, value in zip(columns, model.statistics_, strict=False):
            for index in item:
                hints[index].text |= isinstance(value, str)
        if len(columns) == len(model.statistics_) and not model.add_indicator:
            kept = [i for i, value in enumerate(model.statistics_) if not is_missing(value)]
            return [list(columns[i]) for i in kept]
        return []
    if name in TEXT_VECTORIZERS:
        for item in columns:
            for index in item:
                hints[index].text = hints[index].vector = True
        return []
    if getattr(model, "_preprocessor", None) is not None:
        # HistGradientBoosting with categorical columns.
        follow(model._preprocessor, columns, hints)
        return []
    if name in ("MaxAbsScaler", "MinMaxScaler", "RobustScaler", "StandardScaler"):
        return [list(item) for item in columns]
    return []


def _follow_encoder(
    model: Any, columns: Sequence[Sequence[int]], hints: list[Hint]
) -> list[list[int]]:
    """What an encoder of category_encoders knows about its columns."""
    from infersdk.convert.sklearn_thirdparty import known_categories

    for position, item in enumerate(columns):
        known = known_categories(model, position)
        for index in item:
            if known is not None:
                hints[index].categories = hints[index].categories or known
                hints[index].text |= any(isinstance(value, str) for value in known)
    return []


def inner_models(model: Any) -> list[Any]:
    """Estimators inside one that read the very columns it is given."""
    name = class_name(model)
    if name is None or name in _CONTAINERS:
        return (
            [step for _, step in model.transformer_list if not isinstance(step, str)]
            if (name == "FeatureUnion")
            else []
        )
    if hasattr(model, "best_estimator_"):
        return [model.best_estimator_]
    if name == "CalibratedClassifierCV":
        return [part.estimator for part in model.calibrated_classifiers_]
    if name in ("VotingClassifier", "VotingRegressor", "StackingClassifier", "StackingRegressor"):
        return list(model.estimators_)
    if name == "TransformedTargetRegressor":
        return [model.regressor_]
    if name == "FixedThresholdClassifier":
        return [getattr(model, "estimator_", model.estimator)]
    if name in ("TunedThresholdClassifierCV", "SelfTrainingClassifier"):
        return [model.estimator_]
    if name in ("MultiOutputRegressor", "MultiOutputClassifier", "OneVsRestClassifier"):
        return list(model.estimators_)
    return []


def _use(columns: Sequence[Sequence[int]], hints: list[Hint]) -> None:
    for item in columns:
        for index in item:
            hints[index].used = True


def plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def has_names(model: Any) -> bool:
    names = getattr(model, "feature_names_in_", None)
    # category_encoders number the columns of an array here.
    return names is not None and all(isinstance(name, str) for name in names)
