"""The comments by which tests run a page's blocks: on the site, a file's name becomes its block's title.

A hook of mkdocs, as mkdocs.yml says. tests/docs/blocks.py has the list of comments.
"""

from __future__ import annotations

import re
from typing import Any

_FILE = re.compile(r"^( *)<!-- *file: *(\S+) *-->\s*\n\1(```\w+) *$", re.MULTILINE)
_SETUP = re.compile(r"^ *<!-- *setup *$.*?^ *--> *\n", re.MULTILINE | re.DOTALL)
_OTHERS = re.compile(r"^ *<!-- *(?:run|output|(?:serve|not run)(?::.*?)?) *--> *\n", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Rewrite a page before it is rendered."""
    markdown = _FILE.sub(r'\1\3 title="\2"', markdown)
    return _OTHERS.sub("", _SETUP.sub("", markdown))
