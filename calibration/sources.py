"""Where samples come from: the protocol of a source, arrays in memory, a function of the user's.

A source gives *chunks*: arrays by input name with the samples along axis 0, and the labels of
these samples if there are any. It gives them from the start as often as it is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgec.errors import UsageError
from edgec.user_code import running

Array = NDArray[Any]
Shape = tuple[int | None, ...]
Inputs = Mapping[str, tuple[np.dtype[Any], Shape]]
"""input name → (dtype, shape): axis 0 is the batch, None is an axis of any length."""
Chunk = tuple[dict[str, Array], Array | None]
LABELS = "labels"


@dataclass(frozen=True)
class Header:
    """What a source holds, as far as it is known without reading it all.

    Args:
        arrays: name → (dtype, shape of one sample without the batch axis).
        labels: Whether samples have labels.
        lengths: name → number of samples (``labels`` among them); empty if not known yet.
    """

    arrays: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]
    labels: bool
    lengths: Mapping[str, int]


class Source(Protocol):
    """Samples, readable more than once."""

    @property
    def kind(self) -> str:
        """One word: npz, images, callable, arrays."""

    @property
    def subject(self) -> str:
        """What messages call it."""

    def header(self) -> Header:
        """What it holds."""

    def chunks(self, rows: int) -> Iterator[Chunk]:
        """All samples in order, about `rows` at a time, from the start."""


@dataclass(frozen=True)
class Arrays:
    """Arrays in memory: name → [samples, …], labels under ``labels``."""

    arrays: Mapping[str, Array]
    kind = "arrays"
    subject = "data"

    def header(self) -> Header:
        """The arrays' dtypes and shapes."""
        if scalars := [name for name, array in self.arrays.items() if array.ndim == 0]:
            raise UsageError(
                self.subject, f"'{scalars[0]}' has no axis of samples", "stack samples along axis 0"
            )
        shapes = {n: (a.dtype, a.shape[1:]) for n, a in self.arrays.items() if n != LABELS}
        lengths = {name: len(array) for name, array in self.arrays.items()}
        return Header(shapes, LABELS in self.arrays, lengths)

    def chunks(self, rows: int) -> Iterator[Chunk]:
        """Slices."""
        total = max(map(len, self.arrays.values()), default=0)
        for start in range(0, total, rows):
            part = {name: array[start : start + rows] for name, array in self.arrays.items()}
            labels = part.pop(LABELS, None)
            yield part, labels


@dataclass(frozen=True)
class Function:
    """A function of the user's that returns an iterable of samples.

    Each item is ``sample`` or ``(sample, label)``. A sample is an array (for models of one
    input) or a dict of input name → array; without a batch axis it is one sample with a scalar
    label, with one it is as many samples with as many labels. The function is called again for
    every pass over the data and must give the same samples each time.

    Args:
        function: Takes no arguments.
        subject: Its name.
        inputs: The model's inputs, whose ranks tell samples from batches.
    """

    function: Callable[[], Any]
    subject: str
    inputs: Inputs
    kind = "callable"

    def header(self) -> Header:
        """What the first item holds."""
        for arrays, labels in self.chunks(1):
            shapes = {name: (array.dtype, array.shape[1:]) for name, array in arrays.items()}
            return Header(shapes, labels is not None, {})
        raise UsageError(self.subject, "gives no samples", "let it return an iterable of some")

    def chunks(self, rows: int) -> Iterator[Chunk]:
        """The items, one by one, as the function gives them."""
        with running(self.subject):
            items = iter(self.function())
        end = object()
        for number in count():
            with running(self.subject):
                item = next(items, end)
            if item is end:
                return
            yield self._chunk(item, f"{self.subject}: item {number}")

    def _chunk(self, item: Any, where: str) -> Chunk:
        sample, label = item if isinstance(item, tuple) and len(item) == 2 else (item, None)
        if not isinstance(sample, Mapping):
            if len(self.inputs) != 1:
                wanted = ", ".join(self.inputs)
                raise UsageError(where, "is one array", f"give a dict with the inputs {wanted}")
            sample = {next(iter(self.inputs)): sample}
        if not all(isinstance(array, np.ndarray | np.generic) for array in sample.values()):
            kinds = ", ".join(f"{name}: {type(a).__name__}" for name, a in sample.items())
            raise UsageError(where, f"is not of numpy arrays ({kinds})", "give numpy arrays")
        arrays = {str(name): np.asarray(array) for name, array in sample.items()}
        labels = None if label is None else np.asarray(label)
        ranks = {name: array.ndim - len(self.inputs[name][1])
                 for name, array in arrays.items() if name in self.inputs}  # fmt: skip
        if set(ranks.values()) == {-1}:
            arrays = {name: array[None] for name, array in arrays.items()}
            labels = None if labels is None else labels[None]
        elif any(array.ndim == 0 for array in arrays.values()):
            raise UsageError(where, "has a scalar where the model wants an array", "give arrays")
        lengths = {len(array) for array in arrays.values()}
        if labels is not None:
            lengths |= {len(labels) if labels.ndim else 1}
        if len(lengths) != 1 or (labels is not None and labels.ndim == 0):
            raise UsageError(where, "has arrays and labels of unequal lengths", "pair them up")
        return arrays, labels
