"""The plugin in projects of other people: what it declares, and the plugins that it meets there."""

from __future__ import annotations

import subprocess
import sys

import onnx  # noqa: F401 - runs inside of this process forget what they import; it bears no second time
import pytest

import infersdk.predictors
from infersdk.testing import doubles, downloads, factory, hammer, traffic  # noqa: F401

FIXTURES = (
    "assert_latency",
    "assert_parity",
    "fake_predictor",
    "hammer",
    "infersdk_clock",
    "no_model_downloads",
    "predictor_factory",
    "record_traffic",
    "replay",
    "use_predictor",
)

INI = "[pytest]\nasyncio_default_fixture_loop_scope = function\n"

# What each project of these tests needs; the file does not exist.
APP = """
from infersdk.predictors import Predictors

predictors = Predictors({"churn": "no/such/file.onnx", "iris": "nor/this.onnx"})


def ask(name, row):
    return predictors[name].predict(row).tolist()
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini(INI)
    pytester.makepyfile(shop=APP)
    pytester.syspathinsert()
    return pytester


def passed(project: pytest.Pytester, n: int, *arguments: str) -> pytest.RunResult:
    result = project.runpytest_inprocess("-p", "no:cacheprovider", *arguments)
    result.assert_outcomes(passed=n)
    return result


# ---- what is declared --------------------------------------------------------------------------


def test_every_fixture_is_listed_with_what_it_does(project: pytest.Pytester) -> None:
    result = project.runpytest_inprocess("--fixtures", "-p", "no:cacheprovider")
    for name in FIXTURES:
        result.stdout.re_match_lines([rf"{name} -- .*plugin\.py:\d+", r"    [A-Z].+"])
    result.stdout.no_fnmatch_line("*_infersdk_models*")


def test_markers_and_options_are_declared(project: pytest.Pytester) -> None:
    result = project.runpytest_inprocess("--markers", "-p", "no:cacheprovider")
    for name in ("infersdk_models(**models)", "no_model_downloads", "model_downloads"):
        result.stdout.fnmatch_lines([f"@pytest.mark.{name}: *(infersdk)"])
    result = project.runpytest_inprocess("--help", "-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(["*infersdk_fake_models*", "*infersdk_no_model_downloads*"])


def test_a_run_that_uses_nothing_of_it_imports_nothing_of_it() -> None:
    """Beyond the package itself, which pytest imports to find the plugin."""
    code = (
        "import sys, infersdk; before = set(sys.modules); import infersdk.testing.plugin; "
        "print(*sorted(name for name in set(sys.modules) - before if name.startswith('infersdk')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["infersdk.testing", "infersdk.testing.plugin"]


# ---- models of an app --------------------------------------------------------------------------


def test_a_predictor_stands_in_for_a_model_of_the_app(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest
        from shop import ask, predictors

        def test_one(use_predictor, fake_predictor):
            fake = fake_predictor("leaves", fields=["age"])
            assert use_predictor("churn", fake) is fake
            assert ask("churn", {"age": 31}) == ["leaves"]
            assert fake.calls[0].rows == [{"age": 31.0}]

        def test_an_answer_will_do(use_predictor):
            made = use_predictor("churn", "stays")
            assert ask("churn", {"age": 31}) == ["stays"]
            assert made.name == "churn"

        def test_models_are_real_again():
            with pytest.raises(Exception, match="No such file"):
                ask("churn", {"age": 31})

        def test_the_last_one_counts(use_predictor):
            use_predictor("churn", 1)
            use_predictor("churn", 2)
            assert ask("churn", [0]) == [2]
        """
    )
    passed(project, 4)


