"""Builds without maps: they train fully connected networks as others do, and refuse what they leave out."""

from __future__ import annotations

import numpy as np
import pytest

from arch.command import CONNECTED, FIELDS, UNMAPPED, Phase
from arch.config import PRESETS
from arch.status import Status
from arch.vector import MAGIC as VECTOR
from golden.layout import shapes_of
from golden.machine import Machine
from golden.networks import zoo
from golden.shape import LayerShape
from tests.programs import TINY, Case, make_trainer
from tests.test_status import Bench, bench, first, spoil

CFG = TINY.with_(maps=False, sum_bits=10)
CASE = Case(CFG, (40, 30, 10, 4), 12, 0, decay=0.3)


@pytest.fixture(scope="module")
def trained() -> Bench:
    return bench(CASE)


def test_commands_of_connected_layers_need_no_more(trained: Bench) -> None:
    assert not CONNECTED.keys() & UNMAPPED.keys()
    assert (CONNECTED | UNMAPPED).keys() < FIELDS.keys()
    works = [c for phase in (Phase.FW, Phase.BW) for c in trained.program(phase) if c["phase"] != Phase.NOP]
    assert len({c["phase"] for c in works}) == 3
    for c in works:
        assert {name: c.get(name, 0) for name in CONNECTED} == CONNECTED
        # The steps of an axis with one position are never taken.
        taken = UNMAPPED.keys() - {"gather_row", "gather_col"}
        assert {name: c.get(name, 0) for name in taken} == {name: UNMAPPED[name] for name in taken}
        assert c["x_cols"] == c["x_runs"] == c["images"] == c["positions"] == c["out_cols"]


@pytest.mark.parametrize("name", CONNECTED)
def test_a_command_of_a_map_is_none(trained: Bench, name: str) -> None:
    program = trained.program(Phase.FW)
    index = first(program[1:], lambda c: c.get("plan")) + 1
    assert trained.run(spoil(program, index, **{name: CONNECTED[name] ^ 1})) == (Status.MAGIC, index)
    trained.step()


def test_neither_is_a_vector_command(trained: Bench) -> None:
    program = trained.program(Phase.FW)
    assert trained.run(spoil(program, 1, magic=VECTOR)) == (Status.MAGIC, 1)
    trained.step()


def test_where_positions_lie_is_not_read(trained: Bench) -> None:
    program = trained.program(Phase.FW)
    others = {name: value ^ 1 for name, value in UNMAPPED.items()}
    assert trained.run([c | others for c in program]) == (Status.OK, 0)
    trained.step()


def test_what_the_compiler_refuses() -> None:
    shape = LayerShape(4, 3, 8, 8, kernel=(3, 3), padding=1, bias=False)
    with pytest.raises(ValueError, match="^layer 0 is a convolution: a build without maps has fully connected ones$"):
        make_trainer(Case(CFG, (shape,), 4, 1))
    with pytest.raises(ValueError, match="is a graph, a build without maps takes sizes of layers only$"):
        make_trainer(Case(CFG, zoo.lenet5(), 4, 1))
    with pytest.raises(ValueError, match="^layer 0 adds up to 256 products, the build takes fewer than 256$"):
        make_trainer(Case(CFG.with_(sum_bits=8), (255, 4), 4, 1, density=0.1))
    make_trainer(Case(CFG.with_(sum_bits=8), (254, 4), 4, 1, density=0.1))


def test_the_golden_machine_refuses_vector_commands() -> None:
    trainer = make_trainer(CASE)
    assert isinstance(trainer.machine, Machine)
    with pytest.raises(ValueError, match="^a vector command, but a build without maps has no vector stage$"):
        trainer.machine.execute([{"magic": VECTOR, "op": 0}])


def test_sums_of_the_preset_are_exact() -> None:
    """The largest sums that the preset's layers can make fit its accumulators."""
    cfg = PRESETS["fpga"]
    terms = max(max(shape.channels, shape.outputs) for shape in shapes_of((784, 300, 100, 10)))
    largest = np.int64(terms) << (2 * cfg.operand_bits - 2)
    assert terms < 1 << cfg.sum_bits
    assert largest < 1 << (cfg.acc_bits - 1)
