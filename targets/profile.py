"""Profiles: what is known about a target's hardware, one TOML file each in `profiles/`."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from difflib import get_close_matches
from importlib.resources import files
from typing import Any

from edgec.errors import UsageError
from edgec.passes.quantize.rules import QuantizeRules
from edgec.targets.quantize_rules import load_rules, parse_rules

_PACKAGE = "edgec.targets.profiles"


@dataclass(frozen=True)
class Profile:
    """A target's hardware as the passes need to know it.

    Args:
        name: The word after --target; the file's stem.
        title: One line for people.
        backends: What can lower models for it; the first is the default.
        channel_grid: Channel counts that are multiples of this run at full speed.
        precisions: Element types that the hardware computes with at full speed.
        quantize: How it computes in integers; None if it does not. In the file a table of its own,
            or the name of one in `rules/`.
    """

    name: str
    title: str
    backends: tuple[str, ...]
    channel_grid: int
    precisions: tuple[str, ...]
    quantize: QuantizeRules | None = None


def profile_names() -> tuple[str, ...]:
    """The names of all profiles, sorted."""
    found = (entry.name for entry in files(_PACKAGE).iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml")))


def load_profile(name: str) -> Profile:
    """Read a profile by its name.

    Errors:
        UsageError: there is none of that name.
    """
    known = profile_names()
    if name not in known:
        raise unknown("target", name, known)
    return parse_profile(name, (files(_PACKAGE) / f"{name}.toml").read_text(encoding="utf-8"))


def parse_profile(name: str, text: str) -> Profile:
    """Read a profile's TOML; every field of `Profile` but name and `quantize` is required.

    Errors:
        UsageError: not TOML; a key unknown, missing, or of a wrong type.
    """
    subject = f"profile '{name}'"
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(subject, f"is not TOML: {error}") from None
    known = [field.name for field in fields(Profile) if field.name != "name"]
    for key in table:
        if key not in known:
            raise unknown(f"{subject}: key", key, known)
    for key in known:
        if key not in table and key in _OPTIONAL:
            continue
        if key not in table:
            raise UsageError(subject, f"lacks '{key}'")
        if not _KINDS[key](table[key]):
            raise UsageError(subject, f"'{key}' cannot be {table[key]!r}")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
    rules = values.pop("quantize", None)
    if isinstance(rules, str):
        rules = load_rules(rules)
    elif rules is not None:
        rules = parse_rules(f"{subject}: quantize", rules)
    return Profile(name, **values, quantize=rules)


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that is not among those known."""
    known = sorted(known)
    near = get_close_matches(name, known, 1)
    question = f"did you mean '{near[0]}'? " if near else ""
    return UsageError(f"{kind} '{name}'", "is not known", f"{question}known: {', '.join(known)}")


def _is_words(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value)


_KINDS: dict[str, Callable[[Any], bool]] = {
    "title": lambda value: isinstance(value, str),
    "backends": _is_words,
    "channel_grid": lambda value: isinstance(value, int) and value > 0 and value is not True,
    "precisions": _is_words,
    "quantize": lambda value: isinstance(value, str | dict),
}
_OPTIONAL = ("quantize",)
