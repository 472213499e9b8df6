"""What each layer's rounding does to the outputs: the scan behind mixed precision.

    output       that layer alone is rounded, and the model is run: damage by an end metric
    lim, zd, prune-slope
                 importance(layer) · ‖w − ŵ‖² / ‖w‖², from an order of the layers that needs no run
                 for each precision (`edgec.passes.quantize.importance`); the general form of PMQ
                 (Huang et al. 2024) with all exponents one

Damage is zero where nothing is lost; damages of several layers are taken to add up. Whatever was
found is written to a file at once if there is one, and not computed again.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from edgec.calibration.data import Data
from edgec.calibration.grid import Grid, Scheme
from edgec.calibration.sources import Array
from edgec.calibration.variants import Parts, Variant, put_constant, sweep
from edgec.errors import UnsupportedError, UsageError
from edgec.graph.names import Names
from edgec.model import copied
from edgec.model_stream import pieces
from edgec.passes.quantize.importance import IMPORTANCES, Ranked
from edgec.passes.quantize.journal import Journal, key_of
from edgec.passes.quantize.placement import Placement, Weight
from edgec.passes.quantize.weights import WEIGHT_METHODS
from edgec.passes.quantize.yardstick import Yardstick
from edgec.suggest import check_known

BITS = (4, 8, 16)
METHODS: Mapping[str, str] = {
    "output": "damage of the outputs by an end metric, each layer rounded alone; the default",
    **{name: importance.summary for name, importance in IMPORTANCES.items()},
}


@dataclass(frozen=True)
class Layer:
    """A weight with the products that read it.

    Attributes:
        name: The first of these products.
        weight: The placement's.
        op: The operator.
        params: Elements of the weight.
        channels: Scales that it is stored with.
    """

    name: str
    weight: Weight
    op: str
    params: int
    channels: int


@dataclass(frozen=True)
class Sensitivity:
    """The damage when a layer alone has so many bits."""

    layer: str
    bits: int
    damage: float


@dataclass(frozen=True)
class Scan:
    """What a scan found.

    Attributes:
        method, metric: How damage was told.
        layers: In the order of the graph.
        rows: The most sensitive first.
        silent: Layer → why the method says nothing about it.
        resumed: How many numbers came from the file.
    """

    method: str
    metric: str
    layers: tuple[Layer, ...]
    rows: tuple[Sensitivity, ...]
    silent: Mapping[str, str]
    resumed: int

    def damages(self) -> dict[str, dict[int, float]]:
        """Layer → bits → damage; layers that the method says nothing about are not there."""
        found: dict[str, dict[int, float]] = {}
        for row in self.rows:
            found.setdefault(row.layer, {})[row.bits] = row.damage
        return found


@dataclass(frozen=True)
class _Rounded(Variant):
    layer: str
    bits: int


def scan(
    model: ir.Model,
    placement: Placement,
    data: Data | None,
    *,
    bits: Sequence[int] = (8, 4),
    method: str = "output",
    metric: str = "error",
    scheme: Scheme | None = None,
    fit: str = "absmax",
    grids: Mapping[str, Grid] | None = None,
    samples: int | None = None,
    resume: str | None = None,
) -> Scan:
    """Ranks the layers of a model by what their rounding does.

    Args:
        model: Constants and BatchNorms folded, in floats; not changed.
        placement: Its weights are the layers.
        data: Samples; `zd` needs none.
        bits: The precisions tried.
        method: One of METHODS.
        metric: See `Yardstick`.
        scheme: Of the weights, but for the bits; that of the placement's rules if not given.
        fit: How the grids of the weights are found, one of WEIGHT_METHODS.
        grids: Activation → its grid. If given, a layer's inputs are rounded with its weight.
        samples: At most so many are used.
        resume: A file that results are kept in.

    Raises:
        UsageError: An option is wrong, or the data are missing or do not fit.
    """
    check_known(f"--method {method}", method, METHODS)
    check_known(f"weight method '{fit}'", fit, WEIGHT_METHODS)
    _check_bits(bits)
    layers = _layers(model, placement)
    if data is None and method != "zd":
        raise UsageError(f"--method {method}", "needs samples", "give --data, or take 'zd'")
    job = _Job(
        model, placement, layers, data, tuple(dict.fromkeys(bits)), method, metric,
        scheme or placement.rules.weights, fit, dict(grids or {}), samples, Journal(resume),
    )  # fmt: skip
    if method == "output":
        rows, silent = list(job.by_output()), {}
    else:
        ranked = job.ranked()
        rows, silent = list(job.by_importance(ranked)), dict(ranked.silent)
    rows.sort(key=lambda row: (-row.damage, row.layer))
    return Scan(method, metric, tuple(layers), tuple(rows), silent, job.resumed)


def _check_bits(bits: Sequence[int]) -> None:
    wrong = [b for b in bits if b not in BITS]
    if wrong or not bits:
        raise UsageError(
            f"--bits {','.join(map(str, bits))}",
            f"{wrong[0]} is no width that ONNX stores" if wrong else "is empty",
            f"give some of {', '.join(map(str, BITS))}",
        )


def _layers(model: ir.Model, placement: Placement) -> list[Layer]:
    ops = {node.name: node.op_type for node in model.graph}
    found = []
    for weight in placement.weights:
        shape = _array(model, weight.initializer).shape
        name = weight.readers[0][0]
        channels = 1 if weight.axis is None else shape[weight.axis]
        found.append(Layer(name, weight, ops[name], math.prod(shape), channels))
    if not found:
        raise UnsupportedError(
            model.graph.name or "model",
            "has no layer that is quantised: "
            + "; ".join(sorted({*placement.floats.values()})[:3]),
            "there is nothing to scan",
        )
    return found


@dataclass
class _Job:
    """One scan."""

    model: ir.Model
    placement: Placement
    layers: Sequence[Layer]
    data: Data | None
    bits: tuple[int, ...]
    method: str
    metric: str
    scheme: Scheme
    fit: str
    grids: Mapping[str, Grid]
    samples: int | None
    journal: Journal
    resumed: int = 0

    def __post_init__(self) -> None:
        model = hashlib.sha256()
        for piece in pieces(self.model):
            model.update(piece)
        self._content = {
            "model": model.hexdigest(),
            "data": None if self.data is None else self.data.sha256,
            "method": self.method,
            "metric": self.metric,
            "samples": self.samples,
        }

    def by_output(self) -> Iterator[Sensitivity]:
        """Every layer rounded alone; results are kept as soon as they are there."""
        assert self.data is not None
        missing: list[_Rounded] = []
        for layer in self.layers:
            for bits in self.bits:
                key = self._key(layer, bits)
                if key in self.journal:
                    self.resumed += 1
                    yield Sensitivity(layer.name, bits, self.journal[key])
                else:
                    missing.append(self._variant(layer, bits))
        if not missing:
            return
        by_name = {layer.name: layer for layer in self.layers}
        readers = {name for layer in self.layers for name, _ in layer.weight.readers}
        parts = Parts(self.model, [node for node in self.model.graph if node.name in readers])
        yardstick = Yardstick(self.metric, self.model, parts, self.data, self.samples)
        for variant, meter in sweep(parts, missing, yardstick.batches, yardstick.meter):
            damage = math.inf if math.isnan(meter.damage) else meter.damage
            note = {"layer": variant.layer, "bits": variant.bits, "metric": self.metric}
            self.journal.put(self._key(by_name[variant.layer], variant.bits), damage, note)
            yield Sensitivity(variant.layer, variant.bits, damage)

    def ranked(self) -> Ranked:
        """The importance of every layer, by the method's name."""

        def measured(content: Mapping[str, object], compute: Callable[[], float]) -> float:
            key = key_of({**self._content, **content})
            if key in self.journal:
                self.resumed += 1
            else:
                self.journal.put(key, compute(), content)
            return self.journal[key]

        weights = {layer.name: layer.weight for layer in self.layers}
        return IMPORTANCES[self.method].rank(self.model, weights, self.data, self.metric, measured)

    def by_importance(self, ranked: Ranked) -> Iterator[Sensitivity]:
        """Importance times the noise of the weight."""
        for layer in self.layers:
            if layer.name not in ranked.importance:
                continue
            w = _array(self.model, layer.weight.initializer).astype(np.float64)
            power = float((w**2).sum())
            for bits in self.bits:
                gap = w - self._grid(layer, bits).rounded(w)
                noise = float((gap**2).sum()) / power if power > 0 else 0.0
                yield Sensitivity(layer.name, bits, ranked.importance[layer.name] * noise)

    def _grid(self, layer: Layer, bits: int) -> Grid:
        array = _array(self.model, layer.weight.initializer)
        scheme = replace(self.scheme, bits=bits)
        return WEIGHT_METHODS[self.fit].fit(array, scheme, layer.weight.axis, None)

    def _inputs(self, layer: Layer) -> dict[tuple[str, int], str]:
        """Reader → the activation on a grid that it reads."""
        names = {name for name, _ in layer.weight.readers}
        return {
            reader: point.value
            for point in self.placement.points
            if point.value in self.grids
            for reader in point.readers
            if reader[0] in names
        }

    def _key(self, layer: Layer, bits: int) -> str:
        grids = {
            value: [repr(g.scheme), g.scale.tolist(), g.zero.tolist()]
            for value in self._inputs(layer).values()
            for g in [self.grids[value]]
        }
        rounding = [repr(replace(self.scheme, bits=bits)), self.fit, layer.weight.axis]
        return key_of({**self._content, "layer": layer.name, "rounding": rounding, "grids": grids})

    def _variant(self, layer: Layer, bits: int) -> _Rounded:
        readers = {name for name, _ in layer.weight.readers}
        nodes = {n.outputs[0].name or "" for n in self.model.graph if n.name in readers}

        def make() -> ir.Model:
            made = copied(self.model)
            array = _array(self.model, layer.weight.initializer)
            rounded = self._grid(layer, bits).rounded(array)
            names = Names(made.graph)
            by_name = {node.name: node for node in made.graph}
            new = put_constant(made, names.fresh(f"{layer.weight.initializer}.rounded"), rounded)
            for name, index in layer.weight.readers:
                by_name[name].replace_input_with(index, new)
            for (name, index), value in self._inputs(layer).items():
                _round_input(made, by_name[name], index, self.grids[value], names)
            return made

        return _Rounded(frozenset(nodes), make, layer.name, bits)


def _round_input(model: ir.Model, node: ir.Node, index: int, grid: Grid, names: Names) -> None:
    value = node.inputs[index]
    assert value is not None
    scale = put_constant(model, names.fresh(f"{value.name}.scale"), grid.scale)
    zero = ir.Tensor(grid.zero.astype(grid.scheme.dtype.numpy()), dtype=grid.scheme.dtype)
    zero_value = put_constant(model, names.fresh(f"{value.name}.zero"), zero.numpy())
    q = ir.node("QuantizeLinear", [value, scale, zero_value])
    dq = ir.node("DequantizeLinear", [q.outputs[0], scale, zero_value])
    for made, word in ((q, "integers"), (dq, "rounded")):
        made.outputs[0].name = names.fresh(f"{value.name}.{word}")
        model.graph.insert_before(node, made)
    node.replace_input_with(index, dq.outputs[0])


def _array(model: ir.Model, name: str) -> Array:
    tensor = model.graph.initializers[name].const_value
    assert tensor is not None
    return np.asarray(tensor.numpy())
