"""Keeps out of the log what gRPC says of clients that went away in the moment they were answered.

Its asyncio server logs a traceback then, as an error, though the call is one like others that are cancelled: it
merely has not heard of that yet.
"""

from __future__ import annotations

import logging

from infersdk.web.grpc.messages import INFERENCE_SERVICE

__all__ = ["GoneClients", "pass_over_gone_clients"]


class GoneClients(logging.Filter):
    """Drops these records, of the inference service alone."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be logged."""
        kind = record.exc_info[0] if record.exc_info else None
        if kind is None or kind.__name__ != "ExecuteBatchError":
            return True
        return f"/{INFERENCE_SERVICE}/" not in record.getMessage()


_filter = GoneClients()


def pass_over_gone_clients() -> None:
    """From now on; again it does nothing."""
    logging.getLogger("grpc._cython.cygrpc").addFilter(_filter)
