"""Keras 3: architectures that people train, preprocessing layers, and what a subclassed model can do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.gallery.entry import Entry, Made

_SECTION = "Keras"


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def _normal(*shape: int, seed: int = 0) -> np.ndarray:
    return _rng(seed).standard_normal(shape).astype(np.float32)


def _words(*shape: int, seed: int = 0, least: int = 0) -> np.ndarray:
    return _rng(seed).integers(least, 50, shape).astype(np.int32)


def _shaken(model: Any) -> Any:
    """The model with weights as training leaves them: biases and statistics that are not 0 and 1."""
    rng = _rng(1)
    for variable in model.weights:
        if "seed" in variable.path or not str(variable.dtype).startswith("float"):
            continue
        value = np.asarray(variable.numpy())
        shift = 0.2 * rng.standard_normal(value.shape)
        new = value * (1 + np.abs(shift)) if "variance" in variable.path else value + shift
        variable.assign(new.astype(value.dtype))
    return model


def _made(model: Any, example: Any, rows: Any) -> Made:
    return Made(_shaken(model), example, rows)


def _mlp() -> Made:
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            layers.Input((8,)),
            layers.Dense(32, activation="relu"),
            layers.Dropout(0.3),
            layers.Dense(16, activation="gelu"),
            layers.Dense(3, activation="softmax"),
        ]
    )
    return _made(model, _normal(32, 8), _normal(20, 8, seed=2))


def _activations() -> Made:
    import keras
    from keras import layers

    source = layers.Input((8,))
    kinds = (
        "elu",
        "selu",
        "silu",
        "mish",
        "softplus",
        "softsign",
        "hard_sigmoid",
        "hard_swish",
        "leaky_relu",
        "relu6",
        "log_softmax",
        "exponential",
        "tanh",
        "celu",
    )
    parts = [layers.Dense(4, activation=kind)(source) for kind in kinds]
    parts.append(layers.PReLU()(layers.Dense(4)(source)))
    model = keras.Model(source, layers.Concatenate()(parts))
    return _made(model, _normal(32, 8), _normal(20, 8, seed=2))


def _cnn() -> Made:
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            layers.Input((16, 16, 3)),
            layers.Conv2D(8, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Conv2D(8, 3, strides=2, padding="same"),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(4),
        ]
    )
    return _made(model, _normal(8, 16, 16, 3), _normal(5, 16, 16, 3, seed=2))


def _separable() -> Made:
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            layers.Input((None, None, 3)),
            layers.SeparableConv2D(8, 3, padding="same", strides=2),
            layers.DepthwiseConv2D(3, depth_multiplier=2),
            layers.Conv2D(6, 3, dilation_rate=2, padding="same"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4),
        ]
    )
    return _made(model, _normal(8, 16, 20, 3), _normal(5, 24, 17, 3, seed=2))


def _residual() -> Made:
    import keras
    from keras import layers

    source = layers.Input((12, 12, 4))
    found = layers.Conv2D(8, 1)(source)
    for _ in range(2):
        inner = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same")(found))
        inner = layers.GroupNormalization(2)(layers.Activation("relu")(inner))
        squeeze = layers.Dense(8, activation="sigmoid")(layers.GlobalAveragePooling2D()(inner))
        inner = layers.Multiply()([inner, layers.Reshape((1, 1, 8))(squeeze)])
        found = layers.Add()([found, inner])
    model = keras.Model(source, layers.GlobalMaxPooling2D()(found))
    return _made(model, _normal(8, 12, 12, 4), _normal(5, 12, 12, 4, seed=2))


def _lstm() -> Made:
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            layers.Input((None, 6)),
            layers.LSTM(12, return_sequences=True),
            layers.LSTM(8),
            layers.Dense(2),
        ]
    )
    return _made(model, _normal(8, 7, 6), _normal(5, 11, 6, seed=2))


def _gru() -> Made:
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            layers.Input((None, 6)),
            layers.Bidirectional(layers.GRU(8, return_sequences=True)),
            layers.GRU(5, reset_after=False),
            layers.Dense(2),
        ]
    )
    return _made(model, _normal(8, 7, 6), _normal(5, 4, 6, seed=2))


def _rnn_states() -> Made:
    import keras
    from keras import layers

    source = layers.Input((9, 4))
    sequence, state = layers.SimpleRNN(5, return_sequences=True, return_state=True)(source)
    wide = layers.TimeDistributed(layers.Dense(3))(sequence)
    model = keras.Model(source, [wide, state])
    return _made(model, _normal(8, 9, 4), _normal(5, 9, 4, seed=2))


def _transformer() -> Made:
    import keras
    from keras import layers, ops

    tokens = layers.Input((None,), dtype="int32")
    found = layers.Embedding(50, 16)(tokens)
    positions = layers.Embedding(64, 16)(
        layers.Lambda(lambda x: ops.cumsum(ops.ones_like(x), axis=1) - 1)(tokens)
    )
    found = layers.Add()([found, positions])
    for _ in range(2):
        attended = layers.MultiHeadAttention(2, 8)(found, found, use_causal_mask=True)
        found = layers.LayerNormalization()(found + attended)
        inner = layers.Dense(16)(layers.Dense(32, activation="gelu")(found))
        found = layers.LayerNormalization()(found + inner)
    model = keras.Model(tokens, layers.Dense(50)(found))
    return _made(model, _words(8, 7), _words(5, 12, seed=2))


def _pooled() -> Made:
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            layers.Input((None,), dtype="int32"),
            layers.Embedding(50, 8, mask_zero=True),
            layers.GlobalAveragePooling1D(),
            layers.Dense(2),
        ]
    )
    example, rows = _words(16, 7), _words(5, 10, seed=2)
    example[:, 5:] = 0
    rows[2, 4:] = 0
    return _made(model, example, rows)


def _masked() -> Made:
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            layers.Input((None,), dtype="int32"),
            layers.Embedding(50, 8, mask_zero=True),
            layers.LSTM(6),
            layers.Dense(2),
        ]
    )
    example, rows = _words(16, 7, least=1), _words(5, 9, seed=2, least=1)
    for index, row in enumerate(example):
        row[2 + index % 6 :] = 0
    for index, row in enumerate(rows):
        row[3 + index :] = 0
    return _made(model, example, rows)


def _many() -> Made:
    import keras
    from keras import layers

    numbers = layers.Input((5,), name="numbers")
    words = layers.Input((None,), dtype="int64", name="words")
    found = layers.Concatenate()(
        [
            layers.Dense(8, activation="relu")(numbers),
            layers.GlobalMaxPooling1D()(layers.Embedding(50, 6)(words)),
        ]
    )
    model = keras.Model([numbers, words], [layers.Dense(3)(found), layers.Dense(1)(found)])

    def rows(n: int, length: int, seed: int) -> tuple[Any, ...]:
        return _normal(n, 5, seed=seed), _words(n, length, seed=seed).astype(np.int64)

    return _made(model, rows(8, 6, 0), rows(5, 9, 2))


def _named() -> Made:
    import keras
    from keras import layers

    left, right = layers.Input((4,), name="left"), layers.Input((4,), name="right")
    both = layers.Dot(1)([layers.Dense(6)(left), layers.Dense(6)(right)])
    model = keras.Model(
        {"left": left, "right": right},
        {"score": both, "distance": layers.Subtract()([left, right])},
    )

    def rows(n: int, seed: int) -> dict[str, Any]:
        return {"right": _normal(n, 4, seed=seed), "left": _normal(n, 4, seed=seed + 1)}

    return _made(model, rows(8, 0), rows(5, 2))


def _autoencoder() -> Made:
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            layers.Input((16, 16, 1)),
            layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
            layers.ZeroPadding2D(1),
            layers.Cropping2D(1),
            layers.Conv2DTranspose(4, 3, strides=2, padding="same", activation="relu"),
            layers.UpSampling2D(2, interpolation="bilinear"),
            layers.Conv2D(1, 3, strides=2, padding="same", activation="sigmoid"),
        ]
    )
    return _made(model, _normal(8, 16, 16, 1), _normal(5, 16, 16, 1, seed=2))


def _conv1d() -> Made:
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            layers.Input((None, 4)),
            layers.Conv1D(8, 3, dilation_rate=2, padding="causal"),
            layers.Conv1D(8, 3, padding="same", groups=2),
            layers.Conv1DTranspose(4, 4, strides=2, padding="same"),
            layers.GlobalMaxPooling1D(),
        ]
    )
    return _made(model, _normal(8, 12, 4), _normal(5, 19, 4, seed=2))


def _conv3d() -> Made:
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            layers.Input((6, 6, 6, 2)),
            layers.Conv3D(3, 3),
            layers.MaxPooling3D(),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )
    return _made(model, _normal(8, 6, 6, 6, 2), _normal(5, 6, 6, 6, 2, seed=2))


def _convlstm() -> Made:
    import keras
    from keras import layers

    model = keras.Sequential([layers.Input((4, 8, 8, 1)), layers.ConvLSTM2D(3, 3, padding="same")])
    return _made(model, _normal(4, 4, 8, 8, 1), _normal(3, 4, 8, 8, 1, seed=2))


def _table() -> Made:
    import keras
    from keras import layers

    numbers = layers.Input((3,), name="numbers")
    kind = layers.Input((1,), dtype="int64", name="kind")
    scaled = layers.Normalization()
    scaled.adapt(_normal(200, 3) * 5 + 2)
    binned = layers.Discretization(bin_boundaries=[-1.0, 0.0, 2.0])(numbers)
    coded = layers.CategoryEncoding(4, output_mode="multi_hot")(binned)
    looked_up = layers.IntegerLookup(vocabulary=[10, 20, 30], output_mode="one_hot")(kind)
    found = layers.Concatenate()([scaled(numbers), coded, looked_up])
    model = keras.Model([numbers, kind], layers.Dense(2)(found))

    def rows(n: int, seed: int) -> tuple[Any, ...]:
        return _normal(n, 3, seed=seed) * 2, _rng(seed).choice([10, 20, 30, 99], (n, 1))

    return Made(model, rows(40, 0), rows(20, 2))


def _strings() -> Made:
    import keras
    from keras import layers

    city = layers.Input((2,), dtype="string", name="city")
    coded = layers.StringLookup(vocabulary=["Oslo", "Łódź", "東京"])(city)
    model = keras.Model(city, layers.Flatten()(layers.Embedding(5, 3)(coded)))
    names = np.array(["Oslo", "Łódź", "東京", "nowhere", ""], dtype=object)
    return _made(model, _rng(0).choice(names, (20, 2)), _rng(2).choice(names, (9, 2)))


def _text() -> Made:
    import keras
    from keras import layers

    text = layers.Input((1,), dtype="string", name="text")
    tokens = layers.TextVectorization(
        output_sequence_length=6, vocabulary=["the", "cat", "sat", "mat"]
    )(text)
    model = keras.Model(
        text, layers.Dense(2)(layers.GlobalAveragePooling1D()(layers.Embedding(6, 4)(tokens)))
    )
    texts = np.array([["The cat!"], ["sat, on the mat"], ["a dog"], [""]], dtype=object)
    return _made(model, texts, texts[::-1])


def _images() -> Made:
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            layers.Input((20, 16, 3), dtype="uint8"),
            layers.RandomFlip(),
            layers.RandomRotation(0.1),
            layers.RandomZoom(0.2),
            layers.Rescaling(1 / 127.5, offset=-1),
            layers.Resizing(10, 8),
            layers.CenterCrop(8, 8),
            layers.GaussianNoise(0.1),
            layers.Conv2D(4, 3),
        ]
    )

    def rows(n: int, seed: int) -> np.ndarray:
        return _rng(seed).integers(0, 256, (n, 20, 16, 3)).astype(np.uint8)

    return _made(model, rows(6, 0), rows(4, 2))


def _mixed() -> Made:
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            layers.Input((8,)),
            layers.Dense(16, activation="relu", dtype="mixed_float16"),
            layers.LayerNormalization(dtype="mixed_float16"),
            layers.Dense(3, dtype="mixed_float16"),
            layers.Activation("softmax", dtype="float32"),
        ]
    )
    return _made(model, _normal(32, 8), _normal(20, 8, seed=2))


def _wide() -> Made:
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            layers.Input((8,), dtype="float64"),
            layers.Dense(16, activation="tanh", dtype="float64"),
            layers.Dense(3, dtype="float64"),
        ]
    )
    example, rows = (_rng(seed).standard_normal((20, 8)) for seed in (0, 2))
    return _made(model, example, rows)


def _subclassed() -> Made:
    import keras
    from keras import layers

    class Scorer(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Dense(6)
            self.normal = layers.BatchNormalization()
            self.drop = layers.Dropout(0.5)
            self.heads = [layers.Dense(2), layers.Dense(1)]

        def call(self, features: Any, training: bool = False) -> Any:
            found = self.drop(
                self.normal(self.dense(features), training=training), training=training
            )
            return {"logits": self.heads[0](found), "value": self.heads[1](found)}

    model = Scorer()
    model(_normal(4, 5))
    return _made(model, _normal(16, 5), _normal(9, 5, seed=2))


def _attention() -> Made:
    import keras
    from keras import layers

    query, value = layers.Input((None, 8), name="query"), layers.Input((None, 8), name="value")
    found = layers.Attention(use_scale=True)([query, value])
    added = layers.AdditiveAttention()([query, value])
    grouped = layers.GroupQueryAttention(4, 4, 2)(query, value)
    joined = layers.Concatenate()([found, added, grouped])
    model = keras.Model([query, value], layers.RMSNormalization()(joined))
    example = (_normal(8, 5, 8), _normal(8, 7, 8, seed=1))
    return _made(model, example, (_normal(4, 3, 8, seed=2), _normal(4, 9, 8, seed=3)))


def _mobilenet() -> Made:
    import keras

    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2(
        input_shape=(32, 32, 3), alpha=0.35, weights=None, classes=5
    )
    # Statistics of its own: with those of a new model every layer makes the answers more alike.
    for _ in range(3):
        model(_normal(16, 32, 32, 3, seed=4), training=True)
    for variable in model.non_trainable_variables:
        if "variance" in variable.path:
            variable.assign(0.1 * variable.numpy())
    model.layers[-1].kernel.assign(5 * model.layers[-1].kernel.numpy())
    return Made(model, _normal(4, 32, 32, 3), _normal(3, 32, 32, 3, seed=2))


_MAKERS: list[tuple[str, Callable[[], Made], bool]] = [
    ("Dense network", _mlp, False),
    ("activations, all of them", _activations, True),
    ("CNN with batch normalization", _cnn, False),
    ("separable, depthwise and dilated convolutions, any image size", _separable, True),
    ("residual blocks with squeeze-and-excite", _residual, True),
    ("LSTM, two layers, any length", _lstm, True),
    ("GRU, bidirectional, any length", _gru, True),
    ("SimpleRNN with its state, TimeDistributed", _rnn_states, True),
    ("Transformer decoder over tokens, any length", _transformer, True),
    ("attention layers: dot, additive, grouped queries", _attention, True),
    ("embedding with mask, average over words", _pooled, False),
    ("embedding with mask, LSTM", _masked, True),
    ("two inputs, two outputs", _many, False),
    ("dict of inputs, dict of outputs", _named, False),
    ("autoencoder with Conv2DTranspose", _autoencoder, False),
    ("Conv1D: causal, grouped, transposed", _conv1d, True),
    ("Conv3D", _conv3d, False),
    ("ConvLSTM2D", _convlstm, True),
    ("Normalization, Discretization, CategoryEncoding, IntegerLookup", _table, False),
    ("StringLookup", _strings, False),
    ("TextVectorization", _text, False),
    ("augmentation and resizing of uint8 images", _images, False),
    ("mixed_float16", _mixed, False),
    ("float64", _wide, False),
    ("subclassed, with training=", _subclassed, False),
    ("MobileNetV2", _mobilenet, True),
]


def _seeded(make: Callable[[], Made]) -> Callable[[], Made]:
    def made() -> Made:
        import keras

        keras.utils.set_random_seed(0)
        return make()

    return made


ENTRIES = [Entry(_SECTION, name, _seeded(make), slow=slow) for name, make, slow in _MAKERS]
