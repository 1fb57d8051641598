"""The sessions of one head: opened on first use, on every device, and set to share runs.

A head is a part of the graph that has its own outputs (raw scores beside probabilities, say). The main
method's head is opened and calibrated when the model is loaded. Others are opened when first asked and run
as the calibration of the first says: measuring them too would cost the first request time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from infersdk._native import Session
from infersdk.options import Batching
from infersdk.runtime.calibration import Calibration
from infersdk.runtime.row_independence import why_no_batch_axis
from infersdk.types import TensorSpec

__all__ = ["Head", "start_batching"]

_OWN_THREAD_S = 10e-6
_QUEUE_S = 24e-6


class Head:
    """The sessions that compute one head's outputs.

    Parameters
    ----------
    open_sessions : callable
        Gives the session of each device, at least one; the first is the one that is called.
    """

    __slots__ = ("_lock", "_open", "_prepare", "_sessions", "closed")

    def __init__(self, open_sessions: Callable[[], list[Session]]) -> None:
        self._open = open_sessions
        self._prepare: Callable[[list[Session]], None] | None = None
        self._sessions: list[Session] | None = None
        self._lock = threading.Lock()
        self.closed = False

    @property
    def session(self) -> Session:
        """The session to call; opened now if it is not yet."""
        sessions = self._sessions
        if sessions is None:
            with self._lock:
                if self._sessions is None:
                    self._sessions = self._open()
                    if self._prepare is not None:
                        self._prepare(self._sessions)
                    if self.closed:
                        self._close_sessions()
                sessions = self._sessions
        return sessions[0]

    @property
    def is_open(self) -> bool:
        return self._sessions is not None

    def prepare(self, function: Callable[[list[Session]], None]) -> None:
        """Call a function with the sessions: now, or when they are opened."""
        with self._lock:
            self._prepare = function
            if self._sessions is not None:
                function(self._sessions)

    def close(self) -> None:
        with self._lock:
            self.closed = True
            if self._sessions is not None:
                self._close_sessions()

    def renew_lock(self) -> None:
        self._lock = threading.Lock()

    def _close_sessions(self) -> None:
        # The first one's queue uses the others.
        for session in self._sessions or ():
            session.close()


def start_batching(
    sessions: Sequence[Session],
    *,
    calibration: Calibration,
    batching: Batching,
    pad: dict[str, dict[str, Any]],
) -> None:
    """Let the calls of a head share its sessions' replicas and runs, as far as its graph allows."""
    first = sessions[0]
    tensors = all(isinstance(spec, TensorSpec) for spec in (*first.inputs, *first.outputs))
    if not tensors or (batching.enabled is False and len(sessions) == 1):
        return
    merge = (
        calibration.mergeable
        and batching.enabled is not False
        and calibration.max_batch_size > 1
        and why_no_batch_axis(first) is None
    )
    first.start_batching(
        merge=merge,
        max_batch_size=calibration.max_batch_size if merge else 1,
        split_size=calibration.max_batch_size if merge and _may_split(first) else 0,
        instances=calibration.instances,
        max_queue_size=batching.max_queue_size,
        max_queue_bytes=batching.max_queue_bytes,
        timeout_s=batching.timeout_s,
        always=batching.enabled is True and merge,
        queues_short=merge and _queue_pays(calibration),
        replicas=sessions[1:],
        pad=pad if merge else {},
        learned_sizes=batching.pad_to == "buckets",
    )


def _queue_pays(calibration: Calibration) -> bool:
    """Whether short runs that give up the GIL get more done in batches than each in its own thread.

    Beyond the run itself a call costs about 10 us of processor time in its own thread and 24 us through
    the queue (32 threads on two cores: 8 to 20, and 22 to 26).
    """
    if calibration.run_s is None:
        return False
    in_batch_s = min(point.row_s for point in calibration.curve)
    return calibration.run_s + _OWN_THREAD_S > in_batch_s + _QUEUE_S


def _may_split(session: Session) -> bool:
    """Whether all rows of a call get outputs of one shape, whichever run they are in."""
    known = {
        dim
        for spec in session.inputs
        if isinstance(spec, TensorSpec)
        for dim in (spec.shape or ())
        if isinstance(dim, str)
    }
    return all(
        isinstance(spec, TensorSpec)
        and spec.shape is not None
        and all(isinstance(dim, int) or dim in known for dim in spec.shape[1:])
        for spec in session.outputs
    )
