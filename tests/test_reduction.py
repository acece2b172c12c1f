"""Balanced trees: the value, the width and the depth of a sum."""

import operator

import pytest
from amaranth.hdl import Const, Module, Signal
from amaranth.sim import Simulator

from rtl.reduction import chosen, total, tree


def evaluate(value: object, m: Module | None = None) -> int:
    """What a constant expression settles to, that of `m` if it needs one."""
    m, out, got = m or Module(), Signal(16), []
    m.d.comb += out.eq(value)

    async def bench(ctx) -> None:
        got.append(ctx.get(out))

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()
    return got[0]


@pytest.mark.parametrize("n", (1, 2, 3, 5, 8, 13, 64))
def test_sums_and_unions(n: int) -> None:
    numbers = [(37 * i + 11) % 100 for i in range(n)]
    union = 0
    for number in numbers:
        union |= number
    terms = [Const(number, 7) for number in numbers]
    assert evaluate(total(terms)) == sum(numbers)
    assert evaluate(tree(terms, operator.or_)) == union
    assert evaluate(total(Const((1 << n) - 1, n))) == n


@pytest.mark.parametrize("n", (1, 2, 3, 5, 8, 13, 64))
def test_depth_and_width_grow_with_the_logarithm(n: int) -> None:
    levels = (n - 1).bit_length()
    value = total(Signal(n))
    assert len(value) == 1 + levels
    assert _depth(value) == levels


def _depth(value: object) -> int:
    operands = getattr(value, "operands", ()) if getattr(value, "operator", None) == "+" else ()
    return 1 + max(map(_depth, operands)) if operands else 0


def test_no_terms_are_refused() -> None:
    with pytest.raises(ValueError, match="^there must be at least 1 term, not 0$"):
        total([])


@pytest.mark.parametrize("n", (1, 2, 3, 8, 13))
def test_chosen_word(n: int) -> None:
    """Each word by its number; a number without a word chooses zero."""
    words = [(37 * i + 11) % 128 for i in range(n)]
    for number, word in enumerate([*words, 0]):
        m = Module()
        bits = chosen(m, [Const(w, 7) for w in words], Const(number, 4), "choice")
        assert len(bits) == 7
        assert evaluate(bits, m) == word


def test_bad_choices_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^words must have one width, not \[1, 7\]$"):
        chosen(Module(), [Const(1, 7), Const(1, 1)], Const(0, 1), "choice")
    with pytest.raises(ValueError, match="^there must be at least 1 term, not 0$"):
        chosen(Module(), [], Const(0, 1), "choice")
