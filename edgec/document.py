"""JSON documents: one way to write them, and careful ways to read those from elsewhere.

*Canonical* means that equal values give equal bytes: keys sorted, floats in their shortest exact
form, no NaN or infinity, UTF-8, lists of plain values on one line, a newline at the end.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgec.errors import UsageError

MAX_BYTES = 256 * 2**20


def canonical(value: Any) -> str:
    """The canonical text of dicts, lists, tuples, strings, numbers (numpy's too) and None.

    Errors:
        ValueError: a float is not finite. TypeError: a value or key of another type.
    """
    return _canonical(value, "\n") + "\n"


def _canonical(value: Any, newline: str) -> str:
    deeper = newline + " "
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"keys must be strings: {list(value)}")
        lines = [f"{_scalar(key)}: {_canonical(value[key], deeper)}" for key in sorted(value)]
        return "{" + deeper + ("," + deeper).join(lines) + newline + "}" if lines else "{}"
    if isinstance(value, list | tuple):
        if not any(isinstance(item, Mapping | list | tuple) for item in value):
            return "[" + ", ".join(map(_scalar, value)) + "]"
        lines = [_canonical(item, deeper) for item in value]
        return "[" + deeper + ("," + deeper).join(lines) + newline + "]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    if type(value) is int:  # most of a plan; the general way takes ten times as long
        return str(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} has no JSON form")
    return json.dumps(value, ensure_ascii=False)


def read_json(path: Path) -> Any:
    """Parse a JSON file that is not trusted.

    Errors:
        UsageError: absent, larger than 256 MiB, not UTF-8 JSON, nested too deep, a key twice.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(str(path), f"is larger than {MAX_BYTES >> 20} MiB")
        return json.loads(
            path.read_text(encoding="utf-8"), object_pairs_hook=_unique, parse_constant=_refuse
        )
    except OSError as error:
        raise UsageError(str(path), f"cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(
            str(path), f"is not valid JSON: {error}", "the file is damaged or was edited by hand"
        ) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice in an object")
    return found


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")


def is_int(value: object) -> bool:
    """True for an integer that is not a bool."""
    return isinstance(value, int) and not isinstance(value, bool)


class Place:
    """A JSON object in a document from elsewhere, and where in the document it is.

    Each reader returns the value under a key, or raises a UsageError that names the place.
    """

    def __init__(self, value: Any, where: str) -> None:
        self.value: Mapping[str, Any] = value
        self.where = where
        if not isinstance(value, dict):
            raise self.error("is not a JSON object")

    def error(self, fact: str) -> UsageError:
        """An error about this place."""
        return UsageError(self.where, fact, "the file is damaged or was edited by hand")

    def no_others(self, *known: str) -> None:
        """Refuse keys that are not among `known`."""
        for key in self.value:
            if key not in known:
                raise self.error(f"has the unknown key {json.dumps(key)}")

    def text(self, key: str) -> str:
        """A string."""
        value = self.value.get(key)
        if not isinstance(value, str):
            raise self.error(f"'{key}' is missing or not a string")
        return value

    def items(self, key: str) -> list[Any]:
        """A list."""
        value = self.value.get(key)
        if not isinstance(value, list):
            raise self.error(f"'{key}' is missing or not a list")
        return value

    def integer(self, key: str, low: int = 0) -> int:
        """An integer from `low` to 2^53, beyond which not every JSON reader is exact."""
        value = self.value.get(key)
        if not isinstance(value, int) or not is_int(value):
            raise self.error(f"'{key}' is missing or not an integer")
        if not low <= value <= 2**53:
            raise self.error(f"'{key}' is out of range")
        return value

    def object(self, key: str) -> Place:
        """An object."""
        return Place(self.value.get(key), f"{self.where}.{key}")

    def objects(self, key: str) -> list[Place]:
        """A list of objects."""
        return [Place(v, f"{self.where}.{key}[{i}]") for i, v in enumerate(self.items(key))]
