"""The benchmarks run, at toy size, and their verdicts can fail."""

from __future__ import annotations

import copy
import importlib
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort  # type: ignore[import-untyped, unused-ignore]
import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
NAMES = (
    "analysis_scale", "gpt2_graph", "processes", "prune_quality", "prune_speed", "quantize",
    "quantize_nets", "resnet50", "torch_pruning_l2",
)  # fmt: skip


@pytest.fixture(autouse=True)
def beside_the_scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The scripts import one another as they do when run: from their own folder."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield
    for name in NAMES:
        sys.modules.pop(name, None)


@pytest.fixture
def quality() -> ModuleType:
    pytest.importorskip("torch_pruning")
    return importlib.import_module("prune_quality")


@pytest.fixture
def speed() -> ModuleType:
    return importlib.import_module("prune_speed")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's exporter and Torch-Pruning warn about themselves
def test_quality_at_toy_size(quality: ModuleType, tmp_path: Path) -> None:
    example = quality.digits()
    split = example.split()
    sets = {name: (x[:100], y[:100]) for name, (x, y) in split.items()}
    net = example.train(*sets["train"], seed=0, epochs=1)
    model = tmp_path / "digits.onnx"
    example.export(net, model)
    quality.rival.VARIANTS = (quality.rival.Variant(),)
    before = quality.accuracy(model, *sets["test"])
    ours = quality.by_edgec(model, sets, 0, before, tmp_path)
    theirs = quality.by_torch_pruning(
        example, copy.deepcopy(net), quality.flops(model), sets, before, tmp_path
    )
    rows = [ours, *theirs]
    assert [row.who for row in rows] == [quality.EDGEC, quality.PLAIN, quality.NEW_STATISTICS]
    assert all(0.3 < row.kept <= quality.BUDGET for row in rows)
    assert quality.mean(rows).before == pytest.approx(before)


@pytest.mark.filterwarnings("ignore")  # Torch-Pruning warns about itself
def test_the_rival_meets_the_budget() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("torch_pruning")
    rival = importlib.import_module("torch_pruning_l2")

    def make() -> Any:
        torch.manual_seed(0)
        net = torch.nn.Sequential()
        for name, layer in {
            "first": torch.nn.Conv2d(3, 20, 3),
            "norm": torch.nn.BatchNorm2d(20),
            "second": torch.nn.Conv2d(20, 20, 3),
            "pool": torch.nn.AdaptiveAvgPool2d(1),
            "flat": torch.nn.Flatten(),
            "head": torch.nn.Linear(20, 5),
        }.items():
            net.add_module(name, layer)
        return net.eval()

    example = torch.zeros(1, 3, 8, 8)
    net = make()
    asked = []
    kept = rival.prune(net, example, net.head, 0.4, rival.Variant(), steps=20)
    assert 0.3 < kept <= 0.4
    assert net.head.out_features == 5

    def none_fits(candidate: object) -> float:
        asked.append(candidate)
        return 0.41

    net = make()
    with pytest.raises(RuntimeError, match=r"20 steps do not reach 0\.4"):
        rival.prune(net, example, net.head, 0.4, rival.Variant(), none_fits, steps=20)
    assert len(asked) > 5

    ratio = rival.ratio_for(make, example, 0.4, digits=2)
    widths = []
    for own in (ratio, ratio - 0.01):
        net = make()
        rival.prune_once(net, example, net.head, own)
        widths.append(net.first.out_channels)
    assert widths[0] == widths[1] - 1

    images = torch.randn(50, 3, 8, 8)
    rival.recalibrate(net, images)
    assert not net.norm.training
    torch.testing.assert_close(net.norm.running_mean, net.first(images).mean((0, 2, 3)))


