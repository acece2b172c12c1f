"""Events that cost energy, and how often a command causes each.

Counted from what the golden model says a command did, or from the predictor's counted works: the numbers are those of
the RTL (tests read its counters back). An access of a memory is an event where the RTL's enable of that memory is high,
whether or not its answer is used.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from arch.command import Phase
from arch.config import Config
from arch.vector import FIELDS as VECTOR_FIELDS
from arch.vector import Op
from golden import regenerate
from golden.boxes import boxes
from golden.machine import Work
from golden.predict.traffic import traffic
from golden.reading import stationary_interval
from golden.vector.law import passed
from golden.waits import is_vector
from golden.writing import mask_group

Events = dict[str, float]
"""Numbers of events by name, see `EVENTS`; whole numbers, or means of steps."""

EVENTS: dict[str, str] = {
    "mac": "products accumulated in a partial sum, in one PE (FW, BW)",
    "dot": "products summed over the columns, in one PE (WU)",
    "gather_read": "words read from the gathered operands of a PE, one an operation",
    "gather_write": "words written there: a beat on the bus writes one in every PE",
    "stationary_read": "words read from the stationary operands of a PE, one an operation of WU",
    "stationary_write": "words written there, in the PEs of the row that owns the channel",
    "psum_read": "partial sums read by a MAC of a PE",
    "psum_write": "partial sums written by it",
    "psum_side": "partial sums of a PE read for the drain, and no longer alive",
    "row_operation": "operations of a row: control word and weight broadcast to its PEs",
    "mask_write": "mask beats written to the weight buffer of a row; in BW every row takes every beat",
    "rounded_beat": "value beats rounded to weights while they load (FW, BW)",
    "value_write": "halves of value beats written there, likewise: two where values are exact (WU)",
    "mask_read": "mask words read from it",
    "value_read": "halves of values read from it, likewise",
    "tap_write": "boxes of a tap written in a row",
    "tap_read": "boxes read, one a visit, and their counts, one a word",
    "word": "mask words that pass the decoder of a row (dense build: bounds of a word)",
    "visit": "weights that a row visits, in whatever phase",
    "regeneration": "initial weights computed",
    "update": "gradients that pass the weight update unit of a row",
    "gradient_write": "gradients stored between the tiles of a map",
    "gradient_read": "gradients read again",
    "encoded_value": "values written to the update buffer of a row",
    "encoded_mask": "mask words written there",
    "encoded_read": "value beats read from it by the drain",
    "encoded_group": "mask groups read from it by the drain",
    "requantised": "elements that pass the requantiser of the drain",
    "gate_write": "beats of gates written",
    "gate_read": "gates read by the drain",
    "header_write": "header beats written to the planner's buffer",
    "header_read": "header words walked",
    "balanced": "units handed to the balancer",
    "vector": "elements that pass the lanes of the vector stage",
    "softmax": "elements that pass the softmax unit",
    "record": "channel records read or written by the vector stage",
    "loaded_beat": "beats on the buses from the loader to the rows",
    "drained_beat": "beats on the buses from the rows to memory",
    "read_bits": "bits read from external memory",
    "written_bits": "bits written to it",
    "idle_central": "reads of the gate memory with its enable high and nobody asking",
    "cycle": "clock cycles of the whole accelerator",
}


def none() -> Events:
    """No events."""
    return dict.fromkeys(EVENTS, 0)


def summed(parts: Iterable[Events]) -> Events:
    """All together."""
    total = none()
    for part in parts:
        for name, count in part.items():
            total[name] += count
    return total


def of_command(cfg: Config, work: Work, decay: int) -> Events:
    """Events of a command, without those that depend on time (`of_time`).

    Args:
        cfg: configuration.
        work: what it did.
        decay: lambda^t of its program (register DECAY); 0 once initial weights have vanished.
    """
    c, out = work.command, none()
    moved = traffic(cfg, work)
    out["read_bits"], out["written_bits"] = moved.read * cfg.beat_bits, moved.written * cfg.beat_bits
    out["drained_beat"] = moved.written
    if is_vector(c):
        return out | _vector(cfg, c)
    phase = Phase(c["phase"])
    if c.get("plan"):
        out["header_write"] = moved.headers
        out["header_read"] = c["segments"] * (1 + c["block_rows"] + (c["groups"] if phase == Phase.BW else 0))
        out["balanced"] = 0 if c.get("keep") or not c.get("policy") else c["units"]
    out |= _loaded(cfg, work, phase)
    if work.walk is not None:
        out |= _computed(cfg, work, phase, regenerate.decayed(c.get("scale", 0), decay) != 0)
    if c.get("drain"):
        out |= _drained(cfg, work, phase)
    return out


def _loaded(cfg: Config, work: Work, phase: Phase) -> Events:
    c = work.command
    out: Events = {}
    beats = 0
    if c.get("load_x"):
        beats += c["x_runs"] * c["x_run"]
        out["gather_write"] = c["x_runs"] * c["x_run"] * cfg.rows * cfg.columns
    if c.get("load_aux") and phase != Phase.NOP:
        aux = c["aux_runs"] * c["aux_run"]
        beats += aux
        if phase == Phase.WU:
            pieces = c["aux_run"] * stationary_interval(cfg)
            wanted = min(pieces, -(-c["out_channels"] // cfg.stationary_pack))
            out["stationary_write"] = c["aux_runs"] * wanted * cfg.columns
        else:
            out["gate_write"] = aux
    if c.get("load_w"):
        takers = cfg.rows if phase == Phase.BW else 1
        masks = c["load_segments"] * c["records"] * c["mask_beats"]
        values = sum(work.totals) - masks
        beats += masks + values
        out["mask_write"], out["value_write"] = masks * takers, values * takers * _halves(phase)
        out["rounded_beat"] = 0 if phase == Phase.WU else values
    out["loaded_beat"] = beats
    return out


def _computed(cfg: Config, work: Work, phase: Phase, regenerates: bool) -> Events:
    c, walk = work.command, work.walk
    assert walk is not None
    products = walk.busy * cfg.columns
    out: Events = {
        "row_operation": walk.busy,
        "gather_read": products,
        "word": walk.words,
        "visit": walk.visits,
        "tap_read": walk.words + walk.visits,
        "tap_write": len(boxes(c).counts) * cfg.rows,
        "mask_read": walk.words if cfg.sparse else 0,
        "value_read": stored_visits(cfg, work) * _halves(phase),
    }
    if phase == Phase.WU:
        out |= {"dot": products, "stationary_read": products}
        if c.get("sum_store"):
            out["gradient_write"] = walk.visits
        else:
            out |= {
                "update": walk.visits,
                "encoded_value": work.kept,
                "encoded_mask": walk.words if cfg.sparse else 0,
            }
        if c.get("sum_add"):
            out["gradient_read"] = walk.visits
    else:
        out |= {"mac": products, "psum_read": products, "psum_write": products}
        out["regeneration"] = walk.visits if regenerates else 0
    return out


def _halves(phase: Phase) -> int:
    """Halves of a value that a row holds."""
    return 2 if phase == Phase.WU else 1


def stored_visits(cfg: Config, work: Work) -> int:
    """Visits of weights that are stored: what the rows read values for. A dense build stores what it visits."""
    walk = work.walk
    assert walk is not None
    if not cfg.sparse:
        return walk.visits
    if hasattr(walk, "stored"):  # a counted walk
        return int(walk.stored)
    segment, position = walk.visit_source
    return sum(
        int(np.isin(position[segment == q], region.stored, assume_unique=True).sum())
        for q, region in enumerate(work.regions)
    )


def _drained(cfg: Config, work: Work, phase: Phase) -> Events:
    c = work.command
    if phase == Phase.WU:
        groups = -(-c["words"] // mask_group(cfg)) if c["mask_beats"] else 0
        return {"encoded_read": sum(work.drained), "encoded_group": len(work.drained) * groups}
    beats = c["positions"] * c["out_run"]
    sums = c["positions"] * c["out_channels"] * cfg.columns
    return {
        "psum_side": sums,  # an address is broadcast, one row reads
        "requantised": beats * cfg.bus_elements * cfg.columns,
        "gate_read": beats * cfg.bus_elements,
    }


def _vector(cfg: Config, command: dict[str, int]) -> Events:
    c = dict.fromkeys(VECTOR_FIELDS, 0) | command
    beats = -(-c["channels"] // cfg.bus_elements)
    if c["op"] == Op.SOFTMAX:
        samples = (c["batches"] - 1) * cfg.columns + c["valid"]
        return {"softmax": (2 * samples + c["batches"] * cfg.columns) * beats * cfg.bus_elements}
    records = c["channels"] * (1 if c["op"] == Op.AFFINE else 2) if c["op"] != Op.AFFINE or c["records"] else 0
    if c["op"] in (Op.POOL, Op.UNPOOL):
        records = 0
    elements = 0 if c["op"] == Op.COEFFICIENTS else passed(c, beats) * cfg.bus_elements * cfg.columns
    return {"vector": elements, "record": records}


def of_time(cycles: int) -> Events:
    """Events of a program that come with every cycle, of all its commands together.

    Args:
        cycles: that it took.
    """
    out = none()
    out["cycle"] = out["idle_central"] = cycles
    return out
