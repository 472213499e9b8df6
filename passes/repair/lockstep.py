"""The original and the cut network in lockstep, wave by wave.

A wave is all layers at one depth: none of them lies before another. At a wave, everything before
its layers has been repaired and run in the cut network; the layers themselves have not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from edgec.calibration.moments import Batches, Run, batches_of
from edgec.errors import UsageError
from edgec.graph.cut import CutResult, cut_array
from edgec.graph.widths import Line, lines_of
from edgec.ops.view import Fact
from edgec.passes.repair.frontier import Frontier

Array = NDArray[Any]


class Lockstep:
    """Both networks over all samples. Use as a context manager, then iterate over the waves.

    Attributes:
        sizes: Samples in each batch.
    """

    def __init__(
        self,
        before: ir.Model,
        cut: CutResult,
        layers: Mapping[str, str],
        data: Batches,
        *,
        samples: int,
        batch_size: int,
    ) -> None:
        """Loads the samples.

        Args:
            before: The original; its values are named like those of `cut.groups.model`.
            cut: The cut network, which the caller repairs between waves.
            layers: Output value of each layer → the value of the original that it aims at.
            data: Samples.
            samples: At most so many are used.
            batch_size: Samples run at a time, where the model leaves it open.

        Raises:
            UsageError: There are no samples.
        """
        self._cut = cut
        self._aims = dict(layers)
        self._folder = TemporaryDirectory(prefix="edgec-repair-")
        folders = [Path(self._folder.name, name) for name in ("original", "cut")]
        for folder in folders:
            folder.mkdir()
        self.original = Frontier(before, layers, folders[0])
        self.present = Frontier(cut.model, layers, folders[1])
        for frontier in (self.original, self.present):
            sizes = frontier.load(batches_of(before, data, batch_size, samples))
        self.sizes = tuple(sizes)
        if not self.sizes:
            self._folder.cleanup()
            raise UsageError("calibration data", "holds no full batch", "give more samples")
        self._values = {v.name or "": v for n in cut.groups.model.graph for v in n.outputs}

    @property
    def samples(self) -> int:
        """Samples in all."""
        return sum(self.sizes)

    def __enter__(self) -> Lockstep:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._folder.cleanup()

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        """The waves: output names of their layers. What is repaired meanwhile runs afterwards."""
        last = max((self.present.stage[name] for name in self._aims), default=0)
        for stage in range(1, last + 1):
            wave = tuple(name for name in self._aims if self.present.stage[name] == stage)
            self.original.advance({self._aims[name] for name in wave})
            yield wave
            self.present.advance()

    def aim(self, name: str, batch: int) -> Array:
        """What layer `name` of this wave aims at: the original's value, kept channels only."""
        return self.kept(self._aims[name], self.original.read(self._aims[name], batch))

    def kept(self, name: str, array: Array) -> Array:
        """A value of the original without the channels that were removed."""
        return cut_array(array, self._lines(name), self._cut.alive)

    def outputs(self, names: Collection[str]) -> Run:
        """A function from `self.present.feeds(batch)` to the present outputs of layers."""
        return self.present.peek(names)

    def _lines(self, name: str) -> tuple[Line, ...]:
        groups = self._cut.groups
        value = self._values[name]
        shape = groups.facts.get(value, Fact()).shape
        labels = groups.trace.labels.get(value, ())
        return () if shape is None else lines_of(labels, groups.unit_of, shape)
