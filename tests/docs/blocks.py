"""The code blocks of a Markdown page, and what the comments before them say is to be done with them.

A block's comment stands on the lines right before its fence (blank lines may lie between):

=========================  ==================================================================================
(none), a python block     it runs, in one namespace with the page's others; with ``>>>`` as a doctest
(none), any other block    it is shown only
``<!-- run -->``           a sh block runs in bash, in the page's folder
``<!-- serve: 8000 -->``   a sh block starts a server, which is up when its port answers. Tests take a free
                           port in place of the one named: in the block, in those that follow, and in what
                           servers read of the environment. ``<!-- serve -->`` alone: one without a port.
                           It ends with the page, or where the next one at its port begins
``<!-- file: app.py -->``  the block is written to that file of the page's folder
``<!-- output -->``        the block is what the block before it prints; ``...`` stands for anything
``<!-- not run: why -->``  the block is left out
``<!-- setup``             Python up to ``-->`` that runs and is not shown, for what the page takes for granted
=========================  ==================================================================================
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

__all__ = ["Block", "blocks"]

Kind = Literal["python", "sh", "serve", "file", "output", "not run"]

_FENCE = re.compile(r"(?P<indent> *)(?P<fence>`{3,})(?P<language>[\w+-]*).*")
_COMMENT = re.compile(
    r" *<!-- *(?P<kind>run|serve|file|output|not run)(?:: *(?P<value>.*?))? *--> *"
)
_SETUP = re.compile(r" *<!-- *setup *")


@dataclass(frozen=True)
class Block:
    """One block: what is done with it, its text, and the line of the page where the text begins.

    ``value`` is what the comment says after its colon: a file's name, a port, a reason.
    """

    kind: Kind
    text: str
    line: int
    value: str = ""


def blocks(page: str) -> Iterator[Block]:
    """Find the blocks of a page that something is to be done with, in order.

    Raises
    ------
    ValueError
        A comment is followed by no block, lacks its value, or a block has no end.
    """
    lines = page.splitlines()
    comment: re.Match[str] | None = None
    said_at = 0
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if fence := _FENCE.fullmatch(line):
            start = number
            while number < len(lines) and lines[number].strip() != fence["fence"]:
                number += 1
            if number == len(lines):
                raise ValueError(f"line {start}: the block has no end")
            text = textwrap.dedent("\n".join(lines[start:number]) + "\n")
            number += 1
            kind = _kind(comment, fence["language"], said_at)
            if kind is not None:
                value = (comment["value"] or "") if comment else ""
                yield Block(kind, text, start + 1, value)
            comment = None
        elif _SETUP.fullmatch(line):
            start = number
            while number < len(lines) and lines[number].strip() != "-->":
                number += 1
            if number == len(lines):
                raise ValueError(f"line {start}: the set-up has no end")
            yield Block("python", textwrap.dedent("\n".join(lines[start:number]) + "\n"), start + 1)
            number += 1
        elif found := _COMMENT.fullmatch(line):
            comment, said_at = found, number
        elif comment and line.strip():
            raise ValueError(f"line {said_at}: no block follows {comment[0].strip()}")
    if comment:
        raise ValueError(f"line {said_at}: no block follows {comment[0].strip()}")


def _kind(comment: re.Match[str] | None, language: str, line: int) -> Kind | None:
    if comment is None:
        return "python" if language == "python" else None
    kind = comment["kind"]
    if kind in ("not run", "file") and not comment["value"]:
        raise ValueError(f"line {line}: <!-- {kind}: ... --> must say more")
    if kind in ("run", "serve"):
        if language != "sh":
            raise ValueError(f"line {line}: only sh blocks can be marked with `{kind}`")
        return "sh" if kind == "run" else "serve"
    return kind  # type: ignore[return-value]
