"""The command that prints networks: tables, JSON, files, and what it says when asked for nonsense."""

import json
from pathlib import Path

import pytest

from golden.networks import load, to_toml, zoo
from scripts import networks


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def cells(text: str) -> list[list[str]]:
    """Rows of a table, cell by cell."""
    return [[cell.strip() for cell in line.strip("│ ┃").replace("┃", "│").split("│")] for line in text.splitlines()]


def test_layers(capsys: pytest.CaptureFixture[str]) -> None:
    assert networks.main(["lenet5", "mobilenetv2"]) == 0
    rows = cells(capsys.readouterr().out)
    assert ["conv2", "conv 5x5", "20x12x12", "50x8x8", "25,000", "25,050", "1,600,000"] in rows
    assert ["max_pool1", "max_pool 2x2 /2", "20x24x24", "20x12x12", "", "", ""] in [
        row + [""] * (7 - len(row)) for row in rows
    ]
    assert ["total", "4 layers with weights", "", "", "430,500", "431,080", "2,293,000"] in rows
    assert ["conv2", "conv 3x3 pad 1 depthwise", "32x112x112", "32x112x112", "288", "288", "3,612,672"] in rows
    assert ["total", "53 layers with weights", "", "", "3,469,760", "3,504,872", "300,774,272"] in rows


def test_without_a_name_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert networks.main([]) == 0
    rows = cells(capsys.readouterr().out)
    assert [row[0] for row in rows if row[0] in zoo.NETWORKS] == list(zoo.NETWORKS)
    assert ["resnet18", "3x224x224", "1000", "21", "11,678,912", "11,689,512", "1,814,073,344"] in rows


def test_json_and_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = load("resnet-small")
    (tmp_path / "mine.toml").write_text(
        to_toml(graph).replace('"conv2"', '"[bold]odd"').replace('"resnet-small"', '"[b]"')
    )
    path = tmp_path / "out" / "networks.json"
    assert networks.main([str(tmp_path / "mine.toml"), "lenet5", "--json", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "[bold]odd" in shown and "[b]" in shown
    mine, lenet = json.loads(path.read_text())
    assert (mine["name"], lenet["name"]) == ("[b]", "lenet5")
    for data, source in ((mine, graph), (lenet, load("lenet5"))):
        assert data["weights"] == source.weights() == sum(layer["weights"] for layer in data["layers"])
        assert data["macs"] == source.macs() == sum(layer["macs"] for layer in data["layers"])
        assert data["parameters"] == source.parameters() == sum(layer["parameters"] for layer in data["layers"])
        assert data["weight_layers"] == len(source.weight_layers())
        assert [layer["op"] for layer in data["layers"]] == [node.op for node in source.nodes]
        assert [tuple(layer["output_shape"]) for layer in data["layers"]] == [*source.shapes.values()]
        assert data["input"] == data["layers"][0]["output_shape"] and data["output"] == [10, 1, 1]
    assert (
        mine["layers"][9]["input_shapes"] == [[16, 28, 28], [16, 28, 28]] and mine["layers"][1]["window"] == "3x3 pad 1"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lenet6"], "network 'lenet6' is neither a .toml or .onnx file nor one of lenet-300-100"),
        (["none.toml"], "network 'none.toml': there is no such file"),
        (["lenet5", "--json", "."], "--json must name a file, . is a folder"),
    ],
)
def test_refusals(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        networks.main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_help_names_all(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        networks.main(["--help"])
    shown = "".join(capsys.readouterr().out.split())
    assert all(name in shown for name in zoo.NETWORKS) and "--json" in shown
