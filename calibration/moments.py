"""Activation statistics, streamed: memory does not depend on the number of samples.

stream            runs a model batch by batch and yields chosen intermediate values
channel_moments   mean and variance per channel of chosen values
consumer_moments  the same for what the matrices of all layers read, in one pass
position_spread   standard deviations per output position, on one batch
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.calibration.patches import Window, patch_spread
from edgec.calibration.session import open_session, part_of
from edgec.errors import UnsupportedError, UsageError
from edgec.graph.stored import source_of

Array = NDArray[Any]
Floats = NDArray[np.float64]
Run = Callable[[Mapping[str, Array]], dict[str, Array]]
Reader = tuple[str, int]  # a layer (its first output with a name), the input at which its matrix is
Axes = int | tuple[int, ...]

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_FUSED = (("com.microsoft", "Attention"), ("com.microsoft", "FusedMatMul"))
RECURRENT = ("LSTM", "GRU", "RNN")


class Batches(Protocol):
    """Samples for a model."""

    def batches(self, batch_size: int) -> Iterator[Mapping[str, Array]]:
        """Input name → array, `batch_size` samples at a time; the last batch may be smaller."""


@dataclass
class Moments:
    """Mean and variance per channel, merged batch by batch (Chan et al.).

    Attributes:
        mean: float64[channels].
        var: float64[channels], the population variance.
        count: Elements seen per channel.
    """

    mean: Floats
    var: Floats
    count: int

    @classmethod
    def of(cls, values: Array, axis: Axes) -> Moments:
        """Moments of one array over all axes but `axis`; of several axes, the last runs fastest."""
        axes = (axis,) if isinstance(axis, int) else axis
        channels = math.prod(values.shape[a] for a in axes)
        rows = np.moveaxis(values, axes, range(-len(axes), 0)).reshape(-1, channels)
        rows = rows.astype(np.float64)
        return cls(rows.mean(0), rows.var(0), len(rows))

    def merged(self, other: Moments) -> Moments:
        """Moments of both samples together."""
        count = self.count + other.count
        if self.count == 0 or other.count == 0:
            return self if other.count == 0 else other
        share = other.count / count
        gap = other.mean - self.mean
        var = self.var + (other.var - self.var) * share + gap**2 * (share * (1 - share))
        return Moments(self.mean + gap * share, var, count)


@dataclass(frozen=True)
class Spread:
    """Standard deviations of one layer on one batch.

    Attributes:
        out: float64[channels, positions], of each output over the batch.
        patch: float64[groups, positions], of the input elements that feed the position.
    """

    out: Floats
    patch: Floats


def batches_of(
    model: ir.Model, data: Batches, batch_size: int, samples: int | None = None
) -> Iterator[Mapping[str, Array]]:
    """Batches of the data that the model can take.

    Where the model fixes the size of a batch, that one is used, and a last batch that does not
    fill it is left out. Of more than `samples` samples, so many are taken evenly from all (from
    the beginning, where the data do not tell how many they are).
    """
    fixed = [
        value.shape[0]
        for value in model.graph.inputs
        if value.shape is not None and len(value.shape) and isinstance(value.shape[0], int)
    ]
    size = fixed[0] if fixed else batch_size
    found: Iterator[Mapping[str, Array]] = data.batches(size)
    if samples is not None:
        found = _evenly(found, size, samples, len(data) if isinstance(data, Sized) else samples)
    for feeds in found:
        if not fixed or all(len(array) == size for array in feeds.values()):
            yield feeds


def _evenly(
    batches: Iterator[Mapping[str, Array]], size: int, samples: int, total: int
) -> Iterator[Mapping[str, Array]]:
    return picked(batches, size, np.arange(min(samples, total)) * max(total, samples) // samples)


def picked(
    batches: Iterator[Mapping[str, Array]], size: int, chosen: NDArray[np.int64]
) -> Iterator[dict[str, Array]]:
    """Batches of `size` of the samples with the numbers `chosen`, ascending; the last smaller."""
    held: dict[str, Array] = {}
    seen = 0
    for feeds in batches:
        count = len(next(iter(feeds.values())))
        here = chosen[(chosen >= seen) & (chosen < seen + count)] - seen
        seen += count
        taken = {name: np.asarray(array)[here] for name, array in feeds.items()}
        held = {n: np.concatenate([held[n], a]) if held else a for n, a in taken.items()}
        while len(next(iter(held.values()))) >= size:
            yield {name: array[:size] for name, array in held.items()}
            held = {name: array[size:] for name, array in held.items()}
        if seen > chosen[-1]:
            break
    if held and len(next(iter(held.values()))):
        yield held


def stream(
    model: ir.Model, names: Collection[str], data: Batches, batch_size: int = 16
) -> Iterator[dict[str, Array]]:
    """Runs the part of the model that computes the values `names`, batch by batch."""
    run = runner(model, [v.name or "" for v in model.graph.inputs], names)
    for feeds in batches_of(model, data, batch_size):
        yield run(feeds)


def runner(
    model: ir.Model,
    inputs: Sequence[str],
    outputs: Collection[str],
    like: Mapping[str, Array] | None = None,
    *,
    optimise: bool = True,
    lean: bool = False,
) -> Run:
    """A function that computes the values `outputs` from the values `inputs`.

    Args:
        model: Where the values are; not changed.
        inputs: Names of values that cut off all that lies before them.
        outputs: Names of values; those that are inputs too are passed through.
        like: Arrays with the types and ranks of inputs for which the model states none.
        optimise: Whether ONNX Runtime may fuse and re-order operators.
        lean: Take no more memory than the values in use need.

    Raises:
        UsageError: A name that is no value of the model.
        UnsupportedError: A value is not a tensor.
    """
    wanted = [name for name in outputs if name not in inputs]
    passed = [name for name in outputs if name in inputs]
    run = _session(model, inputs, wanted, like or {}, optimise, lean) if wanted else None

    def compute(feeds: Mapping[str, Array]) -> dict[str, Array]:
        found = {name: np.asarray(feeds[name]) for name in passed}
        if run is not None:
            found |= run(feeds)
        return found

    return compute


def _session(
    model: ir.Model,
    inputs: Sequence[str],
    wanted: Sequence[str],
    like: Mapping[str, Array],
    optimise: bool,
    lean: bool,
) -> Run:
    part = part_of(model, inputs, wanted)
    for value in part.graph.inputs:
        array = like.get(value.name or "")
        if array is not None:
            value.type = ir.TensorType(ir.DataType.from_numpy(array.dtype))
            value.shape = ir.Shape([None] * array.ndim)
    names = [v.name or "" for v in part.graph.inputs]
    session = open_session(part, optimise=optimise, lean=lean)

    def run(feeds: Mapping[str, Array]) -> dict[str, Array]:
        values = session.run(list(wanted), {name: feeds[name] for name in names})
        for name, value in zip(wanted, values, strict=True):
            if not isinstance(value, np.ndarray):
                raise UnsupportedError(name, "is not a tensor", "build with --repair none")
        return dict(zip(wanted, values, strict=True))

    return run


# --- what layers with weights see --------------------------------------------------------------


def weighted_layers(model: ir.Model, *, stored: bool = False) -> list[ir.Node]:
    """Every Conv, ConvTranspose, Gemm and MatMul whose second input is an initializer.

    Args:
        model: The model.
        stored: Whether those count too whose weight comes back from integers.
    """
    return [
        node
        for node in model.graph
        if node.domain == ""
        and node.op_type in WEIGHTED
        and node.inputs[0] is not None
        and node.inputs[0].const_value is None
        and (weight := source_of(node.inputs[1])) is not None
        and (stored or weight is node.inputs[1])
    ]


def channel_axis(node: ir.Node) -> int:
    """The axis of a layer's first input that its weight contracts."""
    if node.op_type in ("Conv", "ConvTranspose"):
        return 1
    return 0 if node.attributes.get_int("transA", 0) else -1


