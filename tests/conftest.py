"""Marks the tests of the cocotb regression: those in files that use `scripts.simulate`."""

import pytest

from scripts import simulate


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        module = getattr(item, "module", None)
        if module and any(value is simulate or value is simulate.run_bench for value in vars(module).values()):
            item.add_marker("cocotb")
