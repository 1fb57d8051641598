"""Whether the client of a WSGI request is there: asked of real connections."""

from __future__ import annotations

import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest

from infersdk.web.wsgi_client import client_watch

linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux tells a departure without reading"
)


@pytest.fixture
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        with client, server:
            yield client, server


@linux
@pytest.mark.parametrize("key", ["gunicorn.socket", "gunicorn.sock", "werkzeug.socket"])
def test_a_client_that_closes_is_gone(
    connection: tuple[socket.socket, socket.socket], key: str
) -> None:
    client, server = connection
    is_gone = client_watch({key: server})
    assert is_gone is not None
    assert not is_gone()
    client.close()
    assert is_gone()


@linux
def test_what_a_client_has_sent_ahead_neither_hides_it_nor_is_lost(
    connection: tuple[socket.socket, socket.socket],
) -> None:
    client, server = connection
    is_gone = client_watch({"gunicorn.socket": server})
    assert is_gone is not None
    client.sendall(b"GET / HTTP/1.1\r\n")
    assert not is_gone()
    client.close()
    assert is_gone()
    assert server.recv(100) == b"GET / HTTP/1.1\r\n"


@linux
def test_a_timeout_of_the_connection_is_not_waited_for(
    connection: tuple[socket.socket, socket.socket],
) -> None:
    _, server = connection
    server.settimeout(1000)
    is_gone = client_watch({"gunicorn.socket": server})
    assert is_gone is not None
    assert not is_gone()
    assert server.gettimeout() == 1000


def test_nobody_can_tell() -> None:
    assert client_watch({}) is None
    assert client_watch({"gunicorn.socket": None}) is None
    closed = socket.socket()
    closed.close()
    for nothing_to_ask in (closed, object()):
        is_gone = client_watch({"gunicorn.socket": nothing_to_ask})
        assert is_gone is None or not is_gone()


@linux
def test_where_gevent_has_replaced_poll() -> None:
    pytest.importorskip("gevent")
    code = """
        from gevent import monkey; monkey.patch_all()
        import socket
        from infersdk.web.wsgi_client import client_watch

        client, server = socket.socketpair()
        is_gone = client_watch({"gunicorn.socket": server})
        assert not is_gone()
        client.close()
        assert is_gone()
        print("fine")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=100
    )
    assert done.stdout.strip() == "fine", done.stderr
