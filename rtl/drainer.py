"""Drainer of partial sums (FW and BW): reads a bank of the rows, requantises, writes activations.

It walks the output tensor in memory order and fetches each channel from the row that owns it, so
its time does not depend on how units were shared out. Channels beyond the last are padded with
zeros; FW may append a channel that is constantly one, so that biases are weights like others.
"""

from __future__ import annotations

import operator

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from arch.command import Phase
from arch.config import Config, log2_exact
from rtl.assignment import row_bits, unit_bits
from rtl.command import COMMAND
from rtl.payload import payload
from rtl.reduction import total, tree
from rtl.requantise import SHIFT_BITS, Requantise


class FlowDrainer(wiring.Component):
    """Partial sums of one working set -> requantised beats, one element of all columns a cycle.

    Law: with a write port that is always ready, `start` in cycle s, N = positions * out_run * E elements and h =
    `Config.chain_rows` - 1, element i (from 0) is asked of its row, to read and clear, in cycle s + 1 + i +
    `SIDE_LATENCY`, beat i is pushed in cycle s + (i + 1) * E + `PUSH_LATENCY` + h, and `done` is high again from cycle
    s + N + `DONE_LATENCY` + h. Position p begins at
    out_addr + (p / out_cols) * out_pitch + (p mod out_cols) * out_stride. A full write queue delays the first element
    of a beat (and all behind it) until there is room; elements of a begun beat never wait.

    Args:
        cfg: widths and sizes.

    Ports:
        start: pulse. command: FW or BW command in the drain stage, stable from the cycle after start to done.
        shift: right shift of the requantiser, -31 to 63; stable from start + `SHIFT_NEEDED` to done. ones:
        mantissa of the constant-one channel; likewise.
        done: nothing is left to push (beats may still be in the write queue).
        assign_unit: unit looked up; assign_row, assign_slot: its place, one cycle later.
        side_addr: psum address, all rows; side_clear: one bit a row, reads and clears that word; side_q: the word
        that was read, `Row.answered(cfg)` cycles later, columns at bits [n*ACC, (n+1)*ACC).
        gate_addr: address within the gate bank (beats from 0); gate_q: its word one cycle later, bit n*E + e
        set if element e of column n was positive.
        reserve, room, push, push_addr, push_data: see `WriteQueue`.
        saturated: saturated elements in this cycle (0 to C). magnitude: OR of the magnitudes
        (after ReLU or gate) of all elements since `start`; final when done.
    """

    SIDE_LATENCY = 2  # counters -> assignment memory -> address register
    SHIFT_NEEDED = 8
    PUSH_LATENCY = 10
    DONE_LATENCY = 11

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(
            {
                "start": In(1),
                "command": In(COMMAND),
                "shift": In(signed(SHIFT_BITS)),
                "ones": In(cfg.operand_bits),
                "done": Out(1, init=1),
                "assign_unit": Out(unit_bits(cfg)),
                "assign_row": In(row_bits(cfg)),
                "assign_slot": In(unit_bits(cfg)),
                "side_addr": Out(log2_exact(cfg.psum_depth, "psum_depth")),
                "side_clear": Out(cfg.rows),
                "side_q": In(cfg.columns * cfg.acc_bits),
                "gate_addr": Out(log2_exact(cfg.gate_beats, "gate_beats")),
                "gate_q": In(cfg.columns * cfg.bus_elements),
                "reserve": Out(1),
                "room": In(1),
                "push": Out(1),
                "push_addr": Out(32),
                "push_data": Out(cfg.beat_bits),
                "saturated": Out(range(cfg.columns + 1)),
                "magnitude": Out(cfg.acc_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        cfg, command = self._cfg, self.command
        a_bits, acc, columns = cfg.operand_bits, cfg.acc_bits, cfg.columns
        element_bits = log2_exact(cfg.bus_elements, "bus_elements")
        m = Module()

        def delay(source: Signal, name: str, cycles: int = 1, resets: bool = False) -> Signal:
            for n in range(cycles):
                register = Signal(source.shape(), name=f"{name}_{n + 1}" if cycles > 1 else name, reset_less=not resets)
                m.d.sync += register.eq(source)
                source = register
            return source

        # Stage 0: which element. Channel, beat, position; a beat begins only when it has room.
        running = Signal()
        element, channel = Signal(element_bits, reset_less=True), Signal(16 + element_bits, reset_less=True)
        beat, position, col = (Signal(16, name=name, reset_less=True) for name in ("beat", "position", "col"))
        go, beat_end, run_end, row_end, end = Signal(), Signal(), Signal(), Signal(), Signal()
        is_data, is_one = Signal(), Signal()
        backward = Signal()
        lane = Signal(range(max(cfg.block_k, 2 * cfg.lane_group)))
        m.d.comb += [
            go.eq(running & (self.room | element.any())),
            self.reserve.eq(go & ~element.any()),
            beat_end.eq(element == cfg.bus_elements - 1),
            run_end.eq(beat_end & (beat + 1 == command.out_run)),
            row_end.eq((col + 1 == command.out_cols) if cfg.maps else 0),  # without maps there is one row
            end.eq(run_end & (position + 1 == command.positions)),
            backward.eq(command.phase == Phase.BW),
            is_data.eq(channel < command.out_channels),
            is_one.eq(command.ones & ~backward & (channel == command.out_channels)),
        ]
        # log2_lanes is one of three constants (the planner has checked it): a choice, not a shifter.
        lanes = log2_exact(cfg.lane_group, "lane_group")
        shifts = log2_exact(cfg.block_k, "block_k"), lanes, lanes + 1

        def of_unit(*choices: Value) -> Value:
            return Mux(backward, Mux(command.wide, choices[2], choices[1]), choices[0])

        m.d.comb += [
            self.assign_unit.eq(of_unit(*(channel >> shift for shift in shifts))),
            lane.eq(of_unit(*(channel[:shift] for shift in shifts))),
        ]
        with m.If(self.start):
            m.d.sync += running.eq(1)
        # The start comes from afar and does the least: the counters begin anew whenever they do not run.
        with m.If(~running):
            m.d.sync += [counter.eq(0) for counter in (element, channel, beat, position, col)]
        with m.Elif(go):
            m.d.sync += [element.eq(element + 1), channel.eq(channel + 1)]
            with m.If(beat_end):
                m.d.sync += beat.eq(beat + 1)
            with m.If(run_end):
                m.d.sync += [beat.eq(0), channel.eq(0), position.eq(position + 1), col.eq(Mux(row_end, 0, col + 1))]
            with m.If(end):
                m.d.sync += running.eq(0)

        # Stage 1: the assignment has arrived; address of the partial sum.
        go_1 = delay(go, "go_1", resets=True)
        data_1 = delay(is_data, "data_1")
        one_1 = delay(is_one, "one_1")
        lane_1 = delay(lane, "lane_1")
        position_1 = delay(position, "position_1")
        slot_lane = Signal(len(self.side_addr))
        m.d.comb += slot_lane.eq(of_unit(*(Cat(Const(0, shift), self.assign_slot) for shift in shifts)) | lane_1)
        m.d.sync += [
            # A position is less than 1 << log2_positions: no bits meet.
            payload(m, self.side_addr, "side_addr_2").eq((slot_lane << command.log2_positions) | position_1),
            self.side_clear.eq(Mux(go_1 & data_1, 1 << self.assign_row, 0)),
        ]

        # Stage 2: a row is asked. Stage 3: it reads and clears. Stage 4: it answers. Stage 5: its word is here; behind
        # a chain of rows stages 4 and up come so much later.
        hops = cfg.chain_rows - 1
        data_5 = delay(data_1, "data", 4 + hops)
        one_5 = delay(one_1, "one", 4 + hops)
        go_4 = delay(go_1, "go", 3 + hops, resets=True)
        go_5 = delay(go_4, "go_5", resets=True)
        element_4 = delay(element, "element", 4 + hops)
        element_5 = delay(element_4, "element_5")
        taken = Signal(columns * acc, reset_less=True)
        m.d.sync += taken.eq(self.side_q)
        begun = delay(self.start, "begun", resets=True)
        with m.If(begun):
            m.d.sync += self.gate_addr.eq(0)
        with m.Elif(go_4 & (element_4 == cfg.bus_elements - 1)):
            m.d.sync += self.gate_addr.eq(self.gate_addr + 1)
        opened = Signal(columns, reset_less=True)  # a memory's answer and what hangs on it do not fit a cycle
        for column in range(columns):
            gates = self.gate_q[column * cfg.bus_elements : (column + 1) * cfg.bus_elements]
            m.d.sync += opened[column].eq(gates.bit_select(element_5, 1))

        # Stage 6: what is not positive becomes zero (ReLU: the sum; gate: the gate's element).
        element_6, one_6, data_6 = delay(element_5, "element_6"), delay(one_5, "one_6"), delay(data_5, "data_6")
        go_6 = delay(go_5, "go_6", resets=True)
        x = Signal(columns * acc, reset_less=True)
        for column in range(columns):
            word = taken[column * acc : (column + 1) * acc]
            keep = Signal(name=f"keep{column}")
            m.d.comb += [
                keep.eq(data_6 & go_6 & ~(command.relu & ~backward & word[-1]) & ~(command.gate & ~opened[column])),
            ]
            m.d.sync += x[column * acc : (column + 1) * acc].eq(Mux(keep, word, 0))

        # Stage 7 to 9: requantise; meanwhile the largest magnitude, as the OR of all of them.
        values, saturations, magnitudes = [], [], []
        for column in range(columns):
            word = x[column * acc : (column + 1) * acc]
            m.submodules[f"requantise{column}"] = requantise = Requantise(acc, a_bits)
            magnitude = Signal(acc, name=f"magnitude{column}", reset_less=True)
            m.d.comb += [requantise.x.eq(word), requantise.shift.eq(self.shift)]
            m.d.sync += magnitude.eq((word ^ word[-1].replicate(acc)) + word[-1])
            values.append(requantise.value)
            saturations.append(requantise.saturated)
            magnitudes.append(magnitude)
        go_8 = delay(go_6, "go_to_8", 2, resets=True)
        with m.If(begun):
            m.d.sync += self.magnitude.eq(0)
        with m.Elif(go_8):  # not what was on its way before a reset
            m.d.sync += self.magnitude.eq(self.magnitude | tree(magnitudes, operator.or_))

        # Stage 9: one element of every column enters the beat.
        element_9, one_9 = delay(element_6, "element_to_9", 3), delay(one_6, "one_to_9", 3)
        data_9 = delay(data_6, "data_to_9", 3)
        go_9 = delay(go_8, "go_9", resets=True)
        packed = Signal(cfg.beat_bits, reset_less=True)
        for column in range(columns):
            result = Signal(a_bits, name=f"result{column}")
            m.d.comb += result.eq(Mux(one_9, self.ones, values[column]))  # padding: x was 0, so is the value
            for e in range(cfg.bus_elements):
                low = (column * cfg.bus_elements + e) * a_bits
                with m.If(go_9 & (element_9 == e)):
                    m.d.sync += packed[low : low + a_bits].eq(result)
        m.d.sync += self.saturated.eq(Mux(go_9 & data_9, total(saturations), 0))

        # Stage 10: a beat is complete.
        run_end_10, row_end_10 = (
            delay(ends, name, 10 + hops) for ends, name in ((run_end, "run_end"), (row_end, "row_end"))
        )
        end_10 = delay(end, "end", 10 + hops)
        position_addr, row_addr = Signal(32, reset_less=True), Signal(32, reset_less=True)
        next_addr, push_addr = Signal(32), payload(m, self.push_addr, "push_addr_10")
        m.d.comb += next_addr.eq(
            Mux(row_end_10, row_addr, position_addr) + Mux(row_end_10, command.out_pitch, command.out_stride)
        )
        m.d.sync += self.push.eq(go_9 & (element_9 == cfg.bus_elements - 1))
        m.d.comb += self.push_data.eq(packed)
        with m.If(self.start):
            m.d.sync += self.done.eq(0)
        with m.If(begun):  # the command's address is there a cycle after the start
            m.d.sync += [address.eq(command.out_addr) for address in (push_addr, position_addr, row_addr)]
        with m.Elif(self.push):
            m.d.sync += push_addr.eq(push_addr + 1)
            with m.If(run_end_10):
                m.d.sync += [position_addr.eq(next_addr), push_addr.eq(next_addr)]
                with m.If(row_end_10):
                    m.d.sync += row_addr.eq(next_addr)
            m.d.sync += self.done.eq(end_10)
        return m