def channel_moments(
    model: ir.Model, axes: Collection[tuple[str, Axes]], data: Batches, batch_size: int = 16
) -> dict[tuple[str, Axes], Moments]:
    """Mean and variance per channel of values; `axes` are their names and channel axes."""
    found: dict[tuple[str, Axes], Moments] = {}
    for values in stream(model, {name for name, _ in axes}, data, batch_size):
        for name, axis in axes:
            new = Moments.of(values[name], axis)
            found[name, axis] = found[name, axis].merged(new) if (name, axis) in found else new
    return found


def reader(node: ir.Node, index: int) -> Reader:
    """How the matrix at one input of a layer is called in `consumer_moments`."""
    return next((value.name for value in node.outputs if value.name), ""), index


def consumer_moments(
    model: ir.Model,
    data: Batches,
    batch_size: int = 16,
    values: Collection[tuple[str, Axes]] = (),
) -> tuple[dict[Reader, Moments], dict[tuple[str, Axes], Moments]]:
    """Moments of the channels that the matrix of every layer reads, and of other `values`."""
    read: dict[Reader, tuple[str, Axes]] = {
        reader(n, 1): (_in(n), channel_axis(n)) for n in weighted_layers(model, stored=True)
    }
    read |= _read_by_fused(model) | _read_by_recurrent(model)
    found = channel_moments(model, {*read.values(), *values}, data, batch_size)
    return (
        {reader: found[value] for reader, value in read.items() if value in found},
        {value: found[value] for value in values if value in found},
    )


