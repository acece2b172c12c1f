"""The plot of area by unit: its groups cover the design, and their sum is the whole."""

from pathlib import Path
from typing import Any

import pytest

from arch.config import preset
from scripts import synth_plots
from scripts.synth_plots import GROUPS, REST, by_group
from synth import measure
from synth.units import TOP, Design, design


@pytest.fixture(scope="module")
def builds() -> dict[str, Design]:
    return {name: design(preset("tiny").with_(sparse=name == "sparse")) for name in ("sparse", "dense")}


@pytest.fixture
def measured(builds: dict[str, Design], monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """Units of both builds, the n-th module with n + 1 LUTs of its own."""

    def mapped(_flow: object, _netlist: object, names: list[str], *_: object) -> dict[str, Any]:
        return {name: {"cells": {"LUT4": number + 1}} for number, name in enumerate(names)}

    monkeypatch.setattr(measure, "run_all", mapped)
    request = measure.Request(preset("tiny"))
    return {name: measure.measure(built, request) for name, built in builds.items()}


def _report(builds: dict[str, Any], libraries: tuple[str, ...] = ()) -> dict[str, Any]:
    presets = {"tiny": {"rows": 4, "columns": 4, **builds}}
    return {"libraries": {name: {} for name in libraries}, "presets": presets}


def test_groups_begin_at_units_that_exist(builds: dict[str, Design]) -> None:
    units = {unit.component for built in builds.values() for unit in built.units.values()}
    assert {component for components in GROUPS.values() for component in components} - units == set()


@pytest.mark.parametrize("build", ("sparse", "dense"))
def test_groups_add_up_to_the_top_level(measured: dict[str, dict[str, Any]], build: str) -> None:
    units = measured[build]
    areas = by_group(units, "ecp5", "lut")
    assert sum(areas.values()) == units[TOP]["all"]["ecp5"]["lut"]
    assert areas["PEs"] == 16 * units["PE"]["own"]["ecp5"]["lut"]
    assert areas["drain"] == units["DrainStage"]["all"]["ecp5"]["lut"], "what stands in a unit is of its group"
    assert list(areas) == [*GROUPS, REST]
    empty = {"decoders", "regeneration"} if build == "dense" else set()
    assert {group for group, area in areas.items() if not area} == empty


def test_a_unit_of_no_group_is_of_the_rest(measured: dict[str, dict[str, Any]]) -> None:
    units = measured["sparse"]
    before = by_group(units, "ecp5", "lut")
    units["Planner"]["class"] = "Newcomer"
    after = by_group(units, "ecp5", "lut")
    assert after["planner, balancer"] == 0
    assert after[REST] == before[REST] + before["planner, balancer"]


def test_the_plot_is_written(measured: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    (path,) = synth_plots.write_plots(tmp_path, _report(measured))
    assert path.read_bytes().startswith(b"\x89PNG")
    for units in measured.values():
        for unit in units.values():
            unit["own"]["lib"] = unit["all"]["lib"] = {"area": 1e6}
    assert synth_plots.write_plots(tmp_path, _report(measured, ("lib",))) == [path]
    assert synth_plots.write_plots(tmp_path, _report({"dense": measured["dense"]})) == [path]


def test_no_area_no_plot(measured: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    for units in measured.values():
        units[TOP]["all"] = {}
    assert synth_plots.write_plots(tmp_path, _report(measured)) == []
    assert list(tmp_path.iterdir()) == []
