"""Switching activity: reading SAIF, and what the rows' signals say about the energy estimate."""

from __future__ import annotations

from pathlib import Path

import pytest

from arch.config import PRESETS
from rtl.top import verilog
from scripts import activity
from scripts.harness import Harness

SAIF = r"""
(SAIFILE
(SAIFVERSION "2.0")
(DURATION 20)
(INSTANCE top
  (NET (clk (T0 10) (T1 10) (TZ 0) (TX 0) (TB 0) (TC 20)))
  (INSTANCE row0
    (INSTANCE pe0
      (NET
        (acc\[0\] (T0 1) (T1 1) (TC 3))
        (acc\[1\] (T0 1) (T1 1) (TC 4))
        (clk (T0 1) (T1 1) (TC 20))
      )
    )
    (INSTANCE pe1 (NET (acc\[0\] (T0 1) (TC 5)) (\$1\[2\] (TC 7))))
    (NET (x (TC 1)))
  )
  (INSTANCE \row1 (NET (x (TC 2))))
)
)
"""


def test_saif() -> None:
    found = activity.parse(SAIF)
    assert found.by_scope[("top", "row0", "pe0")] == {"acc": 7, "clk": 20}
    assert found.by_scope[("top", "row0", "pe1")] == {"acc": 5, "$1": 7}
    assert found.by_scope[("top", "row0")] == {"x": 1}
    assert found.by_scope[("top", "row1")] == {"x": 2}
    assert found.sum(activity.PE, ["acc"]) == 12
    assert found.sum(activity.PE) == 39
    assert found.sum("row0") == 40
    with pytest.raises(ValueError, match="no instance in the SAIF file"):
        activity.parse("(SAIFILE)")


def test_a_harness_without_activity_says_so(tmp_path: Path) -> None:
    cfg = PRESETS["tiny"]
    with pytest.raises(ValueError, match="activity=True"):
        Harness(verilog(cfg), cfg).record_activity(tmp_path / "x.saif")


def test_bad_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        activity.main(["--steps", "2"])
    assert ended.value.code == 2
    assert "steps must be at least 3, not 2" in capsys.readouterr().err


@pytest.mark.soak
def test_signals_agree_with_the_estimate(tmp_path: Path) -> None:
    """An operation switches as much in a sparse build as in a dense one, and an idle PE next to nothing."""
    found = activity.report("tiny", activity.STEPS)
    dense, sparse = found["dense"], found["sparse"]
    name = "PE: changes of all signals, an operation"
    assert 0.7 < sparse[name] / dense[name] < 1.4
    for one in (dense, sparse):
        # Not all registers that are clocked change, but the estimate is not for registers that stand still.
        assert 0.1 < one["PE: share of them that changes"] < 0.5
        assert one["PE: changes of all signals, an idle cycle"] - 2 < 0.01 * one[name]  # less the clock
        assert (
            one["row controller: changes of all signals, an idle cycle"]
            < 0.05 * one["row controller: changes of all signals, a visit"]
        )
        assert one["control word: share of its bits that changes, an operation"] < 0.5  # of the wire's figure
