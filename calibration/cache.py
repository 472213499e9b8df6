"""What was observed, kept between runs: one file for each question that was asked.

A question is the part of the model that computes the values, their names, the samples with the
way they were chosen, and edgec's version. If any of it changes, so does the file's name; nothing
is ever out of date. Files can be deleted at any time.

    EDGEC_CACHE=path   where they lie; the platform's folder for caches if not set
    EDGEC_CACHE=off    nothing is kept
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import onnx_ir as ir

from edgec._version import __version__
from edgec.calibration.histogram import BINS, Histogram
from edgec.calibration.moments import Batches
from edgec.calibration.ranges import observe
from edgec.calibration.session import part_of
from edgec.model_stream import pieces

VARIABLE = "EDGEC_CACHE"
_OFF = frozenset({"off", "0", "no", "false"})
_FORMAT = 2
_DAMAGED = (zipfile.BadZipFile, zlib.error)
_FIELDS = tuple(f.name for f in fields(Histogram) if f.name != "channels")
_WHOLE = frozenset({"counts", "exponent", "first", "zeros", "total", "samples", "nonfinite"})
_SHAPES = {"counts": (BINS,), "start": (2,), "moving": (2,)}


@runtime_checkable
class Described(Protocol):
    """Samples that say what they are."""

    def describe(self) -> Mapping[str, Any]:
        """JSON; other samples, or others chosen from them, are described otherwise."""


@dataclass
class Cache:
    """A folder of observations.

    Attributes:
        folder: Where they lie; None: nothing is kept.
        notes: What was wrong there, one sentence each.
        hits: How often what was asked for had been observed before.
    """

    folder: Path | None
    notes: list[str] = field(default_factory=list)
    hits: int = 0

    @classmethod
    def default(cls) -> Cache:
        """As the environment says."""
        return cls(_folder())

    def observe(
        self,
        model: ir.Model,
        names: Collection[str],
        data: Batches,
        *,
        samples: int | None = None,
        batch_size: int | None = None,
        channels: Mapping[str, int] | None = None,
    ) -> dict[str, Histogram]:
        """As `edgec.calibration.ranges.observe`; what was observed before is not observed again.

        Samples that do not describe themselves are never found again, and not kept.
        """
        path = None
        if self.folder is not None and names and isinstance(data, Described):
            key = _key(model, names, data.describe(), samples, channels or {})
            path = self.folder / f"observed-{key}.npz"
            if (found := self._read(path, names)) is not None:
                return found
        found = observe(
            model, names, data, samples=samples, batch_size=batch_size, channels=channels
        )
        if path is not None:
            self._write(path, found)
        return found

    def _read(self, path: Path, names: Iterable[str]) -> dict[str, Histogram] | None:
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                found = _unpacked(arrays)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, *_DAMAGED) as error:
            self.notes.append(f"{path} cannot be read and is replaced: {error}")
            return None
        wanted = list(dict.fromkeys(names))
        if set(found) != set(wanted):
            self.notes.append(f"{path} holds other tensors and is replaced")
            return None
        self.hits += 1
        return {name: found[name] for name in wanted}

    def _write(self, path: Path, found: Mapping[str, Histogram]) -> None:
        """Aside first, then under its name: whoever reads it finds it whole or not at all."""
        aside = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(
                dir=path.parent, prefix=".", suffix=".part", delete=False
            ) as file:
                aside = Path(file.name)
                np.savez_compressed(file, **_packed(found))
            os.replace(aside, path)
        except OSError as error:
            self.notes.append(f"nothing is kept in {path.parent}: {error.strerror}")
        finally:
            if aside is not None:
                with suppress(OSError):
                    aside.unlink()


def _folder() -> Path | None:
    """The folder for observations; None if they are not to be kept."""
    chosen = os.environ.get(VARIABLE)
    if chosen is not None:
        return None if chosen.lower() in _OFF or not chosen else Path(chosen)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        if not base.is_absolute():  # such are to be ignored (XDG Base Directory Specification)
            base = Path.home() / ".cache"
    return base / "edgec"


def _key(
    model: ir.Model,
    names: Collection[str],
    samples: Mapping[str, Any],
    count: int | None,
    channels: Mapping[str, int],
) -> str:
    names = sorted(set(names))
    asked = [_FORMAT, __version__, BINS, names, count, samples, channels]
    total = hashlib.sha256(json.dumps(asked, sort_keys=True).encode())
    inputs = [value.name or "" for value in model.graph.inputs]
    for piece in pieces(part_of(model, inputs, [n for n in names if n not in inputs])):
        total.update(piece)
    return total.hexdigest()


def _packed(found: Mapping[str, Histogram]) -> dict[str, Any]:
    """Arrays whose axis 0 runs over the tensors."""
    arrays = {
        name: np.asarray([getattr(h, name) for h in found.values()],
                         np.int64 if name in _WHOLE else np.float64)
        for name in _FIELDS
    }  # fmt: skip
    text = json.dumps(list(found)).encode()
    return arrays | {
        "names": np.frombuffer(text, np.uint8),
        "lengths": np.asarray([len(h.channels) for h in found.values()], np.int64),
        "channels": np.concatenate([h.channels for h in found.values()]),
    }


def _unpacked(arrays: Mapping[str, Any]) -> dict[str, Histogram]:
    """The inverse.

    Raises:
        ValueError, KeyError: The file is not one that was written here.
    """
    names = json.loads(arrays["names"].tobytes())
    columns = {}
    for name in _FIELDS:
        column = arrays[name]
        expected = np.dtype(np.int64 if name in _WHOLE else np.float64)
        if column.dtype != expected or column.shape != (len(names), *_SHAPES.get(name, ())):
            raise ValueError(f"'{name}' is {column.dtype}{list(column.shape)}")
        columns[name] = list(column) if name in _SHAPES else column.tolist()
    lengths, flat = arrays["lengths"], arrays["channels"]
    if lengths.shape != (len(names),) or flat.dtype != np.float64 or lengths.sum() != flat.size:
        raise ValueError("'channels' do not fit their lengths")
    columns["channels"] = np.split(flat, np.cumsum(lengths)[:-1])
    return {
        name: Histogram(**{key: column[i] for key, column in columns.items()})
        for i, name in enumerate(names)
    }