def test_what_contradicts_the_claim_of_quality(quality: ModuleType) -> None:
    def rows(edgec: float, rival: float, kept: float = 0.39) -> dict[int, list[object]]:
        return {
            7: [
                quality.Row(quality.EDGEC, "", kept, 0.99, 0.99 - edgec / 100),
                quality.Row(quality.PLAIN, "", 0.39, 0.99, 0.99 - rival / 100),
            ]
        }

    assert quality.failures(rows(1.9, 30)) == []
    assert "edgec loses 2.50 points" in quality.failures(rows(2.5, 30))[0]
    assert "loses no more" in quality.failures(rows(1.0, 0.5))[0]
    assert "exceeds the budget" in quality.failures(rows(1.0, 30, kept=0.41))[0]


def test_the_peak_is_the_child_s_own() -> None:
    program = """if True:
        import sys, prune_speed
        for code in ("pass", "b'x' * 200_000_000", "import time; time.sleep(0.5)"):
            run = prune_speed.timed([sys.executable, "-c", code])
            print(run.seconds, run.megabytes)
    """  # of its own, as the benchmark is: pytest's peak would be passed on
    output = subprocess.run(
        [sys.executable, "-c", program], cwd=BENCHMARKS, capture_output=True, text=True, check=True
    ).stdout
    small, large, slow = (tuple(map(float, line.split())) for line in output.splitlines())
    assert 190 < large[1] - small[1] < 220
    assert slow[0] > 0.5
    assert slow[1] < large[1] / 2


def test_a_run_that_fails_ends_the_benchmark(speed: ModuleType) -> None:
    with pytest.raises(SystemExit, match="no such luck"):
        speed.timed([sys.executable, "-c", "raise SystemExit('no such luck')"])


def test_ratios_are_medians_over_rounds(speed: ModuleType) -> None:
    runs = {
        "a": [speed.Run(1, 10), speed.Run(2, 10), speed.Run(9, 10)],
        "b": [speed.Run(2, 40), speed.Run(2, 20), speed.Run(3, 20)],
    }
    assert speed.ratios(runs, "a", "b") == (1.0, 0.5)
    assert [line.split()[0] for line in list(speed.table(runs))[1:]] == ["a", "b"]


def test_what_is_run(speed: ModuleType, tmp_path: Path) -> None:
    assert speed.KNOWN not in speed.commands(tmp_path, 20)
    (tmp_path / "ratio").write_text("0.38")
    found = speed.commands(tmp_path, 20)
    assert found[speed.KNOWN][-2:] == ["--ratio", "0.38"]
    assert found[speed.STEPPED][-2:] == ["--steps", "20"]
    assert found[speed.NO_MEASURE][-2:] == ["--measure", "none"]
    assert Path(found[speed.STEPPED][1]).is_file()


def test_resnet50_is_resnet50() -> None:
    resnet50 = importlib.import_module("resnet50")
    net = resnet50.seeded()
    assert sum(p.numel() for p in net.parameters()) == 25_557_032


@pytest.fixture
def scale() -> ModuleType:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the peak of a part is told by Linux")
    return importlib.import_module("analysis_scale")


def test_scale_at_toy_size(scale: ModuleType) -> None:
    row = scale.of_nodes(30, rounds=1)
    assert set(row.seconds) == set(scale.PARTS)
    assert min(row.seconds.values()) > 0
    assert row.analysis < sum(row.seconds.values())
    assert 1 < row.megabytes < row.peak
    assert scale.line(row).split()[0] == "30"
    weights = 500 * 64 + 1024 * 64 + 12 * 64**2 + 13 * 64 + 2 * 64
    assert row.file == pytest.approx(4 * weights / 1e6)


def test_exponents_of_known_growth(scale: ModuleType) -> None:
    sizes = [100, 300, 1000, 3000, 10000, 20000]
    assert scale.exponent(sizes, [n * math.log(n) for n in sizes]) == pytest.approx(1)
    assert scale.exponent(sizes, [1.0 + n**2 / 1e6 for n in sizes]) > 1.5


@pytest.mark.parametrize("number", [2, 3])
def test_exponents_of_few_sizes(scale: ModuleType, number: int) -> None:
    sizes = [100, 300, 1000][:number]
    assert scale.exponent(sizes, [n * math.log(n) for n in sizes]) == pytest.approx(1)


