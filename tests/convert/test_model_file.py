"""Model files by their path: what is opened at once, and what only on trust."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from infersdk.convert.conversion import convert_model
from infersdk.convert.model_file import is_model_file, open_model_file
from infersdk.errors import ArtifactError, UnsupportedModelError


class Bomb:
    """Unpickled, it would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.fixture(scope="module")
def iris():
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    return datasets.load_iris(return_X_y=True)


@pytest.fixture(scope="module")
def tree(iris):
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(max_depth=3, random_state=0).fit(*iris)


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("a.pkl", True),
        ("a.PICKLE", True),
        ("a.joblib", True),
        ("a.skops", True),
        ("a.json", True),
        ("a.ubj", True),
        ("a.cbm", True),
        ("a.mlmodel", True),
        ("a.onnx", False),
        ("a", False),
        (b"a.pkl", False),
        (3, False),
    ],
)
def test_known_by_suffix(path, known):
    assert is_model_file(path) is known


class TestPickles:
    @pytest.mark.parametrize("suffix", [".pkl", ".pickle", ".joblib"])
    @pytest.mark.parametrize("trust", [False, ("builtins.open",)])
    def test_nothing_runs_unasked(self, suffix, trust, tmp_path):
        trace = tmp_path / "trace"
        path = tmp_path / f"model{suffix}"
        path.write_bytes(pickle.dumps(Bomb(str(trace))))
        with pytest.raises(UnsupportedModelError, match=r"(?s)run any code.*trust=True"):
            open_model_file(path, trust)
        assert not trace.exists()

    def test_on_trust(self, iris, tree, tmp_path):
        import joblib

        plain, other, hidden = (
            tmp_path / f"m{i}{s}" for i, s in enumerate([".pkl", ".joblib", ".pkl"])
        )
        plain.write_bytes(pickle.dumps(tree))
        joblib.dump(tree, other)
        joblib.dump(tree, hidden, compress=3)
        for path in (plain, other, hidden):
            opened = open_model_file(str(path), trust=True)
            np.testing.assert_array_equal(opened.predict(iris[0]), tree.predict(iris[0]))

    def test_damaged(self, tree, tmp_path):
        path = tmp_path / "model.pkl"
        path.write_bytes(pickle.dumps(tree)[:-40])
        with pytest.raises(ArtifactError, match="damaged"):
            open_model_file(path, trust=True)

    def test_code_that_is_not_here(self, tmp_path):
        path = tmp_path / "model.pkl"
        path.write_bytes(b"cno_such_module\nModel\n.")
        with pytest.raises(UnsupportedModelError, match="`no_such_module`"):
            open_model_file(path, trust=True)

    def test_missing(self, tmp_path):
        with pytest.raises(ArtifactError, match="found none"):
            open_model_file(tmp_path / "model.pkl", trust=True)


class TestSkops:
    def test_known_types(self, iris, tmp_path):
        io = pytest.importorskip("skops.io", reason="skops is not installed")
        from sklearn.preprocessing import StandardScaler

        scaler = StandardScaler().fit(iris[0])
        path = tmp_path / "model.skops"
        io.dump(scaler, path)
        opened = open_model_file(path)
        np.testing.assert_array_equal(opened.transform(iris[0]), scaler.transform(iris[0]))

    def test_further_types_are_named(self, iris, tmp_path):
        io = pytest.importorskip("skops.io", reason="skops is not installed")
        from sklearn.preprocessing import FunctionTransformer

        path = tmp_path / "model.skops"
        io.dump(FunctionTransformer(doubled).fit(iris[0]), path)
        (name,) = io.get_untrusted_types(file=path)
        with pytest.raises(UnsupportedModelError, match=name):
            open_model_file(path)
        with pytest.raises(UnsupportedModelError, match=name):
            open_model_file(path, trust=("another.type",))
        for trust in (True, (name,)):
            opened = open_model_file(path, trust=trust)
            np.testing.assert_array_equal(opened.transform(iris[0]), 2 * iris[0])


def doubled(values):
    return 2 * values


class TestNumbersOnly:
    @pytest.mark.parametrize("suffix", [".json", ".ubj"])
    def test_xgboost(self, suffix, iris, tmp_path):
        xgboost = pytest.importorskip("xgboost", reason="XGBoost is not installed")
        data = xgboost.DMatrix(iris[0], iris[1])
        booster = xgboost.train({"nthread": 1}, data, 3)
        path = tmp_path / f"model{suffix}"
        booster.save_model(path)
        np.testing.assert_array_equal(open_model_file(path).predict(data), booster.predict(data))

    def test_the_file_gives_the_name(self, iris, tmp_path):
        xgboost = pytest.importorskip("xgboost", reason="XGBoost is not installed")
        path = tmp_path / "churn.ubj"
        xgboost.train({"nthread": 1}, xgboost.DMatrix(*iris), 3).save_model(path)
        conversion = convert_model(path, example=iris[0])
        assert conversion.name == "churn"
        assert conversion.provenance.source == "xgboost.core.Booster"

    def test_json_of_something_else(self, tmp_path):
        path = tmp_path / "model.json"
        path.write_text('{"a": 1}')
        with pytest.raises(UnsupportedModelError, match="not an XGBoost model"):
            open_model_file(path)

    def test_lightgbm(self, iris, tmp_path):
        lightgbm = pytest.importorskip("lightgbm", reason="LightGBM is not installed")
        data = lightgbm.Dataset(*iris)
        booster = lightgbm.train({"verbose": -1, "num_threads": 1}, data, 3)
        path = tmp_path / "model.txt"
        booster.save_model(path)
        opened = open_model_file(path)
        np.testing.assert_array_equal(opened.predict(iris[0]), booster.predict(iris[0]))

    def test_text_of_something_else(self, tmp_path):
        path = tmp_path / "model.txt"
        path.write_text("hello")
        with pytest.raises(UnsupportedModelError, match="first words"):
            open_model_file(path)

    @pytest.mark.parametrize("kind", ["CatBoostClassifier", "CatBoostRegressor"])
    def test_catboost(self, kind, iris, tmp_path):
        catboost = pytest.importorskip("catboost", reason="CatBoost is not installed")
        model = getattr(catboost, kind)(
            iterations=3, thread_count=1, verbose=0, allow_writing_files=False
        ).fit(*iris)
        path = tmp_path / "model.cbm"
        model.save_model(str(path))
        opened = open_model_file(path)
        assert type(opened) is type(model)
        np.testing.assert_array_equal(opened.predict(iris[0]), model.predict(iris[0]))

    def test_libsvm(self, iris, tmp_path):
        svmutil = pytest.importorskip("libsvm.svmutil", reason="libsvm is not installed")
        model = svmutil.svm_train(iris[1], iris[0], "-q")
        path = tmp_path / "iris.model"
        svmutil.svm_save_model(str(path), model)
        opened = open_model_file(path)
        expected = svmutil.svm_predict([], iris[0], model, "-q")[0]
        assert svmutil.svm_predict([], iris[0], opened, "-q")[0] == expected


class TestTorch:
    def test_on_trust(self, tmp_path):
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        module = torch.nn.Sequential(torch.nn.Linear(3, 2)).eval()
        path = tmp_path / "model.pt"
        torch.save(module, path)
        with pytest.raises(UnsupportedModelError, match="trust=True"):
            open_model_file(path)
        given = torch.ones(4, 3)
        opened = open_model_file(path, trust=True)
        torch.testing.assert_close(opened(given), module(given))
        torch.save(module.state_dict(), path)
        with pytest.raises(UnsupportedModelError, match="without their module"):
            open_model_file(path, trust=True)
