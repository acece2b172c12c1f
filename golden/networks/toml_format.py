"""Networks written in TOML: the name, then one `[[layer]]` a node with the operator's fields by name.

`name` may be left out (the operator's with a number), and so may `input` (the node before); it is a name or a list of
names. `kernel` is a number or two. `stride` of a pooling is the window where it is left out.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from typing import Any

from golden.networks.builder import pair
from golden.networks.graph import Graph
from golden.networks.node import Node
from golden.networks.operators import OPERATORS, Conv, Input, Pool


def from_toml(text: str) -> Graph:
    """The network that a TOML text describes.

    Raises:
        ValueError: it is no TOML, has a key or an operator that does not exist, or describes no sound network.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"not a TOML text: {error}") from None
    _known("a network", document, ("name", "layer"))
    for key in ("name", "layer"):
        if key not in document:
            raise ValueError(f"a network must have a {key!r}, this one has {', '.join(document) or 'nothing'}")
    layers = document["layer"]
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        raise ValueError(f"the layers must be tables, each under [[layer]], not {layers!r}")
    nodes: list[Node] = []
    counts: dict[str, int] = {}
    for number, layer in enumerate(layers, 1):
        nodes.append(_node(number, layer, nodes[-1].name if nodes else None, counts))
    return Graph(document["name"], tuple(nodes))


def _node(number: int, layer: Mapping[str, Any], before: str | None, counts: dict[str, int]) -> Node:
    where = f"layer {number} {layer['name']!r}" if "name" in layer else f"layer {number}"
    op = layer.get("op")
    if not isinstance(op, str) or op not in OPERATORS:
        raise ValueError(f"{where}: op must be one of {', '.join(OPERATORS)}, not {op!r}")
    cls = OPERATORS[op]
    own = [field for field in dataclasses.fields(cls) if field.name not in ("name", "inputs")]
    _known(f"{where}, {op},", layer, ("op", "name", *["input"] * (cls is not Input), *(field.name for field in own)))
    counts[op] = counts.get(op, 0) + 1
    values = {key: value for key, value in layer.items() if key not in ("op", "name", "input")}
    if issubclass(cls, Pool):
        values.setdefault("stride", values.get("window"))
    if issubclass(cls, Conv) and "kernel" in values:
        kernel = values["kernel"]
        values["kernel"] = pair(tuple(kernel) if isinstance(kernel, list) else kernel)
    missing = [f.name for f in own if f.default is dataclasses.MISSING and f.name not in values]
    if missing:
        raise ValueError(f"{where}: a layer with op {op!r} must have {' and '.join(missing)}")
    name = layer.get("name", "input" if cls is Input else f"{op}{counts[op]}")
    return cls(name, _inputs(where, layer, before, cls), **values)


def _inputs(where: str, layer: Mapping[str, Any], before: str | None, cls: type[Node]) -> tuple[str, ...]:
    if cls is Input:
        return ()
    given = layer.get("input", before)
    if given is None:
        raise ValueError(f"{where}: the first layer must have op 'input', not {cls.op!r}")
    names = given if isinstance(given, list) else [given]
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"{where}: input must be a name or a list of names, not {given!r}")
    return tuple(names)


def _known(what: str, table: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    for key in table:
        if key not in keys:
            raise ValueError(f"{what} has no key {key!r}; it has {', '.join(keys)}")


def to_toml(graph: Graph) -> str:
    """TOML text of a network; `from_toml` makes the same network of it."""
    lines = [f"name = {_text(graph.name)}"]
    before: tuple[str, ...] = ()
    for node in graph.nodes:
        lines += ["", "[[layer]]", f"op = {_text(node.op)}", f"name = {_text(node.name)}"]
        if node.inputs not in ((), before):
            lines.append(f"input = {_value(node.inputs[0] if len(node.inputs) == 1 else node.inputs)}")
        for field in dataclasses.fields(node):
            value = getattr(node, field.name)
            if field.name not in ("name", "inputs") and value != field.default:
                lines.append(f"{field.name} = {_value(value)}")
        before = (node.name,)
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(_value(part) for part in value)}]"
    return _text(value) if isinstance(value, str) else str(value).lower()


def _text(text: str) -> str:
    # A JSON string is a TOML string, but for one character that JSON leaves as it is and TOML refuses.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
