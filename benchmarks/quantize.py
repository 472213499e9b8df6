"""int8 on ONNX Runtime: edgec beside onnxruntime.quantization and NNCF.

    python benchmarks/quantize.py                  # needs edgec[bench]; about an hour
    python benchmarks/quantize.py --nets resnet18 --rounds 1

Three quantisers get the same network and the same samples, each in a process of its own:

    edgec          edgec build net.onnx --quantize int8 --measure none: observes, chooses ranges,
                   rounds, corrects, writes the bundle, loads it, compares it with the original
    onnxruntime    quant_pre_process, then quantize_static (Q/DQ, per channel)
    nncf           nncf.quantize with its defaults, on all samples

Quality: from 128 samples; the signal-to-noise ratio of the logits on 64 others, also about the mean
over the samples, which a network with random weights hardly leaves. ONNX Runtime's optimiser makes
some quantised graphs give something else than they say; a peer is judged by the better of its graph
optimised and as written, edgec by the graph as it runs. Latency: one sample, one
thread, the three results and the float network in interleaved blocks; a ratio is the median of the
ratios within a block. Cost: wall time and peak memory of the whole process, given 512 samples.
edgec looks at 128 of them, spread evenly, as it does unless told otherwise; the peers look at all,
and so does edgec with --all.

Exit code 1 if edgec's ratio of signal to noise is below that of a peer on any network, its latency
above, or its time or memory above half of a peer's.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median

from processes import Run, timed

HERE = Path(__file__).resolve().parent
NETS = ("resnet18", "resnet50", "mobilenet_v2", "efficientnet_b0")
TOOLS = ("edgec", "onnxruntime", "nncf")
PEERS = TOOLS[1:]
QUALITY, COST, HELD_OUT = 128, 512, 64
MAX_TIME = MAX_MEMORY = 0.5
SLACK = 1.02  # latencies of two results closer than this are the same


def command(tool: str, folder: Path, net: str, samples: int) -> list[str]:
    """One quantisation; the result is `result`."""
    model, data = folder / f"{net}.onnx", folder / f"samples{samples}"
    if tool == "edgec":
        edgec = str(Path(sys.executable).with_name("edgec"))
        return [
            edgec, "build", str(model), "--quantize", "int8", "--data", f"{data}.npz",
            "--measure", "none", "--force", "-o", str(folder / f"{net}.edgec"),
        ]  # fmt: skip
    peers = str(HERE / "quantize_peers.py")
    return [sys.executable, peers, tool, str(model), f"{data}.npy", str(result(tool, folder, net))]


def result(tool: str, folder: Path, net: str) -> Path:
    """The file that a tool's command makes."""
    return folder / f"{net}.edgec" / "model.onnx" if tool == "edgec" else folder / f"{net}.{tool}"


def prepare(folder: Path, nets: list[str], counts: list[int]) -> None:
    """Write networks and samples."""
    import numpy as np
    import quantize_nets

    for net in nets:
        quantize_nets.export(net, folder / f"{net}.onnx")
    for count in counts:
        rows = quantize_nets.images(count, seed=1)
        np.save(folder / f"samples{count}.npy", rows)
        np.savez(folder / f"samples{count}.npz", image=rows)
    np.save(folder / "held_out.npy", quantize_nets.images(HELD_OUT, seed=2))


def judge(folder: Path, net: str) -> None:
    """Print quality and latency of all results as JSON."""
    import time

    import numpy as np
    import onnxruntime as ort

    def opened(path: Path, *, optimise: bool = True) -> ort.InferenceSession:
        options = ort.SessionOptions()
        if not optimise:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    rows = np.load(folder / "held_out.npy")
    sessions = {"float": opened(folder / f"{net}.onnx")}
    sessions |= {tool: opened(result(tool, folder, net)) for tool in TOOLS}

    def logits_of(session: ort.InferenceSession) -> np.ndarray:
        return np.concatenate([session.run(None, {"image": row[None]})[0] for row in rows])

    logits = {name: logits_of(session) for name, session in sessions.items()}
    found: dict[str, dict[str, float]] = {name: {} for name in sessions}
    for name in TOOLS:
        noise = np.square(logits[name] - logits["float"]).sum()
        if name in PEERS:
            written = logits_of(opened(result(name, folder, net), optimise=False))
            as_written = np.square(written - logits["float"]).sum()
            found[name]["as_run_db"] = float(
                10 * np.log10(np.square(logits["float"]).sum() / noise)
            )
            noise = min(noise, as_written)
        varies = logits["float"] - logits["float"].mean(0)
        found[name]["snr_db"] = float(10 * np.log10(np.square(logits["float"]).sum() / noise))
        found[name]["about_mean_db"] = float(10 * np.log10(np.square(varies).sum() / noise))
        same = logits[name].argmax(1) == logits["float"].argmax(1)
        found[name]["agree"] = float(same.mean())
    blocks: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(40):
        for name, session in sessions.items():
            times = []
            for row in rows[:5]:
                start = time.perf_counter()
                session.run(None, {"image": row[None]})
                times.append(time.perf_counter() - start)
            blocks[name].append(median(times))
    for name, own in blocks.items():
        found[name]["ms"] = 1e3 * median(own)
        pairs = zip(blocks["edgec"], own, strict=True)
        found[name]["edgec_over_it"] = median(a / b for a, b in pairs)
    print(json.dumps(found))


