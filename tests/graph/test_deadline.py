"""Analysis that takes too long ends in an error that says where it was."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from onnx_ir import Model
from zoo.patterns import PATTERNS

import edgec
from edgec.cli import main
from edgec.errors import UnsupportedError
from edgec.graph import deadline
from edgec.graph.deadline import ANALYSIS_SECONDS, Clock, analysis_seconds, walk


def model() -> Model:
    return edgec.load(PATTERNS["conv_chain_biased"]())


def test_an_analysis_without_time_says_where_it_was() -> None:
    with analysis_seconds(-1.0), pytest.raises(UnsupportedError, match="not reached in time") as e:
        edgec.channel_groups(model())
    assert e.value.subject == "node 'h1'"  # the first; it goes by its output
    assert e.value.exit_code == 4
    assert "--analysis-seconds" in e.value.remedy


def test_a_walk_stops_between_two_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: float(next(ticks)))
    graph = model().graph
    with analysis_seconds(2.0):
        nodes = walk(graph, "a walk")
        assert [next(nodes), next(nodes)] == list(graph)[:2]
        with pytest.raises(UnsupportedError, match=r"a walk took more than 2 s, 2 of"):
            next(nodes)
    with analysis_seconds(1e9):
        assert list(walk(graph, "a walk")) == list(graph)


def test_the_limit_ends_with_its_block() -> None:
    with analysis_seconds(5.0), analysis_seconds(7.0):
        assert Clock("inner").seconds == 7.0
    assert Clock("outer").seconds == ANALYSIS_SECONDS
    assert deadline.ANALYSIS_SECONDS > 30


def test_the_command_line_sets_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    edgec.save(model(), path)
    for seconds, code in (("1e-9", 4), ("60", 0), ("0", 2)):
        command = ["inspect", str(path), "--analysis-seconds", seconds]
        assert CliRunner().invoke(main, command).exit_code == code
    assert Clock("after").seconds == ANALYSIS_SECONDS
