"""The protocols in which requests are read and answered, each in a module of its own."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from infersdk.web.settings import PROTOCOLS

if TYPE_CHECKING:
    from infersdk.web.protocol import Protocol

__all__ = ["protocol_class"]


def protocol_class(name: str) -> type[Protocol]:
    """Import a protocol.

    Parameters
    ----------
    name : str
        One of :data:`infersdk.web.settings.PROTOCOLS`.
    """
    module, _, attribute = PROTOCOLS[name].partition(":")
    found: type[Protocol] = getattr(import_module(module), attribute)
    return found
