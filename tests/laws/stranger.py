"""A stranger checks a cut: plan.json, the original file, numpy and onnx; nothing of edgec.graph.

The document goes through its JSON text first, so that only what it says can be used.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import numpy_helper

from edgec.document import canonical
from edgec.graph.cut import CutResult
from edgec.patterns import taken
from edgec.plan import Plan
from edgec.planning import plan_of, reader_names
from laws.running import Feeds, Lean, outputs_of

Entry = dict[str, Any]


@dataclass(frozen=True)
class Document:
    """plan.json as a stranger reads it."""

    entries: dict[str, Any]
    plan: Plan

    @classmethod
    def of(cls, cut: CutResult) -> Document:
        """What edgec writes down about a cut, read back."""
        text = canonical(plan_of(cut, "0" * 64, {}).to_json())
        return cls(json.loads(text), Plan.from_json(json.loads(text)))

    def silenced(self) -> Iterator[Entry]:
        """The entries that zero what a node reads."""
        yield from (cut for cut in self.entries["cuts"] if cut["role"] == "in")
        yield from self.entries["masks"]


def masked_proto(original: onnx.ModelProto, document: Document, feeds: Feeds) -> onnx.ModelProto:
    """The original with a Mul by zeros and ones in front of every input that the plan masks.

    Norms get a Gather of what is kept in front, and one that puts it back behind.
    """
    model = onnx.ModelProto()
    model.CopyFrom(original)
    named = _by_name(model.graph)
    outputs = [(node.output[0], node) for node in model.graph.node]
    first = {name: node.output[0] for name, node in named.items()}
    entries = list(document.silenced())
    sources = [named[entry["node"]].input[entry["input"]] for entry in entries]
    shapes = _shapes(original, sources, feeds)
    before: dict[str, list[onnx.NodeProto]] = {}
    for number, (entry, source) in enumerate(zip(entries, sources, strict=True)):
        node = named[entry["node"]]
        shape, dtype = shapes[source]
        one, times = list(shape), [1] * len(shape)
        for axis, length in entry.get("periods", []):
            times[axis], rest = divmod(shape[axis], length)
            one[axis] = length
            assert not rest
        mask = np.tile(pattern(entry, one), times).astype(dtype)
        kept, masked = f"stranger.{number}.kept", f"stranger.{number}.masked"
        model.graph.initializer.append(numpy_helper.from_array(mask, kept))
        product = onnx.helper.make_node("Mul", [node.input[entry["input"]], kept], [masked])
        node.input[entry["input"]] = masked
        before.setdefault(node.output[0], []).append(product)
    behind: dict[str, list[onnx.NodeProto]] = {}
    for number, norm in enumerate(document.entries["norms"]):
        node, key = named[norm["node"]], first[norm["node"]]
        indices = np.asarray(norm["kept"])
        place = {int(old): new for new, old in enumerate(indices)}
        back = np.asarray([place.get(index, 0) for index in range(norm["size"])])
        for label, values in (("kept", indices), ("back", back)):
            name = f"stranger.norm{number}.{label}"
            model.graph.initializer.append(numpy_helper.from_array(values, name))
        for i, axis in norm["reads"]:
            name = f"stranger.norm{number}.in{i}.{axis}"
            read = [node.input[i], f"stranger.norm{number}.kept"]
            before.setdefault(key, []).append(
                onnx.helper.make_node("Gather", read, [name], axis=axis)
            )
            node.input[i] = name
        for o, axis in norm["gives"]:
            name, made = f"stranger.norm{number}.out{o}.{axis}", node.output[o]
            node.output[o] = name
            read = [name, f"stranger.norm{number}.back"]
            behind.setdefault(key, []).insert(
                0, onnx.helper.make_node("Gather", read, [made], axis=axis)
            )
    placed = [(before.get(o, ()), node, behind.get(o, ())) for o, node in outputs]
    nodes = [n for ahead, node, after in placed for n in (*ahead, node, *after)]
    ordered = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del model.graph.node[:]
    model.graph.node.extend(ordered)
    return model


def _by_name(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """What a plan may call each node: its first output, or a name that is its alone."""
    times = Counter(name for n in graph.node for name in {n.name, *n.output[:1]})
    named = {n.name: n for n in graph.node if n.name and times[n.name] == 1}
    return {n.output[0]: n for n in graph.node if n.output} | named


def _shapes(
    model: onnx.ModelProto, names: Sequence[str], feeds: Feeds
) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Shapes and types of initializers and inputs and, by running the model, of other values."""
    arrays = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer} | dict(feeds)
    missing = sorted(set(names) - arrays.keys())
    if missing:
        probe = onnx.ModelProto()
        probe.CopyFrom(model)
        del probe.graph.output[:]
        probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in missing)
        arrays |= dict(zip(missing, outputs_of(probe, feeds), strict=True))
    return {name: (array.shape, array.dtype) for name, array in arrays.items()}


