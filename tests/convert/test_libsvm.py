"""LIBSVM models against the library itself, on rows around and far outside of the support vectors."""

from __future__ import annotations

import numpy as np
import pytest

import infersdk
from infersdk.convert import libsvm as converter
from infersdk.errors import UnsupportedModelError

svmutil = pytest.importorskip("libsvm.svmutil", reason="libsvm-official is not installed")

C_SVC, NU_SVC, ONE_CLASS, EPSILON_SVR, NU_SVR = range(5)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(160, 4))
    X[rng.random(X.shape) < 0.15] = 0.0
    two = np.where(X[:, 0] + X[:, 1] ** 2 > 0.5, 3.0, -2.0)
    four = np.digitize(X[:, 0] + 0.4 * rng.normal(size=160), [-0.7, 0.0, 0.8]).astype(float)
    return X, two, four, X[:, 0] - np.sin(X[:, 1])


def trained(target, X, options):
    return svmutil.svm_train(target, X, options + " -q")


def assert_served(model, X, *, exact=1e-10):
    served = infersdk.load(model, example=X)
    assert served.plan.kind == "onnx", served.plan
    assert not any("left out" in note for note in served.plan.notes), served.plan
    assert served.parity.label_flips == 0
    signature = served.signature
    rows = converter.edge_rows(model, signature, X, n_rows=300, rng=np.random.default_rng(3))
    for given in (X, rows):
        for method in signature.methods:
            expected = converter.call(model, method.name, given)
            ours = getattr(served, method.name)(given)
            assert ours.shape == expected.shape
            assert ours.dtype == expected.dtype
            scale = max(1.0, float(np.abs(expected).max()))
            np.testing.assert_allclose(ours, expected, rtol=exact, atol=exact * scale)
    return served


class TestFormulations:
    @pytest.mark.parametrize("kernel", ["-t 0", "-t 1 -d 3 -r 0.5", "-t 2 -g 0.7", "-t 3 -g 0.1"])
    @pytest.mark.parametrize("kind", [C_SVC, NU_SVC, ONE_CLASS, EPSILON_SVR, NU_SVR])
    def test_kernels(self, kind, kernel, data):
        X, _, four, values = data
        target = four if kind in (C_SVC, NU_SVC) else values
        nu = "-n 0.3" if kind != C_SVC else ""
        model = trained(target, X, f"-s {kind} {kernel} {nu}")
        served = assert_served(model, X)
        if kind in (C_SVC, NU_SVC):
            assert served.decision_function(X).shape == (len(X), 6)

    def test_two_classes_in_the_order_of_the_model(self, data):
        X, two, _, _ = data
        model = trained(two, X, "-s 0")
        served = assert_served(model, X)
        assert served.signature.methods[0].labels.values == tuple(model.get_labels())
        labels, _, values = svmutil.svm_predict([], X, model, "-q")
        np.testing.assert_array_equal(served.predict(X), labels)
        np.testing.assert_allclose(served.decision_function(X), values, atol=1e-12)


class TestProbabilities:
    @pytest.mark.parametrize("kind", [C_SVC, NU_SVC])
    @pytest.mark.parametrize("classes", ["two", "four"])
    def test_as_the_library_couples_them(self, kind, classes, data):
        X, two, four, _ = data
        target = two if classes == "two" else four
        model = trained(target, X, f"-s {kind} -b 1 -n 0.3")
        served = assert_served(model, X)
        _, _, expected = svmutil.svm_predict([], X, model, "-b 1 -q")
        np.testing.assert_allclose(served.predict_proba(X), expected, atol=1e-10)

    def test_rows_stop_at_their_own_time(self, data):
        X, _, four, _ = data
        served = infersdk.load(trained(four, X, "-b 1 -t 0"), example=X)
        together = served.predict_proba(X)
        alone = np.vstack([served.predict_proba(row) for row in X[:40]])
        np.testing.assert_allclose(alone, together[:40], rtol=1e-12)

    def test_regression_has_none(self, data):
        X, *_, values = data
        served = infersdk.load(trained(values, X, "-s 3 -b 1"), example=X)
        assert [method.name for method in served.signature.methods] == ["predict"]


class TestRows:
    def test_without_an_example(self, data):
        X, two, _, _ = data
        model = trained(two, X, "-s 0")
        with np.errstate(all="ignore"):
            served = infersdk.load(model)
        assert served.parity.n_edge_rows > 0
        np.testing.assert_array_equal(served.predict(X), converter.call(model, "predict", X))

    def test_names(self, data):
        pd = pytest.importorskip("pandas", reason="pandas is not installed")
        X, two, _, _ = data
        model = trained(two, X, "-s 0")
        frame = pd.DataFrame(X, columns=list("abcd"))
        served = infersdk.load(model, example=frame)
        row = dict(reversed(frame.iloc[0].to_dict().items()))
        np.testing.assert_array_equal(served.predict(row), converter.call(model, "predict", X[:1]))

    def test_columns_without_a_support_vector_count_in_distances(self, data):
        X, two, _, _ = data
        wide = np.hstack([X, np.zeros((len(X), 1))])
        model = trained(two, wide, "-s 0 -t 2 -g 0.5")
        rows = wide + np.array([0, 0, 0, 0, 1.0])
        served = infersdk.load(model, example=wide)
        ours, expected = (
            served.decision_function(rows),
            converter.call(model, "decision_function", rows),
        )
        np.testing.assert_allclose(ours, expected, atol=1e-12)

    def test_sparse_dicts_are_refused(self, data):
        X, two, _, _ = data
        model = trained(two, X, "-s 0")
        with pytest.raises(UnsupportedModelError, match="sparse dicts"):
            infersdk.load(model, example=[{1: 0.5, 3: 1.2}])

    def test_too_few_columns_are_refused(self, data):
        X, two, _, _ = data
        with pytest.raises(UnsupportedModelError, match="at least 4 columns"):
            infersdk.load(trained(two, X, "-s 0"), example=X[:, :2])

    def test_precomputed_kernels_are_refused(self, data):
        X, two, _, _ = data
        kernel = np.hstack([np.arange(1, len(X) + 1)[:, None], X @ X.T])
        problem = svmutil.svm_problem(two, kernel, isKernel=True)
        model = svmutil.svm_train(problem, svmutil.svm_parameter("-t 4 -q"))
        with pytest.raises(UnsupportedModelError, match="precomputed"):
            infersdk.load(model, example=kernel)


def test_files(data, tmp_path):
    X, two, _, _ = data
    model = trained(two, X, "-s 0 -b 1")
    path = tmp_path / "two.model"
    svmutil.svm_save_model(str(path), model)
    served = infersdk.load(str(path), example=X)
    assert served.plan.kind == "onnx"
    again = svmutil.svm_load_model(str(path))
    np.testing.assert_allclose(
        served.predict_proba(X), converter.call(again, "predict_proba", X), atol=1e-12
    )