def test_models_are_faked_by_a_marker(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import unittest
        import pytest
        import infersdk
        from infersdk.testing import FakePredictor
        from shop import ask, predictors

        @pytest.fixture
        def opened():  # fixtures find the fakes too
            return ask("churn", [0])

        @pytest.mark.infersdk_models(churn="leaves", iris=[1, 2])
        def test_answers(opened):
            assert opened == ["leaves"]
            assert [ask("iris", [0]), ask("iris", [0])] == [[1], [2]]

        @pytest.mark.infersdk_models(churn={"fake": {"answers": 1, "fields": ["age"]}})
        def test_options():
            assert ask("churn", {"age": 1}) == [1]
            with pytest.raises(infersdk.InputError):
                ask("churn", {"years": 1})

        @pytest.mark.infersdk_models({"churn": 1, "iris": 1})
        class TestNearest:
            @pytest.mark.infersdk_models(churn=2)
            def test_wins(self):
                assert ask("churn", [0]) == [2]
                assert ask("iris", [0]) == [1]

        @pytest.mark.infersdk_models(churn=FakePredictor("own"))
        def test_a_predictor_of_ones_own():
            assert ask("churn", [0]) == ["own"]

        @pytest.mark.infersdk_models(churn="leaves")
        class InTheStyleOfUnittest(unittest.TestCase):
            def test_it(self):
                assert ask("churn", [0]) == ["leaves"]

        def test_unmarked():
            assert not predictors.is_open("churn")
        """
    )
    passed(project, 6, "--strict-markers")


def test_models_are_faked_in_the_whole_run(project: pytest.Pytester) -> None:
    """Also when an app opens them as it is imported."""
    project.makeini(INI + "infersdk_fake_models = churn iris\n")
    project.makepyfile(
        """
        from infersdk.predictors import Predictors
        from shop import ask, predictors

        eager = Predictors({"churn": "no/such/file.onnx"}, opening="now")
        eager.prepare()

        def test_any_rows_are_taken():
            assert ask("churn", {"age": 31}) == ask("iris", [1, 2]) == [0]
            assert eager["churn"].predict_proba("text").tolist() == [[0.5, 0.5]]

        def test_one_may_still_be_scripted(use_predictor):
            use_predictor("churn", "leaves")
            assert ask("churn", [0]) == ["leaves"]
        """
    )
    result = passed(project, 2)
    result.stdout.fnmatch_lines(["infersdk: fakes for churn, iris"])


def test_after_the_run_nothing_is_faked(project: pytest.Pytester) -> None:
    project.makeini(INI + "infersdk_fake_models = churn\n")
    project.makepyfile("def test_it(): pass")
    passed(project, 1)
    assert infersdk.predictors.registry._overrides == {}


def test_fakes_and_models_are_closed_after_the_test(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import infersdk
        import pytest

        kept = []

        def test_make(fake_predictor, predictor_factory, use_predictor):
            kept.extend([fake_predictor(1), predictor_factory("regressor"), use_predictor("churn", 1)])
            for predictor in kept:
                predictor.predict([1, 2, 3, 4])

        def test_closed():
            for predictor in kept:
                with pytest.raises(infersdk.ClosedError):
                    predictor.predict([1, 2, 3, 4])
        """
    )
    passed(project, 2)


# ---- network -----------------------------------------------------------------------------------

REACH_OUT = """
import socket
import pytest
from infersdk.testing.downloads import DownloadError

def reach_out():
    with socket.socket() as sock:
        sock.settimeout(0.01)
        sock.connect(("192.0.2.1", 9))

def blocked():
    with pytest.raises(DownloadError):
        reach_out()

def free():
    with pytest.raises(OSError):  # noqa
        reach_out()
"""


def test_the_network_is_blocked_by_a_marker(project: pytest.Pytester) -> None:
    project.makepyfile(
        REACH_OUT
        + """
@pytest.mark.no_model_downloads
def test_blocked():
    blocked()

def test_free():
    free()
"""
    )
    passed(project, 2)


def test_the_network_is_blocked_for_all_but_marked_tests(project: pytest.Pytester) -> None:
    project.makeini(INI + "infersdk_no_model_downloads = true\n")
    project.makepyfile(
        REACH_OUT
        + """
def test_blocked():
    blocked()

@pytest.mark.model_downloads
def test_free():
    free()
"""
    )
    passed(project, 2)


# ---- other plugins -----------------------------------------------------------------------------


def test_pytest_asyncio(project: pytest.Pytester) -> None:
    pytest.importorskip("pytest_asyncio")
    project.makepyfile(
        """
        import asyncio
        import pytest
        import pytest_asyncio
        import infersdk

        @pytest_asyncio.fixture
        async def churn(fake_predictor):
            return fake_predictor("yes", latency_s=1)

        @pytest.mark.asyncio
        async def test_a_deadline(churn, infersdk_clock):
            running = asyncio.create_task(churn.apredict([1]))
            await asyncio.to_thread(infersdk_clock.wait_for_sleepers)
            late = asyncio.create_task(churn.apredict([1], timeout_s=0.5))
            await asyncio.to_thread(churn.wait_for_queued)
            infersdk_clock.advance(0.6)
            with pytest.raises(infersdk.DeadlineError):
                await late
            infersdk_clock.advance(0.4)
            assert (await running).tolist() == ["yes"]

        @pytest.mark.asyncio
        @pytest.mark.infersdk_models(churn="yes")
        async def test_tasks(hammer):
            from shop import predictors
            answers = await hammer.tasks(lambda: predictors["churn"].apredict([1]), tasks=8, calls=2)
            assert len(answers) == 16
        """
    )
    passed(project, 2, "--strict-markers")


