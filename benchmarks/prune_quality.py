"""What pruning without training costs in accuracy: edgec beside Torch-Pruning's L2.

    python benchmarks/prune_quality.py         # needs edgec[bench]; trains once, then minutes

For each seed a network of `examples/digits` is trained with that seed. On this one network, in this
one run, both keep at most 40 % of the FLOPs:

    edgec                 all defaults, with the calibration images; nothing is trained
    Torch-Pruning L2      stepped to the first network within the budget; nothing is trained
      + new BN statistics the same, then BatchNorm statistics from the same calibration images

Torch-Pruning runs once for each of its variants (one ratio for all layers, one ranking over all,
one for each kind of layer; with and without widths on 8s), and each of its rows shows the variant
that is best on the test images, seed by seed. FLOPs of all networks are counted by edgec on ONNX
with BatchNormalization kept; accuracy of all is that of ONNX Runtime on the test images.

Exit code 1 if edgec loses more than 2 points for a seed, or Torch-Pruning without training loses
no more than edgec.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import importlib.util
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
import torch_pruning_l2 as rival
from torch import nn

import edgec

ROOT = Path(__file__).resolve().parent.parent
TRAIN = ROOT / "examples" / "digits" / "train.py"
CACHE = ROOT / ".cache" / "benchmarks"
BUDGET, ALLOWED_POINTS = 0.4, 2.0
EDGEC, PLAIN, NEW_STATISTICS = "edgec", "Torch-Pruning L2", "  + new BN statistics"

Sets = dict[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Row:
    """One pruned network.

    Args:
        who: What pruned it.
        variant: How.
        kept: Share of the FLOPs.
        before, after: Accuracy on the test images, a share of 1.
    """

    who: str
    variant: str
    kept: float
    before: float
    after: float

    @property
    def lost(self) -> float:
        """Points of accuracy lost."""
        return 100 * (self.before - self.after)


def digits() -> ModuleType:
    """`examples/digits/train.py` as a module."""
    spec = importlib.util.spec_from_file_location("digits_train", TRAIN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def trained(example: ModuleType, sets: Sets, seed: int, epochs: int) -> nn.Module:
    """The example's network trained with a seed; from the cache if it has been before."""
    recipe = hashlib.sha256(TRAIN.read_bytes() + torch.__version__.encode()).hexdigest()[:12]
    path = CACHE / f"digits-{recipe}-{epochs}-{seed}.pt"
    if path.is_file():
        net = example.DigitNet()
        net.load_state_dict(torch.load(path, weights_only=True))
        return net.eval()
    net = example.train(*sets["train"], seed=seed, epochs=epochs)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(net.state_dict(), path)
    return net


def flops(path: Path) -> int:
    """FLOPs of one image."""
    return edgec.inspect(path, inputs={"image": (1, 1, 8, 8)}).totals.flops


def accuracy(path: Path, images: np.ndarray, labels: np.ndarray) -> float:
    """Top-1, a share of 1."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"image": images})
    return float((logits.argmax(1) == labels).mean())


def by_edgec(model: Path, sets: Sets, seed: int, before: float, folder: Path) -> Row:
    """`edgec build --flops 0.4 --data …`, the rest as it comes."""
    calibration = {"image": sets["calibration"][0]}
    report = edgec.build(
        model, flops=BUDGET, data=calibration, seed=seed, output=folder / "bundle", measure=None
    )
    how = f"{report.criterion}, {report.allocator}, {report.repair.method}"
    after = accuracy(folder / "bundle" / "model.onnx", *sets["test"])
    return Row(EDGEC, how, report.budgets[0].kept, before, after)


def by_torch_pruning(
    example: ModuleType, net: nn.Module, original: int, sets: Sets, before: float, folder: Path
) -> list[Row]:
    """Torch-Pruning's best variant as it is, and its best with new BatchNorm statistics."""
    path = folder / "pruned.onnx"

    def exported(pruned: nn.Module) -> Path:
        example.export(pruned, path)
        return path

    rows: dict[str, list[Row]] = {PLAIN: [], NEW_STATISTICS: []}
    for variant in rival.VARIANTS:
        pruned = copy.deepcopy(net)
        kept = rival.prune(
            pruned, torch.zeros(1, 1, 8, 8), pruned.head, BUDGET, variant,
            lambda candidate: flops(exported(candidate)) / original,
        )  # fmt: skip
        for who in rows:
            if who == NEW_STATISTICS:
                rival.recalibrate(pruned, torch.from_numpy(sets["calibration"][0]))
            after = accuracy(exported(pruned), *sets["test"])
            rows[who].append(Row(who, str(variant), kept, before, after))
    return [max(found, key=lambda row: row.after) for found in rows.values()]


def run(seed: int, epochs: int) -> list[Row]:
    """All rows for one seed."""
    example = digits()
    sets: Sets = example.split()
    net = trained(example, sets, seed, epochs)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = folder / "digits.onnx"
        example.export(net, model)
        before = accuracy(model, *sets["test"])
        return [
            by_edgec(model, sets, seed, before, folder),
            *by_torch_pruning(example, net, flops(model), sets, before, folder),
        ]


def show(label: str, row: Row) -> None:
    """One line of the table."""
    print(
        f"{label:<5} {row.who:<22} {row.kept:6.4f}  {100 * row.before:6.2f}  "
        f"{100 * row.after:6.2f}  {row.lost:6.2f}   {row.variant}",
        flush=True,
    )


def mean(rows: list[Row]) -> Row:
    """The mean of what one method reached over the seeds."""
    kept, before, after = np.mean([(r.kept, r.before, r.after) for r in rows], axis=0)
    return Row(rows[0].who, "", float(kept), float(before), float(after))


def failures(found: dict[int, list[Row]]) -> list[str]:
    """What contradicts the claim, seed by seed."""
    wrong = []
    for seed, rows in found.items():
        lost = {row.who: row.lost for row in rows}
        if lost[EDGEC] > ALLOWED_POINTS:
            wrong.append(f"seed {seed}: edgec loses {lost[EDGEC]:.2f} points, allowed 2")
        if lost[PLAIN] <= lost[EDGEC]:
            wrong.append(f"seed {seed}: {PLAIN} loses no more than edgec")
        if any(row.kept > BUDGET for row in rows):
            wrong.append(f"seed {seed}: a network exceeds the budget")
    return wrong


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 0 if the claim holds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=60)
    options: Any = parser.parse_args(arguments)
    rival.quiet()

    print(
        f"digits, at most {BUDGET} of the FLOPs, no training · edgec {edgec.__version__} · "
        f"Torch-Pruning {rival.VERSION}, {rival.MAGNITUDE} · torch {torch.__version__}\n"
    )
    print(f"seed  {'pruned by':<22} {'kept':>6}  before   after    lost   how")
    found: dict[int, list[Row]] = {}
    for seed in options.seeds:
        found[seed] = run(seed, options.epochs)
        for row in found[seed]:
            show(str(seed), row)
    for method in zip(*found.values(), strict=True):
        show("mean", mean(list(method)))
    wrong = failures(found)
    print("\n" + ("\n".join(wrong) or "the claim holds"))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
