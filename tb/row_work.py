"""What a row computes in a working set: operands, partial sums, events of the weight update, new records.

The operations of `row_model` are carried out one by one on plain memories; what comes out must equal the golden
model's matrix products, which is checked here, before the RTL is compared with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from arch.command import Phase
from golden.phases import Updated
from golden.weight_update import update
from tb.row_model import MAC, Cycle, Job

EVENTS = ("seen", "kept", "adopted", "evicted", "saturated")


@dataclass
class Record:
    """A new record: beats as they are drained, and nnz | cycles_next << 16."""

    masks: list[int]
    values: list[int]
    info: int


@dataclass
class Work:
    """A working set of one row with its data and results.

    Attributes:
        job, row: the working set, and which row.
        gather: gathered operands, (columns, gather_depth).
        stationary: stationary operands by address and half, (columns, psum_depth, 2).
        constants: of the weight update: lr, shift, theta.
        stored: gradients of the row that the tile before has stored (of a working set that adds them).
        cycles: operations and scans, from the first cycle on.
        sums: partial sums after FW and BW, (columns, psum_depth).
        gradients: of every visit of the row, in order (WU).
        events: by cycle of the visit, those that happen (WU that updates).
        records: new records of the row (WU).
    """

    job: Job
    row: int
    gather: np.ndarray
    stationary: np.ndarray
    constants: Cycle
    stored: list[int] = field(default_factory=list)
    cycles: list[Cycle] = field(default_factory=list)
    sums: np.ndarray = None  # type: ignore[assignment]  # filled in below
    gradients: list[int] = field(default_factory=list)
    all_gradients: np.ndarray = None  # type: ignore[assignment]  # of all rows, by golden
    events: dict[int, set[str]] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Carry out the operations."""
        job, cfg = self.job, self.job.cfg
        self.cycles = job.cycles(self.row)
        self.sums = np.zeros((cfg.columns, cfg.psum_depth), np.int64)
        running = 0
        for now, c in enumerate(self.cycles):
            if "op" in c:
                gathered = self.gather[:, c["gather_addr"]]
                if c["op"] == MAC:
                    self.sums[:, c["psum_addr"]] += gathered * c["value"]
                    continue
                dot = int((gathered * self.stationary[:, c["psum_addr"], c["half"]]).sum())
                running = dot if c["dot_first"] else running + dot
            if "visit_valid" in c:
                gradient = 0 if "visit_void" in c else running
                gradient += self.stored[len(self.gradients)] if job.sum_add else 0
                self.gradients.append(gradient)
                if not job.sum_store:
                    self.events[now] = self._update(c, gradient)

    def _update(self, visit: Cycle, gradient: int) -> set[str]:
        given = tuple(self.constants[name] for name in ("lr", "shift", "theta"))
        _, kept, saturated = update(visit["visit_delta"], gradient, *given, self.job.cfg.delta_bits, self.job.dense)
        had = bool(visit["visit_has_value"])
        happens = (True, bool(kept), kept and not had, had and not kept, bool(saturated))
        return {name for name, does in zip(EVENTS, happens, strict=True) if does}

    def sums_overflow(self) -> bool:
        """Whether more gradients are stored or added than the row has room for."""
        return (self.job.sum_add or self.job.sum_store) and len(self.gradients) > self.job.cfg.gradients

    def counts(self) -> dict[str, int]:
        """Events of the working set."""
        return {name: sum(name in happens for happens in self.events.values()) for name in EVENTS}

    def overflows(self) -> bool:
        """Whether the new records do not fit the update buffer."""
        cfg = self.job.cfg
        values = sum(len(r.values) for r in self.records)
        return values > cfg.value_beats or sum(len(r.masks) for r in self.records) > cfg.mask_beats


def make_work(job: Job, row: int, rng: np.random.Generator, before: Work | None = None, **constants: int) -> Work:
    """Random operands for a job, and the golden results, checked against the operations.

    Args:
        job: the working set.
        row: whose part is computed.
        rng: generator.
        before: the working set whose gradients it adds.
        constants: lr, shift, theta; random where left out.
    """
    cfg, top = job.cfg, 1 << job.cfg.operand_bits - 1
    x = rng.integers(-top, top, (job.patch, cfg.columns, job.channels))
    dy = rng.integers(-top, top, (job.positions, cfg.columns, job.geometry.records * cfg.block_k))
    gather = rng.integers(-top, top, (cfg.columns, cfg.gather_depth))
    for u in range(job.patch):
        first = u * job.stride
        gather[:, first : first + job.channels] = x[u]
    stationary = rng.integers(-top, top, (cfg.columns, cfg.psum_depth, 2))
    if job.phase == Phase.WU:
        for record in np.flatnonzero(job.owner[0] == row).tolist():
            for k in range(cfg.block_k):
                unit, half = divmod(int(job.owner[1][record]) * cfg.block_k + k, cfg.stationary_pack)
                for u in range(job.positions):
                    stationary[:, (unit << job.log2_positions) + u, half] = dy[u, :, record * cfg.block_k + k]
    given = {
        "lr": int(rng.integers(1, 1 << cfg.lr_bits)),
        "shift": cfg.lr_bits + int(rng.integers(-3, cfg.operand_bits // 2)),
        "theta": 1 << int(rng.integers(cfg.operand_bits, cfg.delta_bits)),
    } | constants
    added = before is not None and job.sum_add
    work = Work(job, row, gather, stationary, given, before.gradients if added else [])
    stored = before.all_gradients if added else None
    walk, golden, work.all_gradients = job.golden(
        x, dy, stored, learning=given["lr"], shift=given["shift"], theta=given["theta"]
    )
    if isinstance(golden, Updated):
        rows = walk.walk.word_row[walk.walk.visit_word]
        assert work.all_gradients[rows == row].tolist() == work.gradients, "operations and golden differ"
        if job.sum_store:
            return work
        work.records = records_of(job, row, golden)
        stored = golden.region.stored // golden.region.geometry.record_bits
        assert work.counts()["kept"] == int((job.owner[0][stored] == row).sum()), "operations and golden differ"
    else:
        assert np.array_equal(work.sums, placed(job, row, np.asarray(golden))), "operations and golden differ"
    return work


def placed(job: Job, row: int, golden: np.ndarray) -> np.ndarray:
    """Golden sums (channel, position, column) where the row keeps them, (columns, psum_depth); zero elsewhere."""
    cfg, g = job.cfg, job.geometry
    out = np.zeros((cfg.columns, cfg.psum_depth), np.int64)
    lanes = job.lanes
    for unit in np.flatnonzero(job.owner[0] == row).tolist():
        for lane in range(lanes):
            channel = unit * lanes + lane
            inside = g.c0 + channel < job.c_end if job.phase == Phase.BW else g.k0 + channel < g.k_end
            at = int(job.owner[1][unit]) * lanes + lane << job.log2_positions
            if inside:
                out[:, at : at + job.positions] = golden[channel].T
    return out


def records_of(job: Job, row: int, golden: Updated) -> list[Record]:
    """The records of a row in the new region, in order."""
    region, g = golden.region, golden.region.geometry
    image = [int.from_bytes(beat.tobytes(), "little") for beat in region.encode()[g.header_beats :]]
    info = region.header()[1 : 1 + g.records].tolist()
    at, result = 0, []
    for record, values in enumerate(region.value_beats().tolist()):
        masks, at = image[at : at + g.mask_beats], at + g.mask_beats
        if job.owner[0][record] == row:
            result.append(Record(masks, image[at : at + values], info[record]))
        at += values
    return result
