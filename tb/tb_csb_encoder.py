"""Bench of the CSB encoder: what the drain reads is what the golden model stores, beat for beat.

Slots follow each other as in the machine: while a working set is encoded into one bank, the one
before is drained from the other, at random pace, masks and values side by side. The error is compared in
every cycle, info, data and masks one cycle after the strobe that asks for them and until the next one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

import tb
from arch.config import Config
from golden.csb import Geometry, Region
from golden.writing import mask_group
from tb.block_model import groups_of

FLAGS = ("keep", "word_last", "record_last", "next_explored")
STROBES = ("drain_start", "drain_next", "drain_mask_next", "drain_mask_last", "drain_info_next")
Event = dict[str, int]
IDLE: Event = {**dict.fromkeys(FLAGS, 0), "candidate": 0, "bit": 0, "next_count": 0}


@dataclass
class WorkingSet:
    """A working set: what the encoder is told, and what it must then hold."""

    events: list[Event]
    masks: list[list[int]]  # mask groups of each record, those that hold words
    values: list[list[int]]  # beats
    infos: list[dict[str, int]]
    errors: list[bool] = field(default_factory=list)  # sticky error after each event


def working_set(
    cfg: Config,
    rng: np.random.Generator,
    records: int,
    words: int,
    visited: float = 0.3,
    kept: float = 0.5,
    spacing: int = 1,
    gap: float = 0.0,
) -> WorkingSet:
    """Random visits in stored order; each visit `spacing` cycles after the one before it."""
    geometry = Geometry(cfg, 0, records * cfg.block_k, 0, words * cfg.block_c, words)
    visit = rng.random((records, words, cfg.mask_bits)) < visited
    keep = visit & (rng.random(visit.shape) < kept)
    top = 1 << (cfg.delta_bits - 1)
    candidate = rng.integers(-top, top, visit.shape)
    explored = rng.random((records, words)) < 0.4
    count = rng.integers(0, cfg.mask_bits + 1, (records, words))
    events: list[Event] = []
    for r in range(records):
        for w in range(words):
            bits = np.flatnonzero(visit[r, w])
            last = {
                "word_last": 1,
                "record_last": int(w == words - 1),
                "next_explored": int(explored[r, w]),
                "next_count": int(count[r, w]),
            }
            for bit in bits:
                events.extend([IDLE] * (spacing - 1))
                delta = int(candidate[r, w, bit]) & (2 * top - 1)
                events.append({**IDLE, "bit": int(bit), "keep": int(keep[r, w, bit]), "candidate": delta})
            if len(bits):
                events[-1] |= last
            else:  # an empty word; nothing but its end means anything
                events.append({**IDLE, "bit": 1, "candidate": 5, **last})
            while rng.random() < gap:
                events.append({**IDLE, "bit": 2, "record_last": 1, "next_explored": 1, "next_count": 3})
    stored = np.flatnonzero(keep)
    visits = np.where(explored, count, keep.sum(2))
    region = Region(geometry, stored, candidate.reshape(-1)[stored])
    columns = zip(region.nnz_per_record().tolist(), visits.sum(1).tolist(), (visits == 0).sum(1).tolist(), strict=True)
    infos = [dict(zip(("drain_nnz", "drain_visits", "drain_empty"), column, strict=True)) for column in columns]
    image = [int.from_bytes(beat.tobytes(), "little") for beat in region.encode()[geometry.header_beats :]]
    masks, values = [], []
    for beats in region.value_beats():
        masks.append(groups_of(cfg, image[: geometry.mask_beats])[: -(-words // mask_group(cfg))])
        values.append(image[geometry.mask_beats : geometry.mask_beats + beats])
        image = image[geometry.mask_beats + beats :]
    return WorkingSet(events, masks, values, infos, errors(cfg, events))


def errors(cfg: Config, events: list[Event]) -> list[bool]:
    """The sticky error after each event, from the number of lanes used so far."""
    mask_lanes = value_lanes = 0
    failed, result = False, []
    for e in events:
        if e["keep"]:
            failed |= value_lanes >= cfg.value_beats * cfg.values_per_beat
            value_lanes += 1
        if e["word_last"]:
            failed |= mask_lanes >= cfg.mask_beats * cfg.masks_per_beat
            mask_lanes += 1
        if e["word_last"] and e["record_last"]:
            mask_lanes = -(-mask_lanes // cfg.masks_per_beat) * cfg.masks_per_beat
            value_lanes = -(-value_lanes // cfg.values_per_beat) * cfg.values_per_beat
        result.append(failed)
    return result


def drain_script(cfg: Config, rng: np.random.Generator, ws: WorkingSet, gap: float) -> list[tuple[dict, dict]]:
    """Per cycle: strobes, and what the outputs show from the next cycle on."""
    script: list[tuple[dict, dict]] = [({"drain_start": 1}, {})]
    infos = list(ws.infos)
    mask_beats = [-(-len(groups) * mask_group(cfg) // cfg.masks_per_beat) for groups in ws.masks]
    fit = int(np.searchsorted(np.cumsum(mask_beats), cfg.mask_beats, side="right"))  # records whose masks fit
    value_room = cfg.value_beats
    for r in range(fit):
        groups, beats = list(ws.masks[r]), list(ws.values[r])
        value_room -= len(beats)
        if value_room < 0:
            break  # what overflowed is not there
        while groups or beats:
            strobes: dict[str, int] = {}
            shows: dict[str, int] = {}
            if groups and rng.random() >= gap:
                strobes["drain_mask_next"], shows["drain_mask"] = 1, groups.pop(0)
                strobes["drain_mask_last"] = int(not groups)
            else:  # means nothing without the other
                strobes["drain_mask_last"] = int(rng.integers(2))
            if beats and rng.random() >= gap:
                strobes["drain_next"], shows["drain_data"] = 1, beats.pop(0)
            if len(ws.infos) - len(infos) < fit and rng.random() < 0.3:  # infos are read at a pace of their own
                strobes["drain_info_next"] = 1
                shows |= infos.pop(0)
            script.append((strobes, shows))
    for info in infos[: fit - len(ws.infos) + len(infos)]:
        script.append(({"drain_info_next": 1}, info))
    return script


async def slot(
    dut: Any,
    cfg: Config,
    rng: np.random.Generator,
    bank: int,
    ws: WorkingSet,
    before: WorkingSet | None = None,
    gap: float = 0.0,
    reset_at: int = -1,
) -> None:
    """Encode `ws` into `bank` while `before` is drained from the other; ends as early as allowed."""
    script = drain_script(cfg, rng, before, gap) if before else []
    error, before_error, stale = False, False, True
    latency = tb.parameters()["latency"]
    shown: dict[str, int] = {}
    for t in range(max(1 + len(ws.events) + latency - 1, len(script) + 1)):
        event = ws.events[t - 1] if 0 < t <= len(ws.events) else IDLE
        if t == 0:  # nothing comes with start
            event = {**IDLE, "record_last": int(rng.integers(2)), "bit": 3}
        strobes, shows = script[t] if t < len(script) else ({}, {})
        dut.start.value, dut.bank.value, dut.rst.value = int(t == 0), bank, int(t == reset_at)
        for name, value in event.items():
            getattr(dut, name).value = value
        for name in STROBES:
            getattr(dut, name).value = strobes.get(name, 0)
        await RisingEdge(dut.clk)
        # With copies some errors come, and go, a cycle later.
        if not stale and t > latency - 2 and (latency == 2 or error == before_error):
            assert int(dut.error.value) == error, f"error in cycle {t}"
        before_error = error
        for name, value in shown.items():
            got = int(getattr(dut, name).value)
            assert got == value, f"{name} in cycle {t}: {got:#x}, not {value:#x}"
        shown |= shows
        stale = False
        if t == reset_at:
            dut.rst.value = 0
            dut.keep.value, dut.word_last.value = 0, 0
            await RisingEdge(dut.clk)
            assert int(dut.error.value) == 0
            return
        if t > 0:
            error = bool(ws.errors[min(t, len(ws.events)) - 1])


async def chain(dut: Any, cfg: Config, rng: np.random.Generator, sets: list[WorkingSet], gap: float = 0.0) -> None:
    """Slot after slot, banks alternating, and a last slot that only drains."""
    await tb.start(dut)
    before = None
    nothing = WorkingSet([], [], [], [], errors=[False])
    for index, ws in enumerate([*sets, nothing]):
        await slot(dut, cfg, rng, index % 2, ws, before, gap)
        before = ws


def _environment() -> tuple[Config, np.random.Generator]:
    return tb.config(), np.random.default_rng(tb.seed())


def fits(cfg: Config, words: int, visited: float) -> int:
    """Records of `words` words of which a bank surely holds the values."""
    values = -(-int(words * cfg.mask_bits * visited + 1) // cfg.values_per_beat)
    masks = -(-words // cfg.masks_per_beat)
    return max(1, min(cfg.value_beats // values, cfg.mask_beats // masks, 12))


@cocotb.test()
async def random_working_sets(dut: Any) -> None:
    """Ragged and full last mask beats, all densities, U = 1 and 4, back to back."""
    cfg, rng = _environment()
    sets = []
    for words in (1, cfg.masks_per_beat, cfg.masks_per_beat + 1, int(rng.integers(2, 2 * cfg.masks_per_beat + 1))):
        for visited, spacing, gap in ((0.1, 1, 0.0), (0.3, 4, 0.0), (0.05, 1, 0.4)):
            sets.append(working_set(cfg, rng, fits(cfg, words, 1.0), words, visited, 0.6, spacing, gap))
    assert not any(ws.errors[-1] for ws in sets)
    await chain(dut, cfg, rng, sets, gap=0.2)


@cocotb.test()
async def empty_words_and_empty_records(dut: Any) -> None:
    """Nothing visited at all, one marker a cycle; and visits of which none is kept."""
    cfg, rng = _environment()
    sets = [
        working_set(cfg, rng, 8, 3, visited=0.0),
        working_set(cfg, rng, 5, 2, visited=0.02),
        working_set(cfg, rng, 3, 2, visited=0.5, kept=0.0),
        working_set(cfg, rng, 8, 1, visited=0.0),
    ]
    await chain(dut, cfg, rng, sets)


@cocotb.test()
async def everything_kept(dut: Any) -> None:
    """Full mask words; records end exactly at the end of a value beat."""
    cfg, rng = _environment()
    records = fits(cfg, 2, 1.0)
    sets = [
        working_set(cfg, rng, records, 2, visited=1.0, kept=1.0),
        working_set(cfg, rng, records, 2, visited=1.0, kept=1.0, spacing=2),
    ]
    assert not sets[0].errors[-1]
    await chain(dut, cfg, rng, sets)


@cocotb.test()
async def banks_filled_to_the_last_place(dut: Any) -> None:
    """Exactly as many mask beats, then exactly as many value beats, as a bank holds: no error."""
    cfg, rng = _environment()
    sets = [working_set(cfg, rng, cfg.mask_beats, 1, visited=0.01)]
    bits = cfg.value_beats * cfg.values_per_beat
    words = min(16, bits // cfg.mask_bits)
    if -(-words // cfg.masks_per_beat) * (bits // (cfg.mask_bits * words)) <= cfg.mask_beats:
        sets.append(working_set(cfg, rng, bits // (cfg.mask_bits * words), words, visited=1.0, kept=1.0))
    assert not any(ws.errors[-1] for ws in sets)
    await chain(dut, cfg, rng, sets)


@cocotb.test()
async def overflow(dut: Any) -> None:
    """A few mask words, one value too many: error from the next cycle to start, nothing overwritten."""
    cfg, rng = _environment()
    sets = [working_set(cfg, rng, cfg.mask_beats + 3, 1, visited=0.2)]
    bits = cfg.value_beats * cfg.values_per_beat
    words = min(16, bits // cfg.mask_bits)
    sets.append(working_set(cfg, rng, bits // (cfg.mask_bits * words) + 1, words, visited=1.0, kept=1.0))
    assert all(ws.errors[-1] and not ws.errors[0] for ws in sets)
    await chain(dut, cfg, rng, [*sets, working_set(cfg, rng, 2, 1), sets[0]])


@cocotb.test()
async def reset_in_flight(dut: Any) -> None:
    """Reset in the middle of a record; the next working set knows nothing of it."""
    cfg, rng = _environment()
    await tb.start(dut)
    for at in (5, 6, 17, 30):
        broken = working_set(cfg, rng, 4, 2, visited=0.4)
        await slot(dut, cfg, rng, 0, broken, reset_at=at)
        sets = [working_set(cfg, rng, 3, 2, visited=0.2), WorkingSet([], [], [], [], errors=[False])]
        await slot(dut, cfg, rng, 0, sets[0])
        await slot(dut, cfg, rng, 1, sets[1], sets[0])
