"""no_model_downloads: nothing leaves the machine, and the error says who tried."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import types
import urllib.request

import pytest

from infersdk.testing.downloads import DownloadError, no_downloads

pytestmark = pytest.mark.usefixtures("no_model_downloads")

# Documentation only (RFC 5737): nobody answers there.
NOWHERE = "192.0.2.1"


def test_connections_are_refused_at_once() -> None:
    with socket.socket() as sock:
        for connect in (sock.connect, sock.connect_ex):
            with pytest.raises(DownloadError, match=f"wanted to connect to {NOWHERE}:443"):
                connect((NOWHERE, 443))
    with pytest.raises(DownloadError):
        socket.create_connection((NOWHERE, 443))


def test_names_are_not_even_looked_up() -> None:
    with pytest.raises(DownloadError, match=r"models\.example\.com:443"):
        socket.getaddrinfo("models.example.com", 443)
    with pytest.raises(DownloadError):
        socket.getaddrinfo(host="models.example.com", port=None)


def test_the_message_says_who_and_where() -> None:
    with pytest.raises(DownloadError) as caught:
        urllib.request.urlopen("http://models.example.com/model.bin")
    message = str(caught.value)
    assert "test_downloads.py:" in message
    assert "wanted to connect to models.example.com:80" in message
    assert "in tests/testing/test_downloads.py::test_the_message_says_who_and_where" in message
    assert "@pytest.mark.model_downloads" in message


def test_it_is_no_error_that_libraries_try_again_for() -> None:
    assert not issubclass(DownloadError, OSError)


def test_within_the_machine_all_is_allowed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for host in ("127.0.0.1", "localhost"):
            socket.create_connection((host, port), timeout=10).close()
    assert socket.getaddrinfo("localhost", port)
    left, right = socket.socketpair()
    left.close()
    right.close()


def test_machines_that_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, and by the addresses that the name stands for."""
    reached: list[object] = []

    def look_up(host: str, port: int, *more: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (NOWHERE, port))]

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", look_up)
        patch.setattr(socket.socket, "connect", lambda self, address: reached.append(address))
        with no_downloads(allow=["redis"]):
            with socket.socket() as sock, pytest.raises(DownloadError):
                sock.connect((NOWHERE, 6379))
            socket.create_connection(("redis", 6379)).close()
            with pytest.raises(DownloadError):
                socket.create_connection(("postgres", 5432))
    assert reached == [(NOWHERE, 6379)]


def test_asyncio_is_blocked_too() -> None:
    async def main() -> None:
        await asyncio.open_connection("models.example.com", 443)

    with pytest.raises(DownloadError):
        asyncio.run(main())


def test_libraries_are_told_to_be_offline() -> None:
    assert os.environ["HF_HUB_OFFLINE"] == os.environ["TRANSFORMERS_OFFLINE"] == "1"


def test_everything_is_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    constants = types.ModuleType("huggingface_hub.constants")
    constants.HF_HUB_OFFLINE = False  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub.constants", constants)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    functions = socket.getaddrinfo, socket.socket.connect
    with no_downloads():
        assert constants.HF_HUB_OFFLINE is True
        assert os.environ["HF_HUB_OFFLINE"] == "1"
        assert socket.getaddrinfo is not functions[0]
    assert constants.HF_HUB_OFFLINE is False
    assert os.environ["HF_HUB_OFFLINE"] == "0"
    assert "WANDB_MODE" not in os.environ
    assert (socket.getaddrinfo, socket.socket.connect) == functions
