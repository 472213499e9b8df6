"""Time and memory of pruning ResNet-50 to 40 % of its FLOPs: edgec beside Torch-Pruning.

    python benchmarks/prune_speed.py              # needs edgec[bench]; some minutes

Every run is a process of its own, timed from its start to its end with all it does; its memory is
the largest resident set that the kernel saw. The runs are interleaved, and a ratio is the median
of the ratios of runs that followed one another.

    edgec                  edgec build resnet50.onnx --flops 0.4 -o …: prunes, proves the cut,
                           repairs, writes the bundle, loads it, compares it, measures latencies
    edgec --measure none   the same without the latencies
    Torch-Pruning          loads the network, steps to the budget with the L2 of groups, counting
                           after each step, and calls torch.onnx.export(dynamo=True)
    Torch-Pruning, ratio   the same in one step without counting: the ratio that meets the budget
      known                was searched beforehand, which is not timed

Both start from the same weights: edgec from the exported ONNX (export not timed; its weights lie in
a file beside it, as the exporter writes them, or with --one-file in it), Torch-Pruning from the
state dict. There are no data. Exit code 1 if edgec takes more than 1.0 times the time or
0.6 times the memory of Torch-Pruning.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median

from processes import Run, timed

HERE = Path(__file__).resolve().parent
BUDGET = 0.4
MAX_TIME, MAX_MEMORY = 1.0, 0.6
EDGEC, NO_MEASURE = "edgec", "edgec --measure none"
STEPPED, KNOWN = "Torch-Pruning", "Torch-Pruning, ratio known"


def prepare(folder: Path, search: bool, one_file: bool) -> None:
    """Write the network, as weights and as ONNX, and the ratio that meets the budget, if asked.

    A process of its own: a process starts with the peak of the one that made it, as Linux counts,
    so the one that times others must stay small.
    """
    import onnx
    import resnet50
    import torch
    import torch_pruning_l2 as rival

    rival.quiet()
    net = resnet50.seeded()
    torch.save(net.state_dict(), folder / "resnet50.pt")
    resnet50.export(net, folder / "resnet50.onnx", keep_norms=True)
    if one_file:
        onnx.save(onnx.load(folder / "resnet50.onnx"), folder / "resnet50.onnx")
    if search:
        ratio = rival.ratio_for(resnet50.seeded, torch.zeros(resnet50.EXAMPLE), BUDGET)
        (folder / "ratio").write_text(str(ratio))


def commands(folder: Path, steps: int) -> dict[str, list[str]]:
    """What is run, by name."""
    edgec = [str(Path(sys.executable).with_name("edgec")), "build", str(folder / "resnet50.onnx")]
    edgec += ["--flops", str(BUDGET), "--force", "-o"]
    rival = [sys.executable, str(HERE / "torch_pruning_l2.py"), str(folder / "resnet50.pt")]
    found = {
        EDGEC: [*edgec, str(folder / "bundle")],
        STEPPED: [*rival, str(folder / "stepped.onnx"), "--steps", str(steps)],
        NO_MEASURE: [*edgec, str(folder / "unmeasured"), "--measure", "none"],
    }
    if (folder / "ratio").exists():
        ratio = (folder / "ratio").read_text()
        found[KNOWN] = [*rival, str(folder / "known.onnx"), "--ratio", ratio]
    return found


def ratios(runs: Mapping[str, list[Run]], a: str, b: str) -> tuple[float, float]:
    """(time, memory) of `a` relative to `b`: medians over the rounds."""
    pairs = list(zip(runs[a], runs[b], strict=True))
    return (
        median(x.seconds / y.seconds for x, y in pairs),
        median(x.megabytes / y.megabytes for x, y in pairs),
    )


def table(runs: Mapping[str, list[Run]]) -> Iterator[str]:
    """Medians, and the single runs."""
    yield f"{'':<28} {'time':>8}  {'peak':>8}   runs"
    for name, own in runs.items():
        each = "  ".join(f"{run.seconds:.1f} s {run.megabytes:.0f} MB" for run in own)
        yield (
            f"{name:<28} {median(r.seconds for r in own):6.1f} s  "
            f"{median(r.megabytes for r in own):5.0f} MB   {each}"
        )


def products(path: Path) -> int:
    """Multiply-adds of the layers with weights, which no exporter folds away."""
    import edgec

    rows = edgec.inspect(path).ops
    return sum(row.macs or 0 for row in rows if row.op in ("Conv", "Gemm", "MatMul"))


def main() -> int:
    """Print the table; 0 if the claim holds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20, help="steps of Torch-Pruning's schedule")
    parser.add_argument("--no-known", action="store_true", help="leave out the last row")
    parser.add_argument("--one-file", action="store_true", help="keep the weights in the .onnx")
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.prepare:
        prepare(options.prepare, not options.no_known, options.one_file)
        return 0
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        print(f"ResNet-50, 1x3x224x224, no data, {BUDGET} of the FLOPs", flush=True)
        timed([sys.executable, __file__, *sys.argv[1:], "--prepare", scratch])
        todo = commands(folder, options.steps)
        runs: dict[str, list[Run]] = {name: [] for name in todo}
        for _ in range(options.rounds):
            for name, command in todo.items():
                runs[name].append(timed(command))
        print("\n" + "\n".join(table(runs)))
        original = products(folder / "resnet50.onnx")
        results = {
            EDGEC: folder / "bundle" / "model.onnx",
            STEPPED: folder / "stepped.onnx",
            KNOWN: folder / "known.onnx",
        }
        kept = [
            f"{name} {products(path) / original:.4f}"
            for name, path in results.items()
            if name in runs
        ]
        print(f"\nkept multiply-adds: {' · '.join(kept)}")
        report = json.loads((folder / "bundle" / "report.json").read_bytes())
    phases = " · ".join(f"{name} {seconds:.1f}" for name, seconds in report["seconds"].items())
    print(f"edgec's phases, s: {phases}\n")
    for ours in (EDGEC, NO_MEASURE):
        for theirs in (name for name in (STEPPED, KNOWN) if name in runs):
            quick, small = ratios(runs, ours, theirs)
            print(f"{ours} / {theirs}: time {quick:.2f}, memory {small:.2f}")
    quick, small = ratios(runs, EDGEC, STEPPED)
    holds = quick <= MAX_TIME and small <= MAX_MEMORY
    print(
        f"\n{EDGEC} / {STEPPED}: time {quick:.2f} (at most {MAX_TIME}), memory {small:.2f} "
        f"(at most {MAX_MEMORY}): the claim {'holds' if holds else 'does not hold'}"
    )
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
