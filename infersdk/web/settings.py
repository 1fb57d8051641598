"""What an app may set about its models and how requests reach them, the same for every host."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypedDict

from infersdk.predictors import ModelConfig
from infersdk.predictors.registry import Opening

if TYPE_CHECKING:
    from infersdk.web.request import Request

__all__ = ["Options", "Settings"]

PROTOCOLS = {
    "rows": "infersdk.web.protocols.rows:RowsProtocol",
    "oip": "infersdk.web.protocols.oip:OIPProtocol",
    "invocations": "infersdk.web.protocols.invocations:InvocationsProtocol",
}
"""Every protocol, and where it is."""

METRICS_ALIASES = ("triton", "kserve", "mlserver")


class Options(TypedDict, total=False):
    """The settings of :class:`Settings` that every host's ``InferSDK`` takes by keyword, besides the models."""

    max_body_bytes: int
    max_rows: int
    timeout_s: float | None
    opening: Opening
    protocols: Sequence[str]
    metrics: bool
    metrics_aliases: Sequence[str]
    token: str | Sequence[str] | None
    guard: Callable[[Request], bool] | None
    admin: bool
    access_log: bool
    opentelemetry: bool
    compress_min_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """An app's settings.

    Parameters
    ----------
    models : Mapping of str to object
        Name to a :class:`infersdk.ModelConfig`, a dict of its parameters, or just its source.
    url_prefix : str, optional
        Where the models' own routes are mounted, e.g. "/models"; by default nowhere: views of the app
        answer.
    max_body_bytes : int
        The largest request body that is read; larger ones are refused with 413.
    max_rows : int
        The most rows in one request; more are refused with 413.
    timeout_s : float or None
        The most seconds that a request may take to be answered, then 504; None: only what the model's
        own ``batching`` says.
    opening : {"auto", "now", "lazy"}
        When models are opened; see :class:`infersdk.Predictors`.
    protocols : sequence of str
        How the mounted routes are spoken to: "rows" (plain JSON), "oip" (the Open Inference Protocol, below
        ``/v2``), "invocations" (SageMaker and MLflow: ``/ping`` and ``/invocations``).
    metrics : bool
        Count requests, and show the counts at ``/metrics``.
    metrics_aliases : sequence of str
        Names for the same numbers that dashboards of other servers know: "triton", "kserve", "mlserver".
    token : str or sequence of str, optional
        Mounted routes other than health ask for ``Authorization: Bearer`` and this token, or one of these.
    guard : callable, optional
        ``guard(request)`` of the app's: False refuses a request to a mounted route other than health. It must not block.
    admin : bool
        Whether there are routes that open and close models. Without a token or guard they answer to this
        machine alone.
    access_log : bool
        A line of JSON in the log ``infersdk.access`` for each request.
    opentelemetry : bool
        Metrics, and spans of requests and of models' calls, through the providers that the app has set up.
    compress_min_bytes : int, optional
        Answers from this size on are compressed for clients that take gzip; None: never, as proxies do it better.

    Raises
    ------
    TypeError, ValueError
        A value is not one of these.
    """

    models: Mapping[str, Any] = field(default_factory=dict)
    url_prefix: str | None = None
    max_body_bytes: int = 16 * 2**20
    max_rows: int = 10_000
    timeout_s: float | None = 25.0  # before gunicorn, after 30 s, takes the worker for hung
    opening: Opening = "auto"
    protocols: Sequence[str] = ("rows",)
    metrics: bool = False
    metrics_aliases: Sequence[str] = ()
    token: str | Sequence[str] | None = field(default=None, repr=False)
    guard: Callable[[Request], bool] | None = None
    admin: bool = False
    access_log: bool = False
    opentelemetry: bool = False
    compress_min_bytes: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.models, Mapping):
            raise TypeError(
                "Expected models to be a dict of names and models' sources, "
                f"got {type(self.models).__name__}"
            )
        for name in ("max_body_bytes", "max_rows", "compress_min_bytes"):
            value = getattr(self, name)
            if name == "compress_min_bytes" and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"Expected {name} to be a whole number from 1, got {value!r}")
        if self.timeout_s is not None and not (
            isinstance(self.timeout_s, (int, float)) and 0 < self.timeout_s < float("inf")
        ):
            raise ValueError(
                f"Expected timeout_s to be a positive number of seconds or None, got {self.timeout_s!r}"
            )
        if self.opening not in ("auto", "now", "lazy"):
            raise ValueError(
                f"Expected opening to be 'auto', 'now' or 'lazy', got {self.opening!r}"
            )
        if self.url_prefix is not None:
            if not isinstance(self.url_prefix, str):
                raise TypeError(
                    f"Expected url_prefix to be a str such as '/models', got {self.url_prefix!r}"
                )
            object.__setattr__(self, "url_prefix", "/" + self.url_prefix.strip("/"))
        for name in ("metrics", "admin", "access_log", "opentelemetry"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise TypeError(f"Expected {name} to be True or False, got {value!r}")
        self._check_names("protocols", tuple(PROTOCOLS))
        self._check_names("metrics_aliases", METRICS_ALIASES)
        if not all(isinstance(token, str) and token.strip() for token in self.tokens):
            raise ValueError("Expected token to be text, or a list of texts, none of them empty")
        if self.token is not None and not self.tokens:
            raise ValueError("Expected token to be text, or a list of texts, got an empty list")
        if self.guard is not None and not callable(self.guard):
            raise TypeError(f"Expected guard to be a function, got {type(self.guard).__name__}")
        for name, source in self.models.items():
            try:
                ModelConfig.of(source)
            except (TypeError, ValueError) as error:
                raise type(error)(f"models[{name!r}]: {error}") from error

    def _check_names(self, name: str, known: tuple[str, ...]) -> None:
        given = getattr(self, name)
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise TypeError(f"Expected {name} to be a list of {', '.join(known)}, got {given!r}")
        for item in given:
            if item not in known:
                raise ValueError(f"Expected {name} to be of {', '.join(known)}, got {item!r}")
        object.__setattr__(self, name, tuple(dict.fromkeys(given)))

    @property
    def tokens(self) -> tuple[str, ...]:
        """Those that are taken, none if none is asked for."""
        if self.token is None:
            return ()
        return (self.token,) if isinstance(self.token, str) else tuple(self.token)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], *, prefix: str = "") -> Settings:
        """Make settings of a host's configuration.

        Parameters
        ----------
        values : Mapping of str to object
            Keys in capitals, e.g. ``{"MODELS": {...}, "URL_PREFIX": "/models"}``.
        prefix : str
            What the keys begin with, e.g. ``"INFERSDK_"``. With one, keys that begin otherwise are
            somebody else's, and are passed over.

        Raises
        ------
        TypeError, ValueError
            As the class; also for a key that is unknown. The message has the key as it was given.
        """
        known = {prefix + item.name.upper(): item.name for item in fields(cls)}
        given = {}
        for key, value in values.items():
            if prefix and not str(key).startswith(prefix):
                continue
            if key not in known:
                short = str(key).removeprefix(prefix)
                close = get_close_matches(short, [name.removeprefix(prefix) for name in known], n=1)
                hint = (
                    f"did you mean `{prefix}{close[0]}`?"
                    if close
                    else f"they are {', '.join(known)}"
                )
                raise ValueError(f"`{key}` is not a setting of infersdk; {hint}")
            given[known[key]] = value
        try:
            return cls(**given)
        except (TypeError, ValueError) as error:
            message = str(error)
            for key, name in known.items():
                if f"Expected {name} " in message or message.startswith(f"{name}["):
                    message = message.replace(name, key, 1)
                    break
            raise type(error)(message) from error
