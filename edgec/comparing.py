"""Compares two models on the same inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from edgec.calibration.data import Data, DataSpec, load_data
from edgec.calibration.moments import batches_of, runner
from edgec.compare import Comparison, Difference
from edgec.errors import UsageError
from edgec.feeds import input_types, sample_feeds, samples_in
from edgec.foreign import translated
from edgec.model import load

Feeds = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Pair:
    """Two models that take the same inputs and give the same outputs, and samples for them.

    Attributes:
        first, second: The models.
        data: Samples; None: one batch of seeded random values.
    """

    first: ir.Model
    second: ir.Model
    data: Data | None

    @property
    def inputs(self) -> list[str]:
        """The names of the inputs."""
        return [v.name or "" for v in self.first.graph.inputs]

    @property
    def outputs(self) -> list[str]:
        """The names of the outputs."""
        return [v.name or "" for v in self.first.graph.outputs]

    def batches(self, size: int, seed: int, samples: int | None = None) -> Iterator[Feeds]:
        """Feeds of at most `size` samples, where the models leave it open."""
        if self.data is None:
            return iter([sample_feeds(self.first, None, seed)])
        return batches_of(self.first, self.data, size, samples)

    def counted(self, size: int, seed: int) -> Iterator[tuple[Feeds, int]]:
        """The same, each with the number of its samples."""
        for feeds in self.batches(size, seed):
            yield feeds, samples_in(feeds)


def pair_of(
    first: Any,
    second: Any,
    data: DataSpec | None,
    inputs: Mapping[str, Sequence[int]] | None,
) -> Pair:
    """Loads both models and the samples.

    Raises:
        UsageError: The models do not take the same inputs or give the same outputs.
    """
    shapes = {k: tuple(v) for k, v in inputs.items()} if inputs else None
    a, b = (load(model, inputs=shapes) for model in (first, second))
    types = input_types(a)
    if types != input_types(b):
        raise UsageError(
            "the two models",
            f"take different inputs: {_words(types)} and {_words(input_types(b))}",
            "compare models with the same inputs",
        )
    outputs = [[v.name or "" for v in model.graph.outputs] for model in (a, b)]
    if outputs[0] != outputs[1]:
        raise UsageError(
            "the two models", f"give different outputs: {outputs[0]} and {outputs[1]}",
            "compare models with the same outputs",
        )  # fmt: skip
    return Pair(a, b, None if data is None else load_data(data, types))


def compare_models(
    first: Any,
    second: Any,
    *,
    data: DataSpec | None = None,
    seed: int = 0,
    inputs: Mapping[str, Sequence[int]] | None = None,
) -> list[Difference]:
    """How far the outputs of two models are apart, per output, over all of `data`.

    Args:
        first, second: See `edgec.load`.
        data: Samples; one batch of seeded random values if not given.
        seed: Of the random values.
        inputs: Concrete shapes for symbolic inputs.

    Raises:
        UsageError: The models do not take the same inputs or give the same outputs.
    """
    pair = pair_of(first, second, data, inputs)
    comparison = Comparison()
    with translated("the two models"):
        run_a, run_b = (
            runner(model, pair.inputs, pair.outputs) for model in (pair.first, pair.second)
        )
        for feeds, samples in pair.counted(16, seed):
            comparison.add(run_a(feeds), run_b(feeds), samples)
    return comparison.result()


def _words(types: Mapping[str, tuple[Any, Any]]) -> str:
    """`x float32[?, 3, 8, 8]`, for every input."""
    return ", ".join(
        f"{name} {dtype}[{', '.join(str(size or '?') for size in shape)}]"
        for name, (dtype, shape) in types.items()
    )
