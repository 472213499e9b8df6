"""What edgec can do, and what is installed for it."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from edgec._version import __version__
from edgec.calibration.observers import OBSERVERS
from edgec.passes.base import Pass
from edgec.passes.expands import DropExpands
from edgec.passes.fold import Fold
from edgec.passes.fuse import FuseBatchNorm
from edgec.passes.fused import SpellOut
from edgec.passes.names import NameNodes
from edgec.passes.opset import RaiseOpset
from edgec.passes.prune.allocate import ALLOCATORS
from edgec.passes.prune.criteria import CRITERIA
from edgec.passes.prune.prune import Prune
from edgec.passes.quantize.equalize import Equalise
from edgec.passes.quantize.formats import CALIBS, FORMATS
from edgec.passes.quantize.halves import Halve
from edgec.passes.quantize.pools import GlobalPools
from edgec.passes.quantize.quantize import Quantize
from edgec.passes.quantize.rounding import ROUNDINGS
from edgec.passes.quantize.sensitivity import METHODS
from edgec.passes.quantize.weight_only import WeightOnly
from edgec.passes.repair import REPAIRS
from edgec.passes.sequences import SplitSequences
from edgec.passes.states import ZeroStates

PASSES: tuple[type[Pass], ...] = (
    NameNodes, SpellOut, Fold, SplitSequences, DropExpands, ZeroStates, Prune, FuseBatchNorm,
    RaiseOpset, GlobalPools, Equalise, Quantize, Halve, WeightOnly,
)  # fmt: skip
"""In the order in which a build runs those that its options ask for."""

# Package, the extra it comes with (none: base), what it is for.
_PACKAGES = (
    ("onnx", "", "models"),
    ("onnx-ir", "", "models"),
    ("onnxruntime", "", "target cpu"),
    ("numpy", "", "everything"),
    ("torch", "torch", "PyTorch models (.pt2, package.module:factory)"),
    ("onnxscript", "torch", "PyTorch models (.pt2, package.module:factory)"),
    ("pillow", "images", "folders of images as --data"),
)


def catalogue() -> dict[str, dict[str, str]]:
    """Title → name → one line."""
    return {
        "passes": {p.name: (p.__doc__ or "").splitlines()[0] for p in PASSES},
        "criteria": {name: criterion.summary for name, criterion in CRITERIA.items()},
        "allocators": {
            name: (f.__doc__ or "").splitlines()[0].rstrip(".") for name, f in ALLOCATORS.items()
        },
        "repairs": {name: repair.summary for name, repair in REPAIRS.items()},
        "formats": {name: kind.summary for name, kind in FORMATS.items()},
        "observers": {name: observer.summary for name, observer in OBSERVERS.items()},
        "samples for ranges": dict(CALIBS),
        "roundings": {name: rounding.summary for name, rounding in ROUNDINGS.items()},
        "sensitivities": dict(METHODS),
    }


def examine() -> list[dict[str, str]]:
    """One row per part: its version, and what to do if it is missing."""
    rows = [
        {"part": "edgec", "version": __version__, "state": "ok"},
        {"part": "python", "version": platform.python_version(), "state": "ok"},
    ]
    for package, extra, purpose in _PACKAGES:
        try:
            rows.append({"part": package, "version": version(package), "state": f"ok · {purpose}"})
        except PackageNotFoundError:
            remedy = f"pip install 'edgec[{extra}]'" if extra else "pip install edgec"
            state = f"missing · {purpose} · {remedy}"
            rows.append({"part": package, "version": "", "state": state})
    return rows
