"""Core ML specifications against the models that they were made of, and against NumPy."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest

import infersdk
from infersdk.convert import coreml as converter
from infersdk.errors import ConversionError, UnsupportedModelError

# coremltools imports TensorFlow and PyTorch.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def ct():
    import logging

    logging.getLogger("coremltools").setLevel(logging.CRITICAL)
    return pytest.importorskip("coremltools", reason="coremltools is not installed")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 4))
    two = (X[:, 0] + X[:, 1] > 0).astype(int)
    three = two + (X[:, 2] > 0.4)
    return X, two, three, X[:, 0] - X[:, 1] ** 2


def described(ct, kind, n, classes=None):
    """An empty specification of one array ``x`` of n numbers."""
    from coremltools.proto import FeatureTypes_pb2, Model_pb2

    spec = Model_pb2.Model()
    spec.specificationVersion = 4
    item = spec.description.input.add()
    item.name = "x"
    item.type.multiArrayType.shape.append(n)
    item.type.multiArrayType.dataType = FeatureTypes_pb2.ArrayFeatureType.DOUBLE
    out = spec.description.output.add()
    out.name = "y"
    part = getattr(spec, kind)
    if classes is not None:
        spec.description.predictedFeatureName = "y"
        spec.description.predictedProbabilitiesName = "p"
        field = part.stringClassLabels if isinstance(classes[0], str) else part.int64ClassLabels
        field.vector.extend(classes)
    return spec, part


def assert_served(spec, X, expected, *, exact=1e-9):
    """The Predictor gives what ``expected`` says by method; and proved itself against the twin."""
    served = infersdk.load(spec, example=X)
    assert served.plan.kind == "onnx", served.plan
    assert not any("left out" in note for note in served.plan.notes), served.plan
    assert served.parity.n_edge_rows > 0
    if sys.platform != "darwin":
        assert any("macOS only" in note for note in served.plan.notes)
    for name, answer in expected.items():
        ours = getattr(served, name)(X)
        if ours.dtype.kind in "iO":
            np.testing.assert_array_equal(ours, answer)
        else:
            np.testing.assert_allclose(ours, answer, rtol=exact, atol=exact)
    return served


class TestLinear:
    def test_regression(self, ct, data):
        from sklearn.linear_model import LinearRegression

        X, *_, values = data
        model = LinearRegression().fit(X, values)
        spec, part = described(ct, "glmRegressor", 4)
        part.weights.add().value.extend(model.coef_)
        part.offset.append(model.intercept_)
        assert_served(spec, X, {"predict": model.predict(X)})

    def test_two_classes(self, ct, data):
        from sklearn.linear_model import LogisticRegression

        X, two, *_ = data
        model = LogisticRegression().fit(X, np.array(["no", "yes"])[two])
        spec, part = described(ct, "glmClassifier", 4, ["no", "yes"])
        part.weights.add().value.extend(model.coef_[0])
        part.offset.append(model.intercept_[0])
        assert_served(
            spec, X, {"predict": model.predict(X), "predict_proba": model.predict_proba(X)}
        )

    def test_one_class_against_the_rest(self, ct, data):
        from sklearn.linear_model import LogisticRegression
        from sklearn.multiclass import OneVsRestClassifier

        X, _, three, _ = data
        model = OneVsRestClassifier(LogisticRegression()).fit(X, three)
        spec, part = described(ct, "glmClassifier", 4, [0, 1, 2])
        part.classEncoding = 1
        for member in model.estimators_:
            part.weights.add().value.extend(member.coef_[0])
            part.offset.append(member.intercept_[0])
        assert_served(
            spec, X, {"predict": model.predict(X), "predict_proba": model.predict_proba(X)}
        )


class TestTrees:
    def test_boosted_by_xgboost(self, ct, data):
        xgboost = pytest.importorskip("xgboost", reason="XGBoost is not installed")
        X, *_, values = data
        X = X.astype(np.float32).astype(np.float64)
        model = xgboost.XGBRegressor(n_estimators=8, max_depth=4, n_jobs=1, base_score=0.5)
        model.fit(X, values)
        names = list("abcd")
        model.get_booster().feature_names = names
        made = ct.converters.xgboost.convert(model.get_booster(), names, "y")
        spec = made.get_spec()
        # This converter leaves out how the sum starts in XGBoost 3.
        spec.treeEnsembleRegressor.treeEnsemble.basePredictionValue[0] = 0.5
        expected = {"predict": model.predict(X)}
        import pandas as pd

        frame = pd.DataFrame(X, columns=[item.name for item in spec.description.input][:4])
        rows = X if len(spec.description.input) == 1 else frame
        assert_served(spec, rows, expected, exact=1e-5)

    @pytest.mark.parametrize("behavior", range(4))
    def test_branches(self, ct, data, behavior):
        from coremltools.models.tree_ensemble import TreeEnsembleRegressor

        names = [
            "BranchOnValueLessThanEqual",
            "BranchOnValueLessThan",
            "BranchOnValueGreaterThanEqual",
            "BranchOnValueGreaterThan",
        ]
        builder = TreeEnsembleRegressor([("x", ct.models.datatypes.Array(2))], "y")
        builder.set_default_prediction_value(0.25)
        # A float64 threshold that no float32 is.
        builder.add_branch_node(
            0, 0, 1, 0.1, names[behavior], 1, 2, missing_value_tracks_true_child=True
        )
        builder.add_leaf_node(0, 1, 1.0)
        builder.add_branch_node(0, 2, 0, -3.0, names[behavior], 3, 4)
        builder.add_leaf_node(0, 3, 2.0)
        builder.add_leaf_node(0, 4, 3.0)
        near = [0.1, np.nextafter(0.1, 1), np.nextafter(0.1, 0), np.nan, 5.0, -5.0, -3.0]
        rows = np.array([[a, b] for a in (*near[3:], 0.0) for b in near])
        holds = [np.less_equal, np.less, np.greater_equal, np.greater][behavior]
        first = np.where(np.isnan(rows[:, 1]), True, holds(rows[:, 1], 0.1))
        second = np.where(np.isnan(rows[:, 0]), False, holds(rows[:, 0], -3.0))
        expected = 0.25 + np.where(first, 1.0, np.where(second, 2.0, 3.0))
        served = assert_served(builder.spec, np.nan_to_num(rows), {})
        np.testing.assert_array_equal(served.predict(rows), expected)

    def test_classes(self, ct, data):
        from sklearn.tree import DecisionTreeClassifier

        X, _, three, _ = data
        X = X.astype(np.float32).astype(np.float64)
        tree = DecisionTreeClassifier(max_depth=4, random_state=0).fit(X, three)
        spec, part = described(ct, "treeEnsembleClassifier", 4, ["a", "b", "c"])
        part.treeEnsemble.numPredictionDimensions = 3
        part.treeEnsemble.basePredictionValue.extend([0.0] * 3)
        inner = tree.tree_
        for index in range(inner.node_count):
            node = part.treeEnsemble.nodes.add()
            node.nodeId = index
            if inner.children_left[index] == -1:
                node.nodeBehavior = 6
                for target, value in enumerate(inner.value[index, 0]):
                    item = node.evaluationInfo.add()
                    item.evaluationIndex, item.evaluationValue = target, value
            else:
                node.nodeBehavior = 0
                node.branchFeatureIndex = inner.feature[index]
                node.branchFeatureValue = inner.threshold[index]
                node.trueChildNodeId = inner.children_left[index]
                node.falseChildNodeId = inner.children_right[index]
        shares = tree.predict_proba(X)
        labels = np.array(["a", "b", "c"], object)[tree.predict(X)]
        assert_served(spec, X, {"predict": labels, "predict_proba": shares}, exact=1e-6)


class TestSupportVectors:
    @pytest.mark.parametrize("options", ["-t 0", "-t 1 -d 2 -r 1", "-t 2 -g 0.6", "-b 1"])
    def test_as_libsvm(self, ct, data, options):
        svmutil = pytest.importorskip("libsvm.svmutil", reason="libsvm is not installed")
        from infersdk.convert import libsvm

        X, _, three, _ = data
        model = svmutil.svm_train(three.astype(float), X, options + " -q")
        labels = model.get_labels()
        spec, part = described(ct, "supportVectorClassifier", 4, labels)
        p = model.param
        if p.kernel_type == 0:
            part.kernel.linearKernel.SetInParent()
        elif p.kernel_type == 1:
            part.kernel.polyKernel.degree, part.kernel.polyKernel.c = p.degree, p.coef0
            part.kernel.polyKernel.gamma = p.gamma
        else:
            part.kernel.rbfKernel.gamma = p.gamma
        part.numberOfSupportVectorsPerClass.extend(model.nSV[i] for i in range(3))
        part.rho.extend(model.rho[i] for i in range(3))
        for vector in model.get_SV():
            row = part.sparseSupportVectors.vectors.add()
            for index, value in vector.items():
                node = row.nodes.add()
                node.index, node.value = index, value
        for row in np.array(model.get_sv_coef()).T:
            part.coefficients.add().alpha.extend(row)
        expected = {"predict": libsvm.call(model, "predict", X).astype(int)}
        if "-b" in options:
            part.probA.extend(model.probA[i] for i in range(3))
            part.probB.extend(model.probB[i] for i in range(3))
            shares = libsvm.call(model, "predict_proba", X)
            expected = {
                "predict": np.array(labels)[shares.argmax(axis=1)],
                "predict_proba": shares,
            }
        assert_served(spec, X, expected, exact=1e-8)


def test_pipelines(ct, data):
    import pandas as pd

    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"size": rng.normal(size=60), "color": rng.choice(["red", "blue"], 60)})
    frame.loc[3:6, "size"] = np.nan
    spec, _ = described(ct, "pipelineRegressor", 1)
    del spec.description.input[:]
    for name, kind in (("size", "doubleType"), ("color", "stringType")):
        item = spec.description.input.add()
        item.name = name
        getattr(item.type, kind).SetInParent()
    stages = spec.pipelineRegressor.pipeline.models

    def stage(kind, given, made):
        model = stages.add()
        for name in given:
            model.description.input.add().name = name
        model.description.output.add().name = made
        return getattr(model, kind)

    filled = stage("imputer", ["size"], "filled")
    filled.imputedDoubleValue, filled.replaceDoubleValue = 0.5, float("nan")
    scaled = stage("scaler", ["filled"], "scaled")
    scaled.shiftValue.append(-1.0)
    scaled.scaleValue.append(3.0)
    stage("oneHotEncoder", ["color"], "hot").stringCategories.vector.extend(["blue", "red"])
    joined = stage("featureVectorizer", ["scaled", "hot"], "all")
    for name, width in (("scaled", 1), ("hot", 2)):
        item = joined.inputList.add()
        item.inputColumn, item.inputDimensions = name, width
    linear = stage("glmRegressor", ["all"], "y")
    linear.weights.add().value.extend([2.0, 5.0, 7.0])
    linear.offset.append(0.125)
    size = 3.0 * (frame["size"].fillna(0.5) - 1.0)
    expected = 2.0 * size + np.where(frame["color"] == "blue", 5.0, 7.0) + 0.125
    assert_served(spec, frame, {"predict": expected})


class TestNetworks:
    @pytest.fixture(scope="class")
    def module(self):
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        torch.manual_seed(0)
        nn = torch.nn
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, stride=2, groups=2),
            nn.LeakyReLU(0.1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 5),
            nn.Tanh(),
            nn.Linear(5, 4),
            nn.Softmax(dim=1),
        ).eval()

    def test_made_of_pytorch(self, ct, module):
        import torch

        given = torch.randn(1, 3, 17, 17)
        traced = torch.jit.trace(module, given)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = ct.convert(
                traced,
                inputs=[ct.TensorType(name="image", shape=(1, 3, 17, 17))],
                convert_to="neuralnetwork",
            )
        served = infersdk.load(made, example={"image": given.numpy()})
        assert served.plan.kind == "onnx", served.plan
        (answer,) = served.predict({"image": given.numpy()}).values()
        np.testing.assert_allclose(answer, module(given).detach().numpy(), atol=1e-5)

    def test_layers_that_are_not_known_are_named(self, ct):
        from coremltools.models.neural_network import NeuralNetworkBuilder

        array = ct.models.datatypes.Array(3)
        builder = NeuralNetworkBuilder(
            [("x", array)], [("y", array)], disable_rank5_shape_mapping=True
        )
        builder.add_erf("the_layer", "x", "y")
        with pytest.raises(UnsupportedModelError, match=r"`erf` \(`the_layer`\)"):
            infersdk.load(builder.spec)

    def test_five_axes_are_refused(self, ct):
        from coremltools.models.neural_network import NeuralNetworkBuilder

        array = ct.models.datatypes.Array(3)
        builder = NeuralNetworkBuilder([("x", array)], [("y", array)])
        builder.add_activation("the_layer", "RELU", "x", "y")
        with pytest.raises(UnsupportedModelError, match="five axes"):
            infersdk.load(builder.spec)


class TestRefusals:
    def test_programs(self, ct):
        from coremltools.proto import Model_pb2

        spec = Model_pb2.Model()
        spec.mlProgram.version = 1
        with pytest.raises(UnsupportedModelError, match="ML program"):
            infersdk.load(spec)

    @pytest.mark.skipif(sys.platform == "darwin", reason="Core ML answers here")
    def test_core_ml_itself_is_not_here(self, ct, data):
        spec, part = described(ct, "glmRegressor", 4)
        part.weights.add().value.extend([1.0] * 4)
        part.offset.append(0.0)
        with pytest.raises(ConversionError, match="macOS only"):
            converter.call(spec, "predict", data[0])

    def test_files(self, ct, data, tmp_path):
        spec, part = described(ct, "glmRegressor", 4)
        part.weights.add().value.extend([1.0, 2.0, 3.0, 4.0])
        part.offset.append(0.5)
        ct.utils.save_spec(spec, str(tmp_path / "linear.mlmodel"))
        served = infersdk.load(str(tmp_path / "linear.mlmodel"), example=data[0])
        np.testing.assert_allclose(served.predict(data[0]), data[0] @ [1, 2, 3, 4] + 0.5)
