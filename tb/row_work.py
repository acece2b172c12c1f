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
        cycles: operations and scans, from the first cycle on.
        sums: partial sums after FW and BW, (columns, psum_depth).
        events: by cycle of the visit, those that happen (WU).
        records: new records of the row (WU).
    """

    job: Job
    row: int
    gather: np.ndarray
    stationary: np.ndarray
    constants: Cycle
    cycles: list[Cycle] = field(default_factory=list)
    sums: np.ndarray = None  # type: ignore[assignment]  # filled in below
    events: dict[int, set[str]] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Carry out the operations."""
        job, cfg = self.job, self.job.cfg
        self.cycles = job.cycles(self.row)
        self.sums = np.zeros((cfg.columns, cfg.psum_depth), np.int64)
        running = 0
        for now, c in enumerate(self.cycles):
            if "op" not in c:
                continue
            gathered = self.gather[:, c["gather_addr"]]
            if c["op"] == MAC:
                self.sums[:, c["psum_addr"]] += gathered * c["value"]
                continue
            dot = int((gathered * self.stationary[:, c["psum_addr"], c["half"]]).sum())
            running = dot if c["dot_first"] else running + dot
            if c["dot_last"]:
                given = tuple(self.constants[name] for name in ("lr", "shift", "theta"))
                _, kept, saturated = update(c["visit_delta"], running, *given, cfg.delta_bits, job.dense)
                had = bool(c["visit_has_value"])
                happens = (True, bool(kept), kept and not had, had and not kept, bool(saturated))
                self.events[now] = {name for name, does in zip(EVENTS, happens, strict=True) if does}

    def counts(self) -> dict[str, int]:
        """Events of the working set."""
        return {name: sum(name in happens for happens in self.events.values()) for name in EVENTS}

    def overflows(self) -> bool:
        """Whether the new records do not fit the update buffer."""
        cfg = self.job.cfg
        values = sum(len(r.values) for r in self.records)
        return values > cfg.value_beats or sum(len(r.masks) for r in self.records) > cfg.mask_beats


def make_work(job: Job, row: int, rng: np.random.Generator, **constants: int) -> Work:
    """Random operands for a job, and the golden results, checked against the operations.

    Args:
        job: the working set.
        row: whose part is computed.
        rng: generator.
        constants: lr, shift, theta; random where left out.
    """
    cfg, top = job.cfg, 1 << job.cfg.operand_bits - 1
    x = rng.integers(-top, top, (job.positions, cfg.columns, job.channels))
    dy = rng.integers(-top, top, (job.positions, cfg.columns, job.geometry.records * cfg.block_k))
    gather = rng.integers(-top, top, (cfg.columns, cfg.gather_depth))
    for u in range(job.positions):
        first = u * job.stride if u else 0
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
    work = Work(job, row, gather, stationary, given)
    _, golden = job.golden(x, dy, learning=given["lr"], shift=given["shift"], theta=given["theta"])
    if isinstance(golden, Updated):
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
    lanes = cfg.lane_group if job.phase == Phase.BW else cfg.block_k
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
