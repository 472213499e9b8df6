"""Results that outlive the process that found them: one JSON object a line, keyed by content.

A key is the hash of all that a result follows from. So a file may hold results of several models
and methods, and a line is never out of date: what has changed has another key. A process may be
killed at any time: a line is written whole by one call, and a line that was torn is dropped.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgec.errors import UsageError

_REMEDY = "give another file, or none to start afresh"


def key_of(content: Mapping[str, Any]) -> str:
    """The hash of plain data, 64 hexadecimal digits."""
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class Journal:
    """A file of results; without a path, one that is forgotten.

    Attributes:
        known: How many results were there before.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        """Reads what is there.

        Raises:
            UsageError: The file cannot be read or written, or holds something else.
        """
        self._path = None if path is None else Path(path)
        self._found: dict[str, float | None] = {}
        if self._path is not None:
            try:
                self._read(self._path)
            except OSError as error:
                raise _unusable(self._path, error) from error
        self.known = len(self._found)

    def __contains__(self, key: str) -> bool:
        return key in self._found

    def __getitem__(self, key: str) -> float:
        """The number found; infinite where it had no bound."""
        value = self._found[key]
        return float("inf") if value is None else value

    def put(self, key: str, value: float, note: Mapping[str, Any]) -> None:
        """Adds a result; it is on the disk afterwards.

        Args:
            key: What it follows from.
            value: The number; not NaN.
            note: What a person who reads the file wants to know.
        """
        stored = None if value == float("inf") else float(value)
        self._found[key] = stored
        if self._path is None:
            return
        line = json.dumps({"key": key, "value": stored, **note}, allow_nan=False) + "\n"
        try:
            with self._path.open("ab", buffering=0) as file:
                file.write(line.encode())
                os.fsync(file.fileno())
        except OSError as error:
            raise _unusable(self._path, error) from error

    def _read(self, path: Path) -> None:
        path.touch()
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        for number, line in enumerate(content[:whole].splitlines(), 1):
            key, value = _entry(line, f"{path}, line {number}")
            self._found[key] = value
        if content[whole:] and not content[whole:].lstrip().startswith(b"{"):
            raise UsageError(str(path), "is no file of results", _REMEDY)
        if whole < len(content):
            os.truncate(path, whole)


def _entry(line: bytes, subject: str) -> tuple[str, float | None]:
    try:
        row = json.loads(line)
        key, value = row["key"], row["value"]
        if not isinstance(key, str) or not (value is None or isinstance(value, int | float)):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(subject, "is no result of a scan", _REMEDY) from error
    return key, value


def _unusable(path: Path, error: OSError) -> UsageError:
    return UsageError(str(path), f"cannot be used: {error.strerror}", _REMEDY)
