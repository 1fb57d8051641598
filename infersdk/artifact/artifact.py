"""One model with everything needed to serve it, in memory or in a file."""

from __future__ import annotations

import os
import re
import stat
import weakref
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from infersdk.artifact import metadata
from infersdk.artifact.external import (
    CHUNK_BYTES,
    DataWriter,
    ExternalFile,
    check_references,
    embed,
    external_files_from_json,
    externalize,
    refer,
    sha256_of_file,
    weights_bytes,
)
from infersdk.artifact.files import temporary_file
from infersdk.artifact.graph import inputs_needed, prune, signature_from_graph
from infersdk.artifact.metadata import Provenance
from infersdk.errors import ArtifactError
from infersdk.types import ParityReport, Plan, PrecisionReport, Signature, TensorSpec

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["Artifact"]

MAX_MODEL_BYTES = 2**31 - 1
"""Protobuf's limit for one message; larger models keep their weights in external data."""

EXTERNAL_DATA_THRESHOLD_BYTES = 2**30
_HELD_BYTES = 64 * 2**20
_OWN_DOCUMENTS = frozenset({"model", "signature", "plan", "parity", "provenance", "external"})
_PLAIN_PLAN = Plan("onnx", "the model is ONNX already")


@dataclass(frozen=True, slots=True)
class _Mark:
    """How a file looked when it was checked; another look means that it was replaced since."""

    size_bytes: int
    modified_ns: int

    @classmethod
    def of(cls, file: str | int) -> _Mark:
        """Look at a path or an open file."""
        status = os.stat(file)
        return cls(status.st_size, status.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class _Stored:
    """Where an artifact's bytes are: ``data``, or the file ``path``; external data in ``folder``."""

    data: bytes | None
    path: str | None
    folder: str | None
    marks: tuple[tuple[str, _Mark], ...]
    sealed: bool  # the bytes are known to be as infersdk wrote them, and can be copied as they are
    model_bytes: int
    external_bytes: int


class Artifact:
    """An ordinary ONNX model, with its signature, plan, parity report and provenance.

    Safe to share between threads. Picklable: small models travel as bytes, large ones as the path of
    their file. Weights that would not fit in one file are kept in a temporary folder until
    :meth:`save`, and are removed with the artifact.

    Parameters
    ----------
    model : onnx.ModelProto or bytes
        The graph; not changed. Any earlier ``infersdk.*`` metadata is replaced.
    signature : Signature
        Must agree with the graph in the names, kinds and dtypes of its values.
    plan : Plan
    parity : ParityReport, optional
    provenance : Provenance, optional
    name : str, optional
        The model's name.
    documents : Mapping of str to dict, optional
        Further JSON objects to keep in the file under ``infersdk.<key>``, each with a whole number
        ``version``.
    external_folder : path, optional
        Where the model's external data are; they are copied.
    owns_folder : bool
        The folder is the artifact's from now on: nothing is copied, and it is removed with the artifact.

    Raises
    ------
    ArtifactError
        The signature does not fit the graph, or the model cannot be written as one ONNX model.
    """

    _digest: str | None
    _path: str | None
    _owner: Artifact | None

    def __init__(
        self,
        model: ModelProto | bytes,
        *,
        signature: Signature,
        plan: Plan,
        parity: ParityReport | None = None,
        provenance: Provenance | None = None,
        name: str | None = None,
        documents: Mapping[str, Mapping[str, Any]] | None = None,
        external_folder: str | os.PathLike[str] | None = None,
        owns_folder: bool = False,
    ) -> None:
        where = f"model `{name}`" if name else "the model"
        proto = _parse(model, where) if isinstance(model, bytes) else model
        folder = None if external_folder is None else os.fspath(external_folder)
        if folder is not None and owns_folder:
            weakref.finalize(self, _remove_folder, folder, os.getpid())
        reserved = _OWN_DOCUMENTS.intersection(documents or ())
        if reserved:
            raise ArtifactError(f"The documents {sorted(reserved)} are infersdk's own")
        _check_graph(proto, where)
        _check_signature(signature, proto, where)
        self._signature = signature
        self._plan = plan
        self._parity = parity
        self._provenance = provenance
        self._name = name
        self._documents = {key: dict(value) for key, value in (documents or {}).items()}
        self._start()
        references = check_references(proto, folder, where)
        is_small = weights_bytes(proto) <= EXTERNAL_DATA_THRESHOLD_BYTES
        if folder is not None and references and owns_folder and is_small:
            self._settle(proto, folder, references)
        elif references or not is_small:
            self._spill(proto, folder)
        else:
            data, self._digest = _seal(metadata.header(self._own_documents()), _body(proto))
            self._stored = _Stored(data, None, None, (), True, len(data), 0)

    # -- reading ---------------------------------------------------------------------------------

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        verify: bool = True,
        max_size_bytes: int | None = None,
    ) -> Artifact:
        """Open a model file; nothing in it is executed or unpickled, and weights are not kept.

        An ``.onnx`` file of another tool opens too: its signature is then read from the graph.

        Parameters
        ----------
        path : path
        verify : bool
            Compare the content with the sha256 that was written with it, external data included.
            A file written by another tool has none. Without it a file that was changed on purpose,
            by a quantizer for instance, opens as long as its signature still fits.
        max_size_bytes : int, optional
            The most bytes that the file and its external data may have together. The file itself
            can never have more than 2 GiB.

        Raises
        ------
        ArtifactError
            The file is missing, empty, truncated, changed, oversized, no ONNX model, of a newer
            infersdk, or refers to files outside its folder.
        """
        given = os.fspath(path)
        where = f"`{given}`"
        limit = MAX_MODEL_BYTES if max_size_bytes is None else min(max_size_bytes, MAX_MODEL_BYTES)
        try:
            data, mark = _read(given, limit, where)
        except OSError as exc:
            raise ArtifactError(f"{where} cannot be opened: {exc.strerror or exc}") from exc
        absolute = os.path.abspath(given)
        folder = os.path.dirname(absolute)
        return cls._adopt(data, (absolute, mark), folder, verify, max_size_bytes, where)

    @classmethod
    def from_bytes(
        cls,
        data: bytes,
        *,
        verify: bool = True,
        external_folder: str | os.PathLike[str] | None = None,
    ) -> Artifact:
        """Open a model held in memory, as :meth:`open` does.

        Parameters
        ----------
        data : bytes
        verify : bool
        external_folder : path, optional
            Where its external data are.

        Raises
        ------
        ArtifactError
        """
        folder = None if external_folder is None else os.path.abspath(os.fspath(external_folder))
        return cls._adopt(bytes(data), None, folder, verify, None, "The model")

    @property
    def name(self) -> str | None:
        """The model's name, where it was given one."""
        return self._name

    @property
    def signature(self) -> Signature:
        """What the model takes and gives."""
        return self._signature

    @property
    def plan(self) -> Plan:
        """How the model is served; always of kind ``"onnx"``."""
        return self._plan

    @property
    def parity(self) -> ParityReport | None:
        """The comparison with the source model; None where there was none."""
        return self._parity

    @property
    def provenance(self) -> Provenance | None:
        """Where the model came from; None for files written by other tools."""
        return self._provenance

    @property
    def precision(self) -> PrecisionReport | None:
        """What fewer bits cost and gained; None for a model in the precision of its source."""
        document = self._documents.get("precision")
        return None if document is None else metadata.parse_precision(document)

    @property
    def documents(self) -> dict[str, dict[str, Any]]:
        """A copy of the further JSON objects kept in the file, by key."""
        return {key: dict(value) for key, value in self._documents.items()}

    @property
    def digest(self) -> str:
        """sha256 of the model file without its seal (of the whole file, for other tools' files).

        64 hex digits, as the seal says. It covers external data too, through their own sha256 in the
        metadata.
        """
        import hashlib

        if self._digest is None:
            stored = self._stored
            self._check_unchanged(stored)
            if stored.data is not None:
                self._digest = hashlib.sha256(stored.data).hexdigest()
            else:
                assert stored.path is not None
                self._digest = sha256_of_file(stored.path)
        return self._digest

    @property
    def size_bytes(self) -> int:
        """Bytes of the model file and its external data."""
        return self._stored.model_bytes + self._stored.external_bytes

    @property
    def path(self) -> str | None:
        """Absolute path of the file it was opened from; None for a model built in memory."""
        return self._path

    @property
    def external_folder(self) -> str | None:
        """Folder of the external data, for a session made from bytes; None where there are none."""
        return self._stored.folder

    @property
    def heads(self) -> tuple[str, ...]:
        """The heads of the signature's methods, in order of first use."""
        return tuple(dict.fromkeys(method.head for method in self._signature.methods))

    def session_model(self, head: str | None = None) -> bytes | str:
        """Return what a session of one head is made from.

        Parameters
        ----------
        head : str, optional
            Only the outputs of this head's methods, and what they need, are in the model. By default
            the whole model. Inputs are the same for every head, but for those that a step fills and
            this head does not read (:meth:`inputs_of`).

        Returns
        -------
        bytes or str
            A serialized model, or the path of a file that is large or has external data. Bytes with
            external data need :attr:`external_folder`. Outputs are in the graph's order.

        Raises
        ------
        ArtifactError
            There is no such head, or the file was replaced after it was opened.
        """
        if head is None:
            wanted = {spec.name for spec in self._signature.outputs}
        elif head not in self.heads:
            raise ArtifactError(f"Expected one of the heads {self.heads}, got {head!r}")
        else:
            wanted = {
                name
                for method in self._signature.methods
                if method.head == head
                for name in method.outputs
            }
        stored = self._stored
        self._check_unchanged(stored)
        if all(spec.name in wanted for spec in self._signature.outputs):
            if stored.path is not None:
                return stored.path
            assert stored.data is not None
            return stored.data
        key = frozenset(wanted)
        pruned = self._pruned.get(key)
        if pruned is None:
            # Two threads may both do this work; a lock could be left taken in a forked child.
            proto = prune(self._load(stored), wanted, self._filled_by_steps)
            pruned = self._pruned.setdefault(key, _serialize(proto, repr(self)))
        return pruned

    def stage_model(self, outputs: Collection[str]) -> bytes:
        """Return the part of the graph that computes some of its outputs, with no input beside theirs.

        Raises
        ------
        ArtifactError
            The graph has no such output, or the file was replaced after it was opened.
        """
        stored = self._stored
        self._check_unchanged(stored)
        every_input = [spec.name for spec in self._signature.inputs]
        return _serialize(prune(self._load(stored), outputs, every_input), repr(self))

    def inputs_of(self, outputs: Collection[str]) -> tuple[str, ...]:
        """Names of the inputs that a session over these outputs has, in order."""
        droppable = self._filled_by_steps
        if droppable:
            droppable -= set(inputs_needed(self._load(self._stored), outputs))
        return tuple(spec.name for spec in self._signature.inputs if spec.name not in droppable)

    @property
    def _filled_by_steps(self) -> set[str]:
        return {name for step in self._signature.steps for name in step.outputs}

    # -- writing ---------------------------------------------------------------------------------

    def revised(
        self,
        *,
        signature: Signature,
        plan: Plan,
        parity: ParityReport | None,
        documents: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Artifact:
        """Return the same model with another signature, plan and parity report, and further documents.

        Weights that are in a file are shared with this artifact, not copied.

        Raises
        ------
        ArtifactError
            The signature does not fit the graph.
        """
        stored = self._stored
        proto = self._load(stored)
        kept = {**self._documents, **{k: dict(v) for k, v in (documents or {}).items()}}
        if stored.path is None and stored.folder is None:
            return Artifact(
                proto,
                signature=signature,
                plan=plan,
                parity=parity,
                provenance=self._provenance,
                name=self._name,
                documents=kept,
            )
        _check_signature(signature, proto, repr(self))
        other = Artifact.__new__(Artifact)
        other.__dict__.update(self.__dict__)
        other._signature, other._plan, other._parity = signature, plan, parity
        other._documents = kept
        # What the file says of itself is out of date now: saving writes it anew.
        other._stored = replace(stored, sealed=False)
        other._pruned = {}
        other._owner = self
        return other

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        external_data_threshold_bytes: int | None = None,
    ) -> str:
        """Write the model so that a reader finds the file before or the file after, never a part.

        Parameters
        ----------
        path : path
            ``churn.onnx``. Its folder must exist. A file that is there is replaced, and so are the
            external data of an artifact that is replaced.
        external_data_threshold_bytes : int, optional
            With more bytes of weights than this, weights of 1 KiB or more go to one file
            ``churn.<sha256>.onnx.data`` beside it, named after its content so that the data of the
            replaced artifact stay whole until the model file itself is exchanged. By default
            1 GiB, except that external data stay external.

        Returns
        -------
        str
            Absolute path of the file.

        Raises
        ------
        ArtifactError
            The model does not fit in an ONNX file, or its own file was replaced after it was opened.
        OSError
            The folder is missing, not writable or full.
        """
        absolute = os.path.abspath(os.fspath(path))
        if os.path.isdir(absolute):
            raise ArtifactError(
                f"Expected the name of a file to write, got the folder `{absolute}`"
            )
        stored = self._stored
        self._check_unchanged(stored)
        predecessors = _data_files_of(absolute)
        threshold = external_data_threshold_bytes
        if threshold is None:
            threshold = -1 if stored.external_bytes else EXTERNAL_DATA_THRESHOLD_BYTES
        if stored.sealed and not stored.external_bytes and stored.model_bytes <= threshold:
            self._copy(stored, absolute)
        else:
            proto = self._load(stored)
            if weights_bytes(proto) + stored.external_bytes > threshold:
                predecessors -= self._write_external(proto, stored.folder, absolute)
            else:
                if stored.folder is not None:
                    embed(proto, stored.folder)
                self._write_embedded(proto, absolute)
        for name in predecessors:
            with suppress(OSError):
                os.unlink(os.path.join(os.path.dirname(absolute), name))
        if self._path == absolute:
            # Saved over the file it was opened from: that is where its weights are now.
            self._move_to(absolute)
        return absolute

    # -- inside ----------------------------------------------------------------------------------

    @classmethod
    def _adopt(
        cls,
        data: bytes,
        origin: tuple[str, _Mark] | None,
        folder: str | None,
        verify: bool,
        max_size_bytes: int | None,
        where: str,
    ) -> Artifact:
        if not data:
            raise ArtifactError(f"{where} is empty")
        ours, sealed, digest = _read_seal(data, verify, where)
        proto = _parse(data, where)
        documents, entry = metadata.split_entries(proto)
        if (documents or entry) and not ours:
            # Another tool read the file and wrote it anew, with our metadata somewhere inside.
            ours = True
            if verify:
                raise _changed(where)
        _check_graph(proto, where)
        references = check_references(proto, folder, where)
        external = external_files_from_json(documents.pop("external", {"files": []}))
        total = len(data) + sum(references.values())
        if max_size_bytes is not None and total > max_size_bytes:
            raise ArtifactError(
                f"Expected at most {max_size_bytes} bytes in {where} and its external data, got {total}"
            )
        files = [os.path.join(folder or "", location) for location in references]
        marks = [(file, _Mark.of(file)) for file in files]
        if sealed and verify:
            _check_external(external, references, folder, where)

        self = cls.__new__(cls)
        self._start()
        self._digest = digest
        self._path = None if origin is None else origin[0]
        self._name = documents.pop("model", {}).get("name")
        if not isinstance(self._name, str | None):
            raise ArtifactError(f"Expected text as the name in {where}, got {self._name!r}")
        if "signature" in documents:
            self._signature = metadata.parse_signature(documents.pop("signature"))
            _check_signature(self._signature, proto, where)
        elif ours:
            raise ArtifactError(f"{where} was written by infersdk but has no signature")
        else:
            self._signature = signature_from_graph(proto)
        plan, parity, provenance = (
            documents.pop(k, None) for k in ("plan", "parity", "provenance")
        )
        self._plan = _PLAIN_PLAN if plan is None else metadata.parse_plan(plan)
        self._parity = None if parity is None else metadata.parse_parity(parity)
        self._provenance = None if provenance is None else metadata.parse_provenance(provenance)
        self._documents = documents
        path = None
        if origin is not None and (references or len(data) > _HELD_BYTES):
            path = origin[0]
            marks.append(origin)
        self._stored = _Stored(
            data=data if path is None else None,
            path=path,
            folder=folder if references else None,
            marks=tuple(marks),
            sealed=sealed,
            model_bytes=len(data),
            external_bytes=sum(references.values()),
        )
        return self

    def _start(self) -> None:
        self._pruned: dict[frozenset[str], bytes] = {}
        self._digest = None
        self._path = None
        self._temporary = False
        # Keeps the temporary folder of another artifact, whose weights this one shares.
        self._owner = None

    def _move_to(self, path: str) -> None:
        """Take the file just written as the place where this artifact's bytes are."""
        written = Artifact.open(path, verify=False)
        self._stored = replace(written._stored, sealed=True)
        self._digest = written._digest

    def _spill(self, proto: ModelProto, folder: str | None) -> None:
        """Keep weights that are too large for memory, or someone else's, in a folder of our own."""
        import tempfile

        temporary = tempfile.mkdtemp(prefix="infersdk-")
        weakref.finalize(self, _remove_folder, temporary, os.getpid())
        path = os.path.join(temporary, "model.onnx")
        self._temporary = True
        self._write_external(proto, folder, path, durable=False)
        self._move_to(path)

    def _settle(self, proto: ModelProto, folder: str, references: Mapping[str, int]) -> None:
        """Write the model beside its external data, in a folder that is this artifact's."""
        external = (
            ExternalFile(location, size, sha256_of_file(os.path.join(folder, location)))
            for location, size in references.items()
        )
        data, _ = _seal(metadata.header(self._own_documents(*external)), _body(proto))
        path = os.path.join(folder, "model.onnx")
        with open(path, "wb") as file:
            file.write(data)
        self._temporary = True
        self._move_to(path)

    def _own_documents(self, *external: ExternalFile) -> dict[str, Mapping[str, Any]]:
        documents: dict[str, Mapping[str, Any]] = {
            "model": {"name": self._name},
            "signature": self._signature.to_json(),
            "plan": self._plan.to_json(),
        }
        if self._parity is not None:
            documents["parity"] = self._parity.to_json()
        if self._provenance is not None:
            documents["provenance"] = self._provenance.to_json()
        if external:
            documents["external"] = {"files": [file.to_json() for file in external]}
        return documents | self._documents

    def _write_external(
        self, proto: ModelProto, folder: str | None, path: str, *, durable: bool = True
    ) -> set[str]:
        """Write the model, and its large weights to a file whose name is returned."""
        target, name = os.path.split(path)
        stem = name.removesuffix(".onnx")
        with temporary_file(target) as data_file:
            writer = DataWriter(data_file.file)
            slim, placed = externalize(proto, folder, writer)
            if not placed:
                self._write_embedded(slim, path)
                return set()
            location = f"{stem}.{writer.sha256[:12]}.onnx.data"
            refer(placed, location)
            external = ExternalFile(location, writer.size_bytes, writer.sha256)
            data, _ = _seal(metadata.header(self._own_documents(external)), _body(slim))
            with temporary_file(target) as model_file:
                model_file.file.write(data)
                data_file.commit(location, durable=durable)
                model_file.commit(name, durable=durable)
        return {location}

    def _write_embedded(self, proto: ModelProto, path: str) -> None:
        data, _ = _seal(metadata.header(self._own_documents()), _body(proto))
        target, name = os.path.split(path)
        with temporary_file(target) as file:
            file.file.write(data)
            file.commit(name)

    def _copy(self, stored: _Stored, path: str) -> None:
        import shutil

        target, name = os.path.split(path)
        with temporary_file(target) as file:
            if stored.data is not None:
                file.file.write(stored.data)
            else:
                assert stored.path is not None
                with open(stored.path, "rb") as source:
                    shutil.copyfileobj(source, file.file, CHUNK_BYTES)
            file.commit(name)

    def _load(self, stored: _Stored) -> ModelProto:
        """Parse the model again; external weights stay outside."""
        data = stored.data
        if data is None:
            assert stored.path is not None
            with open(stored.path, "rb") as file:
                data = file.read()
        return _parse(data, repr(self))

    def _check_unchanged(self, stored: _Stored) -> None:
        for path, mark in stored.marks:
            try:
                same = _Mark.of(path) == mark
            except OSError as exc:
                raise ArtifactError(
                    f"`{path}` is gone since it was opened: {exc.strerror}"
                ) from exc
            if not same:
                raise ArtifactError(
                    f"`{path}` was replaced after it was opened. Open it again to use the new file"
                )

    def __getstate__(self) -> dict[str, Any]:
        if self._temporary:
            raise ArtifactError(
                f"{self!r} keeps its weights in a temporary folder of this process. Save it, and "
                "pickle the Artifact opened from that file"
            )
        state = dict(self.__dict__)
        del state["_pruned"], state["_owner"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._start()
        self.__dict__.update(state)

    def __repr__(self) -> str:
        methods = ", ".join(method.name for method in self._signature.methods)
        name = self._name or self.path or "unnamed"
        return f"<Artifact {name}: {methods}; {self.size_bytes} bytes, {self._plan.kind}>"


def _seal(head: bytes, body: bytes) -> tuple[bytes, str]:
    """Join header, body and the trailer over both; the digest comes second."""
    import hashlib

    digest = hashlib.sha256(head)
    digest.update(body)
    text = digest.hexdigest()
    data = b"".join((head, body, metadata.trailer(text)))
    if len(data) > MAX_MODEL_BYTES:
        raise ArtifactError(
            f"Expected at most {MAX_MODEL_BYTES} bytes of graph, got {len(data)}: what is not in "
            "initializers cannot be stored as external data"
        )
    return data, text


def _read_seal(data: bytes, verify: bool, where: str) -> tuple[bool, bool, str | None]:
    """Whether a file looks like ours, whether its seal was found whole, and the seal's digest."""
    import hashlib

    prefix = metadata.PREFIX.encode()
    seal = data[-metadata.TRAILER_BYTES :]
    # Both ends are asked, so that damage to one does not make it look like another tool's file.
    if prefix not in data[:64] and prefix not in seal:
        return False, False, None
    if not verify:
        return True, False, metadata.digest_of_trailer(seal)
    digest = hashlib.sha256(memoryview(data)[: -metadata.TRAILER_BYTES]).hexdigest()
    if seal != metadata.trailer(digest):
        raise _changed(where)
    return True, True, digest


def _changed(where: str) -> ArtifactError:
    return ArtifactError(
        f"{where} was truncated or changed after it was written: its content does not match its "
        "sha256. Copy or convert it again; if you changed it on purpose, open it with verify=False "
        "and save it"
    )


def _check_external(
    declared: tuple[ExternalFile, ...], used: dict[str, int], folder: str | None, where: str
) -> None:
    """Compare a sealed model's external data with what was written."""
    if {file.location for file in declared} != set(used):
        raise ArtifactError(f"{where}: the external data are not those listed in its metadata")
    for file in declared:
        path = os.path.join(folder or "", file.location)
        if used[file.location] != file.size_bytes or sha256_of_file(path) != file.sha256:
            raise ArtifactError(
                f"{where}: the external data {file.location!r} were truncated or changed after they "
                "were written. Copy both files again"
            )


def _check_graph(model: ModelProto, where: str) -> None:
    if not model.HasField("graph") or not model.graph.output:
        raise ArtifactError(f"{where} is no ONNX model: it has no graph with an output")
    if model.ir_version < 1 or not model.opset_import:
        raise ArtifactError(f"{where} is no ONNX model: it names no IR version or operator set")


def _check_signature(signature: Signature, model: ModelProto, where: str) -> None:
    """Make sure that a signature talks about this graph, so that binding by it cannot go astray."""
    graph = signature_from_graph(model)
    for kind, ours, theirs in (
        ("inputs", signature.inputs, graph.inputs),
        ("outputs", signature.outputs, graph.outputs),
    ):
        if [_identity(spec) for spec in ours] != [_identity(spec) for spec in theirs]:
            raise ArtifactError(
                f"{where}: expected the graph's {kind} in its signature "
                f"({', '.join(f'{spec.name}: {spec}' for spec in theirs)}), "
                f"got ({', '.join(f'{spec.name}: {spec}' for spec in ours)})"
            )
    if not signature.methods:
        raise ArtifactError(f"{where}: its signature has no method")
    outputs = {spec.name for spec in graph.outputs}
    names = [method.name for method in signature.methods]
    if len(set(names)) != len(names):
        raise ArtifactError(f"{where}: its signature has a method twice: {', '.join(names)}")
    for method in signature.methods:
        unknown = set(method.outputs) - outputs
        if unknown or not method.outputs:
            raise ArtifactError(
                f"{where}: method `{method.name}` needs outputs of the graph "
                f"({', '.join(sorted(outputs))}), got {method.outputs}"
            )
    inputs = {spec.name: spec for spec in graph.inputs}
    for field in signature.fields:
        if field.input is None:
            continue
        spec = inputs.get(field.input)
        if spec is None:
            raise ArtifactError(
                f"{where}: field `{field.name}` fills the input {field.input!r}, which is none"
            )
        width = spec.shape[-1] if isinstance(spec, TensorSpec) and spec.shape else None
        if field.column < 0 or (isinstance(width, int) and field.column >= width):
            raise ArtifactError(
                f"{where}: field `{field.name}` fills column {field.column} of {field.input!r}, "
                f"which has {width}"
            )
    _check_steps(signature, set(inputs), outputs, where)


def _check_steps(signature: Signature, inputs: set[str], outputs: set[str], where: str) -> None:
    """Make sure that the steps fill inputs of the graph, each once, from what there is before them."""
    names = [step.name for step in signature.steps]
    if len(set(names)) != len(names):
        raise ArtifactError(f"{where}: its signature has a step twice: {', '.join(names)}")
    taken = {field.input for field in signature.fields}
    for step in signature.steps:
        filled = set(step.outputs)
        if not filled or not filled <= inputs or len(filled) < len(step.outputs) or filled & taken:
            raise ArtifactError(
                f"{where}: step `{step.name}` should fill inputs of the graph ({', '.join(sorted(inputs))}) "
                f"that nothing else fills, got {step.outputs}"
            )
        taken |= filled
        if not outputs.issuperset(step.tensors):
            raise ArtifactError(
                f"{where}: step `{step.name}` reads outputs of the graph "
                f"({', '.join(sorted(outputs))}), got {step.tensors}"
            )
        n_fields = len(signature.fields)
        if not all(0 <= position < n_fields for position in step.columns or ()):
            raise ArtifactError(
                f"{where}: step `{step.name}` reads fields 0 to {n_fields - 1}, got {step.columns}"
            )
        if (step.kind == "source") != (step.method is not None):
            raise ArtifactError(f"{where}: step `{step.name}` has the method {step.method!r}")


def _identity(spec: Any) -> Any:
    """Name, kind and dtype of a value; its shape may be known better than the graph does."""
    data = spec.to_json()

    def without_shape(item: dict[str, Any]) -> dict[str, Any]:
        return {
            key: without_shape(value) if isinstance(value, dict) else value
            for key, value in item.items()
            if key != "shape"
        }

    return without_shape(data)


def _parse(data: bytes, where: str) -> ModelProto:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.ModelProto.FromString(data)
    except (DecodeError, ValueError, RecursionError) as exc:
        raise ArtifactError(f"{where} is no ONNX model, or a truncated one: {exc}") from exc


def _serialize(model: ModelProto, where: str) -> bytes:
    from google.protobuf.message import EncodeError

    try:
        return model.SerializeToString()
    except (EncodeError, ValueError) as exc:
        raise ArtifactError(f"{where} is too large for one ONNX message: {exc}") from exc


def _body(model: ModelProto) -> bytes:
    """Serialize a model without infersdk's entries."""
    import onnx

    if any(entry.key.startswith(metadata.PREFIX) for entry in model.metadata_props):
        bare = onnx.ModelProto()
        bare.CopyFrom(model)
        kept = [entry for entry in bare.metadata_props if not entry.key.startswith(metadata.PREFIX)]
        del bare.metadata_props[:]
        bare.metadata_props.extend(kept)
        model = bare
    return _serialize(model, "The model")


def _read(path: str, limit: int, where: str) -> tuple[bytes, _Mark]:
    """Read a regular file of at most ``limit`` bytes."""
    # Without O_NONBLOCK, opening a named pipe would wait for its writer.
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise ArtifactError(f"{where} is no regular file")
        if status.st_size > limit:
            raise ArtifactError(f"Expected at most {limit} bytes in {where}, got {status.st_size}")
        mark = _Mark.of(handle)
        with os.fdopen(handle, "rb", closefd=False) as file:
            data = file.read(limit + 1)
    finally:
        os.close(handle)
    if len(data) > limit:
        raise ArtifactError(
            f"Expected at most {limit} bytes in {where}, which grew while it was read"
        )
    return data, mark


def _data_files_of(path: str) -> set[str]:
    """Names of the external data that :meth:`Artifact.save` wrote for the artifact at ``path``."""
    stem = os.path.basename(path).removesuffix(".onnx")
    own_name = re.compile(re.escape(stem) + r"\.[0-9a-f]{12}\.onnx\.data")
    try:
        with open(path, "rb") as file:
            text = metadata.leading_entries(file).get(metadata.PREFIX + "external")
        files = external_files_from_json(metadata.decode("external", text)) if text else ()
    except (OSError, ArtifactError):
        return set()
    return {file.location for file in files if own_name.fullmatch(file.location)}


def _remove_folder(folder: str, pid: int) -> None:
    import shutil

    # A forked child inherits the finalizer; the folder is still its parent's.
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)
