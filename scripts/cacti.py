"""Write `golden/energy/sram.toml`: energy of SRAMs by width and depth, from CACTI.

`python -m scripts.cacti PATH/TO/cacti` runs it. CACTI 7 comes as source in the PyPI package `hwcomponents-cacti`
(folder `cacti`: `make opt`, 20 seconds) and from github.com/HewlettPackard/cacti. It is needed for nothing else: the
table is kept.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from golden.energy.sram import FILE

NODE = 0.045
WIDTHS = (32, 64)
DEPTHS = tuple(64 << i for i in range(8))
CELLS = {"value": "itrs-lstp", "low": "itrs-lop"}
COLUMNS = {
    "read": (" Dynamic read energy (nJ)", 1e3),
    "write": (" Dynamic write energy (nJ)", 1e3),
    "leakage": (" Standby leakage per bank(mW)", 1.0),
    "area": (" Area (mm2)", 1.0),
}

CONFIGURATION = """
-operating temperature (K) 300
-access mode (normal, sequential, fast) - "fast"
-design objective (weight delay, dynamic power, leakage power, cycle time, area) 0:0:1000000:0:0
-deviate (delay, dynamic power, leakage power, cycle time, area) 20:10:100000:100:100
-NUCAdesign objective (weight delay, dynamic power, leakage power, cycle time, area) 100:100:0:0:100
-NUCAdeviate (delay, dynamic power, leakage power, cycle time, area) 10:10000:10000:10000:10000
-Optimize ED or ED^2 (ED, ED^2, NONE): "ED^2"
-Cache model (NUCA, UCA)  - "UCA"
-NUCA bank count 0
-Wire signaling (fullswing, lowswing, default) - "Global_30"
-Wire inside mat - "semi-global"
-Wire outside mat - "semi-global"
-Interconnect projection - "normal"
-Core count 1
-page size (bits) 0
-burst length 8
-internal prefetch width 8
-Add ECC - "false"
-Print level (DETAILED, CONCISE) - "DETAILED"
-Print input parameters - "true"
-Force cache config - "false"
-Ndwl 1
-Ndbl 1
-Nspd 0
-Ndcm 1
-Ndsam1 0
-Ndsam2 0
-Array Power Gating - "false"
-WL Power Gating - "false"
-CL Power Gating - "false"
-Bitline floating - "false"
-Interconnect Power Gating - "false"
-Power Gating Performance Loss "default"
-dram_type "DDR3"
-io state "WRITE"
-addr_timing 1.0
-mem_density 4 Gb
-bus_freq 800 MHz
-duty_cycle 1.0
-activity_dq 1.0
-activity_ca 0.5
-num_dq 72
-num_dqs 18
-num_ca 25
-num_clk 2
-num_mem_dq 2
-mem_data_width 8
-rtt_value 10000
-ron_value 34
-tflight_value
-num_bobs 1
-capacity 80
-num_channels_per_bob 1
-first metric "Cost"
-second metric "Bandwidth"
-third metric "Energy"
-DIMM model "ALL"
-mirror_in_bob "F"
-size (bytes) {size}
-block size (bytes) {block}
-output/input bus width {bits}
-Data array cell type - "{cell}"
-Data array peripheral type - "{cell}"
-Tag array cell type - "{cell}"
-Tag array peripheral type - "{cell}"
-technology (u) {node}
-read-write port 0
-exclusive read port 1
-exclusive write port 1
-single ended read ports 0
-UCA bank 1
-cache type "ram"
-tag size (b) 0
-associativity 1
"""


def estimate(cacti: Path, cell: str, bits: int, depth: int) -> dict[str, float]:
    """What CACTI says of a memory with a read port and a write port: energies in pJ, leakage in mW, area in mm².

    Raises:
        ValueError: it says nothing; names the memory and CACTI's last line.
    """
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder) / "memory.cfg"
        block = bits // 8
        given.write_text(
            CONFIGURATION.lstrip().format(size=block * depth, block=block, bits=bits, cell=cell, node=NODE),
            encoding="ascii",
        )
        done = subprocess.run(
            [str(cacti), "-infile", str(given)], cwd=cacti.parent, capture_output=True, text=True, check=False
        )
        answer = Path(f"{given}.out")
        if done.returncode or not answer.is_file():
            last = (done.stdout + done.stderr).strip().splitlines()[-1:]
            raise ValueError(f"CACTI has no answer for {depth} words of {bits} bits, {cell}: {last}")
        with answer.open(encoding="ascii") as lines:
            row = list(csv.DictReader(lines))[-1]
    return {name: float(row[column]) * scale for name, (column, scale) in COLUMNS.items()}


def table(cacti: Path) -> str:
    """The file."""
    tasks = [(cell, bits, depth) for cell in CELLS.values() for bits in WIDTHS for depth in DEPTHS]
    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(tasks, pool.map(lambda task: estimate(cacti, *task), tasks), strict=True))
    lines = [
        "# Made by `python -m scripts.cacti`: SRAMs with one read port and one write port. Rows are widths, columns",
        "# depths. Of `value` the cells are CACTI's itrs-lstp, of `low` its itrs-lop.",
        'source = "CACTI 7.0 (HP Labs; Balasubramonian et al., ACM TACO 14(2), 2017), RAM, 1 read and 1 write port"',
        'node = "45 nm"',
        'unit = "pJ an access; leakage mW; area mm2"',
        f"widths = {list(WIDTHS)}",
        f"depths = {list(DEPTHS)}",
    ]
    for corner, cell in CELLS.items():
        lines.append(f"\n[{corner}]")
        for name in COLUMNS:
            lines.append(f"{name} = [")
            for bits in WIDTHS:
                numbers = ", ".join(f"{found[cell, bits, depth][name]:.4g}" for depth in DEPTHS)
                lines.append(f"  [{numbers}],")
            lines.append("]")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="cacti", description="Make the table of SRAM energies again.")
    parser.add_argument("cacti", type=Path, help="the executable, in CACTI's own folder")
    parser.add_argument("--out", type=Path, default=FILE, help=f"file to write ({FILE.name} of the package)")
    options = parser.parse_args(arguments)
    if not options.cacti.is_file():
        parser.error(f"there is no file {options.cacti}")
    try:
        options.out.write_text(table(options.cacti.resolve()), encoding="ascii")
    except (OSError, ValueError) as error:
        print(f"cacti: {error}", file=sys.stderr)
        return 2
    print(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
