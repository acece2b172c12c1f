"""Bench of the CSB encoder: what the drain reads is what the golden model stores, beat for beat.

Slots follow each other as in the machine: while a working set is encoded into one bank, the one
before is drained from the other, at random pace. Counts and error are compared in every cycle, info
and data one cycle after the strobe that asks for them and until the next one.
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

LATENCY = 2
COUNTS = ("kept", "seen", "adopted", "evicted", "saturated")
FLAGS = ("valid", "keep", "adopted", "evicted", "saturated", "word_last", "record_last", "next_explored")
Event = dict[str, int]
IDLE: Event = {**dict.fromkeys(FLAGS, 0), "candidate": 0, "bit": 0, "next_count": 0}


@dataclass
class WorkingSet:
    """A working set: what the encoder is told, and what it must then hold."""

    events: list[Event]
    masks: list[list[int]]  # beats of each record
    values: list[list[int]]
    nnz: list[int]
    cycles_next: list[int]
    log2_positions: int = 0
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
                chance = rng.integers(0, 2, 3)
                k = int(keep[r, w, bit])
                events.append(
                    {
                        **IDLE,
                        "valid": 1,
                        "bit": int(bit),
                        "keep": k,
                        "adopted": k & int(chance[0]),
                        "evicted": (1 - k) & int(chance[1]),
                        "saturated": int(chance[2]),
                        "candidate": int(candidate[r, w, bit]) & (2 * top - 1),
                    }
                )
            if len(bits):
                events[-1] |= last
            else:  # an empty word; nothing but its end means anything
                events.append({**IDLE, "keep": 1, "adopted": 1, "candidate": 5, **last})
            while rng.random() < gap:
                events.append({**IDLE, "keep": 1, "evicted": 1, "record_last": 1})
    stored = np.flatnonzero(keep)
    log2_positions = int(rng.integers(0, 9))
    cycles = np.maximum(np.where(explored, count, keep.sum(2)) << log2_positions, 1).sum(1)
    cycles_next = np.minimum(cycles, (1 << 16) - 1)
    region = Region(geometry, stored, candidate.reshape(-1)[stored], cycles_next)
    image = [int.from_bytes(beat.tobytes(), "little") for beat in region.encode()[geometry.header_beats :]]
    masks, values = [], []
    for beats in region.value_beats():
        masks.append(image[: geometry.mask_beats] if cfg.sparse else [])
        values.append(image[geometry.mask_beats : geometry.mask_beats + beats])
        image = image[geometry.mask_beats + beats :]
    return WorkingSet(
        events,
        masks,
        values,
        region.nnz_per_record().tolist(),
        cycles_next.tolist(),
        log2_positions,
        errors(cfg, events),
    )


def errors(cfg: Config, events: list[Event]) -> list[bool]:
    """The sticky error after each event, from the number of lanes used so far."""
    info_room = cfg.mask_beats if cfg.sparse else cfg.value_beats
    mask_lanes = value_lanes = records = 0
    failed, result = False, []
    for e in events:
        if e["valid"] and e["keep"]:
            failed |= value_lanes >= cfg.value_beats * cfg.values_per_beat
            value_lanes += 1
        if e["word_last"]:
            failed |= cfg.sparse and mask_lanes >= cfg.mask_beats * cfg.masks_per_beat
            mask_lanes += 1
        if e["word_last"] and e["record_last"]:
            failed |= records >= info_room
            records += 1
            mask_lanes = -(-mask_lanes // cfg.masks_per_beat) * cfg.masks_per_beat
            value_lanes = -(-value_lanes // cfg.values_per_beat) * cfg.values_per_beat
        result.append(failed)
    return result


def drain_script(cfg: Config, rng: np.random.Generator, ws: WorkingSet, gap: float) -> list[tuple[dict, dict]]:
    """Per cycle: strobes, and what the outputs show from the next cycle on."""
    info_room = cfg.mask_beats if cfg.sparse else cfg.value_beats

    def info(r: int) -> dict[str, int | None]:
        held = r < info_room
        return {"drain_nnz": ws.nnz[r] if held else None, "drain_cycles_next": ws.cycles_next[r] if held else None}

    script: list[tuple[dict, dict]] = [({"drain_start": 1}, info(0))]
    room = [cfg.mask_beats, cfg.value_beats]
    for r in range(len(ws.nnz)):
        for kind, beats in ((0, ws.masks[r]), (1, ws.values[r])):
            for beat in beats:
                while rng.random() < gap:
                    script.append(({}, {}))
                room[kind] -= 1
                if room[kind] >= 0:  # what overflowed is not there
                    script.append(({"drain_next": 1, "drain_kind": kind}, {"drain_data": beat}))
        if r + 1 < len(ws.nnz):
            if rng.random() < 0.5:
                script.append(({}, {}))
            joins = "drain_next" in script[-1][0] and "drain_record_next" not in script[-1][0]
            strobes, shows = script.pop() if joins else ({}, {})
            script.append(({**strobes, "drain_record_next": 1}, {**shows, **info(r + 1)}))
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
    totals, error, stale = dict.fromkeys(COUNTS, 0), False, True
    shown: dict[str, int | None] = {}
    for t in range(max(1 + len(ws.events) + LATENCY - 1, len(script) + 1)):
        event = ws.events[t - 1] if 0 < t <= len(ws.events) else IDLE
        if t == 0:  # an input in the cycle of start is lost
            event = {**IDLE, "valid": 1, "keep": 1, "word_last": 1, "record_last": int(rng.integers(2)), "bit": 3}
        strobes, shows = script[t] if t < len(script) else ({}, {})
        dut.start.value, dut.bank.value, dut.rst.value = int(t == 0), bank, int(t == reset_at)
        dut.log2_positions.value = ws.log2_positions
        for name, value in event.items():
            getattr(dut, name).value = value
        for name in ("drain_start", "drain_next", "drain_record_next"):
            getattr(dut, name).value = strobes.get(name, 0)
        dut.drain_kind.value = strobes.get("drain_kind", int(rng.integers(2)))
        await RisingEdge(dut.clk)
        if not stale:
            for name in COUNTS:
                got = int(getattr(dut, f"count_{name}").value)
                assert got == totals[name], f"{name} in cycle {t}: {got}, not {totals[name]}"
            assert int(dut.error.value) == error, f"error in cycle {t}"
        for name, value in shown.items():
            if value is None:
                continue
            got = int(getattr(dut, name).value)
            assert got == value, f"{name} in cycle {t}: {got:#x}, not {value:#x}"
        shown |= shows
        stale = False
        if t == reset_at:
            dut.rst.value = 0
            dut.valid.value, dut.word_last.value = 0, 0
            await RisingEdge(dut.clk)
            assert all(int(getattr(dut, f"count_{name}").value) == 0 for name in COUNTS)
            assert int(dut.error.value) == 0
            return
        if t > 0:
            error = bool(ws.errors[min(t, len(ws.events)) - 1])
            for name in COUNTS:
                totals[name] += event["valid"] & (1 if name == "seen" else event["keep" if name == "kept" else name])


async def chain(dut: Any, cfg: Config, rng: np.random.Generator, sets: list[WorkingSet], gap: float = 0.0) -> None:
    """Slot after slot, banks alternating, and a last slot that only drains."""
    await tb.start(dut)
    before = None
    nothing = WorkingSet([], [], [], [], [], errors=[False])
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
    sets = []
    if cfg.sparse:
        sets.append(working_set(cfg, rng, cfg.mask_beats, 1, visited=0.01))
    bits = cfg.value_beats * cfg.values_per_beat
    words = min(16, bits // cfg.mask_bits)
    if -(-words // cfg.masks_per_beat) * (bits // (cfg.mask_bits * words)) <= cfg.mask_beats or not cfg.sparse:
        sets.append(working_set(cfg, rng, bits // (cfg.mask_bits * words), words, visited=1.0, kept=1.0))
    assert sets and not any(ws.errors[-1] for ws in sets)
    await chain(dut, cfg, rng, sets)


@cocotb.test()
async def overflow(dut: Any) -> None:
    """One mask word, one value too many: error from the next cycle to start, nothing overwritten."""
    cfg, rng = _environment()
    sets = [
        working_set(cfg, rng, cfg.mask_beats + 1, 1, visited=0.05)
        if cfg.sparse
        else working_set(cfg, rng, cfg.value_beats + 1, 1, visited=0.05)
    ]
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
        sets = [working_set(cfg, rng, 3, 2, visited=0.2), WorkingSet([], [], [], [], [], errors=[False])]
        await slot(dut, cfg, rng, 0, sets[0])
        await slot(dut, cfg, rng, 1, sets[1], sets[0])