def verdicts(
    net: str, found: Mapping[str, Mapping[str, float]], runs: Mapping[str, list[Run]]
) -> Iterator[tuple[str, bool]]:
    """Every claim about one network, and whether it holds."""
    for peer in PEERS:
        gain = found["edgec"]["snr_db"] - found[peer]["snr_db"]
        yield f"{net}: {gain:+.2f} dB of {peer} (at least 0)", gain >= 0
        slow = found[peer]["edgec_over_it"]
        yield f"{net}: latency {slow:.3f} of {peer} (at most 1)", slow <= SLACK
        if runs:
            pairs = list(zip(runs["edgec"], runs[peer], strict=True))
            quick = median(a.seconds / b.seconds for a, b in pairs)
            small = median(a.megabytes / b.megabytes for a, b in pairs)
            yield f"{net}: time {quick:.2f} of {peer} (at most {MAX_TIME})", quick <= MAX_TIME
            yield f"{net}: memory {small:.2f} of {peer} (at most {MAX_MEMORY})", small <= MAX_MEMORY
    gain = found["float"]["edgec_over_it"]
    yield f"{net}: latency {gain:.3f} of float (below 1)", gain < 1


def main() -> int:
    """Print the tables; 0 if every claim holds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--rounds", type=int, default=1, help="of the costs; 0: none")
    parser.add_argument("--all", action="store_true", help="edgec looks at all samples")
    parser.add_argument("--samples", type=int, default=COST, help="of the costs")
    parser.add_argument("--folder", type=Path, help="keep networks and results here")
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--judge", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    counts = [QUALITY, *([options.samples] if options.rounds else [])]
    if options.prepare:
        prepare(options.prepare, options.nets, counts)
        return 0
    if options.judge:
        judge(options.judge, options.nets[0])
        return 0
    failed = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "held_out.npy").exists():
            timed([sys.executable, __file__, *sys.argv[1:], "--prepare", str(folder)])
        for net in options.nets:
            runs: dict[str, list[Run]] = {tool: [] for tool in TOOLS} if options.rounds else {}
            for _ in range(options.rounds):
                for tool in TOOLS:
                    words = command(tool, folder, net, options.samples)
                    more = ["--calib", "all"] if options.all and tool == "edgec" else []
                    runs[tool].append(timed([*words, *more]))
            for tool in TOOLS:
                timed(command(tool, folder, net, QUALITY))
            judged = [sys.executable, __file__, "--judge", str(folder), "--nets", net]
            found = json.loads(subprocess.run(judged, capture_output=True, check=True).stdout)
            print(f"\n{net:<16}{'SNR':>9}{'about mean':>12}{'agree':>8}{'latency':>10}{'time':>9}"
                  f"{'peak':>9}")  # fmt: skip
            for name, own in found.items():
                quality = (
                    f"{own['snr_db']:6.2f} dB{own['about_mean_db']:9.2f} dB{own['agree']:8.3f}"
                    if "snr_db" in own
                    else " " * 29
                )
                cost = ""
                if runs.get(name):
                    cost = f"{median(r.seconds for r in runs[name]):7.1f} s"
                    cost += f"{median(r.megabytes for r in runs[name]):6.0f} MB"
                print(f"  {name:<14}{quality}{own['ms']:7.2f} ms{cost}", flush=True)
            for text, holds in verdicts(net, found, runs):
                print(f"    {'ok  ' if holds else 'FAIL'} {text}", flush=True)
                failed += [] if holds else [text]
    print(f"\n{len(failed)} claims do not hold" if failed else "\nall claims hold")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
