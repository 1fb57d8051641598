"""TensorFlow without Keras: functions, modules and SavedModels."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.gallery.entry import Entry, Made

_SECTION = "TensorFlow"


def _normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


def _function() -> Made:
    import tensorflow as tf

    weights = tf.Variable(_normal(6, 3))

    @tf.function
    def score(features):
        return tf.nn.softmax(tf.nn.relu(features) @ weights)

    return Made(score, _normal(20, 6), _normal(9, 6, seed=2))


def _several() -> Made:
    import tensorflow as tf

    weights = tf.constant(_normal(6, 3))

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, 6), tf.float32),
            tf.TensorSpec((None, None), tf.int32),
        ]
    )
    def score(features, words):
        lengths = tf.reduce_sum(tf.cast(words > 0, tf.int32), axis=1)
        logits = features @ weights / (1.0 + tf.cast(lengths, tf.float32)[:, None])
        return {"logits": logits, "best": tf.argmax(logits, axis=1), "lengths": lengths}

    def rows(n: int, length: int, seed: int) -> dict[str, Any]:
        words = np.random.default_rng(seed).integers(0, 3, (n, length)).astype(np.int32)
        return {"features": _normal(n, 6, seed=seed), "words": words}

    return Made(score, rows(20, 5, 0), rows(9, 8, 2))


def _module() -> Made:
    import tensorflow as tf

    class Network(tf.Module):
        def __init__(self):
            super().__init__()
            self.kernel = tf.Variable(_normal(3, 3, 2, 4))
            self.weights = tf.Variable(_normal(4, 3, seed=1))

        @tf.function
        def __call__(self, image):
            found = tf.nn.relu(tf.nn.conv2d(image, self.kernel, 2, "SAME"))
            found = tf.nn.max_pool2d(found, 2, 2, "VALID")
            return tf.reduce_mean(found, [1, 2]) @ self.weights, found

    return Made(Network(), _normal(8, 12, 12, 2), _normal(5, 12, 12, 2, seed=2))


def _loop() -> Made:
    import tensorflow as tf

    weights = tf.Variable(_normal(4, 4) * 0.3)

    @tf.function
    def roll(sequence):
        state = tf.zeros_like(sequence[:, 0])
        for step in tf.range(tf.shape(sequence)[1]):
            state = tf.tanh(sequence[:, step] + state @ weights)
        return state

    return Made(roll, _normal(8, 5, 4), _normal(5, 9, 4, seed=2))


def _branch() -> Made:
    import tensorflow as tf

    @tf.function
    def choose(batch):
        return tf.cond(tf.reduce_sum(batch) > 0, lambda: batch * 2.0, lambda: batch - 1.0)

    return Made(choose, _normal(8, 4), _normal(5, 4, seed=2))


def _table() -> Made:
    import tensorflow as tf

    class Coder(tf.Module):
        def __init__(self):
            super().__init__()
            pairs = tf.lookup.KeyValueTensorInitializer(
                ["Oslo", "Łódź"], tf.constant([5, 7], tf.int64)
            )
            self.table = tf.lookup.StaticHashTable(pairs, default_value=-1)

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
        def __call__(self, city):
            return self.table.lookup(city)

    cities = np.array(["Oslo", "Łódź", "nowhere", ""], dtype=object)
    return Made(Coder(), cities, cities[::-1].copy())


def _text() -> Made:
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
    def lengths(text):
        return tf.strings.length(tf.strings.lower(text), unit="UTF8_CHAR")

    texts = np.array(["Oslo", "Łódź", "nowhere", ""], dtype=object)
    return Made(lengths, texts, texts[::-1].copy())


@functools.cache
def _linear() -> Any:
    import tensorflow as tf

    class Linear(tf.Module):
        def __init__(self):
            super().__init__()
            self.weights = tf.Variable(_normal(4, 3))

        @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, name="features")])
        def __call__(self, features):
            return features @ self.weights

        @tf.function(
            input_signature=[
                tf.TensorSpec((None, 4), tf.float32, name="features"),
                tf.TensorSpec((None, 1), tf.float32, name="offset"),
            ]
        )
        def score(self, features, offset):
            logits = features @ self.weights + offset
            return {"logits": logits, "best": tf.argmax(logits, axis=1)}

    return Linear()


def _saved_call() -> Made:
    import tensorflow as tf

    path = f"{_folder().name}/call"
    tf.saved_model.save(_linear(), path)
    return Made(tf.saved_model.load(path), _normal(20, 4), _normal(9, 4, seed=2))


def _saved_signature() -> Made:
    import tensorflow as tf

    class Only(tf.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

    path = f"{_folder().name}/signature"
    model = _linear()
    tf.saved_model.save(Only(model), path, signatures={"serving_default": model.score})

    def rows(n: int, seed: int) -> dict[str, Any]:
        return {"features": _normal(n, 4, seed=seed), "offset": _normal(n, 1, seed=seed)}

    return Made(path, rows(20, 0), rows(9, 2))


def _saved_keras() -> Made:
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [layers.Input((None, 4)), layers.Conv1D(6, 3), layers.GRU(5), layers.Dense(2)]
    )
    path = f"{_folder().name}/keras"
    model.export(path, verbose=False)
    return Made(path, _normal(8, 7, 4), _normal(5, 10, 4, seed=2))


def _concrete() -> Made:
    return Made(
        _linear().score.get_concrete_function(),
        (_normal(8, 4), _normal(8, 1)),
        (_normal(5, 4, seed=2), _normal(5, 1, seed=3)),
    )


def _nested() -> Made:
    import tensorflow as tf

    @tf.function
    def twice(features):
        return {"both": (features, features * 2.0)}

    return Made(twice, _normal(8, 4), _normal(5, 4, seed=2))


_MAKERS: list[tuple[str, Callable[[], Made]]] = [
    ("tf.function", _function),
    ("tf.function with an input signature, dict of outputs", _several),
    ("tf.Module with convolutions, tuple of outputs", _module),
    ("loop over a sequence of any length", _loop),
    ("tf.cond on the whole batch", _branch),
    ("concrete function", _concrete),
    ("StaticHashTable over text", _table),
    ("tf.strings", _text),
    ("nested answer", _nested),
    ("SavedModel that can be called", _saved_call),
    ("SavedModel with a serving signature, by its path", _saved_signature),
    ("SavedModel of model.export(), by its path", _saved_keras),
]

ENTRIES = [Entry(_SECTION, name, make) for name, make in _MAKERS]
