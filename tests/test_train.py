"""The main job: options are checked, a short run compares every cycle and writes a complete report."""

import json
import re
from pathlib import Path

import pytest

from scripts import options, train

KEYS = {
    "config": {
        "data",
        "net",
        "array",
        "batch",
        "steps",
        "epochs",
        "budget",
        "decay",
        "period",
        "balance",
        "engine",
        "seed",
    },
    "accuracy": {"dense", "float_dropback", "golden", "rtl"},
    "weights": {"total", "tracked", "factor", "peak", "mean"},
    "utilisation": {"dense", "sparse"},
    "imbalance": {"none", "pair", "lpt"},
    "compared": {"cycles", "steps", "mismatches"},
    "simulation": {"cycles_per_second"},
}
PLOTS = {"learning.png", "cycles.png", "row_load.png", "threshold.png", "train.png"}
SHORT = ["--array", "tiny", "--net", "64-12-10", "--batch", "10", "--decay", "0.5"]


def test_every_step_on_the_rtl(tmp_path: Path) -> None:
    assert train.main([*SHORT, "--steps", "40", "--test", "20", "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    for name, keys in KEYS.items():
        assert keys <= report[name].keys(), name
    for mode in ("dense", "sparse"):
        cycles = report["cycles"][mode]
        assert cycles["total"] == sum(cycles[phase] for phase in ("fw", "bw", "wu", "other")) > 0
    assert report["speedup"] == report["cycles"]["dense"]["total"] / report["cycles"]["sparse"]["total"] > 1
    assert report["compared"]["steps"] == 40
    assert report["compared"]["cycles"] > 40 * report["cycles"]["sparse"]["total"]
    assert report["compared"]["mismatches"] == 0
    assert report["accuracy"]["rtl"] == report["accuracy"]["golden"]
    assert {path.name for path in tmp_path.iterdir()} == PLOTS | {"report.json"}


CONVOLUTION = """
name = "digits-conv"
layer = [
    {op = "input", channels = 1, height = 8, width = 8},
    {op = "conv", out_channels = 4, kernel = 3, padding = 1},
    {op = "batch_norm"},
    {op = "relu"},
    {op = "max_pool", window = 2},
    {op = "flatten"},
    {op = "linear", out_features = 10},
]
"""


def test_network_of_a_file_on_the_rtl(tmp_path: Path) -> None:
    (tmp_path / "net.toml").write_text(CONVOLUTION)
    net = ["--array", "tiny", "--net", str(tmp_path / "net.toml"), "--batch", "8", "--budget", "3x"]
    assert train.main([*net, "--steps", "6", "--test", "20", "--out", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["compared"]["mismatches"] == 0 and report["compared"]["steps"] == 6
    assert report["compared"]["cycles"] > 6 * report["cycles"]["sparse"]["total"] > 0
    assert report["weights"]["total"] == 4 * (9 + 1) + 10 * (4 * 16 + 1)
    assert report["accuracy"]["rtl"] == report["accuracy"]["golden"]


def test_golden_engine_gives_the_same_figures(tmp_path: Path) -> None:
    reports = []
    for engine in ("rtl", "golden"):
        folder = tmp_path / engine
        assert train.main([*SHORT, "--steps", "25", "--test", "20", "--engine", engine, "--out", str(folder)]) == 0
        reports.append(json.loads((folder / "report.json").read_text()))
    rtl, golden = reports
    for name in ("cycles", "speedup", "weights", "utilisation", "imbalance"):
        assert rtl[name] == golden[name], name
    assert golden["accuracy"]["rtl"] is None
    assert golden["compared"]["cycles"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--net", "64"], "net '64' must be layer sizes like 784-300-100-10, at least two"),
        (["--net", "64-0-10"], "net '64-0-10': a layer must have 1 to 8190 channels, not 0"),
        (["--budget", "0"], "budget '0' is 0 weights, it must be between 1 and 7510"),
        (["--budget", "20x:4x"], "budget '20x:4x' grows from 375 to 1877 weights, it must fall"),
        (["--array", "5x3"], "columns must be a power of two, not 3"),
        (
            ["--array", "huge"],
            "array 'huge' is neither ROWSxCOLUMNS nor one of tiny, small, paper, cnn, fpga, alone or as"
            " NAME:ROWSxCOLUMNS",
        ),
        (["--steps", "0"], "steps must be between 1 and 1048576, not 0"),
        (["--epochs", "0"], "epochs must be at least 1, not 0"),
        (["--batch", "0"], "batch must be at least 1, not 0"),
        (["--decay", "1.5"], "decay must be at least 0 and at most 1, not 1.5"),
        (["--explore", "3"], "period must be a power of two between 1 and 64, not 3"),
        (["--seed", "-1"], "seed must be between 0 and 4294967295, not -1"),
        (["--test", "-1"], "test must be between 0 and 1048576, not -1"),
    ],
)
def test_wrong_values_are_named(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        options.parse(arguments)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.endswith(f"error: {message}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--net", "10-10"], "the first layer size must be 64 for data set 'digits', not 10"),
        (["--net", "64-11"], "the last layer size must be 10 for data set 'digits', not 11"),
        (["--data", "absent"], "data set 'absent' is neither 'digits' nor 'mnist' nor a folder"),
        (["--batch", "100000"], "takes 12500 positions, a gather bank holds one block of at most"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main([*arguments, "--engine", "golden"]) == 2
    assert message in re.sub(r"\s+", " ", capsys.readouterr().out)
