"""The model file: an ordinary ``.onnx`` file, and what infersdk writes into its metadata.

- :class:`Artifact` opens, checks, saves and hands out models; opening never executes anything.
- :class:`Provenance` says where a model came from.
- :func:`signature_from_graph` derives a signature from a graph that has none of our metadata.

``metadata`` describes the file's layout and how its documents change over time, ``external`` the
weights beside it.
"""

from __future__ import annotations

from infersdk.artifact.artifact import Artifact
from infersdk.artifact.graph import signature_from_graph
from infersdk.artifact.metadata import Provenance

__all__ = ["Artifact", "Provenance", "signature_from_graph"]
