"""What a unit is given and must show, by cycle: filled in by models that look a few cycles ahead."""

from __future__ import annotations

from collections import defaultdict


class Script:
    """Cycles of one run, counted from its start.

    Attributes:
        give: inputs that mean something, by cycle and name; all others may be noise.
        want: outputs that are specified, by cycle and name; the bench knows what is silent without being told.
    """

    def __init__(self) -> None:
        self.give: defaultdict[int, dict[str, object]] = defaultdict(dict)
        self.want: defaultdict[int, dict[str, int]] = defaultdict(dict)


def placed(word: int, at: int, width: int, value: int) -> int:
    """A word with its field number `at`, of `width` bits, replaced."""
    return word & ~((1 << width) - 1 << at * width) | value << at * width
