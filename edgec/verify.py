"""Nothing is called done that was not loaded, run and compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.calibration.moments import runner
from edgec.compare import Comparison, Difference
from edgec.errors import VerificationError
from edgec.graph.cut import CutResult
from edgec.graph.mask import masked_model
from edgec.targets import Runnable

CUT_TOLERANCE = 1e-5
ARTIFACT_TOLERANCE = 1e-4

Feeds = Mapping[str, NDArray[Any]]


def _outputs(model: ir.Model, feeds: Feeds) -> dict[str, NDArray[Any]]:
    names = [v.name or "" for v in model.graph.outputs]
    return dict(runner(model, list(feeds), names)(feeds))


def _samples(feeds: Feeds) -> int:
    return next((len(a) for a in feeds.values() if a.ndim), 1)


def check_cut(cut: CutResult, feeds: Feeds) -> list[Difference]:
    """The cut law: the cut network computes what the masked original computes.

    Raises:
        VerificationError: They differ by more than rounding (`CUT_TOLERANCE`, relative to the
            largest output), or an output is not finite.
    """
    masked = _outputs(masked_model(cut.groups, cut.alive), feeds)
    differences = _differences(masked, _outputs(cut.model, feeds), feeds)
    _refuse("the cut network", differences, CUT_TOLERANCE, "the masked original")
    return differences


def check_artifact(model: ir.Model, artifact: Runnable, feeds: Feeds) -> list[Difference]:
    """The loaded artifact computes what the network computes that it was made from.

    Raises:
        VerificationError: They differ by more than `ARTIFACT_TOLERANCE`.
    """
    differences = _differences(_outputs(model, feeds), artifact.run(feeds), feeds)
    _refuse("the artifact", differences, ARTIFACT_TOLERANCE, "the network it was made from")
    return differences


def _differences(
    a: Mapping[str, NDArray[Any]], b: Mapping[str, NDArray[Any]], feeds: Feeds
) -> list[Difference]:
    comparison = Comparison()
    comparison.add(a, b, _samples(feeds))
    return comparison.result()


def _refuse(subject: str, differences: list[Difference], tolerance: float, other: str) -> None:
    for difference in differences:
        if not difference.max_rel <= tolerance:  # NaN is refused too
            size = "not a number" if np.isnan(difference.max_rel) else f"{difference.max_rel:.1e}"
            raise VerificationError(
                f"{subject}, output '{difference.name}'",
                f"differs from {other} by {size} (allowed {tolerance:.0e})",
                "nothing was written; please report the model: this is a defect of edgec, or the "
                "network is numerically unstable",
            )
