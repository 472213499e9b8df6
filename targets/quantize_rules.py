"""Reads a profile's `quantize`: a table of rules, or the name of one that profiles share."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields
from importlib.resources import files
from typing import Any, get_args

from edgec.calibration.grid import Scheme
from edgec.errors import UsageError
from edgec.passes.quantize.rules import QuantizeRules, Residual, Stored
from edgec.suggest import check_known

_PACKAGE = "edgec.targets.rules"


def load_rules(name: str) -> QuantizeRules:
    """Read shared rules by their name.

    Errors:
        UsageError: there are none of that name.
    """
    found = files(_PACKAGE) / f"{name}.toml"
    names = (entry.name for entry in files(_PACKAGE).iterdir())
    known = sorted(n.removesuffix(".toml") for n in names if n.endswith(".toml"))
    check_known(f"rules '{name}'", name, known)
    return parse_rules(f"rules '{name}'", tomllib.loads(found.read_text(encoding="utf-8")))


def parse_rules(subject: str, table: Mapping[str, Any]) -> QuantizeRules:
    """Rules from a TOML table; every field of `QuantizeRules` is required.

    Errors:
        UsageError: a key unknown, missing, or of a wrong type.
    """
    known = {field.name: str(field.type) for field in fields(QuantizeRules)}
    for key in table:
        check_known(f"{subject}: key '{key}'", key, known)
    values = {}
    for key, kind in known.items():
        if key not in table:
            raise UsageError(subject, f"lacks '{key}'")
        try:
            values[key] = _READERS[kind](table[key])
        except (TypeError, ValueError):
            raise UsageError(subject, f"'{key}' cannot be {table[key]!r}") from None
    rules = QuantizeRules(**values)
    for op in rules.epilogues:
        if op in (*rules.products, *rules.followers, *rules.carriers):
            raise UsageError(subject, f"'{op}' cannot be an epilogue and have a kernel of its own")
    return rules


def _is(kind: type) -> Any:
    def read(value: Any) -> Any:
        if type(value) is not kind:
            raise TypeError(value)
        return value

    return read


def _words(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise TypeError(value)
    return tuple(value)


def _one_of(words: tuple[str, ...]) -> Any:
    def read(value: Any) -> str:
        if value not in words:
            raise ValueError(value)
        return str(value)

    return read


def _scheme(value: Any) -> Scheme:
    """`int8`, symmetric, or `uint8 asymmetric`."""
    word, *rest = value.split()
    if rest not in ([], ["asymmetric"]):
        raise ValueError(value)
    return Scheme.parse(word, symmetric=not rest)


_READERS = {
    "Scheme": _scheme,
    "Stored": _one_of(get_args(Stored)),
    "Residual": _one_of(get_args(Residual)),
    "bool": _is(bool),
    "int": _is(int),
    "tuple[str, ...]": _words,
}
