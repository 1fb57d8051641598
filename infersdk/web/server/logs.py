"""How a server's processes write their logs: text for people, or a line of JSON for each record."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from infersdk.web.server.options import LogFormat, LogLevel

__all__ = ["JSONFormatter", "configuration"]


class JSONFormatter(logging.Formatter):
    """One line of JSON for each record: time (UTC), level, logger, message, process id, and a traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name.lstrip("_"),
            "message": record.getMessage(),
            "pid": record.process,
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configuration(level: LogLevel, format: LogFormat) -> dict[str, Any]:
    """What :func:`logging.config.dictConfig` takes.

    Logs go to standard error, but for the access log, which is JSON in itself and goes to standard output.

    Parameters
    ----------
    level : {"debug", "info", "warning", "error"}
        Of infersdk and of the app's own code. Granian tells less: every worker that it starts is no news.
    format : {"text", "json"}
    """
    logs: dict[str, Any] = {
        "text": {"format": "%(asctime)s %(levelname)-7s [%(process)d] %(message)s"},
        "json": {"()": "infersdk.web.server.logs.JSONFormatter"},
    }
    quieter = "INFO" if level == "debug" else "WARNING"
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"log": logs[format], "line": {"format": "%(message)s"}},
        "handlers": {
            "log": {
                "class": "logging.StreamHandler",
                "formatter": "log",
                "stream": "ext://sys.stderr",
            },
            "access": {
                "class": "logging.StreamHandler",
                "formatter": "line",
                "stream": "ext://sys.stdout",
            },
        },
        "root": {"handlers": ["log"], "level": "WARNING"},
        "loggers": {
            "infersdk": {"level": level.upper()},
            "infersdk.access": {"handlers": ["access"], "level": "INFO", "propagate": False},
            "_granian": {"level": quieter},
        },
    }
