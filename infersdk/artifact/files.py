"""Writing files so that a reader finds the old one or the new one, never a part."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

__all__ = ["TemporaryFile", "temporary_file"]


class TemporaryFile:
    """A file under construction beside its destination.

    Attributes
    ----------
    file : binary file
        What to write to.
    """

    def __init__(self, folder: str) -> None:
        import secrets

        self.path = os.path.join(folder, f".infersdk-{os.getpid()}-{secrets.token_hex(4)}.tmp")
        # 0o666 and not mkstemp's 0o600: the umask decides, as for any file the user writes.
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        self.file: BinaryIO = os.fdopen(handle, "wb")
        self._folder = folder

    def commit(self, name: str, *, durable: bool = True) -> None:
        """Give the finished file its name, replacing what is there.

        Durable, the content reaches the disk before the name does, so that a crash of the machine
        leaves no empty file.
        """
        self.file.flush()
        if durable:
            os.fsync(self.file.fileno())
        self.file.close()
        os.replace(self.path, os.path.join(self._folder, name))
        if durable:
            _sync_folder(self._folder)

    def discard(self) -> None:
        """Remove the file unless it was committed."""
        self.file.close()
        with suppress(FileNotFoundError):
            os.unlink(self.path)


@contextmanager
def temporary_file(folder: str) -> Iterator[TemporaryFile]:
    """Open a :class:`TemporaryFile` that is gone afterwards unless it was committed."""
    file = TemporaryFile(folder)
    try:
        yield file
    finally:
        file.discard()


def _sync_folder(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Some network file systems cannot; the rename itself is done.
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)
