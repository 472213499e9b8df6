"""What the stages of one build share. What they find out, they hand on as values."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial

import onnx_ir as ir

from edgec.calibration.memory import give_back
from edgec.foreign import diagnosed, translated
from edgec.model import release_pages
from edgec.passes.base import Context, Pass
from edgec.passes.prune.prune import Prune
from edgec.passes.quantize.formats import FORMATS, Options
from edgec.progress import Progress
from edgec.recipe import Recipe
from edgec.targets import Target, resolve


class Job:
    """The options of a build, and its log.

    Attributes:
        recipe, target, threads, pruning: What was asked for.
        quantising: The pass that --quantize stands for; None: it was not given, or not understood.
        context: What the passes share.
        notes: What a reader of the report has to know.
        seconds: Phase → wall time, s.
    """

    def __init__(self, recipe: Recipe, progress: Progress, threads: int) -> None:
        self.recipe, self.threads = recipe, threads
        self.target: Target = replace(resolve(recipe.target, recipe.backend), threads=threads)
        self.pruning = Prune(
            recipe.budgets, recipe.criterion, recipe.allocator,
            recipe.round_to or self.target.profile.channel_grid,
            recipe.include, recipe.exclude, recipe.across_norms, recipe.drop_heads,
        )  # fmt: skip
        self.quantising = _quantising(recipe, self.target)
        self.context = Context(seed=recipe.seed)
        self.notes: list[str] = []
        self.seconds: dict[str, float] = {}
        self._progress = progress
        self._guard: Callable[[], AbstractContextManager[None]] = partial(translated, "the model")
        self._original: ir.Model | None = None

    def about(self, original: ir.Model, name: str) -> AbstractContextManager[None]:
        """From here on, errors of libraries are explained by what is known of the model."""
        self._original = original
        self._guard = partial(diagnosed, original, name)
        return self._guard()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Announces and times a phase."""
        self._progress.phase(name)
        start = time.perf_counter()
        with self._guard():
            yield
        if self._original is not None:
            release_pages(self._original)
        give_back()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def say(self, text: str) -> None:
        """Tells a fact about the phase that runs."""
        self._progress.say(text)

    def note(self, text: str) -> None:
        """Tells a fact that the report repeats."""
        self.notes.append(text)
        self.say(text)


def _quantising(recipe: Recipe, target: Target) -> Pass | None:
    """The pass; what cannot be made is refused by `preflight`."""
    kind, rules = FORMATS.get(recipe.quantize or ""), target.profile.quantize
    if kind is None or (kind.needs_rules and rules is None):
        return None
    options = Options(
        rules, recipe.observer, recipe.rounding, recipe.keep_float, recipe.equalise, keep=True
    )
    return kind.make(options)
