"""What is wrong with a build's options is told before anything is read, cut or measured."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import onnx_ir as ir

from edgec import bundle
from edgec.calibration.data import Data
from edgec.calibration.evaluate import TOP1, Metric, find_metric
from edgec.calibration.moments import runner
from edgec.calibration.observers import OBSERVERS
from edgec.devices.measure import PRESETS
from edgec.errors import UnsupportedError, UsageError
from edgec.passes.prune.criteria import CRITERIA
from edgec.passes.prune.prune import Prune
from edgec.passes.quantize.formats import ACTIVATIONS, ALL, CALIBS, FORMATS, SYNTHETIC
from edgec.passes.quantize.rounding import ROUNDINGS
from edgec.passes.quantize.yardstick import PLAIN
from edgec.passes.repair import REPAIRS
from edgec.recipe import Recipe
from edgec.suggest import check_known
from edgec.targets import Target
from edgec.user_code import running

_INTEGERS = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulNBits"}
_HALVES = {ir.DataType.FLOAT16: "float16", ir.DataType.BFLOAT16: "bfloat16"}
_WITHOUT_DATA = ("none", "bias", "auto")


def check_options(
    *,
    repair: str,
    measure: str | None,
    threads: int,
    data: object,
    eval_data: object,
    metric: str | None,
) -> None:
    """The options that the recipe and the prune pass do not check themselves.

    Args:
        repair, measure, threads, data, eval_data, metric: See `edgec.build`.

    Raises:
        UsageError: A word that names nothing, a number out of range, or data that is missing.
    """
    check_known(f"--repair {repair}", repair, REPAIRS)
    if data is None and repair not in _WITHOUT_DATA:
        raise UsageError(
            f"--repair {repair}",
            "needs samples, and no data was given",
            "give --data, or take --repair bias",
        )
    if measure is not None:
        check_known(f"--measure {measure}", measure, [*PRESETS, "none"])
    cores = os.cpu_count() or 1
    if not 1 <= threads <= cores:
        raise UsageError(
            f"--threads {threads}",
            f"is outside 1 … {cores}, the cores of this machine",
            "measure with as many threads as the result will run on",
        )
    for option, given in (("--data", data), ("--eval-data", eval_data)):
        if isinstance(given, str) and not given:
            raise UsageError(option, "is empty", f"name the samples, or leave {option} away")
    if metric is not None and data is None and eval_data is None:
        raise UsageError("--eval", "needs labelled samples", "give --eval-data")


def check_quantisation(recipe: Recipe, target: Target, data: object) -> None:
    """The options of --quantize.

    Raises:
        UsageError: A word that names nothing, samples that are missing, an option without effect.
        UnsupportedError: The target has no rules for integers.
    """
    word = recipe.quantize
    if word is not None:
        check_known(f"--quantize {word}", word, FORMATS)
    taken = FORMATS[word].takes if word is not None else ()
    fresh = Recipe()
    for name in ACTIVATIONS:
        if name not in taken and getattr(recipe, name) != getattr(fresh, name):
            option = f"--{name.replace('_', '-')}"
            fact = "needs --quantize int8" if word is None else f"means nothing to {word}"
            raise UsageError(option, fact, f"leave {option} away, or take --quantize int8")
    if word is None:
        return
    check_known(f"--observer {recipe.observer}", recipe.observer, OBSERVERS)
    check_known(f"--calib {recipe.calib}", recipe.calib, CALIBS)
    check_known(f"--rounding {recipe.rounding}", recipe.rounding, ROUNDINGS)
    kind = FORMATS[word]
    if kind.needs_rules and target.profile.quantize is None:
        raise UnsupportedError(
            f"target '{target.name}'",
            f"has no rules for {word}",
            "take another --target, or add a [quantize] table to its profile",
        )
    if kind.needs_data and data is None and recipe.calib != SYNTHETIC:
        raise UsageError(
            f"--quantize {word}",
            "needs to see activations, and no data was given",
            "give --data with samples that the network is meant for (some hundreds), or --calib "
            "synthetic, which fits inputs to the BatchNorm statistics",
        )
    if data is not None and recipe.calib == SYNTHETIC:
        raise UsageError("--calib synthetic", "is given with --data", "leave one of them away")
    _check_drop(recipe, data)
    _check_scores(recipe, data)
    if recipe.calib == ALL and recipe.calib_samples is not None:
        raise UsageError(
            f"--calib-samples {recipe.calib_samples}", "contradicts --calib all",
            "leave one of them away",
        )  # fmt: skip


def _check_drop(recipe: Recipe, data: object) -> None:
    """The options of --max-drop."""
    if recipe.max_drop is None:
        for name in ("drop_metric", "bits"):
            if getattr(recipe, name) != getattr(Recipe(), name):
                option = f"--{name.replace('_', '-')}"
                raise UsageError(option, "needs --max-drop", f"leave {option} away, or give one")
        return
    if data is None:
        raise UsageError("--max-drop", "needs samples to measure on", "give --data")
    if not recipe.bits or not set(recipe.bits) <= {8, 4}:
        listed = ",".join(map(str, recipe.bits))
        raise UsageError(f"--bits {listed}", "are no widths of weights", "give 8, or 8,4")
    if recipe.drop_metric not in (*PLAIN, TOP1.name):
        find_metric(recipe.drop_metric)


def _check_scores(recipe: Recipe, data: object) -> None:
    """Whether --score-quantised changes anything."""
    if not recipe.score_quantised:
        return
    if not recipe.budgets:
        raise UsageError("--score-quantised", "needs a budget", "say --flops, or leave it away")
    criterion = Prune(criterion=recipe.criterion).criterion_for(data is not None)
    if CRITERIA[criterion].needs != "moments":
        raise UsageError(
            "--score-quantised", f"means nothing to the criterion {criterion}",
            "take --criterion flap with --data, or leave it away",
        )  # fmt: skip


def check_floats(model: ir.Model, word: str) -> None:
    """Whether a model still computes with what --quantize starts from.

    Args:
        model: In the form in which it is analysed.
        word: The word after --quantize.

    Raises:
        UnsupportedError: It is quantised already.
    """
    pairs = [node.op_type for node in model.graph.all_nodes() if node.op_type in _INTEGERS]
    if pairs:
        raise UnsupportedError(
            "the model", f"is quantised already: it has {len(pairs)} nodes such as {pairs[0]}",
            "quantise the network that it was made from; without --quantize this one is pruned "
            "with its scales",
        )  # fmt: skip
    tensors = [v.const_value for v in model.graph.initializers.values()]
    types = {tensor.dtype for tensor in tensors if tensor is not None and len(tensor.shape) > 1}
    halves = [name for dtype, name in _HALVES.items() if dtype in types]
    if FORMATS[word].needs_float32 and halves and ir.DataType.FLOAT not in types:
        raise UnsupportedError(
            "the model", f"computes in {' and '.join(halves)} already",
            f"give --quantize {word} the float32 network that it was made from",
        )  # fmt: skip


def check_place(
    output: str | os.PathLike[str], *, force: bool, sources: Iterable[object] = ()
) -> None:
    """Whether a bundle can be written to a folder.

    Args:
        output: The folder.
        force: Whether a bundle that is there is replaced.
        sources: What is read; paths among it must not lie in that folder.

    Raises:
        UsageError: Something else is there, or its parent cannot be written.
    """
    if not os.fspath(output):
        raise UsageError("--output", "is empty", "name a folder for the bundle")
    try:
        os.fspath(output).encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"output {os.fspath(output)!a}", "is not UTF-8", "choose another --output"
        ) from None
    for source in sources:
        if isinstance(source, str | os.PathLike) and _lies_in(source, output):
            raise UsageError(
                f"output '{output}'",
                f"holds '{os.fspath(source)}', which the build reads",
                "choose another --output",
            )
    bundle.check_output(output, force=force)
    here = Path(os.path.abspath(output)).parent
    while not here.exists() and here != here.parent:
        here = here.parent
    if not here.is_dir():
        raise UsageError(
            f"output '{output}'", f"lies below '{here}', which is a file", "choose another --output"
        )
    try:  # asking for the rights is not enough: a superuser has them everywhere
        tempfile.TemporaryDirectory(dir=here, prefix=".edgec.").cleanup()
    except OSError as error:
        raise UsageError(
            f"output '{output}'",
            f"'{here}' cannot be written to: {error.strerror}",
            "choose another --output",
        ) from None


def _lies_in(source: str | os.PathLike[str], folder: str | os.PathLike[str]) -> bool:
    """Whether a file exists and lies in a folder, or is it."""
    try:
        path = Path(source).resolve(strict=True)
    except (OSError, ValueError):  # no file: a function's name, perhaps
        return False
    return Path(folder).resolve() in (path, *path.parents)


def check_labels(model: ir.Model, data: Data | None, metric: Metric, asked: str) -> None:
    """Scores a first batch of the original, so that labels that do not fit fail here.

    Args:
        model: The original.
        data: The samples to evaluate on, None if there are none.
        metric: The metric.
        asked: The option that asked for an accuracy; empty if none did, and samples without labels
            are no mistake.

    Raises:
        UsageError: The labels are missing, or the metric cannot take them.
    """
    if data is None or not data.has_labels:
        if asked:
            raise UsageError(
                asked,
                "needs samples with labels, and these have none",
                "add an array 'labels' to the .npz file, or leave the option away",
            )
        return
    feeds, labels = next(data.labelled(4))
    names = [value.name or "" for value in model.graph.outputs]
    outputs = runner(model, list(feeds), names)(feeds)
    with running(metric.name):
        metric.score({name: array[: len(labels)] for name, array in outputs.items()}, labels)
