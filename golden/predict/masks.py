"""Which weights of a network are stored: drawn at a wanted sparsity, or read from a file of somebody's pruned network.

A source is written `uniform:11.7x` (every weight is kept with probability 1 / 11.7), `lognormal:SIGMA:11.7x` (as many,
but some output channels and some input channels keep more than others) or `FILE.npz`.
"""

from __future__ import annotations

import math
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from golden.networks.graph import Graph, WeightLayer

MOST_SIGMA = 4.0
MOST_FACTOR = 1e4
FORMS = "uniform:FACTORx, lognormal:SIGMA:FACTORx (for example uniform:11.7x, lognormal:0.5:11.7x) or FILE.npz"


@dataclass(frozen=True)
class LayerMask:
    """Stored weights of a layer.

    Attributes:
        weights: bool, the layer's `weight_shape` (K, C, R, S); of a linear layer (K, features, 1, 1).
        bias: bool (K,); of a layer without bias all false.
    """

    weights: np.ndarray
    bias: np.ndarray

    @property
    def kept(self) -> int:
        """Weights and biases stored."""
        return int(np.count_nonzero(self.weights) + np.count_nonzero(self.bias))

    @property
    def density(self) -> float:
        """Share of the weights stored, biases not counted."""
        return float(np.count_nonzero(self.weights) / self.weights.size)


Masks = dict[str, LayerMask]
"""By the name of the layer's node."""


def masks(source: str, graph: Graph, seed: int = 0) -> Masks:
    """The masks of a network's layers.

    Args:
        source: see the module docstring.
        graph: the network.
        seed: of drawn masks; the same seed gives the same masks.

    Raises:
        ValueError: no such source, a number out of range, or a file without one of the layers or with one of another
            shape; names what was found and what is wanted.
        FileNotFoundError: there is no such file.
    """
    kind, *numbers = source.split(":")
    if kind == "uniform" and len(numbers) == 1:
        return _drawn(graph, _factor(source, numbers[0]), 0.0, seed)
    if kind == "lognormal" and len(numbers) == 2:
        return _drawn(graph, _factor(source, numbers[1]), _sigma(source, numbers[0]), seed)
    if source.endswith(".npz"):
        return from_file(Path(source), graph)
    raise ValueError(f"masks {source!r} must be {FORMS}")


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d+(\.\d*)?|\.\d+", text) else None


def _factor(source: str, text: str) -> float:
    value = _number(text[:-1]) if text.endswith("x") else None
    if value is None:
        raise ValueError(f"masks {source!r}: the factor is written like 11.7x, not {text!r}")
    if not 1 <= value <= MOST_FACTOR:
        raise ValueError(f"masks {source!r}: the factor must be between 1 and {MOST_FACTOR:g}, not {value:g}")
    return value


def _sigma(source: str, text: str) -> float:
    value = _number(text)
    if value is None or value > MOST_SIGMA:
        raise ValueError(f"masks {source!r}: sigma must be a number between 0 and {MOST_SIGMA:g}, not {text!r}")
    return value


def _drawn(graph: Graph, factor: float, sigma: float, seed: int) -> Masks:
    """Every weight is kept with a probability of its own, whose mean over all weights is 1 / factor.

    The probability is the product of a number of the output channel and one of the input channel, both lognormal with
    `sigma` / sqrt(2), so that the logarithm of the product has the standard deviation `sigma`; at most 1.
    """
    layers = graph.weight_layers()
    generators = [np.random.default_rng([seed, i]) for i in range(len(layers))]
    spread = [
        np.exp(sigma / math.sqrt(2) * np.add.outer(draw.standard_normal(k), draw.standard_normal(c)))
        for draw, (k, c, _, _) in zip(generators, (layer.weight_shape for layer in layers), strict=True)
    ]
    scale = _scale(layers, spread, 1 / factor) if sigma else 1 / factor
    out = {}
    for layer, draw, relative in zip(layers, generators, spread, strict=True):
        wanted = np.minimum(scale * relative, 1).astype(np.float32)
        kept = draw.random(layer.weight_shape, dtype=np.float32) < wanted[:, :, None, None]
        bias = draw.random(layer.output.channels, dtype=np.float32) < wanted.mean()
        out[layer.name] = LayerMask(kept, bias & layer.bias)
    return out


def _scale(layers: tuple[WeightLayer, ...], spread: list[np.ndarray], density: float) -> float:
    """The factor of all probabilities that gives the wanted mean, by bisection of its logarithm."""
    total = sum(layer.weights for layer in layers)
    low, high = math.log(density) - 50, math.log(density) + 50
    for _ in range(60):
        middle = (low + high) / 2
        mean = sum(
            float(np.minimum(math.exp(middle) * part, 1).sum()) * layer.kernel[0] * layer.kernel[1]
            for layer, part in zip(layers, spread, strict=True)
        )
        low, high = (middle, high) if mean < density * total else (low, middle)
    return math.exp(high)


def from_file(path: Path, graph: Graph) -> Masks:
    """Masks of arrays in a .npz file: a weight is stored where its array is not zero.

    An array is called like the layer's node, or that and `.weight`; biases are `.bias`, all kept if there is none.
    Shapes are [K, C, R, S] (depthwise: C is 1); [K, C] where the filter has one tap, and of linear layers, which read
    a flattened map in the order of docs/networks.md.

    Raises:
        ValueError: not such a file, or an array is missing or has another shape; names the layer.
        FileNotFoundError: there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"masks {str(path)!r}: there is no such file")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise ValueError(f"masks {str(path)!r}: not a file of numpy.savez: {error}") from None
    return {layer.name: _of_layer(layer, arrays, path) for layer in graph.weight_layers()}


def _of_layer(layer: WeightLayer, arrays: dict[str, np.ndarray], path: Path) -> LayerMask:
    weights = arrays.get(layer.name, arrays.get(f"{layer.name}.weight"))
    shape = layer.weight_shape
    allowed = [shape, shape[:2]] if layer.kernel == (1, 1) else [shape]
    wanted = " or ".join(str(list(each)) for each in allowed)
    if weights is None:
        raise ValueError(
            f"masks {str(path)!r}: no array {layer.name!r} or '{layer.name}.weight' of shape {wanted};"
            f" there are {', '.join(map(repr, arrays)) or 'none'}"
        )
    if weights.shape not in allowed:
        raise ValueError(
            f"masks {str(path)!r}: the array of layer {layer.name!r} has the shape {list(weights.shape)},"
            f" wanted is {wanted}"
        )
    bias = arrays.get(f"{layer.name}.bias", np.ones(shape[0])) if layer.bias else np.zeros(shape[0])
    if bias.shape != (shape[0],):
        raise ValueError(
            f"masks {str(path)!r}: the bias of layer {layer.name!r} has the shape {list(bias.shape)},"
            f" wanted is [{shape[0]}]"
        )
    return LayerMask(weights.reshape(shape) != 0, bias != 0)


def total(masks_of: Masks) -> int:
    """Weights and biases stored in all layers."""
    return sum(mask.kept for mask in masks_of.values())
