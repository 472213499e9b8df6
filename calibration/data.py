"""Samples for calibration and evaluation, checked against the model and streamed in batches.

    load_data("val.npz", inputs)                   arrays named like the inputs, and `labels`
    load_data("photos/", inputs)                   images, read as preprocess.toml says
    load_data("package.module:samples", inputs)    a function that returns an iterable

Batches are fed as they are stored: nothing is scaled, and only conversions that keep the values
are made (and noted), float64 to float32 among them. All samples are read once when they are
loaded, so that what is wrong with them is said before the work starts.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from edgec.calibration.images import SPEC, Images, Preprocess
from edgec.calibration.npz import Npz
from edgec.calibration.sources import (
    LABELS,
    Array,
    Arrays,
    Function,
    Header,
    Inputs,
    Shape,
    Source,
)
from edgec.errors import UsageError
from edgec.user_code import find_function

DataSpec = str | os.PathLike[str] | Mapping[str, Array] | Array | Callable[[], Any]
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_PASS_BYTES = 4 * 2**20
_MORE = "give at least one, better some hundreds"
_NUMBERS = "save numbers: numpy.asarray(labels)"
_ARE_IMAGES = "images need preprocessing: give their folder, with a preprocess.toml"


@dataclass(frozen=True)
class Data:
    """Samples that fit a model. Memory does not depend on their number.

    Args:
        source: Where they come from.
        inputs: The model's inputs.
        batch: The batch size that the model fixes; None: any.
        count: Number of samples.
        has_labels: Whether every sample has a label.
        sha256: Of the samples and labels (of the files and the preprocessing, for images).
        notes: Conversions that are made, one sentence each.
    """

    source: Source
    inputs: Inputs
    batch: int | None
    count: int
    has_labels: bool
    sha256: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.count

    def batches(self, batch_size: int = 32, *, pad: bool = False) -> Iterator[dict[str, Array]]:
        """Feeds in order: input name → array with samples along axis 0.

        Args:
            batch_size: Samples per batch; the last may have fewer. Where the model fixes the
                size of a batch, every batch has that size instead, and samples that do not fill
                a last one are left out.
            pad: Fill that last batch with copies of its last sample rather than leave it out.
        """
        size = self.batch or batch_size
        for feeds, _ in self._batches(size):
            if self.batch is None or pad or _length(feeds) == size:
                yield self._filled(feeds)

    def labelled(self, batch_size: int = 32) -> Iterator[tuple[dict[str, Array], Array]]:
        """Batches as `batches(batch_size, pad=True)` gives them, each with its labels.

        The copies that pad have no labels: there may be fewer labels than samples in a batch.

        Errors:
            UsageError: there are no labels.
        """
        if not self.has_labels:
            raise UsageError(self.source.subject, "has no labels", _label_remedy(self.source))
        for feeds, labels in self._batches(self.batch or batch_size):
            assert labels is not None
            yield self._filled(feeds), labels

    def labels(self, batch_size: int = 32) -> Iterator[Array]:
        """The labels alone, batch by batch."""
        return (labels for _, labels in self.labelled(batch_size))

    def _filled(self, feeds: dict[str, Array]) -> dict[str, Array]:
        missing = (self.batch or 0) - _length(feeds)
        if missing <= 0:
            return feeds
        return {n: np.concatenate([a, a[-1:].repeat(missing, 0)]) for n, a in feeds.items()}

    def describe(self) -> dict[str, Any]:
        """For the manifest: what the samples are, whatever machine they are on."""
        return {
            "kind": self.source.kind,
            "samples": self.count,
            "labels": self.has_labels,
            "sha256": self.sha256,
            "notes": list(self.notes),
        }

    def _batches(self, size: int) -> Iterator[tuple[dict[str, Array], Array | None]]:
        """Chunks cut and joined to batches of `size`, the last with what is left."""
        held: list[dict[str, Array]] = []
        seen = 0
        for chunk in _checked(self.source, self.inputs, self.has_labels, size):
            seen += _length(chunk)
            held.append(chunk)
            total = sum(map(_length, held))
            while total >= size:
                joined = held[0] if len(held) == 1 else _joined(held)
                yield _split({name: array[:size] for name, array in joined.items()})
                held = [{name: array[size:] for name, array in joined.items()}]
                total -= size
            held = held if total else []
        if seen != self.count:
            fact = f"gave {seen} samples, and {self.count} when it was first read"
            raise UsageError(self.source.subject, fact, "it has to give the same samples each time")
        if held:
            yield _split(_joined(held))


def load_data(
    spec: DataSpec,
    model_inputs: Mapping[str, tuple[Any, Shape]],
    *,
    preprocess: Preprocess | None = None,
) -> Data:
    """Open samples and check that they fit a model.

    Args:
        spec: Path of an .npz file, with arrays named like the inputs, samples along axis 0, and
            optionally ``labels``; path of a folder of images (`edgec.calibration.images`);
            ``package.module:function`` or a function (`edgec.calibration.sources.Function`);
            a dict like the .npz; an array, for models of one input.
        model_inputs: Input name → (dtype, shape). Axis 0 is the batch. None: any length.
        preprocess: How to read images; preprocess.toml in their folder if not given.

    Errors:
        UsageError: what is wrong with the samples; if names, shapes or dtypes do not fit, all
            that the model wants and all that the data have.
    """
    inputs: Inputs = {n: (np.dtype(dtype), tuple(s)) for n, (dtype, s) in model_inputs.items()}
    batch = _fixed_batch(inputs)
    source = _source(spec, inputs, preprocess)
    header = source.header()
    notes = _check_fits(source, header, inputs)
    if isinstance(source, Images):
        next(source.chunks(1))
        count, sha256 = header.lengths[source.name], _hash_files(source)
    else:
        count, sha256 = _read_all(source, inputs, header)
    return Data(source, inputs, batch, count, header.labels, sha256, notes)


def _source(spec: DataSpec, inputs: Inputs, preprocess: Preprocess | None) -> Source:
    if isinstance(spec, np.ndarray):
        if len(inputs) != 1:
            raise UsageError("data", "is one array", f"give a dict with {', '.join(inputs)}")
        return Arrays({next(iter(inputs)): spec})
    if isinstance(spec, Mapping):
        return Arrays({name: np.asarray(array) for name, array in spec.items()})
    if callable(spec):
        return Function(spec, getattr(spec, "__qualname__", "data"), inputs)
    path, text = Path(spec), os.fspath(spec)
    if path.is_dir():
        return _images(path, inputs, preprocess or Preprocess.read(path / SPEC))
    if path.is_file():
        if path.suffix != ".npz":
            raise UsageError(text, "is not an .npz file", "numpy.savez(path, INPUT=array)")
        return Npz(path)
    if _FUNCTION.fullmatch(text):
        return Function(find_function(text), text, inputs)
    raise UsageError(
        text,
        "there is no such file or folder",
        "--data takes an .npz file, a folder of images, or package.module:function",
    )


def _images(path: Path, inputs: Inputs, preprocess: Preprocess) -> Images:
    takes_images = [n for n, (_, shape) in inputs.items() if len(shape) == 4]
    if len(inputs) != 1 or not takes_images:
        fact = f"is a folder of images, but the model wants {_wanted(inputs)}"
        raise UsageError(str(path), fact, "give an .npz file, or package.module:function")
    name = takes_images[0]
    raw = inputs[name][0] == np.uint8
    return Images(path, preprocess, name, np.dtype(np.uint8 if raw else np.float32))


def _fixed_batch(inputs: Inputs) -> int | None:
    if any(not shape for _, shape in inputs.values()):
        fact = f"the model has an input without a batch axis: {_wanted(inputs)}"
        raise UsageError("data", fact, "export it with the batch as axis 0 of every input")
    sizes = {shape[0] for _, shape in inputs.values()} - {None}
    if len(sizes) > 1:
        fact = f"axis 0 of the model's inputs is no batch axis: {_wanted(inputs)}"
        raise UsageError("data", fact, "export the model with the batch as axis 0 of every input")
    return sizes.pop() if sizes else None


def _check_fits(source: Source, header: Header, inputs: Inputs) -> tuple[str, ...]:
    """Notes on the conversions needed; or one error with everything that does not fit."""
    wrong, notes = [], []
    for name in inputs.keys() - header.arrays.keys():
        wrong.append(f"'{name}' is missing")
    for name, (dtype, shape) in header.arrays.items():
        if name not in inputs:
            wrong.append(f"'{name}' is no input of the model")
            continue
        wanted_dtype, (_, *wanted) = inputs[name]
        if not _matches(shape, wanted):
            wrong.append(f"'{name}' has samples of shape {list(shape)}")
        if not _keeps_values(dtype, wanted_dtype):
            wrong.append(f"'{name}' is {dtype}" + (f"; {_ARE_IMAGES}" if dtype == "u1" else ""))
        elif dtype != wanted_dtype:
            notes.append(f"'{name}' is converted from {dtype} to {wanted_dtype}")
    if len(set(header.lengths.values())) > 1:
        wrong.append(f"lengths differ: {', '.join(f'{n} {k}' for n, k in header.lengths.items())}")
    if wrong:
        have = {name: (dtype, (None, *shape)) for name, (dtype, shape) in header.arrays.items()}
        raise UsageError(
            source.subject,
            f"does not fit the model: {'; '.join(sorted(wrong))}",
            f"the model wants {_wanted(inputs)}\n  the data have  {_wanted(have)}",
        )
    if 0 in header.lengths.values():
        raise UsageError(source.subject, "holds no samples", _MORE)
    return tuple(sorted(notes))


def _keeps_values(have: np.dtype[Any], wanted: np.dtype[Any]) -> bool:
    """Whether converting within a kind (float, signed, …) keeps values, as far as users care."""
    if have.newbyteorder("=") == wanted or (have == np.float64 and wanted == np.float32):
        return True
    return have.kind == wanted.kind and np.can_cast(have, wanted, "safe")


def _matches(shape: tuple[int, ...], wanted: list[int | None]) -> bool:
    return len(shape) == len(wanted) and all(
        b is None or a == b for a, b in zip(shape, wanted, strict=True)
    )


def _wanted(inputs: Inputs) -> str:
    return ", ".join(
        f"{name}: {dtype}[{', '.join('?' if d is None else str(d) for d in shape)}]"
        for name, (dtype, shape) in inputs.items()
    )


def _checked(
    source: Source, inputs: Inputs, has_labels: bool, rows: int
) -> Iterator[dict[str, Array]]:
    """Chunks as the model takes them, labels under ``labels``; every one is checked again."""
    for arrays, labels in source.chunks(rows):
        header = Header({n: (a.dtype, a.shape[1:]) for n, a in arrays.items()}, has_labels, {})
        _check_fits(source, header, inputs)
        if (labels is not None) != has_labels:
            raise UsageError(
                source.subject, "has labels for some samples only", "label all or none"
            )
        chunk = {}
        for name, (dtype, _) in inputs.items():
            with np.errstate(over="ignore"):  # an overflow is the infinity found below
                chunk[name] = arrays[name].astype(dtype, copy=False)
            if dtype.kind == "f" and not np.isfinite(chunk[name]).all():
                bad = "NaN" if np.isnan(chunk[name]).any() else "an infinity"
                raise UsageError(source.subject, f"'{name}' holds {bad}", "remove such samples")
        if labels is not None:
            if labels.dtype.hasobject:
                raise UsageError(source.subject, "has labels that are Python objects", _NUMBERS)
            chunk[LABELS] = labels
        yield chunk


def _read_all(source: Source, inputs: Inputs, header: Header) -> tuple[int, str]:
    """Number and hash of the samples; the hash does not depend on how they are stored."""
    row = max(dtype.itemsize * prod(shape) for dtype, shape in header.arrays.values())
    hashes: dict[str, Any] = {}
    count = 0
    for chunk in _checked(source, inputs, header.labels, max(1, _PASS_BYTES // max(1, row))):
        count += _length(chunk)
        for name, array in chunk.items():
            start = hashlib.sha256(repr((name, array.dtype.str, array.shape[1:])).encode())
            hashes.setdefault(name, start).update(array.tobytes())
    if not count:
        raise UsageError(source.subject, "holds no samples", _MORE)
    digests = [hashes[name].digest() for name in sorted(hashes)]
    return count, hashlib.sha256(b"".join(digests)).hexdigest()


def _hash_files(source: Images) -> str:
    total = hashlib.sha256(repr(source.preprocess).encode())
    for path, label in source.files():
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(source.folder).as_posix()}\0{label}\0{digest}\n".encode())
    return total.hexdigest()


def _length(chunk: Mapping[str, Array]) -> int:
    return len(next(iter(chunk.values())))


def _joined(chunks: list[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def _split(batch: dict[str, Array]) -> tuple[dict[str, Array], Array | None]:
    return {n: a for n, a in batch.items() if n != LABELS}, batch.get(LABELS)


def _label_remedy(source: Source) -> str:
    return {
        "images": "sort the images into one sub-folder per class",
        "callable": "let the function give (sample, label)",
    }.get(source.kind, "add an array 'labels'")
