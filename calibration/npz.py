"""Arrays in an .npz file, read a few rows at a time: memory does not grow with the file.

An .npz is a zip of .npy files. Each is a header (dtype, order, shape) and then the elements, row
after row, so samples along axis 0 can be read in turn whether or not the zip is compressed.
Nothing is unpickled.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from edgec.calibration.sources import LABELS, Array, Chunk, Header
from edgec.errors import UsageError

_AGAIN = "write it with numpy.savez(path, INPUT=array)"
_AXIS = "stack samples along axis 0"


@dataclass(frozen=True)
class Npz:
    """The arrays of an .npz file, labels under ``labels``."""

    path: Path
    kind = "npz"

    @property
    def subject(self) -> str:
        """The file's path."""
        return str(self.path)

    def header(self) -> Header:
        """The arrays' dtypes and shapes, from their headers alone."""
        with self._opened() as archive, ExitStack() as stack:
            members = self._members(archive, stack)
            shapes = {m.name: (m.dtype, m.shape[1:]) for m in members if m.name != LABELS}
            lengths = {m.name: m.shape[0] for m in members}
            return Header(shapes, LABELS in lengths, lengths)

    def chunks(self, rows: int) -> Iterator[Chunk]:
        """`rows` rows of every array at a time."""
        with self._opened() as archive, ExitStack() as stack:
            members = self._members(archive, stack)
            count = max((member.shape[0] for member in members), default=0)
            for start in range(0, count, rows):
                part = {m.name: m.read(min(rows, m.shape[0] - start)) for m in members}
                labels = part.pop(LABELS, None)
                yield part, labels

    @contextmanager
    def _opened(self) -> Iterator[zipfile.ZipFile]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                yield archive
        except OSError as error:
            raise UsageError(
                self.subject, f"cannot be read: {error.strerror}", "check its rights"
            ) from None
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise UsageError(
                self.subject,
                f"is not an .npz file, or a damaged one: {error}",
                "write it with numpy.savez(path, INPUT=array, labels=labels)",
            ) from None

    def _members(self, archive: zipfile.ZipFile, stack: ExitStack) -> list[_Member]:
        members = []
        for info in archive.infolist():
            if not info.filename.endswith(".npy") or info.flag_bits & 1:
                fact = f"holds '{info.filename}', which is not a readable .npy"
                raise UsageError(self.subject, fact, "write it with numpy.savez")
            file = stack.enter_context(archive.open(info))
            members.append(_Member.open(file, info, f"{self.subject}: {info.filename[:-4]}"))
        return members


@dataclass(frozen=True)
class _Member:
    """One array, its elements still to be read from `file`."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    file: IO[bytes]
    subject: str

    @classmethod
    def open(cls, file: IO[bytes], info: zipfile.ZipInfo, subject: str) -> _Member:
        try:
            version = npy.read_magic(file)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, column_major, dtype = read(file)
        except ValueError as error:
            # numpy's text explains, on a second line, an option that edgec does not offer
            raise UsageError(
                subject, f"is not an .npy: {str(error).splitlines()[0]}", _AGAIN
            ) from None
        if dtype.hasobject:
            remedy = "save numbers: numpy.asarray(x, dtype='float32')"
            raise UsageError(subject, "holds Python objects, which edgec does not read", remedy)
        if not shape:
            raise UsageError(subject, "is a scalar: it has no axis of samples", _AXIS)
        if column_major and len(shape) > 1:
            remedy = "save numpy.ascontiguousarray(x)"
            raise UsageError(subject, "is stored column by column", remedy)
        if info.file_size != file.tell() + prod(shape) * dtype.itemsize:
            raise UsageError(
                subject, f"is damaged: its size is not that of shape {list(shape)}", _AGAIN
            )
        return cls(info.filename[:-4], dtype, shape, file, subject)

    def read(self, rows: int) -> Array:
        """The next rows."""
        shape = (rows, *self.shape[1:])
        content = self.file.read(prod(shape) * self.dtype.itemsize)
        try:
            return np.frombuffer(content, self.dtype).reshape(shape)
        except ValueError:
            raise UsageError(self.subject, "ends early", _AGAIN) from None
