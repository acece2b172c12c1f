"""Batch harness: whole programs on the verilated accelerator at C++ speed.

The model and the loop that clocks it (`harness.cpp`) are compiled into one shared object, called
through ctypes; memory image, trace and access logs are numpy arrays.

The memory is deterministic. A read request is always accepted; one accepted in cycle `t` is
answered in cycle `t + latency`, one answer a cycle, in order, and returns what memory held before
cycle `t`'s write. If the design is not ready the answer waits, and later ones queue behind it. A
write is always accepted. `Harness.set_stalls` puts seeded random gaps into all three; the order
stays, the cycle counts do not.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arch.config import Config
from rtl.row import ANSWERS, QUESTIONS
from scripts.verilator import WAIVERS, Port, build_key, cached, call, environment, modules, place_runtime, ports

# Cycles between two returns to Python, where an interrupt can be noticed.
_CHUNK = 1 << 18
# Cycles the design may take to raise busy after it was started.
_START_LIMIT = 64
_SOURCE = Path(__file__).with_name("harness.cpp")

#: Modules that Verilator keeps whole, and their inputs that differ from instance to instance. With those kept apart
#: (and without the optimisations that melt instances into each other) the code of all instances is the same and
#: is emitted once: 16 rows of 16 PEs fit the instruction cache, and the model runs four times as fast.
REPEATED = {
    "pe": ("control", "load_data", "stat_data"),
    "row": ("number", *QUESTIONS, *(f"{name}_before" for name in ANSWERS)),
}


@dataclass(frozen=True)
class Fault:
    """The first access outside the memory: `read` or `write`, beat address, cycle of the run."""

    kind: str
    address: int
    cycle: int


@dataclass(frozen=True)
class RunResult:
    """What happened while the design was busy; cycle 0 is the first busy cycle.

    Attributes:
        cycles: from the first to the last busy cycle, both included.
        trace: uint64 (cycles, rows), or None when not asked for.
        central: uint64 (cycles,), or None when not asked for or not built in.
        reads: int64 (n, 2) accepted read requests: cycle, beat address.
        writes: int64 (n, 2) accepted writes: cycle, beat address.
        fault: first access outside the memory since the last reset, if any.
    """

    cycles: int
    trace: NDArray[np.uint64] | None
    central: NDArray[np.uint64] | None
    reads: NDArray[np.int64]
    writes: NDArray[np.int64]
    fault: Fault | None


def expected_ports(cfg: Config) -> dict[str, tuple[str, int]]:
    """Ports the top level must have: name to direction and width."""
    return {
        "clk": ("input", 1),
        "rst": ("input", 1),
        "ctl_addr": ("input", 9),
        "ctl_wdata": ("input", 32),
        "ctl_we": ("input", 1),
        "ctl_rdata": ("output", 32),
        "busy": ("output", 1),
        "rd_req_valid": ("output", 1),
        "rd_req_ready": ("input", 1),
        "rd_req_addr": ("output", 32),
        "rd_resp_valid": ("input", 1),
        "rd_resp_ready": ("output", 1),
        "rd_resp_data": ("input", cfg.beat_bits),
        "wr_valid": ("output", 1),
        "wr_ready": ("input", 1),
        "wr_addr": ("output", 32),
        "wr_data": ("output", cfg.beat_bits),
    }


def optional_ports(cfg: Config) -> dict[str, tuple[str, int]]:
    """Ports of builds with a trace (a port named `trace` would clash with a method of the model)."""
    return {"trace_rows": ("output", 64 * cfg.rows), "trace_central": ("output", 64)}


def build_model(
    verilog: str,
    cfg: Config,
    *,
    top: str = "top",
    repeated: Mapping[str, Sequence[str]] = REPEATED,
    flags: Sequence[str] = (),
    activity: bool = False,
) -> Path:
    """Compile Verilog and harness into a shared object, or find it compiled.

    Args:
        verilog: text whose module `top` has the ports of `expected_ports`.
        cfg: gives the widths.
        top: name of the top module.
        repeated: see `REPEATED`; modules absent from the text are ignored.
        flags: further Verilator flags.
        activity: count changes of signals, see `Harness.record_activity`; several times slower.

    Returns:
        Path of the shared object.

    Raises:
        ValueError: a port is missing or has another width; all of them are named.
        ToolError: Verilator or the compiler failed.
    """
    found = ports(verilog, top)
    wanted = expected_ports(cfg) | {k: v for k, v in optional_ports(cfg).items() if k in found}
    wrong = [
        f"{name} ({direction}, {width} bits)"
        for name, (direction, width) in wanted.items()
        if name not in found or (found[name].direction, found[name].width) != (direction, width)
    ]
    if wrong:
        raise ValueError(f"module {top!r} lacks the ports of the harness: {', '.join(wrong)}")
    control = ["`verilator_config"]
    for name in (name for name in repeated if name in modules(verilog)):
        control.append(f'no_inline -module "{name}"')
        control += [f'public_flat_rd -module "{name}" -var "{port}"' for port in repeated[name]]
    defines = {
        "BEAT_BYTES": cfg.beat_bits // 8,
        "ROWS": cfg.rows,
        "HAS_TRACE": int("trace_rows" in found),
        "HAS_CENTRAL": int("trace_central" in found),
        "HAS_ACTIVITY": int(activity),
    }
    if activity:
        flags = (*flags, "--trace-saif")
    # Hidden symbols, because two models in one process both define the class Vtop.
    cflags = "-std=c++17 -fPIC -fvisibility=hidden -fno-gnu-unique"
    header = "".join(f"#define {name} {value}\n" for name, value in defines.items())
    arguments = [
        *("--cc", "--exe", "--prefix", "Vtop", "--top-module", _WRAPPER, "-O3", "--threads", "1", "--no-timing"),
        *("--x-assign", "fast", "--x-initial", "fast", "--noassert", "-fno-dfg", "-fno-dedup"),
        *WAIVERS,
        *flags,
        *("-CFLAGS", cflags, "-LDFLAGS", "-shared -fPIC -Wl,-Bsymbolic", "-o", "harness.so"),
    ]
    verilog += _wrapper(found, top)
    source = _SOURCE.read_text()
    key = build_key("harness", verilog, source, header, "\n".join(control), "\0".join(arguments))

    def build(folder: Path) -> None:
        (folder / "top.v").write_text(verilog)
        (folder / "harness.cpp").write_text(source)
        (folder / "harness_config.h").write_text(header)
        (folder / "top.vlt").write_text("\n".join(control) + "\n")
        tools = environment()
        verilator = [str(Path(tools["VERILATOR_ROOT"]) / "bin" / "verilator")]
        call([*verilator, *arguments, "-Mdir", ".", "top.vlt", "top.v", "harness.cpp"], folder, tools)
        place_runtime(folder, tools, cflags)
        call(["make", "-j", "2", "-f", "Vtop.mk"], folder, tools)

    return cached(key, build) / "harness.so"


_WRAPPER = "harness_top"


def _wrapper(found: Mapping[str, Port], top: str) -> str:
    """A module around the design that registers its reset.

    In generated Verilog the reset is part of the logic before every register. Coming straight from an input it would
    have Verilator evaluate all that logic twice more a cycle, as if the input might change at any time.
    """
    declared = ", ".join(f"{port.direction} [{port.width - 1}:0] {name}" for name, port in found.items())
    connected = ", ".join(f".{name}({'held' if name == 'rst' else name})" for name in found)
    return (
        f"\nmodule {_WRAPPER}({declared});\n  reg held = 1;\n  always @(posedge clk) held <= rst;\n"
        f"  {top} wrapped({connected});\nendmodule\n"
    )


@cache
def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    handle, word, out = ctypes.c_void_p, ctypes.c_uint64, ctypes.POINTER(ctypes.c_uint64)
    signatures: dict[str, tuple[object, list[object]]] = {
        "create": (handle, [word]),
        "destroy": (None, [handle]),
        "memory": (None, [handle, handle, word]),
        "reset": (None, [handle, word]),
        "write": (None, [handle, ctypes.c_uint32, ctypes.c_uint32]),
        "read": (ctypes.c_uint32, [handle, ctypes.c_uint32]),
        "step": (None, [handle, word]),
        "stalls": (None, [handle, word, word, word, word]),
        "activity": (None, [handle, ctypes.c_char_p]),
        "begin": (None, [handle]),
        "run": (ctypes.c_int, [handle, word, ctypes.c_int]),
        "cycles": (word, [handle]),
        "fault": (None, [handle, out]),
        "log": (word, [handle, ctypes.c_int, ctypes.POINTER(out)]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, f"harness_{name}")
        function.restype, function.argtypes = result, arguments
    return library


class Harness:
    """One accelerator and its memory.

    Args:
        verilog_text: Verilog whose module `top` has the ports of `expected_ports`.
        cfg: the configuration it was made from.
        latency: cycles from the acceptance of a read request to its answer, at least 1.
        beats: size of the memory.
        top: name of the top module.
        repeated: see `REPEATED`.
        activity: see `record_activity`.

    Raises:
        ValueError: a parameter out of range, or a port that does not fit.
        ToolError: the model could not be built.
    """

    def __init__(
        self,
        verilog_text: str,
        cfg: Config,
        latency: int = 16,
        *,
        beats: int = 1 << 16,
        top: str = "top",
        repeated: Mapping[str, Sequence[str]] = REPEATED,
        activity: bool = False,
    ) -> None:
        """Build or find the model, make an instance of it, and reset it."""
        if latency < 1:
            raise ValueError(f"latency must be at least 1, not {latency}")
        if not 1 <= beats <= 1 << 32:
            raise ValueError(f"beats must be between 1 and 2**32, not {beats}")
        self.cfg = cfg
        self.latency = latency
        self._traced = "trace_rows" in ports(verilog_text, top)
        self._central = "trace_central" in ports(verilog_text, top)
        self._activity = activity
        self._library = _load(build_model(verilog_text, cfg, top=top, repeated=repeated, activity=activity))
        self._handle = self._library.harness_create(latency)
        weakref.finalize(self, self._library.harness_destroy, self._handle)
        self.memory = np.zeros((beats, cfg.beat_bits // 8), dtype=np.uint8)
        self.reset()

    @property
    def memory(self) -> NDArray[np.uint8]:
        """The memory, uint8 [beats, bytes of a beat], shared with the model: change it in place.

        Assigning another array of that shape makes the model use it, without a copy.
        """
        return self._memory

    @memory.setter
    def memory(self, array: NDArray[np.uint8]) -> None:
        beat = self.cfg.beat_bits // 8
        if array.dtype != np.uint8 or array.ndim != 2 or array.shape[1] != beat:
            raise ValueError(f"memory must be uint8 of shape (beats, {beat}), not {array.dtype} {array.shape}")
        if not (array.flags.c_contiguous and array.flags.writeable):
            raise ValueError("memory must be C-contiguous and writable")
        self._memory = array
        self._library.harness_memory(self._handle, array.ctypes.data, array.shape[0])

    def write(self, addr: int, value: int) -> None:
        """Write a control register; takes one cycle. `value` is taken modulo 2**32."""
        self._library.harness_write(self._handle, self._register(addr), value & 0xFFFFFFFF)

    def read(self, addr: int) -> int:
        """Read a control register; takes no cycle."""
        return int(self._library.harness_read(self._handle, self._register(addr)))

    def reset(self, cycles: int = 2) -> None:
        """Hold reset for some cycles; outstanding reads and the fault are forgotten, memory stays."""
        self._library.harness_reset(self._handle, cycles + 1)  # one to reach the register before the design
        self._library.harness_step(self._handle, 1)  # and one to leave it

    def step(self, cycles: int = 1) -> None:
        """Let some cycles pass."""
        self._library.harness_step(self._handle, cycles)

    def record_activity(self, path: Path | None) -> None:
        """Count the changes of every signal from now on; with None, write them to that file (SAIF) and end.

        Raises:
            ValueError: the harness was made without `activity`.
        """
        if not self._activity:
            raise ValueError("this harness counts no activity: make it with activity=True")
        self._library.harness_activity(self._handle, str(path).encode() if path else None)

    def set_stalls(self, seed: int, p_req: float, p_resp: float, p_wr: float) -> None:
        """Random stalls from now on; three zeros restore the deterministic memory.

        Args:
            seed: equal seeds give equal stalls, cycle by cycle.
            p_req: probability that a read request is not accepted in a cycle, below 1.
            p_resp: probability that a due answer is put off by another cycle, below 1.
            p_wr: probability that a write is not accepted in a cycle, below 1.
        """
        for name, p in (("p_req", p_req), ("p_resp", p_resp), ("p_wr", p_wr)):
            if not 0 <= p < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, not {p}")
        thresholds = [int(p * 2**32) for p in (p_req, p_resp, p_wr)]
        self._library.harness_stalls(self._handle, seed & (2**64 - 1), *thresholds)

    @property
    def fault(self) -> Fault | None:
        """First access outside the memory since the last reset; such a read returns zero."""
        words = (ctypes.c_uint64 * 3)()
        self._library.harness_fault(self._handle, words)
        return Fault(("", "read", "write")[words[0]], int(words[1]), int(words[2])) if words[0] else None

    def run(self, max_cycles: int, trace: bool = False) -> RunResult:
        """Clock the design until it is no longer busy.

        Args:
            max_cycles: most busy cycles to wait for.
            trace: record the trace ports; 8 * (rows + 1) bytes a cycle.

        Raises:
            ValueError: a trace was asked for and the design has no port `trace_rows`.
            TimeoutError: it never became busy, or still is after `max_cycles`.
        """
        if trace and not self._traced:
            raise ValueError("the design has no port 'trace_rows': build it with Config(trace=True)")
        library, handle = self._library, self._handle
        library.harness_begin(handle)
        done = library.harness_run(handle, min(_START_LIMIT, max_cycles + 1), trace)
        if not done and not library.harness_cycles(handle):
            raise TimeoutError(f"the design did not become busy within {min(_START_LIMIT, max_cycles + 1)} cycles")
        while not done:
            # One cycle more than allowed, so that the cycle in which busy falls can be seen.
            left = max_cycles + 1 - library.harness_cycles(handle)
            if left <= 0:
                raise TimeoutError(f"the design is still busy after {max_cycles} cycles")
            done = library.harness_run(handle, min(left, _CHUNK), trace)
        reads, writes = (self._log(which).view(np.int64).reshape(-1, 2) for which in (0, 1))
        return RunResult(
            cycles=int(library.harness_cycles(handle)),
            trace=self._log(2).reshape(-1, self.cfg.rows) if trace else None,
            central=self._log(3) if trace and self._central else None,
            reads=reads,
            writes=writes,
            fault=self.fault,
        )

    def _log(self, which: int) -> NDArray[np.uint64]:
        words = ctypes.POINTER(ctypes.c_uint64)()
        length = self._library.harness_log(self._handle, which, ctypes.byref(words))
        if not length:
            return np.empty(0, dtype=np.uint64)
        return np.array(np.ctypeslib.as_array(words, shape=(length,)), dtype=np.uint64)

    @staticmethod
    def _register(addr: int) -> int:
        if not 0 <= addr < 512:
            raise ValueError(f"control address must be between 0 and 511, not {addr}")
        return int(addr)
