"""Bench of the list walker: every output of every cycle against a walk written down as a generator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cocotb
import numpy as np

import tb
from tb.pins import Pins, compare

KINDS, W, RUN_BITS = 5, 4, 16
OUTPUTS = ("peek", "kind", "run", "index", "setup", "beats", "last", "last_run", "done")
Lists = list[list[int] | None]  # lengths of the runs of every kind; None or no runs: not active


def walk(lists: Lists) -> Iterator[dict[str, int | None]]:
    """What the outputs show, cycle after cycle, from the one after start; a cycle with `beats` lasts until advance."""
    for kind, runs in enumerate(lists):
        if not runs:
            yield {"kind": kind, "setup": 0, "beats": 0, "done": 0, "peek": None if kind == W else 0}
            continue
        for run, length in enumerate(runs):
            where = {"kind": kind, "run": run, "done": 0, "last_run": int(run == len(runs) - 1)}
            where["peek"] = run + 1 if kind == W else 0
            yield {**where, "setup": 1, "beats": 0}
            for index in range(length):
                yield {**where, "setup": 0, "beats": 1, "index": index, "last": int(index == length - 1)}


async def play(dut: Any, lists: Lists, rng: np.random.Generator, pace: float, reset_at: int = -1) -> None:
    """Walk `lists`; a beat is dealt with in a cycle with probability `pace`."""
    pins = Pins(dut, OUTPUTS)
    table = lists[W] or []
    active = sum(1 << kind for kind, runs in enumerate(lists) if runs)
    runs = [len(given) if given else int(rng.integers(0, 4)) for given in lists]
    pins.drive(active=active, runs=sum(n << RUN_BITS * kind for kind, n in enumerate(runs)), rest=0, some=0)
    got = await pins.cycle(start=1, advance=0)
    compare("of start", got, {"done": 1, "kind": KINDS, "setup": 0, "beats": 0})
    pins.drive(start=0)
    peeked = got["peek"]
    for cycle, want in enumerate(walk(lists)):
        if cycle == reset_at:
            await pins.cycle(rst=1, advance=1)
            got = await pins.cycle(rst=0, advance=0)
            compare("after reset", got, {"done": 1, "kind": KINDS, "run": 0, "setup": 0, "beats": 0})
            return
        while True:
            # A length is looked at in the setup cycle alone; that of W comes from a memory addressed a cycle before.
            lengths = [int(rng.integers(0, 1 << RUN_BITS)) for _ in range(KINDS)]
            kind = want["kind"]
            if want["setup"]:
                given = lists[kind]
                lengths[kind] = given[want["run"]]
            if kind == W and want["setup"]:
                lengths[W] = table[peeked] if peeked < len(table) else 0xDEAD
            advance = int(rng.random() < pace)
            got = await pins.cycle(
                advance=advance,
                rest=sum((n - 1) % (1 << RUN_BITS) << RUN_BITS * k for k, n in enumerate(lengths)),
                some=sum((n != 0) << k for k, n in enumerate(lengths)),
            )
            compare(cycle, got, want)
            peeked = got["peek"]
            if advance or not want["beats"]:
                break
    for _ in range(3):
        got = await pins.cycle(advance=int(rng.integers(2)))
        compare("after the walk", got, {"done": 1, "kind": KINDS, "setup": 0, "beats": 0})


def random_lists(rng: np.random.Generator, longest: int) -> Lists:
    """Some kinds missing, some without runs, runs of length zero among others."""
    return [
        None if rng.random() < 0.3 else [int(rng.integers(0, longest)) for _ in range(rng.integers(0, 5))]
        for _ in range(KINDS)
    ]


@cocotb.test()
async def nothing(dut: Any) -> None:
    """No kind active, all active without runs: five cycles."""
    await tb.start(dut)
    rng = np.random.default_rng(tb.seed())
    for lists in ([None] * KINDS, [[]] * KINDS, [None, [], None, [], None]):
        assert len(list(walk(lists))) == KINDS
        await play(dut, lists, rng, 1.0)


@cocotb.test()
async def short_runs(dut: Any) -> None:
    """One kind at a time: runs of no beat and of one, first, last and in between."""
    await tb.start(dut)
    rng = np.random.default_rng(tb.seed())
    for kind in range(KINDS):
        for runs in ([0], [1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [3, 0, 1, 0], [2] * 8):
            lists: Lists = [None] * KINDS
            lists[kind] = runs
            await play(dut, lists, rng, 1.0)
            await play(dut, lists, rng, 0.5)


@cocotb.test()
async def random_walks(dut: Any) -> None:
    """Everything mixed, at full pace and with pauses."""
    await tb.start(dut)
    rng = np.random.default_rng(tb.seed())
    for trial in range(120):
        await play(dut, random_lists(rng, 6), rng, (1.0, 0.6, 0.2)[trial % 3])


@cocotb.test()
async def long_lists(dut: Any) -> None:
    """Runs of more than 256 beats, and more than 256 runs."""
    await tb.start(dut)
    rng = np.random.default_rng(tb.seed())
    await play(dut, [[1], [300], [1] * 300, [513], [259, 0, 257]], rng, 1.0)


@cocotb.test()
async def reset_in_flight(dut: Any) -> None:
    """Reset anywhere: done at once, and the next walk is right."""
    await tb.start(dut)
    rng = np.random.default_rng(tb.seed())
    for at in range(0, 24, 3):
        await play(dut, [[2], [3, 0], [4], [2, 2], [1, 3]], rng, 0.8, reset_at=at)
        await play(dut, random_lists(rng, 4), rng, 0.8)
