"""A recipe: everything that decides a build, as data.

A recipe comes from keyword arguments, from the command line, or from TOML:

    target = "cpu"
    flops = 0.4
    criterion = "flap"
    repair = "least-squares"
    exclude = ["head*"]
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from edgec.budget import METRICS, Budget
from edgec.errors import UsageError
from edgec.suggest import suggestion

_WIDEST = 1 << 31
_MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class Recipe:
    """The options of a build.

    Attributes:
        target: Where the result will run (`edgec targets`).
        backend: What runs it there; None: the target's own.
        flops, macs, params, size: Budgets: a kept ratio below 1 or an absolute (`300M`, `4MB`).
        criterion: How channels are scored; `auto` is `flap` with data and `l2` without.
        allocator: How widths are chosen: `mckp`, `global` or `uniform`.
        round_to: Kept widths are multiples of this; None: the target's grid.
        include, exclude: Patterns of node names: which groups may be narrowed.
        across_norms: Whether channels may go over which a norm takes its statistics.
        drop_heads: Patterns of node names: attention heads that such nodes make go whole.
        repair: `auto`, `none`, `bias`, `recalibrate` or `least-squares`.
        quantize: Numbers that the result computes with: `int8`, …; None: those of the original.
        observer: How the range of an activation is found (`edgec passes`).
        calib: Which samples ranges are taken from: `even`, `all`, another selection, or
            `synthetic`.
        calib_samples: How many of them; None: 128 at most.
        rounding: How weights become integers: `nearest` or better.
        equalise: Whether channels that share a grid are given like ranges before.
        keep_float: Patterns of node names that are not quantised.
        max_drop: The most that quantisation may cost by `drop_metric`; layers stay in floats for
            it. None: no bound.
        drop_metric: `error` (noise over signal of the outputs), `kl` (of classes), `top1` or
            `package.module:function` (points lost on labelled samples).
        bits: Widths that weights may have under `max_drop`: 8, 4.
        score_quantised: Whether the criterion sees activations as they are once quantised.
        seed: Seed of everything random.
    """

    target: str = "cpu"
    backend: str | None = None
    flops: str | float | None = None
    macs: str | float | None = None
    params: str | float | None = None
    size: str | float | None = None
    criterion: str = "auto"
    allocator: str = "mckp"
    round_to: int | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    across_norms: bool = False
    drop_heads: tuple[str, ...] = ()
    repair: str = "auto"
    quantize: str | None = None
    observer: str = "mse"
    calib: str = "even"
    calib_samples: int | None = None
    rounding: str = "nearest"
    equalise: bool = False
    keep_float: tuple[str, ...] = ()
    max_drop: float | None = None
    drop_metric: str = "error"
    bits: tuple[int, ...] = (8,)
    score_quantised: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = _typed("recipe", field.name, getattr(self, field.name), str(field.type))
            object.__setattr__(self, field.name, value)
        if self.seed < 0:
            raise UsageError("--seed", f"is {self.seed}", "give 0 or more")
        if self.round_to is not None and self.round_to < 1:
            raise UsageError("--round-to", f"is {self.round_to}", "give 1 or more")
        if self.round_to is not None and self.round_to > _WIDEST:
            raise UsageError(
                "--round-to", f"is {self.round_to}, wider than any layer", "give 64 or less"
            )
        if self.calib_samples is not None and self.calib_samples < 1:
            raise UsageError("--calib-samples", f"is {self.calib_samples}", "give 1 or more")
        if self.max_drop is not None and not 0 < self.max_drop < math.inf:
            raise UsageError(
                f"--max-drop {self.max_drop:g}", "is no bound", "give a number above 0"
            )
        _ = self.budgets  # reads them: a malformed one is an error now

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """The budgets that were given."""
        given = [(metric, getattr(self, metric)) for metric in METRICS]
        return tuple(Budget.parse(metric, text) for metric, text in given if text is not None)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Recipe:
        """Reads a TOML file.

        Raises:
            UsageError: The file is missing, is no file or larger than 1 MB, is no TOML, or holds
                unknown or ill-typed options.
        """
        try:
            if Path(path).exists() and not Path(path).is_file():
                raise UsageError(str(path), "is not a regular file", "give a TOML file")
            with open(path, "rb") as file:
                content = file.read(_MAX_BYTES + 1)
            if len(content) > _MAX_BYTES:
                raise UsageError(str(path), "is larger than 1 MB", "a recipe is a few lines")
            options = tomllib.loads(content.decode())
        except OSError as error:
            raise UsageError(
                str(path), f"cannot be read: {error.strerror}", "give a TOML file"
            ) from None
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UsageError(
                str(path), f"is not TOML: {error}", "write it as in docs/recipes.md"
            ) from None
        return cls().with_options(options, str(path))

    def with_options(self, options: Mapping[str, Any], subject: str = "recipe") -> Recipe:
        """A copy with some options replaced.

        Raises:
            UsageError: An option is unknown or of the wrong type.
        """
        kinds = {f.name: str(f.type) for f in fields(self)}
        changed: dict[str, Any] = {}
        for name, value in options.items():
            if name not in kinds:
                hint = suggestion(name, kinds) or f"known: {', '.join(kinds)}"
                raise UsageError(subject, f"has an unknown option '{name}'", hint.strip())
            changed[name] = _typed(subject, name, value, kinds[name])
        return replace(self, **changed)


def _typed(subject: str, name: str, value: Any, kind: str) -> Any:
    """The value if it fits the annotation of its field; lists become tuples."""
    if value is None and "None" in kind:
        return value
    if kind == "bool":
        if isinstance(value, bool):
            return value
    elif kind.startswith("tuple"):
        item = int if "int" in kind else str
        if isinstance(value, list | tuple) and all(
            isinstance(v, item) and not isinstance(v, bool) for v in value
        ):
            return tuple(value)
    elif isinstance(value, str):
        if "str" in kind:
            return value
    elif isinstance(value, Integral) and not isinstance(value, bool):
        if "int" in kind or "float" in kind:
            return int(value)
    elif isinstance(value, Real) and not isinstance(value, bool) and "float" in kind:
        return float(value)
    raise UsageError(subject, f"option '{name}' is {value!r}", f"it takes {_words(kind)}")


def _words(kind: str) -> str:
    """An annotation of a field, for a person who writes TOML."""
    if kind.startswith("tuple"):
        return "whole numbers: [8, 4]" if "int" in kind else 'a list of texts, such as ["head*"]'
    if kind == "bool":
        return "true or false"
    if "float" in kind:
        return 'a number such as 0.4, or a text such as "300M"'
    return "a whole number" if "int" in kind else "a text"
