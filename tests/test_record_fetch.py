"""Fetch of records: the Verilated unit against the records of golden regions, cycle by cycle."""

import pytest

from arch.config import PRESETS
from rtl.record_fetch import RecordFetch
from scripts.simulate import run_bench
from tb import tb_record_fetch as bench

TINY = PRESETS["tiny"]
CONFIGS = {
    "tiny": TINY,
    "small": PRESETS["small"],
    "chain": TINY.with_(rows=7, units=128, copies=True),
    "dense": TINY.with_(sparse=False),
    "dense chain": TINY.with_(sparse=False, rows=7, units=128, copies=True),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_unit_equals_model(name: str) -> None:
    cfg = CONFIGS[name]
    parameters = {"config": cfg}
    results = run_bench(lambda: RecordFetch(cfg), "record_fetch", "tb.tb_record_fetch", parameters=parameters)
    assert results.tests == 3


def test_constants() -> None:
    assert RecordFetch.READY == bench.FIRST_LOOK_UP + bench.SHOWN
