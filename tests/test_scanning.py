"""`quantize_scan` as a whole: from a model file to bits for every layer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from zoo import model_of

from edgec.graph.cost import is_weight
from edgec.model import save
from edgec.passes.base import Context
from edgec.passes.fuse import FuseBatchNorm
from edgec.passes.quantize.bits import FLOAT, Allocation, floats_of, stored_bytes, with_bits
from edgec.passes.quantize.place import place
from edgec.preparing import prepared
from edgec.scanning import quantize_scan
from edgec.targets import load_profile

TEXT = """(float[N,8,8,8] x) => (float[N,10] y)
<float[16,8,3,3] k1, float[16] b1, float[16,16,3,3] k2, float[16] b2, float[16,10] w, float[10] b>
{
  c1 = Conv<pads = [1,1,1,1]>(x, k1, b1)  r1 = Relu(c1)
  c2 = Conv<pads = [1,1,1,1]>(r1, k2, b2)  r2 = Relu(c2)
  p = GlobalAveragePool(r2)  f = Flatten(p)  y = Gemm(f, w, b)
}"""
X = np.random.default_rng(0).standard_normal((24, 8, 8, 8)).astype(np.float32)


@pytest.fixture
def net(tmp_path: Path) -> Path:
    save(model_of(TEXT), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def all_bytes(model: ir.Model) -> int:
    tensors = [value.const_value for value in model.graph.initializers.values()]
    return sum(t.nbytes for t in tensors if t is not None and is_weight(t))


def test_a_size_is_that_of_all_weights(net: Path) -> None:
    whole = all_bytes(model_of(TEXT))
    report = quantize_scan(net, data={"x": X}, size=0.2)
    chosen = report.allocation
    assert chosen is not None
    layers = report.scan.layers
    rest = whole - sum(4 * layer.params for layer in layers)
    used = sum(stored_bytes(layer, chosen.bits[layer.name]) for layer in layers)
    assert used == chosen.cost
    assert rest + used <= 0.2 * whole
    assert {4, 8} >= set(chosen.bits.values())
    loose = quantize_scan(net, data={"x": X}, size=1.0).allocation
    assert loose is not None
    assert (set(loose.bits.values()), loose.damage) == ({FLOAT}, 0)


def test_the_smallest_within_a_damage(net: Path) -> None:
    report = quantize_scan(net, data={"x": X})
    all_four = sum(own[4] for own in report.scan.damages().values())
    for most, bits in ((0.0, {FLOAT}), (all_four * 1.001, {4})):
        chosen = quantize_scan(net, data={"x": X}, max_drop=most).allocation
        assert chosen is not None
        assert set(chosen.bits.values()) == bits
        assert chosen.damage <= most


def test_the_least_damage_within_a_time(net: Path, tmp_path: Path) -> None:
    names = [layer.name for layer in quantize_scan(net, method="zd").scan.layers]
    table = {name: {"4": 1.0, "8": 2.0, "32": 4.0} for name in names}
    (tmp_path / "ms.json").write_text(json.dumps(table))
    report = quantize_scan(
        net, data={"x": X}, latency=5.0, latencies=str(tmp_path / "ms.json"), bits=(8, 4)
    )
    chosen = report.allocation
    assert chosen is not None
    assert sorted(chosen.bits.values()) == [4, 8, 8]
    assert (chosen.cost, report.to_json()["allocation"]["ms"]) == (5.0, 5.0)
    damages = report.scan.damages()
    (low,) = [name for name, bits in chosen.bits.items() if bits == 4]
    assert low == min(names, key=lambda n: damages[n][4] - damages[n][8])


def test_what_was_chosen_can_be_placed() -> None:
    rules = load_profile("cpu").quantize
    assert rules is not None
    model = FuseBatchNorm()(prepared(model_of(TEXT)), Context())
    names = [node.name or "" for node in model.graph if node.op_type in ("Conv", "Gemm")]
    allocation = Allocation(dict(zip(names, (FLOAT, 4, 8), strict=True)), 0.0, 0.0)
    assert floats_of(allocation) == (names[0],)
    placed = with_bits(place(model, rules, exclude=floats_of(allocation)), allocation.bits)
    assert {w.readers[0][0]: w.bits for w in placed.weights} == {names[1]: 4, names[2]: 8}


def test_rounded_inputs_do_more(net: Path) -> None:
    plain, whole = (
        quantize_scan(net, data={"x": X}, bits=(8,), activations=on).scan.damages()
        for on in (False, True)
    )
    assert all(whole[name][8] != plain[name][8] for name in plain)
    assert sum(own[8] for own in whole.values()) > 1.2 * sum(own[8] for own in plain.values())
