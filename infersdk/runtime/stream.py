"""Models with a state: each caller's own is carried from call to call.

A model that listens to speech or follows a session takes its state as an input and gives the next one as an
output. One Predictor serves any number of callers at once, since the state is no part of it: a **Stream** is
one caller's, keeps the state between that caller's calls, and is otherwise asked like the Predictor.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from infersdk.errors import InputError, SessionError
from infersdk.types import TensorSpec

if TYPE_CHECKING:
    from infersdk.runtime.predictor import Predictor

__all__ = ["Stream"]


class Stream:
    """One caller's run through a model with a state. Made by :meth:`Predictor.stream`.

    Calls through streams are ordinary calls of the Predictor: they queue, share runs where rows may, and
    take deadlines. A call that fails leaves the state as it was and may be made again.

    A Stream is for one caller at a time: two calls at once would start from the same state, so that the
    second is refused. It is as large as its state and needs no closing. To go on in another process, send
    :attr:`state` there and give it as `initial`; the Stream itself is not pickled, as the model would go
    with it.

    Parameters
    ----------
    predictor : Predictor
    state : Mapping of str to (str or int)
        Input that takes the state -> output that gives the next one: a key of the answer, or a place in
        it where the model answers a tuple or list.
    initial : Mapping of str to array, optional
        The first state by input. By default zeros of the input's shape, with 1 for each axis that is
        dynamic.
    fixed : Mapping of str to object, optional
        Inputs that are the same at every call.

    Raises
    ------
    ValueError
        There is no such input or output, or an initial state is needed.

    Examples
    --------
    >>> import numpy as np, infersdk
    >>> from onnx import parser
    >>> total = parser.parse_model('''
    ...     <ir_version: 10, opset_import: ["": 20]>
    ...     sum (float[N, 1] x, float[N, 1] seen) => (float[N, 1] mean, float[N, 1] sum) {
    ...         sum = Add(x, seen)
    ...         two = Constant<value = float {2.0}>()
    ...         mean = Div(sum, two)
    ...     }''')
    >>> stream = infersdk.load(total).stream({"seen": "sum"})
    >>> [stream(np.float32([[x]])).item() for x in (2, 4, 6)]
    [1.0, 3.0, 6.0]
    """

    def __init__(
        self,
        predictor: Predictor,
        state: Mapping[str, str | int],
        *,
        initial: Mapping[str, Any] | None = None,
        fixed: Mapping[str, Any] | None = None,
    ) -> None:
        self._predictor = predictor
        self._outputs = dict(state)
        self._fixed = dict(fixed or {})
        signature = predictor.signature
        self._specs = {spec.name: spec for spec in signature.inputs}
        method = signature.methods[0] if signature.methods else None
        if method is None or signature.fields or method.form not in ("dict", "tuple", "list"):
            raise ValueError(
                f"Expected a model over tensors that answers several of them, its next state among them, got "
                f"model `{predictor.name}`, which does not"
            )
        self._form = method.form
        places = (
            method.keys or method.outputs if self._form == "dict" else range(len(method.outputs))
        )
        self._places = tuple(places)
        self._check_names(predictor.name)
        self._free = tuple(
            name for name in self._specs if name not in self._outputs and name not in self._fixed
        )
        self._busy = threading.Lock()
        self.reset(initial)

    def __call__(
        self, *inputs: Any, timeout_s: float | None = None, priority: int = 0, **named: Any
    ) -> Any:
        """Answer, and keep the next state.

        Parameters
        ----------
        *inputs, **named : object
            The inputs that are neither state nor fixed, in the graph's order or by name.
        timeout_s, priority
            As for :meth:`Predictor.__call__`.

        Returns
        -------
        object
            What the model answers, without its state: one output alone, otherwise a dict or tuple.

        Raises
        ------
        InputError
            The inputs do not fit the model.
        SessionError
            ONNX Runtime failed, or another call of this stream is under way.
        OverloadedError, DeadlineError, ClosedError
            As :meth:`Predictor.__call__`.
        """
        rows = self._rows(inputs, named)
        self._enter()
        try:
            rows.update(self._state)
            return self._keep(self._predictor(rows, timeout_s=timeout_s, priority=priority))
        finally:
            self._busy.release()

    async def acall(
        self, *inputs: Any, timeout_s: float | None = None, priority: int = 0, **named: Any
    ) -> Any:
        """Answer from asyncio without blocking the event loop; otherwise as a call."""
        rows = self._rows(inputs, named)
        self._enter()
        try:
            rows.update(self._state)
            answer = await self._predictor.apredict(rows, timeout_s=timeout_s, priority=priority)
            return self._keep(answer)
        finally:
            self._busy.release()

    @property
    def state(self) -> dict[str, Any]:
        """The state by input, after the last call that succeeded; a copy of the dict, not of its arrays."""
        return dict(self._state)

    def reset(self, initial: Mapping[str, Any] | None = None) -> None:
        """Start anew.

        Parameters
        ----------
        initial : Mapping of str to array, optional
            As for :class:`Stream`.

        Raises
        ------
        ValueError
            It names something else than the state, or an initial state is needed.
        """
        given = dict(initial or {})
        unknown = sorted(given.keys() - self._outputs.keys())
        if unknown:
            raise ValueError(
                f"Expected the first state of {', '.join(self._outputs)}, got {', '.join(unknown)} - "
                f"model `{self._predictor.name}`"
            )
        self._state = {
            name: given[name] if name in given else self._zeros(name) for name in self._outputs
        }

    def __repr__(self) -> str:
        pairs = ", ".join(f"{name} <- {place}" for name, place in self._outputs.items())
        return f"<Stream through `{self._predictor.name}`: {pairs}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "A Stream is not pickled, as its model would go with it: send stream.state, and make a new one "
            "with initial="
        )

    def _check_names(self, model: str) -> None:
        for name in (*self._outputs, *self._fixed):
            if name not in self._specs:
                raise ValueError(
                    f"Expected inputs of model `{model}`, which are {', '.join(self._specs)}, got {name!r}"
                )
        for place in self._outputs.values():
            if place not in self._places:
                raise ValueError(
                    f"Expected the state among the outputs of model `{model}`, which are "
                    f"{', '.join(map(repr, self._places))}, got {place!r}"
                )
        twice = self._outputs.keys() & self._fixed.keys()
        if twice:
            raise ValueError(f"Expected a state or a fixed input, got both - {', '.join(twice)}")

    def _zeros(self, name: str) -> Any:
        spec = self._specs[name]
        if not isinstance(spec, TensorSpec) or spec.shape is None or spec.dtype == "string":
            raise ValueError(
                f"The first state of `{name}` is needed: zeros of {spec} are not known. Give initial={{"
                f"{name!r}: ...}}"
            )
        return np.zeros([dim if isinstance(dim, int) else 1 for dim in spec.shape], spec.dtype)

    def _rows(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
        if len(inputs) > len(self._free):
            raise InputError.mismatch(
                expected=f"at most {len(self._free)} inputs ({', '.join(self._free)})",
                given=str(len(inputs)),
                model=self._predictor.name,
            )
        rows = dict(zip(self._free, inputs, strict=False))
        for name in named:
            if name not in self._free or name in rows:
                raise InputError.mismatch(
                    expected=f"each of the inputs {', '.join(self._free)} once",
                    given=f"`{name}`" + (" twice" if name in rows else ""),
                    model=self._predictor.name,
                )
        return {**self._fixed, **rows, **named}

    def _enter(self) -> None:
        if not self._busy.acquire(blocking=False):
            raise SessionError(
                f"A call of this stream through model `{self._predictor.name}` is under way; the next "
                "needs its state. Make one stream for each caller",
                model=self._predictor.name,
            )

    def _keep(self, answer: Any) -> Any:
        """Take the state out of the answer."""
        self._state = {name: answer[place] for name, place in self._outputs.items()}
        taken = set(self._outputs.values())
        left = [place for place in self._places if place not in taken]
        if len(left) == 1:
            return answer[left[0]]
        if self._form == "dict":
            return {place: answer[place] for place in left}
        return tuple(answer[place] for place in left)
