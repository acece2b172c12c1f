"""The jobs around the machine: Verilog generation, waveforms, the cocotb selection."""

import subprocess
import sys
from pathlib import Path

import pytest

from arch.config import PRESETS, preset
from rtl import top
from scripts import verilog, wave
from scripts.verilator import ROOT, modules, ports


def test_verilog_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verilog.main(["--array", "tiny", "--out", str(tmp_path)]) == 0
    plain = (tmp_path / "procrustes_4x4.v").read_text()
    assert {"top", "row", "pe"} <= set(modules(plain))
    assert "trace_rows" not in ports(plain, "top")
    assert str(tmp_path / "procrustes_4x4.v") in capsys.readouterr().out


@pytest.mark.parametrize("dense", (False, True))
def test_no_module_grows_out_of_proportion(dense: bool) -> None:
    """An expression is written out wherever it is used; used by a hundred others it takes tools minutes."""
    text = top.verilog(PRESETS["tiny"].with_(sparse=not dense, trace=True))
    lines = {body.split("(")[0].strip(): body.count("\n") for body in text.split("\nmodule ")[1:]}
    assert "row" in lines and sum(lines.values()) < 80_000, lines
    assert max(lines.values()) < 10_000, max(lines, key=lambda name: lines[name])


@pytest.mark.parametrize("build", ([], ["--dense"], ["--trace"]))
def test_every_component_made_is_used(build: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scripts.verilog", "--array", "tiny", "--out", str(tmp_path), *build]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_verilog_with_trace_and_of_another_size(tmp_path: Path) -> None:
    assert verilog.main(["--array", "8x4", "--trace", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "procrustes_8x4_trace.v").read_text()
    assert ports(text, "top")["trace_rows"].width == 8 * 64
    assert str(ROOT) not in text


def test_arrays_by_name_and_size() -> None:
    assert preset("8x8") == PRESETS["small"]
    assert preset("fpga:8x8") == PRESETS["fpga"]
    assert preset("fpga:4x16") == PRESETS["fpga"].with_(rows=4, columns=16)
    for name in ("fpga:", "fpga:4", "big:4x8", ":4x8", "4x8:fpga"):
        with pytest.raises(
            ValueError, match=f"^array '{name}' is neither ROWSxCOLUMNS nor one of .* NAME:ROWSxCOLUMNS$"
        ):
            preset(name)


def test_verilog_names_the_bound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for array, message in (
        ("7x7", "columns must be a power of two, not 7"),
        ("big", "array 'big' is neither ROWSxCOLUMNS nor one of tiny, small, paper, cnn, fpga"),
    ):
        with pytest.raises(SystemExit):
            verilog.main(["--array", array, "--out", str(tmp_path)])
        assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_waves_of_a_test(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert wave.main(["tests/test_requantise.py::test_rtl_equals_golden[5-3]", "--out", str(tmp_path / "waves")]) == 0
    (path,) = tmp_path.glob("waves/*/dump.vcd")
    assert str(path) in capfd.readouterr().out
    assert path.read_text().startswith("$version")


def test_waves_of_no_test_and_of_no_bench(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert wave.main(["no_such_test", "--out", str(tmp_path)]) == wave.NO_TESTS
    assert "no test is called 'no_such_test'" in capfd.readouterr().err
    assert wave.main(["test_build_key_separates_its_parts", "--out", str(tmp_path)]) == 1
    assert "runs no cocotb bench" in capfd.readouterr().err


def test_cocotb_selection_is_every_file_that_runs_a_bench() -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "cocotb", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    chosen = {line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line}
    running = {f"tests/{path.name}" for path in (ROOT / "tests").glob("test_*.py") if "run_bench(" in path.read_text()}
    assert chosen == running - {"tests/test_jobs.py"}
    assert "tests/test_pe.py" in chosen and "tests/test_regenerate.py" not in chosen
