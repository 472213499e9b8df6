"""Results on disk: found again, whole or not at all, and nothing else is taken for them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from edgec.errors import UsageError
from edgec.passes.quantize.journal import Journal, key_of


def test_what_was_put_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "scan.jsonl"
    first = Journal(path)
    keys = [key_of({"layer": name}) for name in "ab"]
    first.put(keys[0], 0.25, {"layer": "a"})
    first.put(keys[1], math.inf, {"layer": "b"})
    second = Journal(path)
    assert second.known == 2
    assert [second[key] for key in keys] == [0.25, math.inf]
    assert key_of({"layer": "c"}) not in second
    for line in path.read_text().splitlines():
        assert json.loads(line, parse_constant=lambda word: pytest.fail(word))["layer"] in "ab"


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_a_torn_line_is_dropped(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "scan.jsonl"
    journal = Journal(path)
    for name in "abc":
        journal.put(key_of({"layer": name}), 1.0, {})
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    again = Journal(path)
    assert again.known == 2
    again.put(key_of({"layer": "c"}), 1.0, {})
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "content", ["# a text\n", "[1, 2]\n", '{"key": 1, "value": 2}\n', '{"key": "a"}\n', "no end"]
)
def test_other_files_are_refused_and_stay(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other"
    path.write_text(content)
    with pytest.raises(UsageError) as raised:
        Journal(path)
    assert raised.value.remedy
    assert path.read_text() == content


@pytest.mark.parametrize("place", [".", "no/such/folder/file"])
def test_places_that_cannot_be_written(tmp_path: Path, place: str) -> None:
    with pytest.raises(UsageError, match="cannot be used"):
        Journal(tmp_path / place)


def test_keys_follow_from_the_content_alone() -> None:
    assert key_of({"a": 1, "b": [2.5]}) == key_of({"b": [2.5], "a": 1})
    assert key_of({"a": 1}) != key_of({"a": 2})
