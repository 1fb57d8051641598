"""Results with letters: what is drawn, and that nothing of it is taken for markup."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("rich", reason="it draws")

from infersdk.cli.screen import histogram, say, show_errors, show_json, show_table
from infersdk.convert.distribution import OutputErrors


def _errors() -> OutputErrors:
    errors = OutputErrors("predict", "['logits']", n_rows=100, n_values=1_000_111, n_equal=10)
    # One in a million at 1e-3, a hundred from 1e-8 to 1e-7, the rest at 1e-9.
    errors.buckets = {-30: 1, -75: 60, -72: 40, -90: 1_000_000}
    return errors


def test_one_error_in_a_million_is_seen() -> None:
    title, *lines = histogram(_errors()).splitlines()
    assert title.startswith("predict['logits']: |ours - theirs| of 1,000,111 numbers")
    bars = {line.split()[0]: line.count("#") for line in lines}
    assert list(bars) == ["equal", "1e-09", "1e-08", "1e-07", "1e-06", "1e-05", "1e-04", "1e-03"]
    assert bars["1e-09"] == 40 > bars["1e-08"] > bars["equal"] > bars["1e-03"] > 0 == bars["1e-05"]
    assert lines[1].endswith(" 1,000,000")


def test_errors_far_below_any_tolerance_are_one_bar() -> None:
    errors = OutputErrors("predict", n_values=4, n_equal=1, buckets={-290: 1, -200: 1, -175: 1})
    assert [line.split()[0] for line in histogram(errors).splitlines()[1:]] == [
        "equal",
        "<1e-18",
        "1e-18",
    ]


def test_outputs_that_are_all_equal_have_no_bars(capsys: pytest.CaptureFixture[str]) -> None:
    show_errors([OutputErrors("predict", n_values=5, n_equal=5), _errors()])
    shown = capsys.readouterr().out
    assert "predict['logits']" in shown
    assert "unlike" not in shown
    assert shown.count("|ours - theirs|") == 1


def test_numbers_against_nothing_have_a_bar_of_their_own() -> None:
    errors = OutputErrors("predict", n_values=3, n_equal=1, n_unlike=2)
    assert histogram(errors).splitlines()[-1].split()[::2] == ["unlike", "2"]


def test_json_has_no_infinity(capsys: pytest.CaptureFixture[str]) -> None:
    show_json({"a": [float("inf"), 1.5, (float("nan"),)]})
    assert json.loads(capsys.readouterr().out) == {"a": [None, 1.5, [None]]}


def test_brackets_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    say("pip install [bold]infersdk[/]")
    show_table(("a", "b"), [("[red]x", "y" * 300)])
    shown = capsys.readouterr().out
    assert "[bold]infersdk[/]" in shown
    assert "[red]x" in shown