def pattern(entry: Entry, shape: Sequence[int]) -> NDArray[np.bool_]:
    """bool, broadcasts to `shape`: what is kept, block by block, as the schema's words say it."""
    assert shape[entry["axis"]] == entry["size"]
    rows = entry.get("rows", [])
    lists = entry["kept"] if rows else [entry["kept"]]
    varies = {entry["axis"], *(axis for axis, _ in rows)}
    kept = np.zeros([size if axis in varies else 1 for axis, size in enumerate(shape)], bool)
    for number, block in enumerate(np.ndindex(*(count for _, count in rows))):
        at: list[Any] = [slice(None)] * len(shape)
        for (axis, count), place in zip(rows, block, strict=True):
            length, rest = divmod(shape[axis], count)
            assert not rest
            at[axis] = slice(place * length, (place + 1) * length)
        at[entry["axis"]] = lists[number]
        kept[tuple(at)] = True
    return kept


def check_arrays(cut: CutResult, document: Document) -> None:
    """Taking what the plan keeps of each original initializer gives that of the cut model."""
    names = reader_names(cut.groups.model)
    for use, name in cut.uses:
        original, new = use.node.inputs[use.index], cut.model.graph.initializers[name]
        assert original is not None
        assert original.const_value is not None
        assert new.const_value is not None
        place = names[use.node], use.index
        cuts = [cut for cut in document.plan.cuts if (cut.node, cut.input) == place]
        assert {c.initializer for c in cuts} <= {original.name}
        old = original.const_value.numpy()
        assert np.array_equal(taken(old, cuts), new.const_value.numpy()), f"plan: cuts of {name}"


def check_weights(original: Lean, cut: CutResult, document: Document) -> None:
    """Slicing each initializer of the original as the plan says gives the cut model's, of its name.

    One that is read through others, which are folded (a transposed weight), has lost its name. Of
    its elements the cut model holds just those that the slices keep, as far as folding left them.
    """
    proto, large = original
    arrays = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer} | large
    said = {weight.name: weight for weight in document.plan.weights if not weight.why}
    apart = {weight.name for weight in document.plan.weights if weight.why}
    before, after = _computed(cut.groups.model, arrays), _computed(cut.model, arrays)
    for name, old in arrays.items():
        kept = taken(old, said[name].slices) if name in said else old
        new = cut.model.graph.initializers.get(name)
        if name in apart:
            continue
        if new is not None and new.const_value is not None:
            assert np.array_equal(kept, new.const_value.numpy()), f"plan: weights: {name}"
        elif _is_drawn(old) and not any(
            np.array_equal(old, other) for n, other in arrays.items() if n != name
        ):
            left = np.intersect1d(kept, _elements(before, old))
            assert np.array_equal(left, _elements(after, old)), f"plan: weights: {name}, moved"


def _is_drawn(weight: NDArray[Any]) -> bool:
    """Whether its elements tell it from others: random numbers, no pattern."""
    return weight.dtype.kind == "f" and np.unique(weight).size > 0.9 * weight.size


def _computed(model: ir.Model, originals: Container[str]) -> list[NDArray[Any]]:
    """The constants that are no initializers of the original."""
    return [
        value.const_value.numpy()
        for name, value in model.graph.initializers.items()
        if name not in originals
        and value.const_value is not None
        and value.const_value.dtype.is_floating_point()
    ]


def _elements(constants: Sequence[NDArray[Any]], weight: NDArray[Any]) -> NDArray[Any]:
    """Elements, each once, of the constants that are made of elements of a weight alone."""
    found = [constant.ravel() for constant in constants if np.isin(constant, weight).all()]
    return np.unique(np.concatenate([weight.ravel()[:0], *found]))
