"""The command line. It parses words and prints results; the work is in `edgec.build` and others.

Exit codes are those of `edgec.errors`; 130 when interrupted.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import click

from edgec import console
from edgec._version import __version__
from edgec.errors import UsageError
from edgec.shell import Commands, Sectioned, debug_option

# Whole numbers of up to nine digits; str.isdigit() would let '²' pass.
_SIZE = re.compile(r"[0-9]{1,9}")


def _shapes(texts: tuple[str, ...]) -> dict[str, tuple[int, ...]] | None:
    """`name=1x3x224x224`, repeated."""
    found: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, equals, dims = text.rpartition("=")
        sizes = dims.lower().split("x") if dims else []
        if not equals or not name or not all(_SIZE.fullmatch(s) for s in sizes):
            raise UsageError(
                f"--input {text}", "is not NAME=SIZES", "for example image=1x3x224x224"
            )
        if name in found:
            raise UsageError(
                f"--input {text}", f"gives '{name}' a second time", "give each input once"
            )
        found[name] = tuple(int(s) for s in sizes)
    return found or None


def _json(document: Any) -> None:
    click.echo(json.dumps(document, indent=2, sort_keys=True, allow_nan=False))


def _as_json(command: Any) -> Any:
    """The options that every command has."""
    shown = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
    return shown(debug_option(command))


_input = click.option(
    "--input", "inputs", multiple=True, metavar="NAME=SIZES",
    help="Concrete shape of an input, e.g. image=1x3x224x224. Repeatable.",
)  # fmt: skip


def _allow(context: click.Context, _: click.Parameter, seconds: float) -> None:
    from edgec.graph.deadline import analysis_seconds

    context.with_resource(analysis_seconds(seconds))


def _widths(_: click.Context, __: click.Parameter, text: str | None) -> tuple[int, ...]:
    """`8,4`."""
    if text is None:
        return ()
    words = text.split(",")
    if not all(_SIZE.fullmatch(word) for word in words):
        raise UsageError(f"--bits {text}", "is no list of widths", "for example 8,4")
    return tuple(int(word) for word in words)


_limit = click.option(
    "--analysis-seconds", type=click.FloatRange(0, min_open=True), metavar="S", default=300,
    show_default=True, expose_value=False, callback=_allow,
    help="The most that a step of the analysis may take.",
)  # fmt: skip


def _freedom(command: Any) -> Any:
    """What may go besides channels whose removal equals zeroing them."""
    norms = click.option(
        "--across-norms", is_flag=True,
        help="Also cut channels that a norm takes its statistics over (embedding widths).",
    )  # fmt: skip
    heads = click.option(
        "--drop-heads", multiple=True, metavar="PATTERN",
        help="Attention heads that these nodes make go whole, instead of channels of every head.",
    )  # fmt: skip
    return norms(heads(_limit(command)))


@click.group(
    "edgec",
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="edgec")
@debug_option
def main() -> None:
    """Compile neural networks for edge devices: prune to a budget, prove the cut, repair, lower,
    measure.

    Exit codes: 0 ok, 1 a fault in edgec, 2 usage or bad input, 3 budget not met, 4 unsupported
    operator, 5 device lost, 6 measurement not trustworthy, 7 verification failed, 8 lock
    mismatch, 130 interrupted.
    """


_SECTIONS = {
    "Budgets (a kept ratio below 1, or an absolute number)": ("flops", "macs", "params", "size"),
    "Pruning": (
        "criterion", "allocator", "round_to", "include", "exclude", "across_norms", "drop_heads",
        "repair",
    ),
    "Quantisation": (
        "quantize", "observer", "calib", "calib_samples", "rounding", "equalise", "keep_float",
        "max_drop", "drop_metric", "bits", "score_quantised",
    ),
    "Samples": ("data", "eval_data", "metric", "inputs"),
    "Target and measurement": ("target", "backend", "measure", "threads"),
    "Result": ("output", "force", "dry_run", "explained", "as_json"),
}  # fmt: skip


@main.command(cls=Sectioned, sections=_SECTIONS)
@click.argument("model")
@click.option("--recipe", "recipe_path", metavar="FILE", help="Options from a TOML file.")
@click.option("--target", metavar="NAME", help="Where the result will run.  [default: cpu]")
@click.option("--backend", metavar="NAME", help="What runs it there.  [default: the target's own]")
@click.option("--flops", metavar="X", help="FLOPs of one sample (0.4, 300M, 1.2G).")
@click.option("--macs", metavar="X", help="Multiply-adds of one sample.")
@click.option("--params", metavar="X", help="Parameters.")
@click.option("--size", metavar="X", help="Bytes of the weights, in integers with int8 (0.5, 4MB).")
@click.option(
    "--criterion",
    metavar="WORD",
    help="How channels are scored.  [default: flap with data, else l2]",
)
@click.option("--allocator", metavar="WORD", help="mckp, global or uniform.  [default: mckp]")
@click.option(
    "--round-to", type=int, metavar="N",
    help="Kept widths are multiples of this.  [default: the target's]",
)  # fmt: skip
@click.option(
    "--include", multiple=True, metavar="PATTERN", help="Narrow only groups of these nodes."
)
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Keep the groups of these nodes.")
@_freedom
@click.option(
    "--repair",
    metavar="WORD",
    help="none, bias, recalibrate, least-squares or auto.  [default: auto]",
)
@click.option(
    "--quantize",
    metavar="FORMAT",
    help="int8, float16, bfloat16, int8-weights or int4-weights.  [default: as the original]",
)
@click.option(
    "--observer", metavar="WORD", help="How ranges of activations are found.  [default: mse]"
)
@click.option(
    "--calib",
    metavar="WORD",
    help="Samples that ranges come from: a selection, all, synthetic.  [default: even]",
)
@click.option(
    "--calib-samples",
    type=int,
    metavar="N",
    help="How many of them.  [default: 128]",
)
@click.option("--rounding", metavar="WORD", help="How weights become integers.  [default: nearest]")
@click.option("--equalise", is_flag=True, help="Give channels that share a grid like ranges first.")
@click.option("--keep-float", multiple=True, metavar="PATTERN", help="Do not quantise these nodes.")
@click.option(
    "--max-drop",
    type=float,
    metavar="X",
    help="Keep layers in floats, so that quantisation costs at most X by --drop-metric.",
)
@click.option(
    "--drop-metric", help="error (noise over signal), kl, top1 or a function.  [default: error]"
)
@click.option(
    "--bits",
    callback=_widths,
    metavar="LIST",
    help="Widths that weights may have under --max-drop: 8 or 8,4.  [default: 8]",
)
@click.option(
    "--score-quantised",
    is_flag=True,
    help="Score channels on activations as they are once quantised.",
)
@click.option(
    "--data", metavar="SPEC", help="Samples: .npz, a folder of images, package.module:function."
)
@click.option(
    "--eval-data", metavar="SPEC", help="Labelled samples for the accuracy.  [default: --data]"
)
@click.option(
    "--eval", "metric", metavar="PACKAGE.MODULE:FUNCTION", help="The metric.  [default: top-1]"
)
@_input
@click.option("--seed", type=int, metavar="N", help="Seed of everything random.  [default: 0]")
@click.option(
    "--measure", metavar="WORD", default="rapid", show_default=True, help="rapid, standard or none."
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    metavar="N",
    default=1,
    show_default=True,
    help="Threads measured.",
)
@click.option("-o", "--output", metavar="DIR", help="Folder of the bundle.")
@click.option("--force", is_flag=True, help="Replace a bundle that is there.")
@click.option("--dry-run", is_flag=True, help="Stop after the feasibility table.")
@click.option(
    "--explain",
    "explained",
    is_flag=True,
    help="Show every group, pin and layer left in floats with its reason.",
)
@_as_json
def build(
    model: str, recipe_path: str | None, data: str | None, eval_data: str | None,
    metric: str | None, inputs: tuple[str, ...], measure: str, threads: int, output: str | None,
    force: bool, dry_run: bool, explained: bool, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Make MODEL smaller, prove it, measure it, write a bundle.

    MODEL is an .onnx file, a .pt2 file of torch.export, or package.module:factory. What the WORDs
    mean: edgec passes.
    """
    from edgec.build import build as run
    from edgec.recipe import Recipe

    if output is None and not dry_run:
        raise UsageError("-o/--output", "is missing", "name a folder for the bundle, or --dry-run")
    recipe = Recipe.load(recipe_path) if recipe_path else Recipe()
    given = {k: v for k, v in options.items() if v not in (None, ()) and v is not False}
    progress = console.PhaseLines()
    try:
        report = run(
            model, recipe=recipe, output=output, force=force, data=data, eval_data=eval_data,
            eval=metric, inputs=_shapes(inputs), measure=None if measure == "none" else measure,
            threads=threads, dry_run=dry_run, argv=sys.argv[1:], progress=progress, **given,
        )  # fmt: skip
    finally:
        progress.close()
    if as_json:
        _json(report.to_json())
        return
    out = console.printer()
    if explained:
        console.show_decisions(report, out)
    if not dry_run:
        out.print()
        console.show_report(report, out)


