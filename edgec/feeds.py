"""Inputs to run a model on: samples where there are any, else seeded random ones."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.calibration.data import Data
from edgec.calibration.moments import Batches
from edgec.errors import UsageError
from edgec.model_inputs import fix_input_shapes, given_shapes, input_shapes, other_shapes

Shape = tuple[int | None, ...]
_MOST = 1 << 31
_LARGE = 1 << 18  # bytes of one sample: 3 x 147 x 147 in float32


def input_types(model: ir.Model) -> dict[str, tuple[Any, Shape]]:
    """Input name → (numpy dtype, shape with None for symbolic dimensions)."""
    found: dict[str, tuple[Any, Shape]] = {}
    for value in model.graph.inputs:
        if value.dtype in (None, ir.DataType.UNDEFINED) or value.shape is None:
            raise UsageError(
                f"input '{value.name}'", "has no type or no rank", "declare them in the model"
            )
        dims = tuple(d if isinstance(d, int) else None for d in value.shape)
        found[value.name or ""] = (value.dtype.numpy(), dims)
    return found


def fix_shapes_by_sample(model: ir.Model, data: Data) -> None:
    """Lets the first sample say how long what the model leaves open is, unless the user has."""
    sample = next(data.batches(1), {})
    given = given_shapes(model)
    shapes = {name: array.shape for name, array in sample.items() if name not in given}
    fix_input_shapes(model, {**given, **shapes})


def sample_feeds(
    model: ir.Model, data: Batches | None, seed: int, *, batch: int = 4
) -> dict[str, NDArray[Any]]:
    """One batch for every input: the first of `data`, or random values of the declared types.

    Integers are drawn from {0, 1}, so that they are valid as indices and as masks; floats from
    the normal distribution. `batch` counts where the model leaves it open.
    """
    if data is not None:
        feeds = next(data.batches(batch), None)
        if feeds is None:
            raise UsageError("data", "holds fewer samples than one batch", "give more samples")
        return dict(feeds)
    return random_feeds(model, input_shapes(model, default_batch=batch), seed)


def split(
    model: ir.Model, feeds: Mapping[str, NDArray[Any]], largest: int = _LARGE
) -> list[dict[str, NDArray[Any]]]:
    """Feeds of one sample each, where a sample is large and the batch is open: less memory.

    Args:
        model: Whose inputs they are.
        feeds: Input name → array.
        largest: Bytes of a sample that are not large yet.
    """
    count = samples_in(feeds)
    shapes = [value.shape for value in model.graph.inputs]
    open_batch = all(shape and not isinstance(shape[0], int) for shape in shapes)
    alike = all(array.ndim and len(array) == count for array in feeds.values())
    if not (open_batch and alike) or sum(a.nbytes for a in feeds.values()) <= largest * count:
        return [dict(feeds)]
    return [{name: array[i : i + 1] for name, array in feeds.items()} for i in range(count)]


def check_sizes(model: ir.Model) -> None:
    """Refuses inputs that random values could not be drawn for.

    Raises:
        UsageError: An input has too many elements.
    """
    for name, shape in input_shapes(model).items():
        _check_size(name, shape)


def feeds_of_other_sizes(model: ir.Model, seed: int) -> dict[str, NDArray[Any]] | None:
    """Random values with every symbolic dimension of another size; None if none is symbolic."""
    shapes = input_shapes(model)
    other = other_shapes(model, shapes)
    return None if other == shapes else random_feeds(model, other, seed)


def random_feeds(
    model: ir.Model, shapes: Mapping[str, tuple[int, ...]], seed: int
) -> dict[str, NDArray[Any]]:
    """Seeded random values of the declared types, for every input."""
    rng = np.random.default_rng(seed)
    found: dict[str, NDArray[Any]] = {}
    for name, (dtype, _) in input_types(model).items():
        shape = shapes[name]
        _check_size(name, shape)
        if np.issubdtype(dtype, np.floating):
            found[name] = rng.standard_normal(shape).astype(dtype)
        elif dtype == np.dtype(bool) or np.issubdtype(dtype, np.integer):
            found[name] = rng.integers(0, 2, shape).astype(dtype)
        else:
            kind = "text" if dtype.kind in "OSU" else f"of type {dtype}"
            raise UsageError(
                f"input '{name}'", f"is {kind}: there are no random values for it", "give --data"
            )
    return found


def samples_in(feeds: Mapping[str, NDArray[Any]]) -> int:
    """How many samples a batch holds, the batch being the first axis."""
    return next((len(a) for a in feeds.values() if a.ndim), 1)


def _check_size(name: str, shape: tuple[int, ...]) -> None:
    if prod(shape) > _MOST:
        raise UsageError(
            f"input '{name}'",
            f"would have {'x'.join(map(str, shape))} elements, more than edgec draws",
            "give a smaller size, or --data",
        )
