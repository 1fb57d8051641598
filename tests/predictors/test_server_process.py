"""Which process opens the models. Real servers are in tests/web; here are their frames, one at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from infersdk.predictors import Predictors
from infersdk.predictors.server_process import BOOT_ERROR, role

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="servers fork where there is fork")


def frame_of(module: str, function: str) -> Callable[[Callable[[], Any]], Any]:
    """A function of that name in a module of that name, which calls what it is given."""
    namespace: dict[str, Any] = {"__name__": module}
    exec(f"def {function}(call): return call()", namespace)
    return namespace[function]


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ([], "other"),
        ([("gunicorn.workers.base", "load_wsgi"), ("gunicorn.arbiter", "spawn_worker")], "worker"),
        ([("gunicorn.workers.ggevent", "init_process")], "worker"),
        ([("gunicorn.arbiter", "setup"), ("gunicorn.arbiter", "__init__")], "master"),
        ([("gunicorn.arbiter", "spawn_worker"), ("gunicorn.arbiter", "run")], "worker"),
        ([("gunicorn.arbiter", "reexec"), ("gunicorn.arbiter", "run")], "other"),
        ([("gunicorn.arbiter", "run")], "other"),
        ([("uvicorn.importer", "import_from_string"), ("uvicorn.server", "run")], "worker"),
        ([("granian._internal", "load_target")], "worker"),
        ([("hypercorn.utils", "load_application")], "worker"),
        ([("flask.cli", "load_app"), ("flask.cli", "run_command")], "other"),
        ([("gunicorn_of_mine", "setup")], "other"),
        # an app that is imported while a test drives a server's own code
        ([("pytest", "main"), ("uvicorn.config", "load")], "worker"),
    ],
)
def test_the_frames_tell_the_role(frames: list[tuple[str, str]], expected: str) -> None:
    call: Callable[[], Any] = role
    for module, function in frames:  # innermost first
        call = partial(frame_of(module, function), call)
    assert call() == expected


SERVER = """
    import os, signal, types
    from infersdk.predictors import Predictors

    def of(module):
        return lambda f: types.FunctionType(f.__code__, {"__name__": module, "os": os})

    @of("gunicorn.arbiter")
    def setup(load):
        return load()

    @of("gunicorn.arbiter")
    def spawn_worker(work):
        pid = os.fork()
        if not pid:
            work()
            os._exit(0)
        return pid

    @of("subprocess")
    def spawn_other(work):
        pid = os.fork()
        if not pid:
            work()
            os._exit(0)
        return pid

    master = os.getpid()

    def say(text):
        os.write(1, f"{text}\\n".encode())

    def when_opened():
        pass

    class Watched(Predictors):
        def open(self):
            say("opened in " + ("the master" if os.getpid() == master else "a worker"))
            when_opened()
            super().open()

    def load(**settings):
        predictors = Watched(**settings)
        predictors.prepare()
        return predictors

    def ended(pid):
        status = os.waitpid(pid, 0)[1]
        if os.WIFSIGNALED(status):
            return signal.Signals(os.WTERMSIG(status)).name
        return os.WEXITSTATUS(status)
"""
"""A server's master, as a script that the tests go on with."""


def run_server(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SERVER) + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@needs_fork
def test_a_preloading_master_opens_nothing_and_its_workers_do_before_they_work() -> None:
    done = run_server(
        """
        predictors = setup(load)
        say(f"master: {predictors.state}")
        for _ in range(2):
            pid = spawn_worker(lambda: say(f"working: {predictors.state}"))
            assert ended(pid) == 0
        say(f"master: {predictors.state}")
        """
    )
    worker = ["opened in a worker", "working: open"]
    assert done.stdout.splitlines() == ["master: new", *worker, *worker, "master: new"], done.stderr


@needs_fork
def test_a_program_that_starts_gunicorn_by_itself_is_a_master_too() -> None:
    """Its app is made before there is an arbiter, and `os.fork` may be gevent's."""
    done = run_server(
        """
        predictors = load()

        @of("gevent.os")
        def fork():
            return os.fork()

        gevents = types.SimpleNamespace(fork=fork, _exit=os._exit)
        spawn_greenly = types.FunctionType(
            spawn_worker.__code__, {"__name__": "gunicorn.arbiter", "os": gevents}
        )
        for spawn in (spawn_worker, spawn_greenly):
            assert ended(spawn(lambda: say(f"working: {predictors.state}"))) == 0
        """
    )
    worker = ["opened in a worker", "working: open"]
    assert done.stdout.splitlines() == [*worker, *worker], done.stderr


