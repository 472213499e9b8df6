"""Time and memory of the analysis as graphs grow longer and wider, and of cutting GPT-2 XL.

    python benchmarks/analysis_scale.py           # some minutes, 10 GB of disk for GPT-2 XL

All graphs are GPT-2s (gpt2_graph.py): of 100 to 20,000 nodes at width 64, and of widths 64 to 8192
with one layer. Every run is a process of its own; a figure is the median of its rounds.

    prepare    names, constants folded
    analyse    shapes, labels, channel groups
    cost       the cost model
    cut        half of every group goes: edgec.remove_channels
    save       edgec.save: here the weights are sliced

The memory of the analysis is what the resident set grows by from the end of loading to the end of
cutting, at most; the peak is the largest resident set of the whole process, mapped weights among
it, which grow with the file. The exponents are those of least squares over the upper half of the
sizes, two at the least: time or memory ~ (n log n)^exponent. Exit code 1 if one exceeds 1.1, if an
analysis takes more than 30 s, or if GPT-2 XL takes more than 60 s from the start of loading to the
end of saving, or more memory than 1.5 times its file. Needs Linux, which tells the peak of a part.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from statistics import linear_regression, median

from prune_speed import timed

HERE = Path(__file__).resolve().parent
NODES = (100, 300, 1000, 3000, 10000, 20000)
WIDTHS = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
PARTS = ("load", "prepare", "analyse", "cost", "cut", "save")
NODES_PER_LAYER = 27
MAX_EXPONENT = 1.1
MAX_ANALYSIS_SECONDS = 30
MAX_XL_SECONDS, MAX_XL_MEMORY = 60, 1.5


@dataclass(frozen=True)
class Figures:
    """One graph.

    Args:
        size: What grows: nodes, or the width.
        seconds: Of each of PARTS.
        megabytes: Memory of the analysis.
        peak: Largest resident set, MB.
        file: Megabytes of weights in the file.
    """

    size: int
    seconds: dict[str, float]
    megabytes: float
    peak: float
    file: float

    @property
    def analysis(self) -> float:
        """Seconds between loading and saving."""
        return sum(self.seconds[part] for part in PARTS[1:-1])


def memory(what: str) -> float:
    """MB of this process: `VmRSS`, what is resident, or `VmHWM`, the most that was."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024 / 1e6


