"""The predictor: its sums, room in the buffers, what it reaches on VGG-S, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from arch.config import PRESETS, cnn, preset
from golden import reading, timing
from golden.networks import Builder, load
from golden.predict.forecast import Forecast
from golden.predict.masks import LayerMask, masks
from golden.predict.prediction import ARRAY_PHASES, Prediction, predict
from golden.predict.storage import buffer_bits
from golden.predict.traffic import Traffic, traffic
from golden.waits import is_vector
from scripts import predict as command
from scripts.options import LATENCY

SMALL = PRESETS["small"].with_(value_beats=128, gather_depth=2048, tensors=64)
BATCH = 8


@pytest.fixture(scope="module")
def steps() -> dict[str, Prediction]:
    graph = load("resnet-small")
    return {
        "sparse": predict(SMALL, graph, BATCH, LATENCY, masks("lognormal:0.5:5x", graph, 1), 4),
        "dense": predict(SMALL.with_(sparse=False), graph, BATCH, LATENCY),
    }


@pytest.mark.parametrize("mode", ["sparse", "dense"])
def test_sums(steps: dict[str, Prediction], mode: str) -> None:
    p = steps[mode]
    before, program = p.network.steady_step()
    machine = Forecast(p.cfg, p.network.stores_by_address)
    machine.execute(before)
    works = machine.execute(program)
    schedule = timing.schedule(p.cfg, works, LATENCY)
    assert p.cost.total == schedule.cycles
    assert p.cost.cycles == timing.phase_cycles(works, schedule)
    for phase in ARRAY_PHASES:
        loads = [loads[phase] for loads in p.layers.values()]
        assert sum(load.cycles for load in loads) == p.cost.cycles[phase]
        assert all(sum(load.bound.values()) == load.cycles for load in loads)
        assert all(0 <= load.utilisation(p.cfg.rows) <= 1 and load.imbalance >= 0 for load in loads)
        assert sum((load.moved for load in loads), Traffic()) == p.moved[phase]
    assert sum(p.vector.values()) == p.cost.cycles["vector"]
    assert p.cost.busy == sum(work.walk.busy for work in works if work.walk is not None)
    assert list(p.layers) == p.network.layer_names
    assert p.layers["conv1"]["bw"].commands == 0 < p.layers["conv1"]["fw"].commands


@pytest.mark.parametrize("mode", ["sparse", "dense"])
def test_traffic_is_what_reader_and_drain_move(steps: dict[str, Prediction], mode: str) -> None:
    p = steps[mode]
    works = Forecast(p.cfg, p.network.stores_by_address).execute(p.network.steady_step()[1])
    for work in works:
        if is_vector(work.command):
            continue
        c, moved = work.command, traffic(p.cfg, work)
        lists = reading.lists(p.cfg, 0, 0, c, c, work.offsets, work.totals)
        assert moved.read == sum(int(runs.lengths.sum()) for runs in lists if runs is not None)
        writes = timing.drain_writes(p.cfg, work)
        assert moved.written == (0 if writes is None else len(writes.address))


def test_dense_multiplications_are_those_of_the_network() -> None:
    net = Builder("unpadded", (3, 8, 8))
    net.conv(8, 3, bias=False)
    net.conv(6, 3, bias=False)
    net.global_avg_pool()
    net.linear(4, bias=False)
    graph = net.graph()
    p = predict(SMALL.with_(sparse=False), graph, BATCH, LATENCY)
    for layer in graph.weight_layers():
        assert p.layers[layer.name]["fw"].busy == layer.macs * -(-BATCH // SMALL.columns)
        assert p.layers[layer.name]["wu"].busy == layer.macs * -(-BATCH // SMALL.columns)


def test_uneven_masks_get_room() -> None:
    """A layer whose buffers would overflow as the mean says is cut smaller, and one that cannot be is refused."""
    net = Builder("uneven", (16, 4, 4))
    net.conv(64, 3, padding=1, bias=False, name="one")
    net.global_avg_pool()
    net.linear(4, bias=False, name="two")
    graph = net.graph()
    mask = np.zeros((64, 16, 3, 3), bool)
    mask[::8] = True  # an eighth of the channels has all weights
    no_bias = np.zeros(64, bool)
    given = {
        "one": LayerMask(mask, no_bias),
        "two": LayerMask(np.eye(4, 64, dtype=bool)[:, :, None, None], no_bias[:4]),
    }
    cfg = SMALL.with_(value_beats=16, gather_depth=1024)
    p = predict(cfg, graph, BATCH, LATENCY, given)
    assert 0 < max(p.fill.values()) <= 1
    assert p.network.tilings["one"].margin > p.network.tilings["two"].margin
    mask[:8] = True
    with pytest.raises(ValueError, match="conv 'one': .* does not fit: .* 8 value beats"):
        predict(cfg.with_(value_beats=8), graph, BATCH, LATENCY, given)


def test_refuses_what_the_vector_stage_does() -> None:
    net = Builder("wide", (1, 1, 1))
    net.linear(1025)
    with pytest.raises(ValueError, match="the vector stage refuses SOFTMAX of 1025 channels"):
        predict(cnn(), net.graph(), 16, LATENCY)


def test_refuses_large_flattened_maps() -> None:
    net = Builder("flat", (1, 8, 8))
    net.conv(2, 3, padding=1)
    net.flatten()
    net.linear(10, name="fc")
    with pytest.raises(ValueError, match="^linear 'fc': it reads a flattened map of 8x8, which may be 7x7 at most"):
        predict(cnn(), net.graph(), 16, LATENCY)


def test_vgg_s_reaches_what_sparsity_promises() -> None:
    graph = load("vgg-s")
    dense = predict(cnn().with_(sparse=False), graph, 16, LATENCY)
    drawn = masks("uniform:5.2x", graph, 1)
    for period in (1, 8):
        sparse = predict(cnn(), graph, 16, LATENCY, drawn, period)
        ideal = dense.cost.busy / sparse.cost.busy
        assert dense.array_cycles / sparse.array_cycles >= 0.9 * ideal
        for name, loads in sparse.layers.items():
            if name.startswith("conv") and name != "conv1":
                assert loads["fw"].utilisation(16) >= 0.9
                assert loads["bw"].utilisation(16) >= 0.84  # maps of 2x2: words are too short
                assert dense.layers[name]["fw"].utilisation(16) >= 0.95


def test_estimates_are_close() -> None:
    """The search for tiles prices them well enough to choose by: within 6 % of what a large layer takes."""
    graph = load("vgg-s")
    p = predict(cnn(), graph, 16, LATENCY, masks("uniform:5.2x", graph, 1), 1)
    for layer in p.network.layers:
        name = p.network.layer_names[layer.index]
        if layer.tiles is not None and name != "conv1":
            tiles, loads = layer.tiles, p.layers[name]
            assert tiles.backward is not None
            for tile, phase in ((tiles.forward, "fw"), (tiles.backward, "bw"), (tiles.update, "wu")):
                assert 0.94 < tile.cycles / loads[phase].cycles < 1.03


def test_builds() -> None:
    assert preset("cnn") == cnn() == command.build_of("16x16") != preset("16x16")
    assert command.build_of("32x8") == cnn(32, 8)
    assert (cnn(32, 8).block_k, cnn(32, 8).lane_group) == (1, 2)
    assert command.build_of("tiny") == PRESETS["tiny"]


def test_buffers() -> None:
    sparse, dense = (buffer_bits(cfg) for cfg in (cnn(), cnn().with_(sparse=False)))
    assert sum(sparse.values()) > sum(dense.values())
    assert sparse["gathered operands"] == 16 * 16 * 2 * 2048 * 16
    assert set(sparse) - set(dense) == {"masks", "updated masks"}


# -- the command ------------------------------------------------------------------------------
@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def tiny_graph(folder: Path) -> Path:
    path = folder / "mine.toml"
    path.write_text(
        'name = "mine"\n'
        '[[layer]]\nop = "input"\nchannels = 3\nheight = 6\nwidth = 6\n'
        '[[layer]]\nop = "conv"\nname = "[bold]one"\nout_channels = 8\nkernel = 3\npadding = 1\nbias = false\n'
        '[[layer]]\nop = "batch_norm"\n[[layer]]\nop = "relu"\n[[layer]]\nop = "global_avg_pool"\n'
        '[[layer]]\nop = "linear"\nout_features = 4\n'
    )
    return path


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net, out = tiny_graph(tmp_path), tmp_path / "a" / "b"
    given = ["--net", str(net), "--masks", "lognormal:0.5:3x", "--array", "8x8", "--explore", "4", "--out", str(out)]
    assert command.main(given) == 0
    shown = capsys.readouterr().out
    assert "[bold]one" in shown and str(out / "report.json") in shown
    report = json.loads((out / "report.json").read_text())
    assert {"cycles", "speedup", "utilisation", "imbalance", "layers"} <= set(report)
    assert set(report["cycles"]["dense"]) == {"fw", "bw", "wu", "vector", "other", "total"}
    assert report["speedup"] == report["cycles"]["dense"]["total"] / report["cycles"]["sparse"]["total"]
    assert set(report["imbalance"]) == {"none", "pair", "lpt"}
    assert report["config"]["batch"] == 8 and report["config"]["explore"] == 4
    assert [layer["name"] for layer in report["layers"]] == ["[bold]one", "linear1"]
    for name in ("cycles", "utilisation"):
        assert (out / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    assert f"{report['cycles']['sparse']['total']:,.0f}" in shown
    assert command.main(given) == 0
    again = json.loads((out / "report.json").read_text())
    assert {**again, "seconds": 0} == {**report, "seconds": 0}


def test_masks_from_a_file(tmp_path: Path) -> None:
    weights = {"[bold]one": np.ones((8, 3, 3, 3)), "linear1.weight": np.eye(4, 8)}
    np.savez(tmp_path / "masks.npz", **weights)
    given = ["--net", str(tiny_graph(tmp_path)), "--masks", str(tmp_path / "masks.npz"), "--array", "small"]
    assert command.main([*given, "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert [layer["tracked"] for layer in report["layers"]] == [216, 8]
    assert report["weights"] == {"total": 252, "tracked": 224, "factor": 252 / 224}


def test_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "PAPERS", {"lenet5": 5.0})
    monkeypatch.setattr(command, "ARRAYS", ("8x8", "32x32"))
    assert command.main(["--all", "--out", str(tmp_path)]) == 0
    reports = json.loads((tmp_path / "predict.json").read_text())
    keys = [(r["config"]["net"], r["config"]["array"], r["config"]["explore"]) for r in reports]
    assert keys == [("lenet5", array, period) for array in ("8x8", "32x32") for period in (1, 8)]
    assert "lenet5" in capsys.readouterr().out
    assert [r["config"]["batch"] for r in reports] == [8, 8, 32, 32]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--net", "vgg"], "is 'vgg-s' meant?"),
        (["--net", "none.toml"], "there is no such file"),
        (["--masks", "half"], "masks 'half' must be uniform:FACTORx"),
        (["--masks", "none.npz"], "there is no such file"),
        (["--array", "12"], "array '12' is neither ROWSxCOLUMNS nor one of tiny"),
        (["--array", "16x7"], "columns must be a power of two, not 7"),
        (["--array", "128x16"], "rows must be between 2 and 64, not 128"),
        (["--explore", "3"], "explore must be one of 1, 2, 4, 8, 16, 32, 64, not 3"),
        (["--batch", "0"], "batch must be between 2 and 4096, not 0"),
        (["--seed", "-1"], "seed must be between 0 and 4294967295, not -1"),
    ],
)
def test_refuses(given: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main(["--net", "lenet5", *given])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_no_room_for_headers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--net", "lenet-300-100", "--array", "tiny", "--out", str(tmp_path)]) == 2
    assert "linear 'linear1': a layer of 785 inputs has" in (shown := " ".join(capsys.readouterr().out.split()))
    assert "64 beats of 4 counts in all" in shown


def test_no_room(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--net", "vgg-s", "--array", "tiny", "--out", str(tmp_path)]) == 2
    assert "predict: " in (shown := capsys.readouterr().out) and "larger --array" in shown
    assert not list(tmp_path.iterdir())
