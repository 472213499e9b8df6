"""How important each channel is. Larger means keep.

Every criterion gives raw scores float64[units]; `scored` makes them comparable across groups.
Sources of the formulas:
    l1, l2      magnitude of the weight slices (Li et al. 2017), mean over a channel's slices
    fpgm        distance to the other filters of the layer (He et al. 2019)
    bn_gamma    |γ| of BatchNormalization (Liu et al. 2017)
    lamp        s² over the sum of all s² not smaller (Lee et al. 2021), s: channel norms
    flap        var(x) · ‖W[:, x]‖² (An et al. 2024): the output error that removal leaves once the
                mean is folded into the bias
    beta_rank   mean |W| · Σ σ(out)/σ(in) (Beta-Rank)
    random      a control
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgec.calibration.moments import Moments, Reader, Spread, reader
from edgec.errors import UsageError
from edgec.graph.channels import ChannelGroups
from edgec.passes.prune.members import Member, members
from edgec.passes.prune.products import Value, products, shares

Floats = NDArray[np.float64]
# Operator → the inputs that may be its matrices; other weights (biases, states) are not compared.
_MATRICES: Mapping[str, tuple[int, ...]] = {
    "Conv": (1,), "ConvTranspose": (1,), "Gemm": (0, 1), "MatMul": (0, 1), "Einsum": (0, 1),
    "LSTM": (1, 2), "GRU": (1, 2), "RNN": (1, 2), "Attention": (1,), "FusedMatMul": (0, 1),
}  # fmt: skip


@dataclass(frozen=True)
class Evidence:
    """What criteria may look at.

    Attributes:
        groups: The analysed model.
        rng: For `random`.
        moments: Per consumer (name of its output, input of the matrix): mean and variance of each
            channel that the matrix reads.
        factors: The same per value (its name, channel axes) that a product of activations reads.
        spreads: Per consumer: σ(out)/σ(in) per output channel.
    """

    groups: ChannelGroups
    rng: np.random.Generator
    moments: Mapping[Reader, Moments] | None = None
    factors: Mapping[Value, Moments] | None = None
    spreads: Mapping[str, Spread] | None = None


@dataclass(frozen=True)
class Criterion:
    """One way to score.

    Attributes:
        summary: What a channel is scored by, in one line.
        score: Raw scores, float64[units]; NaN where it has nothing to say.
        needs: `weights`, `moments` or `spreads`.
        absolute: Whether scores are losses that compare across groups as they are.
    """

    summary: str
    score: Callable[[Evidence], Floats]
    needs: str
    absolute: bool = False


def _weights(evidence: Evidence) -> list[Member]:
    return [
        m
        for m in members(evidence.groups)
        if m.index in _MATRICES.get(m.node.op_type, ()) and m.weight.ndim > 1
    ]


def _mean_over_members(evidence: Evidence, per_member: Callable[[Member], Floats]) -> Floats:
    """Averages a per-unit statistic over the matrices a unit occurs in; NaN where in no weight.

    Units that no layer's matrix holds are those of matrices that are looked up before they are
    multiplied, as a mixture of experts does; their tables stand for them.
    """
    units = evidence.groups.units
    mean = np.full(units, np.nan)
    for chosen in (_weights(evidence), _tables(evidence)):
        total, times = np.zeros(units), np.zeros(units)
        for member in chosen:
            total[member.units] += per_member(member)
            times[member.units] += 1
        mean = np.where(np.isnan(mean) & (times > 0), total / np.maximum(times, 1), mean)
    return mean


def _tables(evidence: Evidence) -> list[Member]:
    return [m for m in members(evidence.groups) if "Gather" in m.node.op_type and m.weight.ndim > 1]


def _l1(evidence: Evidence) -> Floats:
    return _mean_over_members(evidence, lambda m: m.gather(np.abs(m.weight)))


def _l2(evidence: Evidence) -> Floats:
    return _mean_over_members(evidence, lambda m: np.sqrt(m.gather(np.square(m.weight))))


def _fpgm(evidence: Evidence) -> Floats:
    """Sum of distances of a filter to all filters of its layer; the most replaceable has least."""
    units = evidence.groups.units
    total = np.full(units, np.nan)
    for member in _weights(evidence):
        if member.role != "out":
            continue
        for filters, own in _blocks(member):
            squares = np.square(filters).sum(1)
            distances = np.sqrt(np.maximum(squares[:, None] + squares - 2 * filters @ filters.T, 0))
            found, places = np.unique(own, return_inverse=True)
            sums = np.bincount(places, distances.sum(1))
            total[found] = np.nan_to_num(total[found]) + sums
    return total


def _blocks(member: Member) -> Iterator[tuple[NDArray[Any], NDArray[np.int64]]]:
    """Filters [n, …] and their units int64[n]; of each row by itself where rows differ."""
    line, weight = member.line, member.weight
    order = (*line.rows, line.axis)
    front = range(len(order))
    filters = np.moveaxis(weight, order, front)
    units = np.moveaxis(line.units, order, front).reshape(filters.shape[: len(order)])
    for row in np.ndindex(filters.shape[: len(order) - 1]):
        yield filters[row].reshape(len(filters[row]), -1), units[row]


def _bn_gamma(evidence: Evidence) -> Floats:
    units = evidence.groups.units
    total, times = np.zeros(units), np.zeros(units)
    for member in members(evidence.groups):
        if member.node.op_type == "BatchNormalization" and member.index == 1:
            total[member.units] += member.gather(np.abs(member.weight))
            times[member.units] += member.gather(np.ones_like(member.weight))
    return np.where(times > 0, total / np.maximum(times, 1), np.nan)


def _lamp(evidence: Evidence) -> Floats:
    """s² divided by the sum of all s² of the group that are not smaller."""
    norms = _l2(evidence)
    scores = np.full_like(norms, np.nan)
    for group in evidence.groups:
        squares = np.square(norms[group.units])
        order = np.argsort(squares, kind="stable")
        tail = np.cumsum(squares[order][::-1])[::-1]
        scores[group.units[order]] = squares[order] / np.maximum(tail, 1e-30)
    return scores


def _flap(evidence: Evidence) -> Floats:
    """Share of each consumer's output variance that goes with a channel, over all consumers.

    A product of activations, such as q·kᵀ, is a consumer too (`products`).
    """
    assert evidence.moments is not None
    units = evidence.groups.units
    total, seen = np.zeros(units), np.zeros(units, bool)
    for member in _weights(evidence):
        moments = evidence.moments.get(reader(member.node, member.index))
        if member.role != "in" or moments is None:
            continue
        variance = _along(member, moments.var)
        power = np.square(member.weight.astype(np.float64)) * variance
        total[member.units] += member.gather(power) / max(float(power.sum()), 1e-30)
        seen[member.units] = True
    for product in products(evidence.groups):
        found = shares(product, evidence.factors or {}, units)
        if found is not None:
            total += found
            seen[product.a.units] = True
    return np.where(seen, total, np.nan)


def _along(member: Member, per_channel: Floats) -> Floats:
    """Input-channel statistics shaped to broadcast over the weight."""
    axis, rank = member.line.axis, member.weight.ndim
    if not member.line.rows and len(per_channel) == member.weight.shape[axis]:
        return per_channel.reshape([-1 if a == axis else 1 for a in range(rank)])
    # Groups of a convolution, directions of a recurrent layer: (g, i) for each of the rows of g.
    groups = len(per_channel) // member.weight.shape[axis]
    rows = np.repeat(per_channel.reshape(groups, -1), member.weight.shape[0] // groups, axis=0)
    return rows.reshape([member.weight.shape[a] if a in (0, axis) else 1 for a in range(rank)])


def _beta_rank(evidence: Evidence) -> Floats:
    assert evidence.spreads is not None
    units = evidence.groups.units
    total = np.full(units, np.nan)
    for member in _weights(evidence):
        spread = evidence.spreads.get(member.node.outputs[0].name or "")
        if member.role != "out" or member.line.rows or spread is None:
            continue
        axes = tuple(a for a in range(member.weight.ndim) if a != member.line.axis)
        raw = np.abs(member.weight).mean(axes) * _spread_ratio(spread)
        low, high = float(raw.min()), float(raw.max())
        scaled = (raw - low) / max(high - low, 1e-30)
        gathered = member.gather(scaled.reshape(member.line.units.shape))
        total[member.units] = np.nan_to_num(total[member.units]) + gathered
    return total


def _spread_ratio(spread: Spread) -> Floats:
    """Σ over positions of σ(out)/σ(in): float64[channels]; 0 where the input is constant."""
    patch = np.repeat(spread.patch, len(spread.out) // len(spread.patch), axis=0)
    ratio: Floats = np.divide(spread.out, patch, out=np.zeros_like(spread.out), where=patch > 0)
    return np.asarray(ratio.sum(1))


def _random(evidence: Evidence) -> Floats:
    return evidence.rng.random(evidence.groups.units)


CRITERIA: Mapping[str, Criterion] = {
    "random": Criterion("nothing: a control", _random, "weights"),
    "l1": Criterion("mean magnitude of a channel's weights", _l1, "weights"),
    "l2": Criterion(
        "Euclidean norm of a channel's weights; the default without data", _l2, "weights"
    ),
    "fpgm": Criterion(
        "distance of a filter to the others of its layer: what is replaceable goes",
        _fpgm,
        "weights",
    ),
    "bn_gamma": Criterion("scale of the BatchNormalization behind it", _bn_gamma, "weights"),
    "lamp": Criterion("its squared norm, relative to all that are not smaller", _lamp, "weights"),
    "flap": Criterion(
        "variance of what it feeds, weighted by what reads it (--data); the default with data",
        _flap,
        "moments",
        absolute=True,
    ),
    "beta_rank": Criterion(
        "how much its layer spreads what it reads, weighted by its weights (--data)",
        _beta_rank,
        "spreads",
    ),
}


def scored(name: str, evidence: Evidence) -> tuple[Floats, dict[str, str]]:
    """Scores float64[units] comparable across groups, and why some groups have none.

    Relative criteria are divided by their sum over the group and multiplied by the number of layers
    that read the group: a score is the share of importance that each reader loses, summed over
    readers, as an absolute criterion counts it. A group about which the criterion says nothing is
    not narrowed; its name and the reason are returned.
    """
    criterion = CRITERIA.get(name)
    if criterion is None:
        raise UsageError(f"criterion '{name}'", "is unknown", f"one of: {', '.join(CRITERIA)}")
    raw = criterion.score(evidence)
    readers = _readers(evidence)
    scores = np.zeros(evidence.groups.units)
    silent = {}
    for group in evidence.groups:
        own = raw[group.units]
        if np.isnan(own).any():
            silent[group.name] = f"{name} has nothing to say about it"
            continue
        total = float(own.sum())
        share = readers[group.units] / (total if total > 0 else 1.0)
        scores[group.units] = own if criterion.absolute else own * share
    return scores, silent


def _readers(evidence: Evidence) -> Floats:
    """Layers that read each unit: float64[units], at least 1."""
    readers = np.zeros(evidence.groups.units)
    for member in _weights(evidence):
        if member.role == "in":
            readers[member.units] += 1
    return np.maximum(readers, 1)


def pq_index(norms: Floats, p: float = 0.5, q: float = 1.0) -> float:
    """Prunability of a group from its channel norms: 0 all equal … towards 1 one channel only.

    I = 1 − d^(1/q − 1/p) · ‖w‖_p / ‖w‖_q,  0 < p ≤ 1 < q or p < q (Diao et al. 2023).
    """
    w = np.abs(norms)
    norm_q = float((w**q).sum() ** (1 / q))
    if norm_q == 0:
        return 0.0
    norm_p = float((w**p).sum() ** (1 / p))
    return 1 - float(len(w) ** (1 / q - 1 / p)) * norm_p / norm_q
