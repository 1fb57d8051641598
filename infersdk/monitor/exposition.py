"""Metrics as Prometheus scrapes them: its text format 0.0.4, and OpenMetrics 1.0 for who asks for it.

Written directly, without a registry: a scrape costs milliseconds for dozens of models, keeps no state and takes
no lock. The names are in `families`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Literal

from infersdk.monitor.aliases import alias_families
from infersdk.monitor.exemplars import Exemplar, Exemplars
from infersdk.monitor.families import Buckets, Family, Labels, check_labels, families, number
from infersdk.monitor.snapshot import MetricsSource, RequestMetrics

__all__ = ["CONTENT_TYPES", "Format", "negotiate", "render", "write"]

Format = Literal["text", "openmetrics"]

CONTENT_TYPES: Mapping[Format, str] = {
    "text": "text/plain; version=0.0.4; charset=utf-8",
    "openmetrics": "application/openmetrics-text; version=1.0.0; charset=utf-8",
}

_TEXT_TYPES = ("text/plain", "text/*", "*/*")
_LABEL_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def render(
    source: MetricsSource,
    *,
    accept: str | None = None,
    aliases: Collection[str] = (),
    exemplars: Exemplars | None = None,
    requests: RequestMetrics | None = None,
    labels: Mapping[str, str] | None = None,
) -> tuple[bytes, str]:
    """Write the metrics of a source.

    Parameters
    ----------
    source : MetricsSource
        Asked once.
    accept : str, optional
        The Accept header of the scrape; see :func:`negotiate`.
    aliases : collection of str
        Names of servers whose names to export besides: "triton", "kserve", "mlserver".
    exemplars : Exemplars, optional
        Traces for the buckets of ``infersdk_call_duration_seconds``. Only OpenMetrics has them.
    requests : RequestMetrics, optional
        What was asked over HTTP.
    labels : Mapping of str to str, optional
        Added to every series: ``{"pid": "71"}``, where each process counts by itself.

    Returns
    -------
    body : bytes
    content_type : str

    Raises
    ------
    TypeError, ValueError
        An alias is not known, or a label is not possible.
    """
    constant = check_labels(labels or {})
    format = negotiate(accept)
    models = source.metrics()
    listed = families(models, exemplars=exemplars, requests=requests)
    listed += alias_families(models, aliases)
    return write(listed, constant, format), CONTENT_TYPES[format]


def negotiate(accept: str | None) -> Format:
    """Choose the format that an Accept header asks for.

    OpenMetrics only where it is named and liked no less than text; a scraper that takes neither gets text, as
    Prometheus's own libraries do.

    Parameters
    ----------
    accept : str or None
        The header, None where there is none.
    """
    openmetrics = text = 0.0
    for item in (accept or "").split(","):
        kind, *parameters = (part.strip() for part in item.split(";"))
        given = dict(_parameter(one) for one in parameters)
        version = given.get("version")
        if kind.lower() == "application/openmetrics-text" and version in (None, "1.0.0"):
            openmetrics = max(openmetrics, _weight(given))
        elif kind.lower() in _TEXT_TYPES and version in (None, "0.0.4"):
            text = max(text, _weight(given))
    return "openmetrics" if openmetrics > 0 and openmetrics >= text else "text"


def _parameter(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name.strip().lower(), value.strip().strip('"')


def _weight(parameters: Mapping[str, str]) -> float:
    try:
        weight = float(parameters.get("q", "1"))
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0


def write(listed: Sequence[Family], constant: Labels, format: Format) -> bytes:
    """Write families that were collected already.

    Parameters
    ----------
    listed : sequence of Family
        Those without a series are left out.
    constant : Labels
        Added to every series.
    format : {"text", "openmetrics"}
    """
    lines: list[str] = []
    for family in listed:
        if not family.series:
            continue
        _write_head(lines, family, format)
        for labels, value in family.series:
            inside = ",".join(
                f'{name}="{text.translate(_LABEL_ESCAPES)}"' for name, text in (*labels, *constant)
            )
            if isinstance(value, Buckets):
                _write_buckets(lines, family, inside, value, format)
            else:
                braces = f"{{{inside}}}" if inside else ""
                lines.append(f"{family.name}{braces} {number(value)}")
    if format == "openmetrics":
        lines.append("# EOF")
    # A lone surrogate is in no encoding; a question mark is better than no metrics at all.
    return ("\n".join(lines) + "\n").encode("utf-8", "replace") if lines else b""


def _write_head(lines: list[str], family: Family, format: Format) -> None:
    name, kind = family.name, str(family.kind)
    text = family.help.replace("\\", r"\\").replace("\n", r"\n")
    if format == "openmetrics":
        text = text.replace('"', r"\"")
        suffix = {"counter": "_total", "info": "_info"}.get(kind, "")
        if name.endswith(suffix):
            name = name.removesuffix(suffix)
        else:
            # Another server's counter, whose name OpenMetrics does not allow for one.
            kind = "unknown"
    elif kind == "info":
        kind = "gauge"
    lines.append(f"# HELP {name} {text}")
    lines.append(f"# TYPE {name} {kind}")
    if format == "openmetrics" and name.endswith("_seconds"):
        lines.append(f"# UNIT {name} seconds")


def _write_buckets(
    lines: list[str], family: Family, inside: str, value: Buckets, format: Format
) -> None:
    name, comma = family.name, "," if inside else ""
    if family.kind == "histogram":
        shown = value.exemplars if format == "openmetrics" else {}
        begin = f"{name}_bucket{{{inside}{comma}"
        for place, (end, count) in enumerate(zip(_ends(value.bounds), value.counts, strict=True)):
            traced = _exemplar(shown[place]) if place in shown else ""
            lines.append(f"{begin}{end}{count}{traced}")
    braces = f"{{{inside}}}" if inside else ""
    lines.append(f"{name}_count{braces} {value.counts[-1]}")
    lines.append(f"{name}_sum{braces} {number(value.sum)}")


@lru_cache(maxsize=64)
def _ends(bounds: tuple[float, ...]) -> list[str]:
    """What follows the labels in each bucket's line: writing floats is most of what a scrape costs."""
    return [f'le="{number(bound)}"}} ' for bound in (*bounds, float("inf"))]


def _exemplar(one: Exemplar) -> str:
    trace_id = one.trace_id.translate(_LABEL_ESCAPES)
    return f' # {{trace_id="{trace_id}"}} {number(one.seconds)} {one.time_s:.3f}'