def test_comparing_opens_nothing() -> None:
    one, two = (Predictors({"model": "nowhere.onnx"}) for _ in range(2))
    assert one != two
    assert len({one, two, one}) == 2


@needs_fork
def test_models_that_are_gone_are_opened_by_nobody() -> None:
    done = run_server(
        """
        predictors = load()
        predictors = load()
        assert ended(spawn_worker(lambda: None)) == 0
        predictors = None
        assert ended(spawn_worker(lambda: say("working"))) == 0
        """
    )
    assert done.stdout.splitlines() == ["opened in a worker", "working"], done.stderr


@needs_fork
def test_what_the_master_opened_is_warmed_by_each_worker() -> None:
    done = run_server(
        """
        predictors = setup(lambda: load(opening="now"))
        assert ended(spawn_worker(lambda: say(f"working: {predictors.state}"))) == 0
        """
    )
    expected = ["opened in the master", "opened in a worker", "working: open"]
    assert done.stdout.splitlines() == expected, done.stderr


@needs_fork
def test_other_children_of_the_master_open_nothing() -> None:
    done = run_server(
        """
        predictors = setup(load)
        assert ended(spawn_other(lambda: say(predictors.state))) == 0
        # a process that an app starts while a server's functions are on the stack
        run = of("uvicorn.server")(lambda work: work())
        assert ended(run(lambda: spawn_other(lambda: say(predictors.state)))) == 0
        # a worker's own children are not the master's workers either
        pid = spawn_worker(
            lambda: ended(spawn_other(lambda: say(f"grandchild {predictors.state}")))
        )
        assert ended(pid) == 0
        """
    )
    assert done.stdout.splitlines() == ["new", "new", "opened in a worker", "grandchild new"], (
        done.stderr
    )


@needs_fork
def test_a_worker_whose_models_do_not_open_ends_as_one_that_cannot_start() -> None:
    done = run_server(
        """
        def when_opened(): raise OSError("churn.onnx is gone")
        predictors = setup(load)
        say(ended(spawn_worker(lambda: say("working"))))
        """
    )
    assert done.stdout.splitlines() == ["opened in a worker", str(BOOT_ERROR)]
    assert "OSError: churn.onnx is gone" in done.stderr


@needs_fork
def test_a_signal_that_comes_before_a_worker_is_ready_ends_it() -> None:
    """The master's handlers, which the child still has, would swallow it: the worker would never end."""
    done = run_server(
        """
        signal.signal(signal.SIGTERM, lambda number, frame: say("swallowed"))
        reader, writer = os.pipe()
        def when_opened():
            os.write(writer, b".")
            signal.pause()
        predictors = setup(load)
        pid = spawn_worker(lambda: None)
        os.read(reader, 1)
        os.kill(pid, signal.SIGTERM)
        say(ended(pid))

        def when_opened(): pass
        def not_yet_ready():
            os.kill(os.getpid(), signal.SIGTERM)
        say(ended(spawn_worker(not_yet_ready)))
        """
    )
    term = signal.Signals.SIGTERM.name
    opened = "opened in a worker"
    assert done.stdout.splitlines() == [opened, term, opened, term], done.stderr


@needs_fork
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_of_multiprocessing_close_their_models(method: str, tmp_path: Any) -> None:
    """Granian's workers are such children, and `atexit` is not for those that were forked."""
    script = tmp_path / "children.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import multiprocessing, os
            from infersdk.predictors import Predictors
            from infersdk.predictors.config import ModelConfig

            class Model:
                def close(self): os.write(1, b"closed\\n")

            ModelConfig.open = lambda self, name: (Model(), True)
            predictors = Predictors({{"one": lambda: None}})

            def work():
                predictors["one"]
                os.write(1, b"working\\n")

            if __name__ == "__main__":
                child = multiprocessing.get_context({method!r}).Process(target=work)
                child.start()
                child.join()
            """
        )
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines() == ["working", "closed"], done.stderr
