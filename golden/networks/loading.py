"""Finds a network by what a user calls it: a name of the zoo, or a file."""

from __future__ import annotations

import difflib
from pathlib import Path

from golden.networks import zoo
from golden.networks.graph import Graph
from golden.networks.toml_format import from_toml


def load(name: str | Path) -> Graph:
    """A network of the zoo by its name, or the one in a .toml or .onnx file.

    Raises:
        ValueError: neither a name nor such a file, or a file that holds no sound network.
        FileNotFoundError: there is no such file.
    """
    if str(name) in zoo.NETWORKS:
        return zoo.make(str(name))
    path = Path(name)
    if path.suffix not in (".toml", ".onnx"):
        close = difflib.get_close_matches(str(name), zoo.NETWORKS, n=1)
        raise ValueError(
            f"network {str(name)!r} is neither a .toml or .onnx file nor one of {', '.join(zoo.NETWORKS)}"
            + (f"; is {close[0]!r} meant?" if close else "")
        )
    if not path.is_file():
        raise FileNotFoundError(f"network {str(name)!r}: there is no such file")
    if path.suffix == ".onnx":
        from golden.networks.onnx_import import from_onnx  # a slow import, for those who need it

        return from_onnx(path)
    try:
        return from_toml(path.read_text(encoding="utf-8"))
    except ValueError as error:  # UnicodeDecodeError is one
        raise ValueError(f"{path}: {error}") from None