@main.command()
@click.argument("model")
@_freedom
@_input
@_as_json
def inspect(
    model: str, across_norms: bool, drop_heads: tuple[str, ...], inputs: tuple[str, ...],
    as_json: bool,
) -> None:  # fmt: skip
    """Operators, FLOPs, parameters, channel groups and pins of MODEL."""
    from edgec.inspection import inspect as run

    found = run(model, inputs=_shapes(inputs), across_norms=across_norms, drop_heads=drop_heads)
    if as_json:
        _json(found.to_json())
    else:
        console.show_inspection(found, console.printer())


@main.command()
@click.argument("model")
@click.option("--channel", required=True, metavar="NODE:INDEX", help="The channel, e.g. conv1:17.")
@_freedom
@_input
@_as_json
def explain(
    model: str, channel: str, across_norms: bool, drop_heads: tuple[str, ...],
    inputs: tuple[str, ...], as_json: bool,
) -> None:  # fmt: skip
    """Why a channel of MODEL is tied to others or pinned: the path, by node name."""
    from edgec.explanation import explain as run

    found = run(
        model, channel, inputs=_shapes(inputs), across_norms=across_norms, drop_heads=drop_heads
    )
    if as_json:
        _json(found.to_json())
    else:
        console.show_explanation(found, console.printer())


