"""no_model_downloads: a test that reaches for the network fails, and says who wanted what.

Connections within the machine are left alone: live servers, databases, queues. What is blocked is Python's own
``socket``, and so everything that is built on it; code that brings its own network stack (uvloop's connections,
gRPC, a Rust downloader) is only told to be offline by its environment variables.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["DownloadError", "no_downloads"]

_OFFLINE = {
    "DIFFUSERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "WANDB_MODE": "offline",
}

# Modules that have read these variables when they were imported, and what they made of them.
_READ_ALREADY = {
    "huggingface_hub.constants": "HF_HUB_OFFLINE",
    "datasets.config": "HF_DATASETS_OFFLINE",
}

# Who is never the one that wanted it.
_PLUMBING = frozenset(
    {
        "aiohttp",
        "anyio",
        "asyncio",
        "concurrent",
        "contextlib",
        "http",
        "httpcore",
        "httpx",
        "requests",
        "selectors",
        "socket",
        "ssl",
        "threading",
        "urllib",
        "urllib3",
        "uvloop",
    }
)


class DownloadError(RuntimeError):
    """Something reached for the network in a test that must not.

    No ``OSError``: libraries take those for a bad connection, and try again or go on without.
    """


@contextmanager
def no_downloads(allow: Collection[str] = ()) -> Iterator[None]:
    """Block connections beyond this machine, and tell libraries that download models to be offline.

    Parameters
    ----------
    allow : collection of str
        Names or addresses of other machines that are no download: a database, a queue.

    Raises
    ------
    DownloadError
        In whoever tries.
    """
    environ = {name: os.environ.get(name) for name in _OFFLINE}
    os.environ.update(_OFFLINE)
    flags = []
    for module_name, flag in _READ_ALREADY.items():
        module = sys.modules.get(module_name)
        if module is not None and hasattr(module, flag):
            flags.append((module, flag, getattr(module, flag)))
            setattr(module, flag, True)
    allowed = set(allow)
    look_up = socket.getaddrinfo

    def remembering(host: Any, *arguments: Any, **named: Any) -> Any:
        found = look_up(host, *arguments, **named)
        if host in allowed:
            allowed.update(str(entry[4][0]) for entry in found)  # what is connected to then
        return found

    undo = [
        _guarded(socket.socket, "connect", lambda self, address: address, allowed),
        _guarded(socket.socket, "connect_ex", lambda self, address: address, allowed),
        _guarded(
            socket,
            "getaddrinfo",
            lambda host, port=None, *_, **__: (host, port),
            allowed,
            remembering,
        ),
    ]
    try:
        yield
    finally:
        for restore in undo:
            restore()
        for module, flag, value in flags:
            setattr(module, flag, value)
        for name, before in environ.items():
            if before is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = before


def _guarded(
    owner: Any,
    name: str,
    address_of: Callable[..., Any],
    allowed: Collection[str],
    instead: Callable[..., Any] | None = None,
) -> Callable[[], None]:
    """Put a guard before a function; gives what takes it away again."""
    own = name in vars(owner)
    function = getattr(owner, name)
    behind = instead or function

    def guard(*arguments: Any, **named: Any) -> Any:
        address = address_of(*arguments, **named)
        if not _is_local(address) and address[0] not in allowed:
            raise DownloadError(_sentence(address))
        return behind(*arguments, **named)

    guard.__name__ = name
    setattr(owner, name, guard)

    def restore() -> None:
        if own:
            setattr(owner, name, function)
        else:
            delattr(owner, name)  # a class that inherits it

    return restore


def _is_local(address: Any) -> bool:
    if not isinstance(address, tuple) or not address:
        return True  # a path of this machine
    host = address[0]
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if not isinstance(host, str) or host in ("", "localhost", socket.gethostname()):
        return True
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host.endswith(".localhost")
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return ip.is_loopback or ip.is_unspecified


def _sentence(address: Any) -> str:
    host, port = address[0], address[1] if len(address) > 1 else None
    place = f"{host}:{port}" if port else f"{host}"
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
    return (
        f"{_who()} wanted to connect to {place}"
        + (f" in {test}" if test else "")
        + ", and this test must do without the network (no_model_downloads). Use a fake, a tiny model or a "
        "file of the repository instead, or mark the test with @pytest.mark.model_downloads"
    )


def _who() -> str:
    """The innermost caller that is no plumbing."""
    for frame, line in traceback.walk_stack(sys._getframe(2)):
        module = frame.f_globals.get("__name__", "")
        if module == __name__ or module.partition(".")[0] in _PLUMBING:
            continue
        return f"{module or '?'} ({frame.f_code.co_filename}:{line})"
    return "Somebody"
