"""What an app may set about its models and how requests reach them, the same for every host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from infersdk.predictors import ModelConfig
from infersdk.predictors.registry import Opening

__all__ = ["Settings"]


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

    def __post_init__(self) -> None:
        if not isinstance(self.models, Mapping):
            raise TypeError(
                "Expected models to be a dict of names and models' sources, "
                f"got {type(self.models).__name__}"
            )
        for name in ("max_body_bytes", "max_rows"):
            value = getattr(self, name)
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
        for name, source in self.models.items():
            try:
                ModelConfig.of(source)
            except (TypeError, ValueError) as error:
                raise type(error)(f"models[{name!r}]: {error}") from error

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
