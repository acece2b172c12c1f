"""Verilog of a design as a tree of modules, in which equal modules are one.

Amaranth writes a module for every instance: 64 equal requantisers are 64 modules that differ in names alone. Here
they become one module with 64 instances, so that each is synthesised once. Nothing is parsed but module headers, ports
and the first line of instances, as Amaranth's Verilog writer lays them out.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

_ID = r"(?:\\\S+|[A-Za-z_]\w*)"
_MODULE = re.compile(rf"^module ({_ID})\s*\(.*?^endmodule\n", re.MULTILINE | re.DOTALL)
_INSTANCE = re.compile(rf"^  ({_ID}) +({_ID}) +\($", re.MULTILINE)
_PORT = re.compile(rf"^  (input|output) (?:\[(\d+):0\] )?({_ID}) ?;", re.MULTILINE)
_INDEXED = re.compile(r"\\([^\s\\]+)\[(\d+)\](?=\s)")
_NUMBERED = re.compile(r"\\?[\w$.:]*\$\d+\S*")


def unindexed(text: str) -> str:
    r"""Verilog in which no name ends like one bit of another.

    Amaranth calls the elements of an array `\ones[3]`. Yosys 0.70, when it takes back what ABC9 has mapped, reads that
    as bit 3 of `\ones`, and stops where both are there.
    """
    return _INDEXED.sub(r"\\\1.\2", text)


def anonymous(text: str, kept: Collection[str] = ()) -> str:
    """Verilog with the numbers that Amaranth and Yosys give to names counted anew, but for the names `kept`."""
    seen: dict[str, str] = {}

    def renamed(match: re.Match[str]) -> str:
        token = match.group(0)
        return token if token in kept else seen.setdefault(token, f"@{len(seen)}")

    return _NUMBERED.sub(renamed, text)


def _header(text: str) -> list[str]:
    """Names of the ports in the first line of a module, which are in another order than their declarations."""
    return re.findall(_ID, text.split("(", 1)[1].split(")", 1)[0])


@dataclass(frozen=True)
class Port:
    """A port: name as Verilog writes it, `input` or `output`, bits."""

    name: str
    direction: str
    width: int


@dataclass(frozen=True)
class Module:
    """One module of a netlist.

    Attributes:
        name: as Verilog writes it, with the backslash of an escaped name.
        text: its Verilog.
        children: modules it instantiates, with how often.
        paths: where in the design it stands, all that are equal to it.
    """

    name: str
    text: str
    children: Counter[str]
    paths: list[str] = field(default_factory=list)

    @property
    def plain(self) -> str:
        """The name as statistics write it."""
        return self.name.removeprefix("\\")

    @property
    def ports(self) -> list[Port]:
        """Its ports, in the order of their declarations."""
        return [
            Port(name, direction, int(high) + 1 if high else 1) for direction, high, name in _PORT.findall(self.text)
        ]

    @property
    def declared(self) -> list[int]:
        """For every port of `ports`, its place in the first line of the module, the order that Yosys keeps."""
        header = _header(self.text)
        return [header.index(port.name) for port in self.ports]

    def stub(self, name: str) -> str:
        """Its declaration alone under another name, for a parent that is synthesised without it."""
        lines = [f"  {p.direction} [{p.width - 1}:0] {p.name} ;" for p in self.ports]
        names = " , ".join(f"{p.name} " for p in self.ports)
        return "\n".join(["(* blackbox *)", f"module {name} ({names});", *lines, "endmodule", ""])


class Netlist(Mapping[str, Module]):
    """Modules by name; equal ones are one.

    Args:
        verilog: text of the design, as `rtl.top.verilog` writes it.
        top: name of its top module.

    Raises:
        ValueError: there is no module `top`.
    """

    def __init__(self, verilog: str, top: str = "top") -> None:
        texts = {match.group(1): match.group(0) for match in _MODULE.finditer(unindexed(verilog))}
        if top not in texts:
            raise ValueError(f"no module {top!r} in the Verilog; it defines {', '.join(texts) or 'none'}")
        self.top = top
        self._modules: dict[str, Module] = {}
        self._canonical: dict[str, str] = {}
        self._by_digest: dict[str, str] = {}
        self._visit(top, texts)
        for path, name in self._walk(top, top):
            self._modules[name].paths.append(path)

    def __getitem__(self, name: str) -> Module:
        return self._modules[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)

    def _visit(self, name: str, texts: Mapping[str, str]) -> str:
        """Enter a module and all below it; returns the name of the one it equals."""
        if name in self._canonical:
            return self._canonical[name]
        children: Counter[str] = Counter()

        def child(match: re.Match[str]) -> str:
            if match.group(1) not in texts:
                return match.group(0)
            same = self._visit(match.group(1), texts)
            children[same] += 1
            return f"  {same} {match.group(2)} ("

        text = _INSTANCE.sub(child, texts[name].replace(f"module {name}", "module SELF", 1))
        # Names of ports are the parents' business too.
        digest = hashlib.sha256(anonymous(text, set(_header(text))).encode()).hexdigest()
        same = self._by_digest.setdefault(digest, name)
        if same == name:
            self._modules[name] = Module(name, text.replace("module SELF", f"module {name}", 1), children)
        self._canonical[name] = same
        return same

    def _walk(self, name: str, path: str) -> Iterator[tuple[str, str]]:
        """(path, module) of every instance below and with one of `name`."""
        yield path, name
        for match in _INSTANCE.finditer(self._modules[name].text):
            if match.group(1) in self._modules:
                instance = re.sub(r"\$\d+$", "", match.group(2).removeprefix("\\"))
                yield from self._walk(match.group(1), f"{path}.{instance}")

    def below(self, name: str) -> list[str]:
        """`name` and all modules in it, each once."""
        found: dict[str, None] = {}

        def visit(module: str) -> None:
            if module not in found:
                found[module] = None
                for child in self._modules[module].children:
                    visit(child)

        visit(name)
        return list(found)

    def instances(self, root: str | None = None) -> Counter[str]:
        """How often each module stands in one of `root` (the top), itself included."""
        root = root or self.top
        total: Counter[str] = Counter({root: 1})
        for child, times in self._modules[root].children.items():
            for name, count in self.instances(child).items():
                total[name] += times * count
        return total

    def verilog(self, root: str | None = None) -> str:
        """Text of a module with all that is in it."""
        return "\n".join(self._modules[name].text for name in self.below(root or self.top))
