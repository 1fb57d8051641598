"""A gunicorn configuration in which each worker says that it has loaded its app.

It writes one byte to the pipe whose file descriptor is in ``$READY_FD``; see ``examples.server``.
"""

from __future__ import annotations

import os
from typing import Any


def post_worker_init(worker: Any) -> None:
    os.write(int(os.environ["READY_FD"]), b".")