@main.command()
@click.argument("first")
@click.argument("second")
@click.option("--data", metavar="SPEC", help="Samples; seeded random ones if not given.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the random samples."
)
@click.option("--tensors", is_flag=True, help="Compare every tensor of both, worst first.")
@click.option(
    "--restore",
    is_flag=True,
    help="Tell which quantised layer of SECOND would help most in floats.",
)
@_input
@_as_json
def compare(
    first: str, second: str, data: str | None, seed: int, tensors: bool, restore: bool,
    inputs: tuple[str, ...], as_json: bool,
) -> None:  # fmt: skip
    """How far the outputs of two models are apart, and where that comes from."""
    from dataclasses import asdict

    from edgec.comparing import compare_models
    from edgec.report import finite
    from edgec.restoring import restorations
    from edgec.tensors import compare_tensors

    options: Any = {"data": data, "seed": seed, "inputs": _shapes(inputs)}
    found = compare_models(first, second, **options)
    report = compare_tensors(first, second, **options) if tensors else None
    restored = restorations(first, second, **options) if restore else None
    if as_json:
        outputs = [asdict(d) for d in found]
        parts = {
            "tensors": None if report is None else report.to_json(),
            "restore": None if restored is None else [asdict(r) for r in restored],
        }
        asked = {name: part for name, part in parts.items() if part is not None}
        _json(finite({"outputs": outputs, **asked} if asked else outputs))
        return
    if data is None:
        console.printer(sys.stderr).print(" note     no data: seeded random inputs")
    out = console.printer()
    console.show_differences(found, out)
    if report is not None:
        out.print()
        console.show_tensors(report, out)
    if restored is not None:
        out.print()
        console.show_restorations(restored, out)


@main.command("quantize-scan")
@click.argument("model")
@click.option(
    "--data", metavar="SPEC", help="Samples: .npz, a folder of images, package.module:function."
)
@click.option("--target", default="cpu", show_default=True, help="Its rules say what is quantised.")
@click.option(
    "--bits", default="8,4", show_default=True, callback=_widths, help="Widths to try: 4, 8, 16."
)
@click.option(
    "--method", default="output", show_default=True, help="output, lim, zd or prune-slope."
)
@click.option(
    "--metric",
    default="error",
    show_default=True,
    help="error (noise over signal of the outputs), kl (of classes), top1 or "
    "package.module:function.",
)
@click.option("--activations", is_flag=True, help="Round what a layer reads with its weight.")
@click.option("--samples", type=click.IntRange(1), help="At most so many.  [default: 64]")
@click.option(
    "--resume", metavar="FILE", help="Keep results in FILE, and compute none that is there."
)
@click.option("--size", metavar="X", help="Choose bits: the bytes of all weights (0.2, 4MB).")
@click.option("--latency", type=float, metavar="MS", help="Choose bits: time of all layers.")
@click.option("--latencies", metavar="FILE", help="JSON: layer → precision → milliseconds.")
@click.option(
    "--max-drop", type=float, metavar="X", help="Choose bits: the damage that may be done."
)
@_limit
@_input
@_as_json
def quantize_scan(model: str, inputs: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Rank the layers of MODEL by what few bits do to its outputs; choose bits for each."""
    from edgec.scanning import quantize_scan as run

    found = run(model, inputs=_shapes(inputs), **options)
    if as_json:
        _json(found.to_json())
    else:
        console.show_scan(found, console.printer())


@main.command()
@_as_json
def targets(as_json: bool) -> None:
    """What edgec can build for."""
    from dataclasses import asdict

    from edgec.targets import load_profile, profile_names

    profiles = [load_profile(name) for name in profile_names()]
    if as_json:
        _json([asdict(p) for p in profiles])
        return
    console.rows(
        ("target", "backends", "widths on", "what it is"),
        [(p.name, ", ".join(p.backends), str(p.channel_grid), p.title) for p in profiles],
        console.printer(),
    )


@main.command()
@_as_json
def passes(as_json: bool) -> None:
    """The words there are: passes, criteria, repairs, formats, observers and more."""
    from edgec.catalogue import catalogue

    found = catalogue()
    if as_json:
        _json(found)
        return
    out = console.printer()
    for number, (title, entries) in enumerate(found.items()):
        if number:
            out.print()
        console.rows((title, ""), [(name, text) for name, text in entries.items()], out)


@main.command()
@_as_json
def doctor(as_json: bool) -> None:
    """What is installed here, and what is missing for which feature."""
    from edgec.catalogue import examine

    found = examine()
    if as_json:
        _json(found)
        return
    console.rows(
        ("part", "version", "state"),
        [(row["part"], row["version"], row["state"]) for row in found],
        console.printer(),
    )
