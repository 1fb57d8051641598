"""The model file: an ordinary ``.onnx`` file, and what infersdk writes into its metadata.

- :class:`Artifact` opens, checks, saves and hands out models; opening never executes anything.
- :func:`signature_from_graph` derives a signature from a graph that has none of our metadata.
"""

from __future__ import annotations

from infersdk.artifact.graph import signature_from_graph

__all__ = ["signature_from_graph"]
