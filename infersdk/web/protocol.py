"""What a protocol is: how paths, bodies, answers and errors look to its clients.

A protocol reads and writes; it neither runs a model nor reads a socket. Between :meth:`Protocol.read` and the
``write`` of what that returns, the Service runs the model, in a thread or on an event loop; so each protocol is
written once for every host.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from infersdk.errors import InputError
from infersdk.runtime import Predictor
from infersdk.web.problems import ProblemError, Reply
from infersdk.web.request import Request

if TYPE_CHECKING:
    from infersdk.web.service import Service

__all__ = ["EVERY_MODEL", "Call", "Inference", "Page", "Protocol", "method_not_allowed"]

EVERY_MODEL = "*"
"""What a page opens that tells of all models."""

Access = Literal["public", "guarded", "admin"]


class Page(NamedTuple):
    """A route that is answered without a run.

    Attributes
    ----------
    protocol : Protocol
    answer : callable
        Makes the reply.
    opens : str or None
        The model that it needs open, or :data:`EVERY_MODEL`, of which those that cannot be opened are in the log.
    waits : bool
        Whether it waits for models that are being opened. Health does not.
    access : {"public", "guarded", "admin"}
        Who may ask: anybody; whom the guard lets through; and of those, where there is no guard, only clients on
        this machine.
    blocks : bool
        Whether it may wait for something: then it is never answered on an event loop.
    """

    protocol: Protocol
    answer: Callable[[Request], Reply]
    opens: str | None = None
    waits: bool = True
    access: Access = "guarded"
    blocks: bool = False


class Inference(NamedTuple):
    """A route that a model answers.

    Attributes
    ----------
    protocol : Protocol
    model : str
        Of a declared model.
    method : str or None
        The source model's method; None for the main one, or if the body says which.
    """

    protocol: Protocol
    model: str
    method: str | None = None


class Call(NamedTuple):
    """What a request asks of a model, and how the answer is written.

    Attributes
    ----------
    rows : object
        As the Predictor takes them.
    methods : tuple of str
        Each is called with the rows.
    write : callable
        Makes the reply of a list of answers, one for each method.
    n_rows : int or None
        How many rows there are, where that is known.
    timeout_s : float or None
        The most seconds that the client waits, where it says so.
    priority : int
        As for the Predictor.
    """

    rows: Any
    methods: tuple[str, ...]
    write: Callable[[list[Any]], Reply]
    n_rows: int | None = None
    timeout_s: float | None = None
    priority: int = 0


class Protocol(ABC):
    """Reads requests and writes replies as its clients expect.

    Parameters
    ----------
    service : Service
    """

    name: ClassVar[str]
    """As in the setting ``protocols``, metrics and logs."""

    reserved: ClassVar[frozenset[str]] = frozenset()
    """First parts of paths that are its own: no model can be called so."""

    def __init__(self, service: Service) -> None:
        # Its protocols must not keep a Service alive: an app that is dropped takes its models along at once.
        self.service: Service = weakref.proxy(service)

    @abstractmethod
    def route(self, http_method: str, parts: tuple[str, ...]) -> Page | Inference | None:
        """Say what a path means; None if it is none of this protocol's.

        Parameters
        ----------
        http_method : str
            In capitals.
        parts : tuple of str
            Of the path, between the slashes; ``("",)`` is the root.

        Raises
        ------
        ProblemError, UnknownModelError
            The path is this protocol's, and there is no such page or model, or not for this HTTP method.
        """

    def check_type(self, request: Request) -> None:  # noqa: B027 (a protocol may take any)
        """Look at the content type, before the body is read.

        Raises
        ------
        ProblemError
            415: it is not read here.
        """

    @abstractmethod
    def read(
        self, inference: Inference, predictor: Predictor, request: Request, body: bytes | bytearray
    ) -> Call:
        """Read a request to a model.

        Parameters
        ----------
        inference : Inference
            What :meth:`route` said.
        predictor : Predictor
            The model.
        request : Request
        body : bytes or bytearray
            Within the limit, and no longer compressed.

        Raises
        ------
        InputError, ProblemError, InvalidJSON
            It cannot be read.
        """

    @abstractmethod
    def refuse(self, error: BaseException, errors: Sequence[InputError] = ()) -> Reply:
        """Write any exception in the protocol's own form.

        Parameters
        ----------
        error : BaseException
        errors : sequence of InputError
            Of an InputError: everything that is wrong with the rows, where that was looked for.
        """

    def paths(self) -> dict[str, Any]:
        """Describe the protocol's routes: part of an OpenAPI 3.1 document's ``paths``."""
        return {}


def method_not_allowed(http_method: str, allowed: Sequence[str]) -> ProblemError:
    """Refuse an HTTP method that a path does not take.

    Parameters
    ----------
    http_method : str
    allowed : sequence of str
        Those that it does take.
    """
    return ProblemError(
        405,
        "method-not-allowed",
        "The path does not take this HTTP method",
        f"Expected {' or '.join(allowed)}, got {http_method[:20]}",
        [("allow", ", ".join(allowed))],
    )
