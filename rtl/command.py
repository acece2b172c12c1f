"""A command as the RTL sees it: a structure sliced from `arch.command.FIELDS`."""

from functools import reduce
from operator import or_

from amaranth import Cat, Const, Signal, Value
from amaranth.lib import data

from arch.command import CONNECTED, FIELDS, UNMAPPED, WORDS

#: One member per field, in table order. `view(words)` below fills it.
COMMAND = data.StructLayout({name: field.bits for name, field in FIELDS.items()})

#: What engines must know as soon as a slot starts: word 0, and which exponents to read. The rest follows a cycle later.
EARLY = (*(name for name, field in FIELDS.items() if field.word == 0), "x_tensor", "aux_tensor")


def slice_command(raw: Value) -> Value:
    """Re-order the bits of a fetched command (32·`WORDS` bits, word 0 lowest) into `COMMAND`.

    Pure wiring. Returns a value to assign to a `Signal(COMMAND)`.
    """
    assert len(raw) == 32 * WORDS, f"a command has {32 * WORDS} bits, not {len(raw)}"
    return Cat(raw[32 * f.word + f.low : 32 * f.word + f.low + f.bits] for f in FIELDS.values())


def connected(command: data.View) -> Value:
    """`COMMAND` with the fields of maps as constants, for builds without maps. Pure wiring, as `slice_command`."""
    fixed = CONNECTED | UNMAPPED
    return Cat(Const(fixed[n], f.bits) if n in fixed else command[n] for n, f in FIELDS.items())


def is_connected(command: data.View) -> Value:
    """Whether a build without maps can do a command that is no NOP; combinational, 1 bit."""
    return ~reduce(or_, (command[name] != value for name, value in CONNECTED.items()))


def command_signal(name: str) -> Signal:
    """A register for one command."""
    return Signal(COMMAND, name=name)
