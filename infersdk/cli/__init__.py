"""The command ``infersdk``: serve, doctor, convert, info and init.

Typer and rich come with the extra ``cli``; everything else of infersdk works without them. What a command
finds out is made by plain functions (:mod:`~infersdk.cli.environment`,
:mod:`infersdk.convert.diagnosis`); one module per command asks them, and ``screen`` shows their results.
"""

from __future__ import annotations

import sys

__all__ = ["main"]

_PACKAGES = ("rich", "typer")


def main() -> None:
    """Run the command line.

    Raises
    ------
    SystemExit
        Always. 0: all is well. 1: there are problems, which were named. 2: the command was not understood,
        or what it names does not exist.
    """
    try:
        from infersdk.cli.app import app
    except ModuleNotFoundError as exc:
        if exc.name not in _PACKAGES:
            raise
        sys.exit(
            f"The command line needs the package `{exc.name}`, which is not installed. "
            'Install it with: pip install "infersdk[cli]"'
        )
    app(prog_name="infersdk")