def test_anyio(project: pytest.Pytester) -> None:
    pytest.importorskip("anyio")
    project.makepyfile(
        """
        import pytest

        pytestmark = pytest.mark.anyio

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @pytest.fixture
        async def churn(fake_predictor):
            return fake_predictor("yes")

        async def test_fixtures(churn, use_predictor, hammer):
            from shop import predictors
            use_predictor("churn", churn)
            await hammer.tasks(lambda: predictors["churn"].apredict([1]), tasks=4, calls=2)
            assert len(churn.calls) == 8
            assert {call.task[:6] for call in churn.calls} == {"hammer"}
        """
    )
    passed(project, 1)


@pytest.mark.slow
def test_xdist(project: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    project.makeini(INI + "infersdk_fake_models = churn\n")
    project.makepyfile(
        """
        import os
        import pytest
        from shop import ask

        @pytest.mark.parametrize("n", range(8))
        def test_recording(n, record_traffic, fake_predictor, infersdk_clock, tmp_path, request):
            assert ask("churn", [1]) == [0]
            infersdk_clock.advance(1)
            recorded = record_traffic(fake_predictor(1), request.config.rootpath / "calls.jsonl")
            recorded.predict([n])
            assert os.path.basename(recorded.path) == f"calls-{os.environ['PYTEST_XDIST_WORKER']}.jsonl"
        """
    )
    result = project.runpytest_subprocess("-n", "2", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=8)
    assert {path.name for path in project.path.glob("*.jsonl")} <= {
        "calls-gw0.jsonl",
        "calls-gw1.jsonl",
    }


@pytest.mark.slow
def test_pytest_flask(project: pytest.Pytester) -> None:
    """Its live server is forked off once: what is faked there is faked in the whole run."""
    pytest.importorskip("pytest_flask")
    project.makeini(INI + "infersdk_fake_models = churn\n")
    project.makepyfile(
        """
        import json
        import urllib.request
        import pytest
        from flask import Flask, request
        from shop import ask

        @pytest.fixture(scope="session")
        def app():
            app = Flask(__name__)

            @app.route("/churn", methods=["GET", "POST"])
            def churn():
                return {"answers": ask("churn", request.get_json(silent=True) or [0])}

            return app

        @pytest.mark.infersdk_models(churn="leaves")
        def test_client(client):
            assert client.post("/churn", json={"age": 31}).json == {"answers": ["leaves"]}

        def test_a_live_server(live_server, no_model_downloads):
            with urllib.request.urlopen(live_server.url("/churn")) as response:
                assert json.load(response) == {"answers": [0]}
        """
    )
    # pytest-django has fixtures of the same names.
    project.runpytest_subprocess("-p", "no:django").assert_outcomes(passed=2)


@pytest.mark.slow
def test_pytest_django(project: pytest.Pytester) -> None:
    pytest.importorskip("pytest_django")
    project.makeini(INI + "DJANGO_SETTINGS_MODULE = site_settings\n")
    project.makepyfile(
        site_settings="""
        SECRET_KEY = "of no use"
        ROOT_URLCONF = "site_urls"
        ALLOWED_HOSTS = ["*"]
        STATIC_URL = "static/"
        DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
        """,
        site_urls="""
        import json
        from django.http import JsonResponse
        from django.urls import path
        from shop import ask, predictors

        def churn(request):
            return JsonResponse({"answers": ask("churn", json.loads(request.body))})

        async def achurn(request):
            answers = await predictors["churn"].apredict(json.loads(request.body))
            return JsonResponse({"answers": answers.tolist()})

        urlpatterns = [path("churn", churn), path("achurn", achurn)]
        """,
    )
    project.makepyfile(
        """
        import pytest
        from django.test import TestCase

        ROW = {"age": 31}

        @pytest.mark.infersdk_models(churn="leaves")
        def test_client(client):
            response = client.post("/churn", ROW, content_type="application/json")
            assert response.json() == {"answers": ["leaves"]}

        @pytest.mark.asyncio
        async def test_async_client(async_client, use_predictor, fake_predictor):
            fake = use_predictor("churn", fake_predictor("leaves", fields=["age"]))
            response = await async_client.post("/achurn", ROW, content_type="application/json")
            assert response.json() == {"answers": ["leaves"]}
            assert fake.calls[0].task

        @pytest.mark.django_db
        @pytest.mark.infersdk_models(churn=1)
        def test_a_live_server(live_server, no_model_downloads):
            import urllib.request
            with urllib.request.urlopen(live_server.url + "/churn", b'{"age": 31}') as response:
                assert response.read() == b'{"answers": [1]}'

        @pytest.mark.infersdk_models(churn="leaves")
        class InTheStyleOfDjango(TestCase):
            def test_it(self):
                response = self.client.post("/churn", ROW, content_type="application/json")
                assert response.json() == {"answers": ["leaves"]}
        """
    )
    project.runpytest_subprocess("-p", "no:flask").assert_outcomes(passed=4)
