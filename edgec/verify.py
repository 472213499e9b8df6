"""Nothing is called done that was not loaded, run and compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.calibration.memory import give_back
from edgec.calibration.moments import runner
from edgec.compare import Comparison, Difference
from edgec.errors import UnsupportedError, UsageError, VerificationError
from edgec.feeds import feeds_of_other_sizes, samples_in
from edgec.foreign import translated
from edgec.graph.cut import CutResult
from edgec.graph.mask import masked_model
from edgec.targets import Runnable

CUT_TOLERANCE = 1e-5
ARTIFACT_TOLERANCE = 1e-4
_NOISE = 4
_CEILING = 1e-3

Feeds = Mapping[str, NDArray[Any]]
Outputs = Mapping[str, NDArray[Any]]


def _outputs(model: ir.Model, feeds: Feeds, *, optimise: bool = False) -> dict[str, NDArray[Any]]:
    return _outputs_of_all(model, [feeds], optimise=optimise)[0]


def _outputs_of_all(
    model: ir.Model, parts: Sequence[Feeds], *, optimise: bool = False
) -> list[dict[str, NDArray[Any]]]:
    names = [v.name or "" for v in model.graph.outputs]
    run = runner(model, list(parts[0]), names, optimise=optimise, lean=True)
    found = [dict(run(feeds)) for feeds in parts]
    del run
    give_back()
    return found


@dataclass(frozen=True)
class Check:
    """A comparison that passed.

    Attributes:
        differences: One per output.
        tolerance: The largest relative difference that was allowed.
    """

    differences: tuple[Difference, ...] = ()
    tolerance: float = CUT_TOLERANCE

    @property
    def worst(self) -> float:
        """The largest relative difference."""
        return max((d.max_rel for d in self.differences), default=0.0)


def check_cut(cut: CutResult, feeds: Feeds) -> Check:
    """The cut law: the cut network computes what the masked original computes.

    Raises:
        VerificationError: They differ by more than rounding, or an output is not finite.
    """
    masked = masked_model(cut.groups, cut.alive)
    return _check(
        "the cut network", "the masked original", CUT_TOLERANCE, masked, _outputs(cut.model, feeds),
        feeds,
    )  # fmt: skip


def check_other_sizes(cut: CutResult, seed: int) -> Check | None:
    """The cut law with every symbolic dimension of another size than the analysis was given.

    None where no dimension is symbolic, or the original itself does not run at other sizes.

    Raises:
        VerificationError: As for `check_cut`.
    """
    feeds = feeds_of_other_sizes(cut.groups.model, seed)
    if feeds is None:
        return None
    try:
        with translated("the original"):
            _outputs(cut.groups.model, feeds)
    except (UnsupportedError, UsageError):  # ONNX Runtime calls an index out of bounds either way
        return None
    return check_cut(cut, feeds)


def check_artifact(model: ir.Model, artifact: Runnable, feeds: Feeds) -> Check:
    """The loaded artifact computes what the network computes that it was made from.

    Raises:
        VerificationError: They differ by more than rounding, or an output is not finite.
    """
    return _check(
        "the artifact", "the network it was made from", ARTIFACT_TOLERANCE, model,
        artifact.run(feeds), feeds,
    )  # fmt: skip


def check_quantised(
    artifact: Runnable, quantised: ir.Model, before: ir.Model, parts: Sequence[Feeds]
) -> tuple[Check, tuple[Difference, ...]]:
    """The loaded artifact computes the quantised graph, and that one is near the network before.

    Integer kernels round where the graph's Q/DQ pairs round, but sums in floats may fall on the
    other side of a half, and a network can carry one such step far. So the artifact is held against
    the graph as written, and their difference against what quantisation itself changed: it must be
    the smaller of the two.

    Args:
        artifact: The loaded artifact.
        quantised: The graph that it was made from.
        before: The network that was quantised.
        parts: Inputs, run one after the other.

    Returns:
        The artifact against the graph; and the network before against the graph.

    Raises:
        VerificationError: The artifact is farther from the graph than the graph from the network
            before; or quantisation left nothing of an output.
    """
    floats = _outputs_of_all(before, parts)
    for outputs in floats:
        _refuse_unbounded("the network before quantisation", outputs)
    try:
        with translated("the quantised graph"):
            written = _outputs_of_all(quantised, parts)
    except (UnsupportedError, UsageError) as error:
        remedy = (
            "take another --quantize: a result that ONNX Runtime cannot run is proven by nothing"
        )
        raise UnsupportedError(error.subject, error.fact, remedy) from error
    found = [artifact.run(feeds) for feeds in parts]
    moved = _differences(floats, written, parts)
    kernels = _differences(written, found, parts)
    for change, kernel in zip(moved, kernels, strict=True):
        if not (kernel.max_rel <= ARTIFACT_TOLERANCE or kernel.snr_db >= change.snr_db):
            raise VerificationError(
                f"the artifact, output '{kernel.name}'",
                f"is {kernel.snr_db:.1f} dB from the quantised graph, which is "
                f"{change.snr_db:.1f} dB from the network before",
                "nothing was written; the integer kernels of this machine saturate, or this is a "
                "defect: please report the model",
            )
        if not change.snr_db > 0:
            raise VerificationError(
                f"the quantised network, output '{change.name}'",
                "keeps nothing of the network before: the error is as large as the output",
                "nothing was written; 'edgec quantize-scan' ranks layers by the damage they do, "
                "--keep-float keeps them",
            )
    tolerance = max(ARTIFACT_TOLERANCE, *(k.max_rel for k in kernels))
    return Check(tuple(kernels), tolerance), tuple(moved)


def _check(
    subject: str,
    other: str,
    tolerance: float,
    model: ir.Model,
    outputs: Mapping[str, NDArray[Any]],
    feeds: Feeds,
) -> Check:
    """Compares `outputs` with those of `model`.

    A deep network can amplify rounding beyond the tolerance all by itself. Where the difference is
    larger, the network's own rounding is measured: the outputs of the graph as written against
    those with fused and re-ordered operators. Up to `_NOISE` times that is rounding; `_CEILING` is
    the end of it.
    """
    expected = _outputs(model, feeds)
    _refuse_unbounded(other, expected)
    found = Check(tuple(_differences([expected], [outputs], [feeds])), tolerance)
    if not found.worst <= tolerance:
        fused = _outputs(model, feeds, optimise=True)
        noise = Check(tuple(_differences([expected], [fused], [feeds]))).worst
        tolerance = float(min(max(tolerance, _NOISE * np.nan_to_num(noise)), _CEILING))
        found = Check(found.differences, tolerance)
    _refuse(subject, found, other)
    return found


def _differences(
    a: Sequence[Outputs], b: Sequence[Outputs], parts: Sequence[Feeds]
) -> list[Difference]:
    comparison = Comparison()
    for first, second, feeds in zip(a, b, parts, strict=True):
        comparison.add(first, second, samples_in(feeds))
    return comparison.result()


def _refuse_unbounded(subject: str, outputs: Mapping[str, NDArray[Any]]) -> None:
    """Where the reference itself is not finite, nothing can be compared with it."""
    for name, values in outputs.items():
        if values.dtype.kind in "fc" and not np.isfinite(values).all():
            kind = "NaN" if np.isnan(values).any() else "an infinity"
            raise VerificationError(
                f"{subject}, output '{name}'",
                f"holds {kind} on the samples it was run on, so nothing can be compared with it",
                "nothing was written; give --data with samples that the network is meant for, or "
                "check its weights",
            )


def _refuse(subject: str, found: Check, other: str) -> None:
    for difference in found.differences:
        if not difference.max_rel <= found.tolerance:  # NaN is refused too
            size = "not a number" if np.isnan(difference.max_rel) else f"{difference.max_rel:.1e}"
            raise VerificationError(
                f"{subject}, output '{difference.name}'",
                f"differs from {other} by {size} (allowed {found.tolerance:.0e})",
                "nothing was written; please report the model: this is a defect of edgec, or the "
                "network is numerically unstable",
            )