def _read_by_fused(model: ir.Model) -> dict[Reader, tuple[str, Axes]]:
    """ONNX Runtime's attention and products, whose outputs are not those of a layer."""
    read: dict[Reader, tuple[str, Axes]] = {}
    for node in model.graph:
        if (node.domain, node.op_type) not in _FUSED or len(node.inputs) < 2:
            continue
        weight, batched = node.inputs[1], node.attributes.get_int("transBatchA", 0)
        known = weight is not None and weight.const_value is not None and not batched
        if known and node.inputs[0] is not None and node.inputs[0].const_value is None:
            read[reader(node, 1)] = (_in(node), -2 if node.attributes.get_int("transA", 0) else -1)
    return read


def _read_by_recurrent(model: ir.Model) -> dict[Reader, tuple[str, Axes]]:
    """A recurrent layer reads its input by one matrix and its own output by another."""
    read: dict[Reader, tuple[str, Axes]] = {}
    for node in model.graph:
        if node.op_type not in RECURRENT or node.domain:
            continue
        if node.inputs[0] is not None and node.inputs[0].const_value is None:
            read[reader(node, 1)] = (_in(node), -1)
        outputs, last = [v.name or "" for v in node.outputs], node.attributes.get_int("layout", 0)
        if outputs[0]:
            read[reader(node, 2)] = (outputs[0], (2, 3) if last else (1, 3))
        elif len(outputs) > 1 and outputs[1]:  # the last state stands for all
            read[reader(node, 2)] = (outputs[1], (1, 2) if last else (0, 2))
    return read


def position_spread(model: ir.Model, data: Batches, batch_size: int = 256) -> dict[str, Spread]:
    """Spread of every Conv and Gemm on the first batch: node output name → Spread."""
    layers = [n for n in weighted_layers(model, stored=True) if n.op_type in ("Conv", "Gemm")]
    names = {_in(n) for n in layers} | {n.outputs[0].name or "" for n in layers}
    values = next(stream(model, names, data, batch_size), None)
    if values is None:
        raise UsageError("calibration data", "holds no full batch", "give more samples")
    found = {}
    for node in layers:
        name = node.outputs[0].name or ""
        x, y = values[_in(node)], values[name]
        out = y.astype(np.float64).std(0).reshape(y.shape[1], -1)
        if node.op_type == "Conv":
            weight = source_of(node.inputs[1]).const_value.shape.numpy()  # type: ignore[union-attr]
            window = Window.of(node, tuple(weight[2:]), x.shape[2:])
            patch = patch_spread(x, window, node.attributes.get_int("group", 1))
        else:
            patch = x.astype(np.float64).std().reshape(1, 1)
        found[name] = Spread(out, patch)
    return found


def _in(node: ir.Node) -> str:
    value = node.inputs[0]
    assert value is not None
    return value.name or ""
