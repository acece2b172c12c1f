"""Networks in TOML and by name: round trips, defaults, the document's examples, and every refusal."""

import dataclasses
import re
from pathlib import Path

import pytest

from golden.networks import Builder, Graph, from_toml, load, to_toml, zoo
from golden.networks.operators import OPERATORS, Input, Linear
from scripts.verilator import ROOT

PAGE = (ROOT / "docs" / "networks.md").read_text()
HEAD = 'name = "n"\n[[layer]]\nop = "input"\nchannels = 4\nheight = 6\nwidth = 6\n'
END = '[[layer]]\nop = "flatten"\n[[layer]]\nop = "linear"\nout_features = 3\n'


def layer(text: str) -> str:
    return HEAD + "[[layer]]\n" + text + "\n" + END


@pytest.mark.parametrize("name", zoo.NETWORKS)
def test_zoo_round_trip(name: str) -> None:
    graph = load(name)
    text = to_toml(graph)
    assert from_toml(text) == graph
    assert to_toml(from_toml(text)) == text


def test_round_trip_of_all_fields_and_odd_names() -> None:
    net = Builder('quoted "name" \\ \x7f\x01 Ω', (3, 9, 8))
    start = net.conv(5, (2, 7), 2, 3, bias=False, name="a b\n[c]")
    net.batch_norm(0.25, 1e-7)
    net.batch_norm(1e-20, 0)
    net.depthwise((3, 1), 1, 1)
    net.avg_pool(3, 1, 1)
    net.max_pool(2, 1)
    net.max_pool(2, 1, 1)
    net.add(net.last, net.last, net.relu6(name='"'))
    net.concat(net.relu(), net.last)
    net.global_avg_pool()
    net.linear(2, False, name="[[layer]]")
    graph = net.graph()
    assert from_toml(to_toml(graph)) == graph and start in graph.by_name


def test_defaults() -> None:
    text = """
name = "short"
[[layer]]
op = "input"
channels = 5
[[layer]]
op = "linear"
out_features = 4
[[layer]]
op = "relu"
[[layer]]
op = "linear"
name = "y"
out_features = 3
bias = false
"""
    net = Builder("short", (5,))
    net.linear(4)
    net.relu()
    net.linear(3, False, name="y")
    assert from_toml(text) == net.graph()
    pooled = from_toml(layer('op = "conv"\nout_channels = 2\nkernel = 3\n[[layer]]\nop = "max_pool"\nwindow = 3'))
    by_hand = Builder("n", (4, 6, 6))
    by_hand.conv(2, 3)
    by_hand.max_pool(3, 3)
    by_hand.flatten()
    by_hand.linear(3)
    assert pooled == by_hand.graph()


