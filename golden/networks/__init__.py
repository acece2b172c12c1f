"""Descriptions of networks: written in Python, TOML or ONNX, checked once, and the same `Graph` for everybody."""

from golden.networks.builder import Builder
from golden.networks.graph import Graph, WeightLayer
from golden.networks.loading import load
from golden.networks.node import Shape
from golden.networks.toml_format import from_toml, to_toml

__all__ = ["Builder", "Graph", "Shape", "WeightLayer", "from_toml", "load", "to_toml"]
