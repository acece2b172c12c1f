"""Floorplan: sites that exist, each given once, rows of the array apart and PEs in order."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from synth import floorplan, tools
from synth.errors import SynthError
from synth.floorplan import DEVICE, Site

MULTIPLIER, RAM = "MULT18X18D", "DP16KD"
Cells = dict[str, dict[str, Any]]


def array(rows: int, columns: int) -> Cells:
    """Blocks of an array, in no order: of each PE a multiplier and a RAM, of each row others, and some of no row."""
    names = {f"unit.table{n}.0.0": RAM for n in range(13)} | {
        f"unit.gain{n}_MULT18X18D_P": MULTIPLIER for n in range(7)
    }
    for row in range(rows):
        for pe in reversed(range(columns)):
            names |= {f"unit.row{row}.datapath.pe{pe}.{memory}.0.0": RAM for memory in ("gather", "stationary")}
            names[f"unit.row{row}.datapath.pe{pe}.$6_MULT18X18D_P9"] = MULTIPLIER
        names |= {f"unit.row{row}.encoder.values.0.{n}": RAM for n in range(8)}
        names |= {f"unit.row{row}.update.$1{n}_MULT18X18D_P9": MULTIPLIER for n in range(2)}
    return {name: {"type": kind} for name, kind in names.items()} | {
        "unit.row0.sum_TRELLIS_FF_Q": {"type": "TRELLIS_FF"}
    }


def pinned(cells: Cells) -> dict[str, Site]:
    given = floorplan.pin({"cells": cells}, DEVICE, "Accelerator")
    found = {}
    for name, cell in cells.items():
        if "attributes" in cell:
            x, y, bel = cell["attributes"]["BEL"].split("/")
            found[name] = Site(int(x[1:]), int(y[1:]), bel)
    assert given == len(found)
    return found


@pytest.mark.parametrize(("rows", "columns"), ((8, 8), (4, 4), (4, 8), (2, 16)))
def test_every_block_has_a_site_of_its_own(rows: int, columns: int) -> None:
    cells = array(rows, columns)
    found = pinned(cells)
    blocks = {name for name, cell in cells.items() if cell["type"] in (MULTIPLIER, RAM)}
    assert found.keys() == {name for name in blocks if name.startswith("unit.row")}, "the spine takes what is left"
    assert len(set(found.values())) == len(found)
    for name, site in found.items():
        assert site in floorplan.sites(cells[name]["type"])


def test_rows_lie_apart_and_pes_in_order() -> None:
    found = pinned(array(8, 8))
    middles = []
    for row in range(8):
        own = {name: site for name, site in found.items() if name.startswith(f"unit.row{row}.")}
        xs, ys = [site.x for site in own.values()], [site.y for site in own.values()]
        wide, high = max(xs) - min(xs), max(ys) - min(ys)
        assert (wide <= 52 and high <= 12) or (wide <= 26 and high <= 24), "an eighth of the device, but for the spine"
        middles.append((sum(xs) / len(xs), sum(ys) / len(ys)))
        multipliers = [found[f"unit.row{row}.datapath.pe{pe}.$6_MULT18X18D_P9"] for pe in range(8)]
        assert multipliers == sorted(multipliers)
        for pe, multiplier in enumerate(multipliers):
            for memory in ("gather", "stationary"):
                at = found[f"unit.row{row}.datapath.pe{pe}.{memory}.0.0"]
                assert abs(at.x - multiplier.x) <= 12 and abs(at.y - multiplier.y) <= 24
    for a in range(8):
        for b in range(a):
            assert abs(middles[a][0] - middles[b][0]) > 24 or abs(middles[a][1] - middles[b][1]) > 20


def test_a_chain_of_rows_is_short_and_ends_next_to_the_spine() -> None:
    for rows, beside in ((8, True), (4, True), (2, False)):
        centres = [centre["DP16KD"] for centre in floorplan.centres(rows)]
        for side in (0, 1):
            chain = centres[side::2]
            assert chain[-1][1] == max(y for _, y in chain)
            assert abs(chain[-1][0] - 63) == min(abs(x - 63) for x, _ in chain)
            for (x, y), (next_x, next_y) in pairwise(chain):
                assert abs(next_x - x) <= 27 and 0 <= next_y - y <= 30
            assert beside == (len({y for _, y in chain}) < len(chain))


def test_the_same_again() -> None:
    cells = array(8, 8)
    assert pinned(cells) == pinned(dict(reversed(cells.items())))


def test_what_has_no_floorplan() -> None:
    with pytest.raises(SynthError, match="for an LFE5U-85F, not for an LFE5U-25F"):
        floorplan.pin({"cells": array(2, 2)}, "LFE5U-25F", "Accelerator")
    with pytest.raises(SynthError, match="Planner has none with multipliers"):
        floorplan.pin({"cells": array(0, 0)}, DEVICE, "Planner")
    with pytest.raises(SynthError, match=r"Accelerator has 295 MULT18X18D, an LFE5U-85F 156"):
        floorplan.pin({"cells": array(16, 16)}, DEVICE, "Accelerator")


def test_sites_exist(tmp_path: Path) -> None:
    """nextpnr places a block at each of them, and refuses one that is not there."""
    sites = {kind: floorplan.sites(kind) for kind in (MULTIPLIER, RAM)}
    assert [len(sites[kind]) for kind in (MULTIPLIER, RAM)] == [156, 208]

    def place(wanted: dict[str, list[str]]) -> str:
        """The design that nextpnr writes: multipliers and RAM blocks at these sites, driven by a pin."""
        clock = {"CLKA": [2], "CLKB": [2]}
        cells = {
            f"{kind}{n}": {
                "hide_name": 0,
                "type": kind,
                "parameters": {},
                "attributes": {"BEL": site, "keep": "1"},
                "port_directions": {"CLKA": "input", "CLKB": "input"} if kind == RAM else {"A0": "input"},
                "connections": clock if kind == RAM else {"A0": [2]},
            }
            for kind, names in wanted.items()
            for n, site in enumerate(names)
        }
        ports = {"clk": {"direction": "input", "bits": [2]}}
        nets = {"clk": {"hide_name": 0, "bits": [2], "attributes": {}}}
        module = {"attributes": {"top": "1"}, "ports": ports, "cells": cells, "netnames": nets}
        (tmp_path / "all.json").write_text(json.dumps({"creator": "test", "modules": {"top": module}}))
        options = ["--85k", "--package", "CABGA381", "--json", "all.json", "--write", "placed.json", "--no-route"]
        tools.nextpnr(options, tmp_path)
        return (tmp_path / "placed.json").read_text()

    names = {kind: [str(site) for site in found] for kind, found in sites.items()}
    placed = json.loads(place(names))["modules"]["top"]["cells"]
    at = {cell["attributes"]["NEXTPNR_BEL"] for cell in placed.values() if cell["type"] in (MULTIPLIER, RAM)}
    assert at == {name for found in names.values() for name in found}
    with pytest.raises(SynthError, match="X5/Y22/EBR0"):
        place({RAM: ["X5/Y22/EBR0"]})
