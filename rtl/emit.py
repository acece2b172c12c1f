"""Verilog of a design, with the PE converted once.

Amaranth writes one module per instance. An array of 256 PEs would be 257 modules and minutes of
compilation; converted once and instantiated by name, it is one module more than the rest.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager

from amaranth.back import verilog as back
from amaranth.lib import wiring

from arch.config import Config
from rtl.pe import PE

PE_MODULE = "pe"
_USES_PE = re.compile(rf"^\s*{PE_MODULE} \S+ \(", re.MULTILINE)
_SOURCE = re.compile(r'^\s*\(\* src = "[^"]*" \*\)\n', re.MULTILINE)


def verilog(component: wiring.Component, cfg: Config, name: str, *, source: bool = False) -> str:
    """Convert a component to Verilog; append the module `pe` where it is instantiated.

    The text is the same for the same design, in whatever folder it is made.

    Args:
        component: the design, with its PEs built as instances (`emit=True`).
        cfg: configuration of those PEs.
        name: name of the top module.
        source: keep the source locations (absolute paths), for coverage and mutants.

    Returns:
        Verilog text.

    Raises:
        ValueError: `name` is that of the PE module but the component is not a PE.
    """
    if name == PE_MODULE and not isinstance(component, PE):
        raise ValueError(f"the top module cannot be called {name!r}: that is the name of the PE module")
    text = _convert(component, name, source)
    if _USES_PE.search(text):
        text += "\n" + _convert(PE(cfg), PE_MODULE, source)
    return text


def _convert(component: wiring.Component, name: str, source: bool) -> str:
    with _collector_off():
        text = back.convert(component, name=name, emit_src=source, strip_internal_attrs=not source)
    # Memories keep their location even then, and with it the path of whoever ran this.
    return text if source else _SOURCE.sub("", text)


@contextmanager
def _collector_off() -> Iterator[None]:
    """No garbage collection: a design is millions of objects that all stay, and looking through them takes a third."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
