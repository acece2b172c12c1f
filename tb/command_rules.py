"""What makes a command acceptable: the rules as plain arithmetic, and commands on both sides of each bound.

Written from the list in the validator's description; nothing here knows how the checks are spread over cycles.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from arch.command import MAGIC, Phase
from arch.config import Config
from arch.status import Status

Command = dict[str, int]
PLAN_BEATS, MAX_SEGMENTS, MOST_KERNEL = 64, 32, 7


def log2(value: int) -> int:
    """Base-two logarithm of a power of two."""
    return value.bit_length() - 1


def headers_fit(cfg: Config, c: Command) -> bool:
    """Whether the headers of a command may be read."""
    return _range_good(c) and c["header_beats"] * cfg.words_per_beat >= 1 + c["block_rows"] + c["groups"]


def _range_good(c: Command) -> bool:
    return (
        1 <= c["segments"] <= MAX_SEGMENTS
        and c["segments"] * c["header_beats"] <= PLAN_BEATS
        and c["records"] > 0
        and c["record0"] + c["records"] <= c["block_rows"]
    )


def verdict(cfg: Config, c: Command) -> Status:
    """The first rule that a command breaks."""
    phase = Phase(c["phase"])
    works = phase != Phase.NOP or bool(c["load_x"] or c["load_w"])
    if c["magic"] != MAGIC:
        return Status.MAGIC
    if (works and not _sizes_good(cfg, c, phase)) or (c["plan"] and not headers_fit(cfg, c)):
        return Status.FIELD
    if c["plan"] and c["units"] > (c["segments"] * c["groups"] >> c["wide"] if phase == Phase.BW else c["records"]):
        return Status.FIELD
    gathered = (c["x_runs"] - 1) * c["gather_stride"] + c["x_run"] * cfg.bus_elements
    if works and c["load_x"] and gathered > cfg.gather_depth:
        return Status.GATHER_OVERFLOW
    if (works or c["plan"]) and c["units"] > min(cfg.units, cfg.rows * c["cap"]):
        return Status.UNITS_OVERFLOW
    pack = cfg.stationary_pack if phase == Phase.WU else 1
    if works and c["cap"] << c["log2_lanes"] << c["log2_positions"] > cfg.psum_depth * pack:
        return Status.PSUM_OVERFLOW
    if phase in (Phase.FW, Phase.BW) and c["load_aux"] and c["aux_runs"] * c["aux_run"] > cfg.gate_beats:
        return Status.GATE_OVERFLOW
    return Status.OK


def _sizes_good(cfg: Config, c: Command, phase: Phase) -> bool:
    element = cfg.bus_elements
    drains = c["drain"] and phase in (Phase.FW, Phase.BW)
    taps = c["kernel_rows"] * c["kernel_cols"]
    blocks = c["words"] if taps == 1 else 1 << c["log2_blocks"]
    return all(
        (
            1 <= c["positions"] <= 1 << c["log2_positions"],
            1 <= c["kernel_rows"] <= MOST_KERNEL and 1 <= c["kernel_cols"] <= MOST_KERNEL,
            c["images"] > 0,
            c["log2_blocks"] <= 8,
            c["words"] <= taps << c["log2_blocks"],
            not c["bias"] or c["bias_tap"] < taps,
            not c["depthwise"] or phase != Phase.BW,
            phase == Phase.WU or not (c["sum_add"] or c["sum_store"]),
            not (c["sum_store"] and c["drain"]),
            not c["load_aux"] or phase == Phase.NOP or c["aux_cols"] > 0,
            not c["load_x"] or (c["x_run"] > 0 and c["x_runs"] > 0 and c["x_cols"] > 0),
            not c["load_x"] or c["x_runs"] <= 1 or c["gather_stride"] % element == 0,
            c["words"] > 0,
            c["mask_beats"] * cfg.masks_per_beat >= c["words"]
            if cfg.sparse
            else not c["mask_beats"] and not c["scale"],
            phase != Phase.WU or c["records"] == c["block_rows"],
            phase != Phase.WU or blocks * cfg.block_c <= cfg.gather_depth,
            c["segment"] + c["load_segments"] <= c["segments"],
            not drains
            or (c["out_run"] > 0 and c["out_cols"] > 0 and c["out_run"] * element >= c["out_channels"] + c["ones"]),
            c["c0"] % cfg.block_c == 0,
            c["k0"] % cfg.block_k == 0,
            c["log2_lanes"] == log2(cfg.lane_group << c["wide"] if phase == Phase.BW else cfg.block_k),
            not c["wide"] or (phase == Phase.BW and cfg.groups_per_word > 1 and c["groups"] % 2 == 0),
            _range_good(c),
        )
    )


def good(cfg: Config, phase: Phase, **changes: int) -> Command:
    """A small command that every rule accepts, before `changes`."""
    c = dict.fromkeys(("relu", "gate", "wait", "commit", "policy", "record0", "segment", "c0", "k0", "out_stride"), 0)
    c |= {"phase": int(phase), "magic": MAGIC, "plan": 1, "load_x": 1, "load_aux": 1, "load_w": 1}
    c |= {"drain": 1, "ones": 0}
    c |= {"x_run": 1, "x_runs": 1, "gather_stride": 0, "aux_run": 1, "aux_runs": 1, "words": 1, "scale": 0}
    c["mask_beats"] = int(cfg.sparse)
    c |= {"segments": 1, "load_segments": 1, "block_rows": 2, "records": 2, "groups": cfg.groups_per_word}
    c |= {"positions": 1, "log2_positions": 0, "out_run": 1, "out_channels": 1, "units": 1, "cap": 1}
    c |= {"x_cols": 1, "aux_cols": 1, "out_cols": 1, "kernel_rows": 1, "kernel_cols": 1, "images": 1, "log2_blocks": 8}
    c |= dict.fromkeys(
        ("keep", "wide", "bias", "bias_tap", "depthwise", "gradient", "sum_add", "sum_store", "ahead"), 0
    )
    c |= dict.fromkeys(("out_pitch", "x_pitch", "aux_pitch"), 0)
    c |= {"header_beats": -(-(3 + cfg.groups_per_word) // cfg.words_per_beat)}
    c["log2_lanes"] = log2(cfg.lane_group << changes.get("wide", 0) if phase == Phase.BW else cfg.block_k)
    return c | changes


@dataclass(frozen=True)
class Bound:
    """One bound of one rule: a command on either side of it.

    Attributes:
        rule: what is bounded.
        status: that of a command on the wrong side.
        inside, outside: changes to `good` of phase `phase`.
        exempt: further changes, each of which makes the command on the wrong side acceptable.
    """

    rule: str
    status: Status
    phase: Phase
    inside: Command
    outside: Command
    exempt: list[Command] = field(default_factory=list)


IDLE: Command = {"phase": Phase.NOP, "plan": 0, "load_x": 0, "load_w": 0}
"""Makes a command one that does nothing, about which nothing but the magic number matters."""


def bounds(cfg: Config) -> list[Bound]:
    """Both sides of every bound that the sizes of `cfg` can reach."""
    E, Bc, D = cfg.bus_elements, cfg.block_c, cfg.gather_depth
    F, B, U, N = Phase
    lanes = {F: log2(cfg.block_k), B: log2(cfg.lane_group), U: log2(cfg.block_k), N: log2(cfg.block_k)}
    out = [Bound("magic", Status.MAGIC, p, {}, {"magic": MAGIC ^ 1 << 15}) for p in Phase]

    def rule(name: str, inside: Command, outside: Command, phases: tuple[Phase, ...], *exempt: Command) -> None:
        for p in phases:
            free = [IDLE, *exempt] if p != N else [*exempt]
            out.append(Bound(name, Status.FIELD, p, inside, outside, free))

    everyone, flows = tuple(Phase), (F, B)
    rule("positions, none", {}, {"positions": 0}, everyone)
    rule("positions", {"log2_positions": 1, "positions": 2}, {"log2_positions": 1, "positions": 3}, everyone)
    rule("x_run", {}, {"x_run": 0}, everyone, {"load_x": 0})
    rule("x_runs", {}, {"x_runs": 0}, everyone, {"load_x": 0})
    rule("gather_stride", {"x_runs": 2, "gather_stride": E}, {"x_runs": 2, "gather_stride": E + 1}, everyone,
         {"x_runs": 1}, {"load_x": 0})  # fmt: skip
    rule("x_cols", {}, {"x_cols": 0}, everyone, {"load_x": 0})
    rule("aux_cols", {}, {"aux_cols": 0}, (F, B, U), {"load_aux": 0}, {"phase": N, "log2_lanes": lanes[N]})
    rule("words, none", {}, {"words": 0}, everyone)
    for side in ("kernel_rows", "kernel_cols"):
        rule(side, {}, {side: 0}, everyone)
        few = {"log2_blocks": 0}
        rule(side, few | {side: MOST_KERNEL}, few | {side: MOST_KERNEL + 1}, everyone)
        rule(side, few, few | {side: 15}, everyone)
    rule("images", {}, {"images": 0}, everyone)
    rule("log2_blocks", {"log2_blocks": 8}, {"log2_blocks": 9}, everyone)
    for rows, cols, log2_blocks in ((1, 1, 1), (2, 1, 0), (3, 3, 1), (1, 7, 2), (7, 7, 2)):
        most = rows * cols << log2_blocks
        filters = {"kernel_rows": rows, "kernel_cols": cols, "log2_blocks": log2_blocks, "mask_beats": 255 * cfg.sparse}
        small = (U,) if 1 << log2_blocks <= D // Bc and most <= D // Bc else ()
        rule("words of taps", filters | {"words": most}, filters | {"words": most + 1}, (F, B, N, *small))
    for rows, cols in ((1, 1), (3, 3), (7, 7)):
        filters = {"kernel_rows": rows, "kernel_cols": cols, "log2_blocks": 0, "bias": 1}
        most = rows * cols - 1
        rule("bias_tap", filters | {"bias_tap": most}, filters | {"bias_tap": most + 1}, everyone, {"bias": 0})
    here = {"phase": F, "log2_lanes": lanes[F]}
    rule("depthwise", {}, {"depthwise": 1}, (B,), here)
    for name in ("sum_add", "sum_store"):
        rule(name, {}, {name: 1}, (F, B, N), {"phase": U, "log2_lanes": lanes[U], "drain": 0})
    rule("sum_store", {"sum_store": 1, "drain": 0}, {"sum_store": 1, "drain": 1}, (U,))
    if cfg.sparse:
        most = 2 * cfg.masks_per_beat
        rule("mask_beats", {"mask_beats": 2, "words": most}, {"mask_beats": 2, "words": most + 1}, flows)
    else:
        rule("masks in a dense build", {}, {"mask_beats": 1}, everyone)
        rule("regeneration in a dense build", {}, {"scale": 1}, everyone)
    rule("update of a part", {}, {"records": 1}, (U,), {"phase": F})
    if D // Bc < 255:
        wide = {"mask_beats": 255 * cfg.sparse}
        rule("update of many words", wide | {"words": D // Bc}, wide | {"words": D // Bc + 1}, (U,), {"phase": F})
    if D // Bc < 256:
        log2_most = log2(D // Bc)
        wide = {"kernel_rows": 2, "log2_blocks": log2_most}
        rule("update of many blocks", wide, wide | {"log2_blocks": log2_most + 1}, (U,), {"phase": F})
    rule("load_segments", {"segment": 0, "load_segments": 1}, {"segment": 1, "load_segments": 1}, everyone)
    rule("out_cols", {}, {"out_cols": 0}, flows, {"drain": 0})
    rule("out_run, none", {}, {"out_run": 0, "out_channels": 0}, flows, {"drain": 0})
    wide = {"out_run": 3, "out_channels": 3 * E}
    rule("out_run", wide, wide | {"out_channels": 3 * E + 1}, flows, {"drain": 0})
    rule("ones", {**wide, "out_channels": 3 * E - 1, "ones": 1}, wide | {"ones": 1}, flows, {"drain": 0}, {"ones": 0})
    if Bc > 1:
        rule("c0", {"c0": 3 * Bc}, {"c0": 3 * Bc + Bc // 2}, everyone)
    if cfg.block_k > 1:
        rule("k0", {"k0": 3 * cfg.block_k}, {"k0": 3 * cfg.block_k + cfg.block_k // 2}, everyone)
    for p in everyone:
        rule("lanes", {}, {"log2_lanes": lanes[p] + 1}, (p,))
        if lanes[p]:
            rule("lanes", {}, {"log2_lanes": lanes[p] - 1}, (p,))
        pairs = {"wide": 1, "log2_lanes": lanes[p] + (p == B)}
        if p == B and cfg.groups_per_word > 1:
            rule("lanes of pairs", pairs, pairs | {"log2_lanes": lanes[p]}, (p,))
            rule(
                "odd groups",
                pairs,
                pairs | {"groups": cfg.groups_per_word - 1},
                (p,),
                {"wide": 0, "log2_lanes": lanes[p]},
            )
        else:
            rule("pairs", {}, pairs, (p,), {"wide": 0, "log2_lanes": lanes[p]})
    out += [
        Bound("units of records", Status.FIELD, p, {"units": 2, "cap": 1}, {"units": 3, "cap": 1}, [{"plan": 0}])
        for p in (F, U, N)
    ]
    small = {"segments": 2, "groups": 1, "cap": 1}
    inside, outside = small | {"units": 2}, small | {"units": 3}
    out.append(Bound("units of lane groups", Status.FIELD, B, inside, outside, [{"plan": 0}]))
    if cfg.groups_per_word > 1:
        small |= {"groups": 2, "wide": 1, "log2_lanes": lanes[B] + 1}
        inside, outside = small | {"units": 2}, small | {"units": 3}
        out.append(Bound("units of pairs", Status.FIELD, B, inside, outside, [{"plan": 0}]))
    out += [_planned(name, inside, outside) for name, inside, outside in _header_bounds(cfg)]
    room = good(cfg, N)["header_beats"] * cfg.words_per_beat - 1 - cfg.groups_per_word
    for p in (F, B, N):
        out.append(
            Bound("header words", Status.FIELD, p, {"block_rows": room}, {"block_rows": room + 1}, [{"plan": 0}])
        )

    # Sizes of memories.
    run, last = D // E, {"x_runs": 3, "x_run": 2}
    stride = (D - 2 * E) // 2 // E * E
    for p in everyone:
        out.append(Bound("gather", Status.GATHER_OVERFLOW, p, {"x_run": run}, {"x_run": run + 1}, [{"load_x": 0}]))
        if stride:
            inside, outside = {"gather_stride": stride}, {"gather_stride": stride + E}
            out.append(Bound("gather", Status.GATHER_OVERFLOW, p, last | inside, last | outside, [{"load_x": 0}]))
    most = min(PLAN_BEATS * cfg.words_per_beat - 2, 4096)
    plan = {"load_x": 0, "load_w": 0, "groups": 1, "header_beats": PLAN_BEATS, "block_rows": most, "records": most}
    if cfg.units < most:
        inside, outside = {"units": cfg.units, "cap": 65535}, {"units": cfg.units + 1, "cap": 65535}
        out.append(Bound("units", Status.UNITS_OVERFLOW, N, plan | inside, plan | outside, [{"plan": 0}]))
    few = plan | {"cap": 1}
    inside, outside = few | {"units": cfg.rows}, few | {"units": cfg.rows + 1}
    out.append(Bound("units of rows", Status.UNITS_OVERFLOW, N, inside, outside, [{"cap": 2}, {"plan": 0}]))
    unplanned = {"plan": 0, "cap": 1}
    for p in everyone:
        inside, outside = unplanned | {"units": cfg.rows}, unplanned | {"units": cfg.rows + 1}
        out.append(Bound("units of rows", Status.UNITS_OVERFLOW, p, inside, outside, [IDLE]))
        pack = cfg.stationary_pack if p == U else 1
        cap = cfg.psum_depth * pack >> lanes[p]
        out.append(Bound("sums", Status.PSUM_OVERFLOW, p, {"cap": cap}, {"cap": cap + 1}, [IDLE]))
        wide = {"log2_positions": 1, "positions": 2}
        if cap > 1:
            inside, outside = wide | {"cap": cap >> 1}, wide | {"cap": (cap >> 1) + 1}
            out.append(Bound("sums", Status.PSUM_OVERFLOW, p, inside, outside, [IDLE]))
        far = {"log2_positions": 15}
        out.append(Bound("sums, far", Status.PSUM_OVERFLOW, p, {}, far, [IDLE, {"cap": 0, "units": 0}]))
    full = {"aux_runs": 2, "aux_run": cfg.gate_beats // 2}
    over = {"aux_runs": cfg.gate_beats + 1, "aux_run": 1}
    for p in flows:
        elsewhere = {"phase": U, "log2_lanes": lanes[U]}
        out.append(Bound("gate", Status.GATE_OVERFLOW, p, full, over, [{"load_aux": 0}, elsewhere]))
        far = {"aux_runs": 65535, "aux_run": 65535}
        out.append(Bound("gate", Status.GATE_OVERFLOW, p, full, far, [{"load_aux": 0}]))
    return out


def _header_bounds(cfg: Config) -> list[tuple[str, Command, Command]]:
    some = good(cfg, Phase.FW)["header_beats"]
    least = -(-4 // cfg.words_per_beat)  # of two records and a lane group
    return [
        ("segments, none", {}, {"segments": 0, "load_segments": 0}),
        ("segments", {"segments": 32, "header_beats": 2}, {"segments": 33, "header_beats": least}),
        ("segments, far", {"segments": 32, "header_beats": 2}, {"segments": 64, "header_beats": some}),
        ("header beats", {"segments": 2, "header_beats": 32}, {"segments": 2, "header_beats": 33}),
        ("header beats", {"segments": 1, "header_beats": 64}, {"segments": 1, "header_beats": 65}),
        ("header beats, far", {"segments": 8, "header_beats": 8}, {"segments": 8, "header_beats": 255}),
        ("header beats, farther", {"segments": 32, "header_beats": 2}, {"segments": 32, "header_beats": 128}),
        ("records, none", {}, {"records": 0, "units": 0}),
        ("records", {"record0": 1, "records": 1}, {"record0": 2, "records": 1}),
        ("records, far", {"record0": 0, "records": 2}, {"record0": 65535, "records": 1}),
    ]


def _planned(name: str, inside: Command, outside: Command) -> Bound:
    """A rule about headers, on a plan that does nothing else; `good` of FW obeys it as well."""
    alone = {"load_x": 0, "load_w": 0, "groups": 1}
    return Bound(name, Status.FIELD, Phase.NOP, alone | inside, alone | outside, [{"plan": 0}])
