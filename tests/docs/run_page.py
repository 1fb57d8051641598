"""Run the blocks of one page, in the current folder: ``python run_page.py README.md``.

A process of its own for each page: what a page imports, sets or starts ends with it. The exit status is 0
if every block ran; otherwise the traceback on standard error has the page's own lines.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import doctest
import importlib.util
import inspect
import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

_STARTUP_S = 60
_STOP_S = 10
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Page:
    """A page that is being run: its namespace, its servers, and what its last block printed."""

    def __init__(self, name: str) -> None:
        self.name = name
        module = types.ModuleType("__main__")
        module.__file__ = name
        sys.modules["__main__"] = module
        self.namespace = module.__dict__
        self.runner = asyncio.Runner()
        self.servers: dict[str, tuple[subprocess.Popen[bytes], Path]] = {}
        self.ports: dict[str, str] = {}
        self.environ = dict(os.environ)
        self.printed = ""

    def run(self, block: Any) -> None:
        text = block.text
        for named, free in self.ports.items():
            text = re.sub(rf"\b{named}\b", free, text)
        if block.kind == "python":
            self._python(text, block.line)
        elif block.kind == "sh":
            self._sh(text)
        elif block.kind == "serve":
            self._serve(block.text, block.value)
        elif block.kind == "file":
            path = Path(block.value)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            importlib.invalidate_caches()
        elif block.kind == "output" and not doctest.OutputChecker().check_output(
            text, self.printed, _FLAGS
        ):
            raise AssertionError(f"Expected this to be printed:\n{text}\ngot:\n{self.printed}")

    def close(self) -> None:
        for named in list(self.servers):
            self._stop(named)
        self.runner.close()

    def _stop(self, named: str) -> None:
        server, log = self.servers.pop(named)
        early = server.poll()
        server.terminate()  # not its workers: Celery would start others
        try:
            server.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            # Granian 2.8 never ends when it is asked to while one of its workers is starting.
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        if sys.exc_info()[1] is not None or early is not None:
            sys.stderr.write(f"--- {server.args!r} said:\n{log.read_text()}\n")

    def _python(self, text: str, line: int) -> None:
        printed = _Both(sys.stdout)
        with contextlib.redirect_stdout(printed):
            if re.search(r"^>>> ", text, re.MULTILINE):
                test = doctest.DocTestParser().get_doctest(text, {}, self.name, self.name, line - 1)
                test.globs = self.namespace
                runner = doctest.DebugRunner(optionflags=_FLAGS)
                try:
                    runner.run(test, clear_globs=False)
                except doctest.DocTestFailure as failure:
                    raise AssertionError(
                        f"line {line + failure.example.lineno}: expected {failure.example.want!r}, "
                        f"got {failure.got!r}"
                    ) from None
                except doctest.UnexpectedException as failure:
                    error = failure.exc_info[1]
                    assert error is not None
                    error.add_note(f"in the doctest at line {line + failure.example.lineno}")
                    raise error from None
            else:
                # At its own line, so that a traceback shows the page's.
                code = compile(
                    "\n" * (line - 1) + text,
                    self.name,
                    "exec",
                    flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
                    dont_inherit=True,
                )
                if code.co_flags & inspect.CO_COROUTINE:
                    function = types.FunctionType(code, self.namespace)
                    self.runner.run(function())
                else:
                    exec(code, self.namespace)
        self.printed = printed.getvalue()

    def _sh(self, text: str) -> None:
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", text],
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        self.printed = done.stdout
        sys.stdout.write(done.stdout)
        if done.returncode:
            raise AssertionError(f"Exit status {done.returncode} of\n{text}\n{done.stdout}")

    def _serve(self, text: str, named: str) -> None:
        environ = {**self.environ, "PYTHONUNBUFFERED": "1"}
        if named in self.servers:  # the next one on a page takes its place
            self._stop(named)
        if named:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                free = str(listener.getsockname()[1])
            self.ports[named] = free
            # The commands as a page has them mostly name no port.
            environ |= {
                "FLASK_RUN_PORT": free,
                "GRANIAN_PORT": free,
                "GUNICORN_CMD_ARGS": f"--bind=127.0.0.1:{free}",
                "UVICORN_PORT": free,
            }
        for name, port in self.ports.items():
            text = re.sub(rf"\b{name}\b", port, text)
        text = text.replace("0.0.0.0", "127.0.0.1")
        log = Path(f".serve-{named}.log").resolve()
        with log.open("wb") as out:
            server = subprocess.Popen(
                ["bash", "-e", "-c", text],
                env=environ,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.servers[named] = server, log
        if not named:
            return
        until = time.monotonic() + _STARTUP_S
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", int(free)), 1).close()
                return
            if server.poll() is not None:
                raise AssertionError(f"The server ended with status {server.returncode}: {text}")
            if time.monotonic() > until:
                raise AssertionError(f"No server at port {free} within {_STARTUP_S} s: {text}")
            time.sleep(0.05)


class _Both(io.StringIO):
    """Keeps what is printed, and prints it."""

    def __init__(self, through: Any) -> None:
        super().__init__()
        self._through = through

    def write(self, text: str) -> int:
        self._through.write(text)
        return super().write(text)


def main(name: str) -> None:
    # Not the tests' folder: the page's own, as for whoever types its blocks.
    here = sys.path.pop(0)
    sys.path.insert(0, os.getcwd())
    blocks = _parser(here)
    page = Page(name)
    try:
        for block in blocks(Path(name).read_text()):
            if block.kind != "not run":
                page.run(block)
    finally:
        page.close()


def _parser(folder: str) -> Any:
    spec = importlib.util.spec_from_file_location("_page_blocks", f"{folder}/blocks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["_page_blocks"] = module
    spec.loader.exec_module(module)
    return module.blocks


if __name__ == "__main__":
    main(sys.argv[1])
