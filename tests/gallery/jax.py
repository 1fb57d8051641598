"""JAX: functions, Flax NNX, Flax linen and Equinox."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.gallery.entry import Entry, Made

_N_EXAMPLE = 24
_N_ROWS = 40


def _normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _made(model: Any, *shapes: tuple[int, ...], ids: int = 0) -> Made:
    """Rows of such shapes: numbers, or whole numbers below `ids` for the first input."""

    def rows(n_rows: int, seed: int) -> Any:
        arrays = [_normal(seed + index, n_rows, *shape) for index, shape in enumerate(shapes)]
        if ids:
            rng = np.random.default_rng(seed)
            arrays[0] = rng.integers(0, ids, (n_rows, *shapes[0])).astype(np.int32)
        return arrays[0] if len(arrays) == 1 else tuple(arrays)

    return Made(model, rows(_N_EXAMPLE, 1), rows(_N_ROWS, 50))


# -- functions -------------------------------------------------------------------------------------


def _jitted_mlp() -> Made:
    import jax

    first, second = _normal(2, 8, 16) / 3, _normal(3, 16, 4) / 4
    return _made(jax.jit(lambda x: jax.nn.softmax(jax.nn.gelu(x @ first) @ second)), (8,))


def _bound_parameters() -> Made:
    import jax.numpy as jnp

    def forward(parameters: Any, x: Any) -> Any:
        return jnp.tanh(x @ parameters["w"]) + parameters["b"]

    parameters = {"w": jnp.asarray(_normal(2, 8, 3)), "b": jnp.arange(3.0)}
    return _made(functools.partial(forward, parameters), (8,))


def _tuple_answer() -> Made:
    import jax
    import jax.numpy as jnp

    return _made(jax.jit(lambda x, y: (x * y, x.sum(axis=1), jnp.argmax(y, axis=-1))), (4,), (4,))


def _dict_answer() -> Made:
    import jax

    weights = _normal(2, 5, 3)
    return _made(jax.jit(lambda x: {"scores": x @ weights, "input": x}), (5,))


def _branch() -> Made:
    import jax
    import jax.numpy as jnp

    def one_row(x: Any) -> Any:
        return jax.lax.cond(x.sum() > 0, jnp.sin, lambda z: z * 2, x)

    return _made(jax.vmap(one_row), (4,))


def _switch() -> Made:
    import jax
    import jax.numpy as jnp

    def one_row(x: Any) -> Any:
        return jax.lax.switch(jnp.argmax(x), [lambda z: z, lambda z: -z, jnp.exp], x)

    return _made(jax.vmap(one_row), (3,))


def _while_loop() -> Made:
    import jax
    import jax.numpy as jnp

    def one_row(x: Any) -> Any:
        return jax.lax.while_loop(lambda a: a.sum() < 10, lambda a: a * 1.5 + 1, jnp.abs(x))

    return _made(jax.vmap(one_row), (4,))


def _scan() -> Made:
    import jax
    import jax.numpy as jnp

    weights = _normal(2, 4, 4) / 2

    def forward(x: Any) -> Any:
        def step(state: Any, now: Any) -> Any:
            state = jnp.tanh(state @ weights + now)
            return state, state.sum(-1)

        start = jnp.zeros((x.shape[0], 4))
        state, sums = jax.lax.scan(step, start, jnp.swapaxes(x, 0, 1))
        return state, jnp.swapaxes(sums, 0, 1)

    return _made(jax.jit(forward), (5, 4))


def _sorting() -> Made:
    import jax
    import jax.numpy as jnp

    return _made(
        jax.jit(lambda x: (jax.lax.top_k(x, 2)[0], jnp.sort(x), jnp.cumsum(x, axis=-1))), (6,)
    )


def _arithmetic() -> Made:
    import jax
    import jax.numpy as jnp

    def forward(x: Any) -> Any:
        return (
            jnp.mod(x, 0.7),
            jnp.pad(x, ((0, 0), (1, 2))),
            jnp.einsum("ni,nj->nij", x, x),
            jax.scipy.special.logsumexp(x, axis=-1),
            jnp.where(x > 0, jnp.log1p(x), jnp.expm1(x)),
            jnp.quantile(x, 0.3, axis=-1),
        )

    return _made(jax.jit(forward), (4,))


def _half_precision() -> Made:
    import jax
    import jax.numpy as jnp

    weights = jnp.asarray(_normal(2, 8, 3) / 16, jnp.float16)
    return _made(jax.jit(lambda x: jax.nn.relu(x.astype(jnp.float16) @ weights)), (8,))


def _rows_together() -> Made:
    import jax

    return _made(jax.jit(lambda x: (x - x.mean(0)) / (x.std(0) + 1)), (4,))


def _interpolation() -> Made:
    import jax
    import jax.numpy as jnp

    knots = jnp.linspace(-2, 2, 9)
    return _made(jax.jit(lambda x: jnp.interp(x, knots, knots**2)), (4,))


def _nested_answer() -> Made:
    import jax

    return _made(jax.jit(lambda x: {"both": (x, x * 2)}), (4,))


# -- Flax NNX --------------------------------------------------------------------------------------


def _nnx(build: Callable[[Any, Any], dict[str, Any]], forward: Callable[..., Any]) -> Any:
    from flax import nnx

    class Model(nnx.Module):
        def __init__(self, rngs: Any) -> None:
            for name, part in build(nnx, rngs).items():
                setattr(self, name, part)

        def __call__(self, *args: Any) -> Any:
            return forward(self, *args)

    model = Model(nnx.Rngs(0))
    model.eval()
    return model


def _nnx_mlp() -> Made:
    def build(nnx: Any, rngs: Any) -> dict[str, Any]:
        return {
            "first": nnx.Linear(8, 16, rngs=rngs),
            "norm": nnx.LayerNorm(16, rngs=rngs),
            "drop": nnx.Dropout(0.5, rngs=rngs),
            "last": nnx.Linear(16, 3, rngs=rngs),
        }

    def forward(model: Any, x: Any) -> Any:
        import jax

        return model.last(model.drop(model.norm(jax.nn.relu(model.first(x)))))

    return _made(_nnx(build, forward), (8,))


def _nnx_training() -> Made:
    made = _nnx_mlp()
    made.model.train()
    return made


def _nnx_cnn() -> Made:
    def build(nnx: Any, rngs: Any) -> dict[str, Any]:
        return {
            "first": nnx.Conv(3, 8, (3, 3), rngs=rngs),
            "norm": nnx.BatchNorm(8, rngs=rngs),
            "deep": nnx.Conv(8, 8, (3, 3), strides=2, feature_group_count=8, rngs=rngs),
            "last": nnx.Linear(8 * 4 * 4, 5, rngs=rngs),
        }

    def forward(model: Any, x: Any) -> Any:
        import jax
        from flax import nnx

        x = jax.nn.relu(model.norm(model.first(x)))
        x = model.deep(nnx.max_pool(x, (2, 2), strides=(2, 2)))
        x = nnx.avg_pool(x, (2, 2), strides=(1, 1), padding="SAME")
        return model.last(x.reshape(x.shape[0], -1))

    return _made(_nnx(build, forward), (16, 16, 3))


def _nnx_attention() -> Made:
    def build(nnx: Any, rngs: Any) -> dict[str, Any]:
        return {
            "embed": nnx.Embed(50, 16, rngs=rngs),
            "attend": nnx.MultiHeadAttention(4, 16, decode=False, rngs=rngs),
            "last": nnx.Linear(16, 3, rngs=rngs),
        }

    def forward(model: Any, ids: Any) -> Any:
        mask = ids > 4
        x = model.embed(ids)
        x = x + model.attend(x, mask=mask[:, None, None, :])
        return model.last((x * mask[..., None]).mean(1))

    return _made(_nnx(build, forward), (7,), ids=50)


def _nnx_lstm() -> Made:
    def build(nnx: Any, rngs: Any) -> dict[str, Any]:
        return {
            "cells": nnx.RNN(nnx.OptimizedLSTMCell(4, 8, rngs=rngs)),
            "last": nnx.Linear(8, 2, rngs=rngs),
        }

    return _made(_nnx(build, lambda model, x: model.last(model.cells(x)[:, -1])), (5, 4))


def _nnx_gru() -> Made:
    def build(nnx: Any, rngs: Any) -> dict[str, Any]:
        forth, back = (nnx.RNN(nnx.GRUCell(4, 8, rngs=rngs)) for _ in range(2))
        return {"cells": nnx.Bidirectional(forth, back)}

    return _made(_nnx(build, lambda model, x: model.cells(x)), (5, 4))


def _nnx_transposed() -> Made:
    def build(nnx: Any, rngs: Any) -> dict[str, Any]:
        return {
            "down": nnx.Conv(3, 6, (3, 3), strides=(2, 2), rngs=rngs),
            "norm": nnx.GroupNorm(6, num_groups=2, rngs=rngs),
            "up": nnx.ConvTranspose(6, 3, (3, 3), strides=(2, 2), rngs=rngs),
        }

    return _made(_nnx(build, lambda model, x: model.up(model.norm(model.down(x)))), (8, 8, 3))


def _nnx_decides() -> Made:
    def build(nnx: Any, rngs: Any) -> dict[str, Any]:
        return {"only": nnx.Linear(4, 2, rngs=rngs)}

    def forward(model: Any, x: Any) -> Any:
        y = model.only(x)
        return y if float(y.sum()) > 0 else -y

    return _made(_nnx(build, forward), (4,))


# -- Flax linen ------------------------------------------------------------------------------------


def _linen(forward: Callable[..., Any], x: np.ndarray, **arguments: Any) -> tuple[Any, Any]:
    import jax
    from flax import linen as nn

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x: Any, train: bool = False) -> Any:
            return forward(nn, x, train)

    model = Model()
    return model, model.init(jax.random.key(0), x, **arguments)


def _linen_cnn() -> Made:
    def forward(nn: Any, x: Any, train: bool) -> Any:
        x = nn.max_pool(nn.relu(nn.Conv(8, (3, 3))(x)), (2, 2), strides=(2, 2))
        x = nn.Conv(8, (3, 3), strides=(2, 2))(x)
        return nn.Dense(4)(x.reshape((x.shape[0], -1)))

    model, variables = _linen(forward, _normal(0, 2, 12, 12, 3))
    return _made(model.bind(variables), (12, 12, 3))


def _linen_statistics() -> Made:
    def forward(nn: Any, x: Any, train: bool) -> Any:
        x = nn.BatchNorm(use_running_average=not train)(nn.Dense(8)(x))
        return nn.Dense(2)(nn.Dropout(0.5, deterministic=not train)(x))

    import jax

    x = _normal(0, 32, 5)
    model, variables = _linen(forward, x)
    _, moved = model.apply(
        variables, x, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(1)}
    )
    return _made(functools.partial(model.apply, {**variables, **moved}, train=False), (5,))


def _linen_attention() -> Made:
    def forward(nn: Any, x: Any, train: bool) -> Any:
        x = nn.LayerNorm()(x)
        return nn.MultiHeadDotProductAttention(num_heads=2)(x, x)

    model, variables = _linen(forward, _normal(0, 2, 5, 8))
    return _made(model.bind(variables), (5, 8))


def _linen_lstm() -> Made:
    def forward(nn: Any, x: Any, train: bool) -> Any:
        return nn.Dense(2)(nn.RNN(nn.OptimizedLSTMCell(8))(x)[:, -1])

    model, variables = _linen(forward, _normal(0, 2, 5, 4))
    return _made(model.bind(variables), (5, 4))


# -- Equinox ---------------------------------------------------------------------------------------


def _equinox_mlp() -> Made:
    import equinox as eqx
    import jax

    return _made(jax.vmap(eqx.nn.MLP(5, 3, 16, 2, key=jax.random.key(0))), (5,))


def _equinox_cnn() -> Made:
    import equinox as eqx
    import jax

    first, last = jax.random.split(jax.random.key(0))
    model = eqx.nn.Sequential(
        [
            eqx.nn.Conv2d(3, 8, 3, key=first),
            eqx.nn.GroupNorm(4, 8),
            eqx.nn.Lambda(jax.nn.silu),
            eqx.nn.MaxPool2d(2, 2),
            eqx.nn.Dropout(0.5),
            eqx.nn.Lambda(lambda x: x.ravel()),
            eqx.nn.Linear(72, 4, key=last),
        ]
    )
    return _made(eqx.filter_vmap(model), (3, 8, 8))


def _equinox_attention() -> Made:
    import equinox as eqx
    import jax

    attend = eqx.nn.MultiheadAttention(4, 16, key=jax.random.key(0))
    return _made(eqx.filter_jit(eqx.filter_vmap(lambda x: attend(x, x, x))), (5, 16))


def _equinox_gru() -> Made:
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    cell = eqx.nn.GRUCell(4, 8, key=jax.random.key(0))

    def one_row(x: Any) -> Any:
        return jax.lax.scan(lambda state, now: (cell(now, state), None), jnp.zeros(8), x)[0]

    return _made(jax.vmap(one_row), (5, 4))


def _entries(section: str, makes: dict[str, Callable[[], Made]]) -> list[Entry]:
    return [Entry(section, name, make, slow=True) for name, make in makes.items()]


ENTRIES = [
    *_entries(
        "JAX functions",
        {
            "MLP under jax.jit": _jitted_mlp,
            "functools.partial(forward, parameters)": _bound_parameters,
            "two inputs, a tuple as the answer": _tuple_answer,
            "a dict as the answer": _dict_answer,
            "lax.cond by row": _branch,
            "lax.switch by row": _switch,
            "lax.while_loop by row": _while_loop,
            "lax.scan": _scan,
            "top_k, sort, cumsum": _sorting,
            "mod, pad, outer products, quantiles": _arithmetic,
            "float16 weights": _half_precision,
            "rows that depend on each other": _rows_together,
            "jnp.interp": _interpolation,
            "a nested answer": _nested_answer,
        },
    ),
    *_entries(
        "Flax NNX",
        {
            "MLP with LayerNorm and Dropout": _nnx_mlp,
            "the same in training mode": _nnx_training,
            "CNN with BatchNorm, depthwise convolution and pooling": _nnx_cnn,
            "embedding and masked attention": _nnx_attention,
            "LSTM": _nnx_lstm,
            "GRU, both ways": _nnx_gru,
            "GroupNorm and transposed convolution": _nnx_transposed,
            "a branch in Python on values": _nnx_decides,
        },
    ),
    *_entries(
        "Flax linen",
        {
            "CNN with pooling, bound": _linen_cnn,
            "BatchNorm and Dropout, partial(module.apply, variables)": _linen_statistics,
            "attention": _linen_attention,
            "LSTM": _linen_lstm,
        },
    ),
    *_entries(
        "Equinox",
        {
            "MLP under jax.vmap": _equinox_mlp,
            "CNN with GroupNorm and Dropout under filter_vmap": _equinox_cnn,
            "attention under filter_jit": _equinox_attention,
            "GRU by lax.scan": _equinox_gru,
        },
    ),
]
