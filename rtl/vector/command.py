"""A vector command as the RTL sees it: a structure sliced from `arch.vector.FIELDS`."""

from amaranth import Cat, Value
from amaranth.lib import data

from arch.vector import FIELDS, WORDS

#: One member per field, in table order.
VECTOR_COMMAND = data.StructLayout({name: field.bits for name, field in FIELDS.items()})


def slice_command(raw: Value) -> Value:
    """Re-order the bits of a command (32·`WORDS` bits, word 0 lowest) into `VECTOR_COMMAND`; pure wiring."""
    assert len(raw) == 32 * WORDS, f"a vector command has {32 * WORDS} bits, not {len(raw)}"
    return Cat(raw[32 * f.word + f.low : 32 * f.word + f.low + f.bits] for f in FIELDS.values())