@pytest.mark.parametrize("option", [["--nodes"], ["--widths", "64"], ["--nodes", "100", "100"]])
def test_scale_asks_for_two_sizes(
    scale: ModuleType,
    option: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["analysis_scale.py", *option])
    with pytest.raises(SystemExit) as e:
        scale.main()
    assert e.value.code == 2
    assert f"{option[0]}: growth is told from two sizes or more" in capsys.readouterr().err


def test_what_contradicts_the_claims_of_scale(scale: ModuleType) -> None:
    def row(size: int, seconds: float, peak: float = 1000.0) -> Any:
        return scale.Figures(size, dict.fromkeys(scale.PARTS, seconds / 6), size, peak, 1000.0)

    sizes = (1000, 2000, 4000, 8000)
    even = list(scale.verdicts("nodes", [row(n, n / 1000) for n in sizes]))
    assert [holds for _, holds in even] == [True, True, True]
    steep = list(scale.verdicts("nodes", [row(n, (n / 1000) ** 2) for n in sizes]))
    assert [holds for _, holds in steep] == [False, True, False]
    assert [holds for _, holds in scale.verdicts_of_xl(row(1600, 59.0, 1499.0))] == [True, True]
    assert [holds for _, holds in scale.verdicts_of_xl(row(1600, 61.0, 1501.0))] == [False, False]


@pytest.mark.parametrize("fused", [True, False])
def test_the_graph_of_gpt2_runs(fused: bool, tmp_path: Path) -> None:
    gpt2 = importlib.import_module("gpt2_graph")
    path = tmp_path / "gpt2.onnx"
    gpt2.write(path, gpt2.Shape(2, 32, 4, 50, 16, fused))
    onnx.checker.check_model(path, full_check=True)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    ids = np.array([[1, 2, 3, 4, 5]])
    (logits,) = session.run(None, {"ids": ids})
    assert logits.shape == (1, 5, 50)
    (others,) = session.run(None, {"ids": np.array([[1, 2, 3, 9, 9]])})
    np.testing.assert_allclose(logits[:, :3], others[:, :3], rtol=1e-4)  # no token sees those ahead
    assert abs(logits[:, 3:] - others[:, 3:]).max() > 1e-3


def test_the_size_of_gpt2_xl() -> None:
    gpt2 = importlib.import_module("gpt2_graph")
    shape = gpt2.Shape()
    block = 12 * shape.width**2 + 13 * shape.width
    rest = (shape.vocabulary + shape.positions + 2) * shape.width
    assert shape.layers * block + rest == 1_557_611_200


def test_the_verdicts_of_the_quantisers_can_fail() -> None:
    quantize = importlib.import_module("quantize")
    run = importlib.import_module("processes").Run
    found = {
        "float": {"ms": 9.0, "edgec_over_it": 0.5},
        "edgec": {"snr_db": 30.0, "ms": 4.5, "edgec_over_it": 1.0},
        "onnxruntime": {"snr_db": 29.0, "ms": 5.0, "edgec_over_it": 0.9},
        "nncf": {"snr_db": 28.0, "ms": 5.0, "edgec_over_it": 0.9},
    }
    runs = {"edgec": [run(1, 100)], "onnxruntime": [run(3, 300)], "nncf": [run(4, 500)]}

    def failed() -> list[str]:
        return [text for text, holds in quantize.verdicts("net", found, runs) if not holds]

    assert failed() == []
    found["nncf"]["snr_db"], found["onnxruntime"]["edgec_over_it"] = 30.5, 1.1
    runs["edgec"], found["float"]["edgec_over_it"] = [run(1.6, 200)], 1.2
    assert [text.split(" of ")[0] for text in failed()] == [
        "net: latency 1.100", "net: time 0.53", "net: memory 0.67", "net: -0.50 dB",
        "net: latency 1.200",
    ]  # fmt: skip
