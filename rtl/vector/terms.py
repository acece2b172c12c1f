"""What a walk tells about every beat: where it lies and what the lanes do with it."""

from __future__ import annotations

from enum import IntEnum

from amaranth.hdl import Cat, Const, Value
from amaranth.lib import data


class Right(IntEnum):
    """Right operand of a lane's product."""

    A = 0  # coefficient a
    B = 1
    ELEMENT = 2  # the element itself: squares, and products with the held one
    ZERO = 3


#: What a lane does with an element.
LANE_STEP = data.StructLayout(
    {
        "gate": 1,  # the mask becomes: the activation function passes the gradient here
        "hold": 1,  # hold the left operand
        "largest": 1,  # left is the larger of the element and the held one, and becomes the held one
        "fresh": 1,  # ... the element; with compare: the mask was set
        "compare": 1,  # the mask stays where the held element is not less
        "strict": 1,  # ... where it is greater
        "masked": 1,  # left is zero without mask
        "left_held": 1,  # left is the held element
        "right": 2,  # a `Right`
        "adds": 1,  # the product enters the sum
        "first": 1,  # ... which begins with c
        "last": 1,  # ... and is complete
        "reduces": 1,  # left and product enter the sums over samples
        "reduce_first": 1,
        "reduce_last": 1,
    }
)

#: A beat read.
TERM = data.StructLayout(
    {
        "addr": 32,
        "out_addr": 32,  # where the result goes that it belongs to
        "beat": 16,  # of its position, within the group
        "last_batch": 1,  # its samples are those of the last sub-batch
        "end": 1,  # the last beat of the pass
        "step": LANE_STEP,
    }
)


def assemble(layout: data.StructLayout, **fields: object) -> Value:
    """The bits of a structure from some of its fields, zero elsewhere: one value, assigned at once."""
    parts = []
    for name in layout.members:
        value = Value.cast(fields.pop(name, 0))
        width = data.Layout.cast(layout)[name].width
        assert len(value) == width or isinstance(value, Const), f"{name} has {width} bits, not {len(value)}"
        parts.append(value if len(value) == width else Const(value.value, width))
    assert not fields, f"no fields {sorted(fields)}"
    return Cat(*parts)
