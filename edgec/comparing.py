"""Compares two models on the same inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgec.calibration.data import DataSpec, load_data
from edgec.calibration.moments import runner
from edgec.compare import Comparison, Difference
from edgec.errors import UsageError
from edgec.feeds import input_types, sample_feeds, samples_in
from edgec.foreign import translated
from edgec.model import load


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
    batches = (
        [sample_feeds(a, None, seed)]
        if data is None
        else load_data(data, types).batches(16, pad=False)
    )
    comparison = Comparison()
    with translated("the two models"):
        run_a, run_b = (runner(model, list(types), outputs[0]) for model in (a, b))
        for feeds in batches:
            comparison.add(run_a(feeds), run_b(feeds), samples_in(feeds))
    return comparison.result()


def _words(types: Mapping[str, tuple[Any, Any]]) -> str:
    """`x float32[?, 3, 8, 8]`, for every input."""
    return ", ".join(
        f"{name} {dtype}[{', '.join(str(size or '?') for size in shape)}]"
        for name, (dtype, shape) in types.items()
    )
