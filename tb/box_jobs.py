"""Random boxes of positions: sub-batches, tiles of random maps, and boxes that respect the memories and nothing else.

Fields are those of a command. `places` walks them with plain loops, independent of `golden.boxes.boxes`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from arch.command import MOST_KERNEL
from arch.config import Config
from golden.boxes import POINT, backward_axis, box_fields, forward_axis, outputs_of

Fields = dict[str, int]
AXES = ("image", "row", "col")
STEPS = tuple(f"{name}_{axis}" for name in ("gather", "psum") for axis in AXES)


def places(fields: Fields, tap: int) -> list[tuple[int, int]]:
    """(gather offset, position of the tile) of every position that a tap visits, in order."""
    row, col = divmod(tap, fields["kernel_cols"])
    result = []
    for image in range(fields["images"]):
        for y in range(fields[f"row{row}_count"]):
            for x in range(fields[f"col{col}_count"]):
                gather, psum = (
                    fields[f"row{row}_{what}"]
                    + fields[f"col{col}_{what}"]
                    + image * fields[f"{what}_image"]
                    + y * fields[f"{what}_row"]
                    + x * fields[f"{what}_col"]
                    for what in ("gather", "psum")
                )
                result.append((gather, psum))
    return result


def taps_of(fields: Fields) -> int:
    """Taps of the filter."""
    return fields["kernel_rows"] * fields["kernel_cols"]


def box_of(cfg: Config, rng: np.random.Generator, fields: Fields, tap: int) -> Fields:
    """The box of a tap as `rtl.tap_table` broadcasts it: gather, psum, rows, cols from the lowest bit on.

    A box without positions is noise, but for its count.
    """
    row, col = divmod(tap, fields["kernel_cols"])
    count = len(places(fields, tap))
    gather_bits, psum_bits = cfg.gather_depth.bit_length() - 1, cfg.psum_depth.bit_length() - 1
    parts = (
        (fields[f"row{row}_gather"] + fields[f"col{col}_gather"], gather_bits),
        (fields[f"row{row}_psum"] + fields[f"col{col}_psum"], psum_bits),
        (fields[f"row{row}_count"], psum_bits + 1),
        (fields[f"col{col}_count"], psum_bits + 1),
    )
    box, at = 0, 0
    for value, bits in parts:
        box |= (value if count else int(rng.integers(1 << bits))) % (1 << bits) << at
        at += bits
    return {"tap_we": 1, "tap": tap, "box": box, "count": count}


def sub_batches(positions: int, stride: int) -> Fields:
    """The boxes of a fully connected layer: one tap, one position an image."""
    return box_fields(POINT, POINT, positions, (1, 1), stride)


def tile(rng: np.random.Generator, kernel: tuple[int, int], backward: bool, most: int, most_patch: int) -> Fields:
    """A random tile of a random map, in positions (gather_stride 1); a single position where nothing else fits.

    Args:
        rng: generator.
        kernel: rows and columns of the filter.
        backward: tile of inputs, gathering outputs.
        most: positions of the tile, at least 1.
        most_patch: positions of the patch, at least 1.
    """
    for trial in range(200):
        stride, images = int(rng.integers(1, 3)), int(rng.integers(1, 4)) if trial < 100 else 1
        axes, counts, patch = [], [], images
        for taps in kernel:
            padding = int(rng.integers(0, taps // 2 + 1))
            size = int(rng.integers(max(1, taps - 2 * padding), taps + 6))
            outputs = outputs_of(size, taps, stride, padding)
            whole = size if backward else outputs
            count = int(rng.integers(1, min(whole, 9 if trial < 150 else 1) + 1))
            first = int(rng.integers(0, whole - count + 1))
            common = taps, stride, padding, first, count, images > 1
            axes.append(backward_axis(outputs, *common) if backward else forward_axis(size, *common))
            counts.append(count)
            patch *= axes[-1].count
        if images * counts[0] * counts[1] <= most and patch <= most_patch:
            return box_fields(axes[0], axes[1], images, (counts[0], counts[1]), 1)
    axes = [replace(POINT, taps=POINT.taps + ((0, 0, 0),) * (taps - 1)) for taps in kernel]
    return box_fields(axes[0], axes[1], 1, (1, 1), 1)


def anything(rng: np.random.Generator, kernel: tuple[int, int], most: int, most_patch: int) -> Fields:
    """Boxes of any shape whose places are within the patch and, each at most once, within the tile (gather_stride 1).

    Where none is found, no tap meets anything. Arguments as `tile`.
    """
    positions = int(rng.integers(1, most + 1))
    fields = {"kernel_rows": kernel[0], "kernel_cols": kernel[1], "gather_stride": 1}
    fields |= {"positions": positions, "log2_positions": (positions - 1).bit_length()}
    fields |= {f"{axis}{n}_{what}": 0 for axis, taps in zip(AXES[1:], kernel, strict=True) for n in range(taps)
               for what in ("gather", "psum", "count")}  # fmt: skip
    for trial in range(300):
        small = 4 if trial < 200 else 1
        fields["images"] = int(rng.integers(1, small + 1))
        for name in STEPS:
            fields[name] = int(rng.integers(0, max(2, (most if "psum" in name else most_patch) // 2)))
        for axis, taps in zip(AXES[1:], kernel, strict=True):
            for n in range(taps):
                fields[f"{axis}{n}_gather"] = int(rng.integers(0, most_patch // small // 2 + 1))
                fields[f"{axis}{n}_psum"] = int(rng.integers(0, positions // small // 2 + 1))
                fields[f"{axis}{n}_count"] = int(rng.integers(0, small + 1)) if rng.random() < 0.8 else 0
        if _within(fields, positions, most_patch):
            return fields
    for name in fields:
        fields[name] = 0 if name.startswith(("row", "col")) else fields[name]
    return fields


def _within(fields: Fields, positions: int, patch: int) -> bool:
    met = 0
    for tap in range(taps_of(fields)):
        there = places(fields, tap)
        met += len(there)
        psums = [p for _, p in there]
        if len(set(psums)) < len(psums) or any(g >= patch or p >= positions for g, p in there):
            return False
    return met > 0


def strided(fields: Fields, stride: int) -> Fields:
    """The same boxes where a position of the patch takes `stride` operands in the gather bank."""
    assert fields["gather_stride"] == 1
    names = {"gather_stride", *STEPS[:3]} | {n for n in fields if n.endswith("_gather")}
    return {name: value * stride if name in names else value for name, value in fields.items()}


def unused(rng: np.random.Generator, fields: Fields) -> Fields:
    """The same boxes with noise in fields that no visited position depends on."""
    fields = dict(fields)
    noise = []
    met = [tap for tap in range(taps_of(fields)) if places(fields, tap)]
    for n, axis in enumerate(AXES[1:]):
        counts = [fields[f"{axis}{divmod(tap, fields['kernel_cols'])[n]}_count"] for tap in met]
        noise += [f"gather_{axis}", f"psum_{axis}"] if max(counts, default=1) == 1 else []
    noise += ["gather_image", "psum_image"] if fields["images"] == 1 else []
    for axis, taps in zip(AXES[1:], (fields["kernel_rows"], fields["kernel_cols"]), strict=True):
        for tap in range(MOST_KERNEL):
            if tap >= taps or fields[f"{axis}{tap}_count"] == 0:
                noise += [f"{axis}{tap}_gather", f"{axis}{tap}_psum"] + [f"{axis}{tap}_count"] * (tap >= taps)
    return fields | {name: int(rng.integers(1 << 16)) for name in noise}
