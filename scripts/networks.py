"""Tables of networks: `python -m scripts.networks lenet5 mine.toml theirs.onnx`, or without a name all there are.

Layer by layer: operator, shapes, weights, parameters (with biases and batch normalisation) and multiply-accumulates of
the forward pass of one sample.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from golden.networks import Graph, load, zoo
from golden.networks.node import Node
from golden.networks.operators import Conv, Pool

Summary = dict[str, Any]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="networks", description="Layers of networks: shapes, weights, multiply-accumulates."
    )
    parser.add_argument(
        "network",
        nargs="*",
        metavar="NAME|FILE",
        help=f"a .toml or .onnx file, or one of {', '.join(zoo.NETWORKS)} (the sums of all these)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the tables there too")
    options = parser.parse_args(arguments)
    if options.json and options.json.is_dir():
        parser.error(f"--json must name a file, {options.json} is a folder")
    try:
        options.graphs = [load(name) for name in options.network or zoo.NETWORKS]
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return options


def summary(graph: Graph) -> Summary:
    """What the table of a network shows, as data."""
    return {
        "name": graph.name,
        "layers": [_layer(graph, node) for node in graph.nodes],
        "input": list(graph.shape(graph.input.name)),
        "output": list(graph.shape(graph.output.name)),
        "weight_layers": len(graph.weight_layers()),
        "weights": graph.weights(),
        "parameters": graph.parameters(),
        "macs": graph.macs(),
    }


def _layer(graph: Graph, node: Node) -> Summary:
    return {
        "name": node.name,
        "op": node.op,
        "window": _window(node),
        "inputs": list(node.inputs),
        "input_shapes": [list(shape) for shape in graph.input_shapes(node.name)],
        "output_shape": list(graph.shape(node.name)),
        "weights": graph.weights(node.name),
        "parameters": graph.parameters(node.name),
        "macs": graph.macs(node.name),
    }


def _window(node: Node) -> str:
    """Kernel, stride and padding, where a node has them."""
    if not isinstance(node, Conv | Pool):
        return ""
    sides = node.kernel if isinstance(node, Conv) else (node.window, node.window)
    text = (
        f"{sides[0]}x{sides[1]}" + f" /{node.stride}" * (node.stride > 1) + f" pad {node.padding}" * bool(node.padding)
    )
    return text + " depthwise" * (isinstance(node, Conv) and node.groups > 1)


def print_layers(network: Summary, console: Console) -> None:
    """Show a network layer by layer."""
    table = Table(title=escape(network["name"]))
    for name in ("name", "operator", "input", "output"):
        table.add_column(name)
    for name in ("weights", "parameters", "MACs"):
        table.add_column(name, justify="right")
    for layer in network["layers"]:
        sources = dict.fromkeys(_shape(shape) for shape in layer["input_shapes"])
        table.add_row(
            escape(layer["name"]),
            f"{layer['op']} {layer['window']}".rstrip(),
            " + ".join(sources),
            _shape(layer["output_shape"]),
            *_counts(layer),
        )
    table.add_section()
    table.add_row("total", f"{network['weight_layers']} layers with weights", "", "", *_counts(network))
    console.print(table)


def print_sums(networks: Sequence[Summary], console: Console) -> None:
    """Show networks, one a line."""
    table = Table("network", "input", "classes")
    for name in ("layers", "weights", "parameters", "MACs"):
        table.add_column(name, justify="right")
    for network in networks:
        sizes = (_shape(network["input"]), str(network["output"][0]), str(network["weight_layers"]))
        table.add_row(escape(network["name"]), *sizes, *_counts(network))
    console.print(table)


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _counts(part: Summary) -> list[str]:
    return [f"{part[name]:,}" if part[name] else "" for name in ("weights", "parameters", "macs")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    options = parse(arguments)
    console = Console()
    networks = [summary(graph) for graph in options.graphs]
    if options.network:
        for network in networks:
            print_layers(network, console)
    else:
        print_sums(networks, console)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(networks, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
