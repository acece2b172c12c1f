"""Sources of masks: drawn ones, files, and what is said about wrong ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from arch.config import PRESETS
from golden.layout import Tiling
from golden.networks import Builder, Graph, load
from golden.predict.masks import Masks, masks, total
from golden.predict.network import Addresses, CountedNetwork


def small() -> Graph:
    net = Builder("small", (2, 6, 6))
    net.conv(6, 3, padding=1, name="first")
    net.relu()
    net.max_pool(2)
    net.conv(8, 1, bias=False, name="point")
    net.flatten()
    net.linear(5, name="last")
    return net.graph()


SHAPES = {"first": (6, 2, 3, 3), "point": (8, 6), "last": (5, 72)}


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    found = {f"{name}.weight": np.where(rng.random(s) < 0.3, 1.5, 0) for name, s in SHAPES.items()}
    return found | {"first.bias": np.array([1, 0, 0, 2, 0, 0]), "batch_norm.weight": np.ones(8)}


def kept(found: Masks) -> int:
    return sum(int(mask.weights.sum()) for mask in found.values())


@pytest.mark.parametrize("source", ["uniform:11.7x", "lognormal:0.7:11.7x", "lognormal:2:3x", "uniform:1x"])
def test_drawn_masks_have_the_wanted_weights(source: str) -> None:
    graph, factor = load("lenet5"), float(source.split(":")[-1][:-1])
    found = masks(source, graph, 3)
    assert [mask.weights.shape for mask in found.values()] == [layer.weight_shape for layer in graph.weight_layers()]
    weights, mean = graph.weights(), 1 / factor
    assert abs(kept(found) - weights * mean) <= 5 * (weights * mean * (1 - mean)) ** 0.5
    again, other = masks(source, graph, 3), masks(source, graph, 4)
    assert all(np.array_equal(found[name].weights, again[name].weights) for name in found)
    assert all(np.array_equal(found[name].bias, again[name].bias) for name in found)
    assert factor == 1 or not np.array_equal(found["linear1"].weights, other["linear1"].weights)
    assert factor > 1 or total(found) == graph.parameters()


def test_lognormal_channels_differ() -> None:
    graph = load("lenet5")
    for axes in ((1, 2, 3), (0, 2, 3)):
        spread = [
            masks(source, graph)["linear1"].weights.mean(axes).std() for source in ("uniform:10x", "lognormal:1:10x")
        ]
        assert spread[1] > 4 * spread[0]
    even, same = masks("uniform:10x", graph), masks("lognormal:0:10x", graph)
    assert all(np.array_equal(even[name].weights, same[name].weights) for name in even)


def test_layers_without_bias_store_none() -> None:
    assert not masks("uniform:1x", small())["point"].bias.any()


def test_file(tmp_path: Path) -> None:
    path, given = tmp_path / "pruned.npz", arrays()
    np.savez(path, **given)
    found = masks(str(path), small())
    for name in SHAPES:
        assert np.array_equal(found[name].weights.ravel(), given[f"{name}.weight"].ravel() != 0)
    assert found["first"].bias.tolist() == [True, False, False, True, False, False]
    assert found["last"].bias.all() and not found["point"].bias.any()
    np.savez(path, **{name.removesuffix(".weight"): array for name, array in given.items()})
    assert all(np.array_equal(masks(str(path), small())[name].weights, found[name].weights) for name in SHAPES)


def test_flattened_map_has_taps(tmp_path: Path) -> None:
    path, given, cfg = tmp_path / "pruned.npz", arrays(), PRESETS["tiny"].with_(gather_depth=512, value_beats=256)
    np.savez(path, **given)
    network = CountedNetwork(
        cfg, small(), 4, Addresses(cfg), tiling=Tiling(), weight_exponent=-10, masks=masks(str(path), small())
    )  # type: ignore[arg-type]
    layer = network.layers[2]
    mask = network._mask(layer)
    assert mask.shape == (5, 9, 9)  # 8 channels and the bias, 3x3 positions
    for k, c, row, col in ((0, 0, 0, 0), (4, 7, 2, 1), (3, 2, 1, 2), (1, 5, 0, 2)):
        wanted = given["last.weight"][k, (c * 3 + row) * 3 + col] != 0
        assert mask[k, c, row * 3 + col] == wanted
    counted = sum(int(network.counted[key].words.sum()) for key in network.counted if key[0] == 2)
    assert counted == np.count_nonzero(given["last.weight"]) + 5


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("uniform", "masks 'uniform' must be uniform:FACTORx, lognormal:SIGMA:FACTORx"),
        ("normal:3x", "masks 'normal:3x' must be uniform"),
        ("uniform:10", "the factor is written like 11.7x, not '10'"),
        ("uniform:nanx", "not 'nanx'"),
        ("uniform:0.5x", "the factor must be between 1 and 10000, not 0.5"),
        ("uniform:20000x", "the factor must be between 1 and 10000, not 20000"),
        ("lognormal:x:10x", "sigma must be a number between 0 and 4, not 'x'"),
        ("lognormal:5:10x", "sigma must be a number between 0 and 4, not '5'"),
    ],
)
def test_refuses_sources(source: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        masks(source, small())


def test_refuses_files(tmp_path: Path) -> None:
    path = tmp_path / "pruned.npz"
    with pytest.raises(FileNotFoundError, match=r"pruned.npz'?: there is no such file"):
        masks(str(path), small())
    for content in (b"nothing", b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"not a file of numpy.savez"):
            masks(str(path), small())
    for changes, message in (
        (
            {"last.weight": None},
            r"no array 'last' or 'last.weight' of shape \[5, 72, 1, 1\] or \[5, 72\]; there are 'first",
        ),
        ({"first.weight": np.ones((6, 2, 3))}, r"layer 'first' has the shape \[6, 2, 3\], wanted is \[6, 2, 3, 3\]"),
        (
            {"last.weight": np.ones((72, 5))},
            r"layer 'last' has the shape \[72, 5\], wanted is \[5, 72, 1, 1\] or \[5, 72\]",
        ),
        ({"first.bias": np.ones(5)}, r"the bias of layer 'first' has the shape \[5\], wanted is \[6\]"),
    ):
        np.savez(path, **{name: array for name, array in (arrays() | changes).items() if array is not None})
        with pytest.raises(ValueError, match=message):
            masks(str(path), small())