def measure(model: Path, cut: Path) -> dict[str, object]:
    """Does all of it, in this process."""
    import numpy as np

    import edgec
    from edgec.graph.channels import channel_groups
    from edgec.graph.cost import CostModel
    from edgec.passes.base import Context
    from edgec.preparing import prepared

    seconds, last = [], time.perf_counter()

    def done() -> None:
        nonlocal last
        now = time.perf_counter()
        seconds.append(now - last)
        last = now

    loaded = edgec.load(model, inputs={"ids": (1, 32)})
    before, loading = memory("VmRSS"), memory("VmHWM")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    done()
    graph = prepared(loaded, Context())
    done()
    groups = channel_groups(graph)
    done()
    CostModel(groups)
    done()
    gone = [
        group.units[group.cells == cell][: group.depth // 2]
        for group in groups
        for cell in range(group.rows)
    ]
    result = edgec.remove_channels(groups, np.concatenate(gone))
    analysis = memory("VmHWM")
    done()
    edgec.save(result.model, cut)
    done()
    return {
        "nodes": len(graph.graph),
        "seconds": dict(zip(PARTS, seconds, strict=True)),
        "megabytes": analysis - before,
        "peak": max(loading, memory("VmHWM")),
    }


def figures(size: int, arguments: Sequence[str], rounds: int) -> Figures:
    """Writes a graph and measures it in processes of their own (see prune_speed.prepare)."""
    with tempfile.TemporaryDirectory() as scratch:
        model, found = Path(scratch, "gpt2.onnx"), Path(scratch, "found.json")
        timed([sys.executable, str(HERE / "gpt2_graph.py"), str(model), *arguments])
        runs = []
        for _ in range(rounds):
            timed([sys.executable, __file__, "--measure", str(model), str(found)])
            runs.append(json.loads(found.read_text()))
        return Figures(
            size,
            {part: median(run["seconds"][part] for run in runs) for part in PARTS},
            median(run["megabytes"] for run in runs),
            median(run["peak"] for run in runs),
            model.with_name("gpt2.onnx.data").stat().st_size / 1e6,
        )


def of_nodes(nodes: int, rounds: int) -> Figures:
    """About this many nodes, at width 64."""
    layers = max(1, round(nodes / NODES_PER_LAYER))
    shape = ["--layers", layers, "--width", 64, "--heads", 4, "--vocabulary", 500]
    return figures(nodes, [str(word) for word in shape], rounds)


def of_width(width: int, rounds: int) -> Figures:
    """One layer of this width."""
    heads = max(1, width // 64)
    shape = ["--layers", 1, "--width", width, "--heads", heads, "--vocabulary", 500, "--sparse"]
    return figures(width, [str(word) for word in shape], rounds)


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """e of cost ~ (n log n)^e, over the upper half of the sizes, two at the least."""
    half = min(len(sizes) // 2, len(sizes) - 2)
    x = [log(n * log(n)) for n in sizes[half:]]
    return linear_regression(x, [log(max(cost, 1e-9)) for cost in costs[half:]]).slope


def line(row: Figures) -> str:
    """A row of the table."""
    parts = "".join(f"{row.seconds[part]:9.2f}" for part in PARTS)
    sizes = f"{row.megabytes:6.0f} MB{row.peak:8.0f} MB{row.file:8.0f} MB"
    return f"{row.size:>10,}{parts}{row.analysis:9.2f} s{sizes}"


def head(what: str) -> str:
    """The table's head."""
    parts = "".join(f"{part:>9}" for part in PARTS)
    return f"\n{what:>10}{parts}{'analysis':>20}{'peak':>11}{'weights':>11}"


def verdicts(what: str, rows: Sequence[Figures]) -> Iterator[tuple[str, bool]]:
    """Each claim about a series, and whether it holds."""
    sizes = [row.size for row in rows]
    costs = {
        "time of the analysis": [row.analysis for row in rows],
        "memory of the analysis": [row.megabytes for row in rows],
    }
    for name, cost in costs.items():
        found = exponent(sizes, cost)
        text = f"{name}: ~ ({what} · log)^{found:.2f}, at most {MAX_EXPONENT}"
        yield text, found <= MAX_EXPONENT
    worst = max(row.analysis for row in rows)
    yield (
        f"slowest analysis: {worst:.1f} s, at most {MAX_ANALYSIS_SECONDS}",
        (worst <= MAX_ANALYSIS_SECONDS),
    )


def verdicts_of_xl(row: Figures) -> Iterator[tuple[str, bool]]:
    """The claims about GPT-2 XL."""
    total = sum(row.seconds.values())
    yield f"GPT-2 XL: {total:.1f} s, at most {MAX_XL_SECONDS}", total <= MAX_XL_SECONDS
    share = row.peak / row.file
    yield f"GPT-2 XL: {share:.2f} x its file, at most {MAX_XL_MEMORY}", share <= MAX_XL_MEMORY


def show(claims: Iterator[tuple[str, bool]]) -> bool:
    """Prints claims; whether all hold."""
    found = list(claims)
    for text, holds in found:
        print(f"  {'holds' if holds else 'does not hold'}: {text}", flush=True)
    return all(holds for _, holds in found)


def main() -> int:
    """Print the tables; 0 if the claims hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-xl", action="store_true", help="leave out GPT-2 XL")
    parser.add_argument("--nodes", type=int, nargs="*", default=NODES)
    parser.add_argument("--widths", type=int, nargs="*", default=WIDTHS)
    parser.add_argument("--measure", type=Path, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        model, found = options.measure
        found.write_text(json.dumps(measure(model, model.with_name("cut.onnx"))))
        return 0
    series = (("nodes", options.nodes, of_nodes), ("widths", options.widths, of_width))
    for what, sizes, _ in series:
        if len(set(sizes)) < 2:
            parser.error(f"--{what}: growth is told from two sizes or more")
    holds = True
    for what, sizes, run in series:
        print(head(what), flush=True)
        rows = []
        for size in sorted(set(sizes)):
            rows.append(run(size, options.rounds))
            print(line(rows[-1]), flush=True)
        holds &= show(verdicts(what, rows))
    if not options.no_xl:
        print(head("GPT-2 XL"), flush=True)
        row = figures(1600, [], options.rounds)
        print(line(row), flush=True)
        holds &= show(verdicts_of_xl(row))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