def test_one_input_or_a_list() -> None:
    for text in ('input = "input"', 'input = ["input"]', ""):
        assert from_toml(layer(f'op = "relu"\n{text}')) == from_toml(layer('op = "relu"'))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "not a TOML text: Invalid value"),
        ("", "a network must have a 'name', this one has nothing"),
        ('name = "n"', "a network must have a 'layer', this one has name"),
        ('name = "n"\nlayers = 3', "a network has no key 'layers'; it has name, layer"),
        ('name = "n"\nlayer = 3', r"the layers must be tables, each under \[\[layer\]\], not 3"),
        (
            'name = 3\nlayer = [{op = "input", channels = 3}]',
            "the name of a network must be text and not empty, it is 3",
        ),
        (layer('op = "convolution"'), "layer 2: op must be one of input, conv, linear, .*, flatten, not 'convolution'"),
        (layer('name = "q"\nop = 3'), "layer 2 'q': op must be one of .*, not 3"),
        (layer('name = "q"'), "layer 2 'q': op must be one of .*, not None"),
        (
            layer('op = "relu"\nslope = 0.1\nname = "q"'),
            "layer 2 'q', relu, has no key 'slope'; it has op, name, input$",
        ),
        (
            layer('op = "conv"\nfilters = 3'),
            "layer 2, conv, has no key 'filters'; it has op, name, input, out_channels, kernel, stride, padding",
        ),
        (layer('op = "conv"\npadding = 1'), "layer 2: a layer with op 'conv' must have out_channels and kernel"),
        (layer('op = "max_pool"'), "layer 2: a layer with op 'max_pool' must have window$"),
        (layer('op = "conv"\nout_channels = "6"\nkernel = 3'), "conv 'conv1': out_channels must be .*, not '6'"),
        (layer('op = "conv"\nout_channels = 6\nkernel = "3"'), "conv 'conv1': kernel must be two whole .*, not '3'"),
        (layer('op = "conv"\nout_channels = 6\nkernel = [3]'), r"kernel must be two whole numbers .*, not \(3,\)"),
        (layer('op = "conv"\nout_channels = 6\nkernel = 3.0'), "kernel must be two whole numbers .*, not 3.0"),
        (layer('op = "conv"\nout_channels = 6\nkernel = 9'), r"from 1 to 7, not \(9, 9\)"),
        (layer('op = "relu"\ninput = 3'), "layer 2: input must be a name or a list of names, not 3"),
        (layer('op = "relu"\ninput = ["input", 3]'), r"layer 2: input must be a name .*, not \['input', 3\]"),
        (layer('op = "relu"\ninput = "inptu"'), "network 'n': relu 'relu1': there is no node 'inptu' to read"),
        (layer('op = "relu"\nname = ""'), "the name of a relu must be text and not empty"),
        ('name = "n"\n[[layer]]\nop = "relu"', "layer 1: the first layer must have op 'input', not 'relu'"),
        ('name = "n"\nlayer = []', "network 'n': must have at least an input and an output, it has 0 nodes"),
        (HEAD + 'input = "x"\n' + END, "layer 1, input, has no key 'input'; it has op, name, channels"),
    ],
)
def test_toml_refuses(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_toml(text)


def test_load(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(to_toml(load("lenet5")), encoding="utf-8")
    assert load(path) == load(str(path)) == zoo.make("lenet5")


def test_load_refuses(tmp_path: Path) -> None:
    known = "lenet-300-100, lenet5, vgg-small, resnet-small, vgg-s, densenet, wrn-28-10, resnet18, mobilenetv2"
    with pytest.raises(
        ValueError, match=f"'resnet-18' is neither a .toml or .onnx file nor one of {known}; is 'resnet18'"
    ):
        load("resnet-18")
    with pytest.raises(ValueError, match=f"'mine.json' is neither a .toml or .onnx file nor one of {known}$"):
        load("mine.json")
    for name in ("none.toml", "none.onnx"):
        with pytest.raises(FileNotFoundError, match=f"{name}': there is no such file"):
            load(tmp_path / name)
    broken = tmp_path / "broken.toml"
    broken.write_text('name = "n"\nlayer = 3')
    with pytest.raises(ValueError, match=r"broken.toml: the layers must be tables"):
        load(broken)
    broken.write_bytes(b"name = '\xff'")
    with pytest.raises(ValueError, match=r"broken.toml: .*can't decode byte 0xff"):
        load(broken)


def test_examples_of_the_document_are_one_network() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Graph] = {}
    exec(compile(code, "docs/networks.md", "exec"), names)
    assert from_toml(text) == names["graph"]


def test_document_lists_all_operators_with_their_fields() -> None:
    section = PAGE.partition("## Operators")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", section, re.MULTILINE))
    assert rows.pop("op") and list(rows) == list(OPERATORS)
    for op, text in rows.items():
        fields = [field.name for field in dataclasses.fields(OPERATORS[op])][2:]  # after name and inputs
        assert re.findall(r"`(\w+)`", text) == (["max_pool"] if op == "avg_pool" else fields)


def test_bounds_are_those_of_the_document() -> None:
    assert "`channels` 1 to 2^20, `height`, `width` 1 to 2^14" in PAGE
    Input("i", (), 1 << 20, 1 << 14, 1 << 14)
    Linear("l", ("i",), 1 << 20)
    for sizes in (((1 << 20) + 1, 1, 1), (1, (1 << 14) + 1, 1), (1, 1, (1 << 14) + 1)):
        with pytest.raises(ValueError, match="must be a whole number from 1 to"):
            Input("i", (), *sizes)
