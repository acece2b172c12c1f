"""Control and status registers, error codes and counters, by name."""

from __future__ import annotations

from enum import IntEnum


class Register(IntEnum):
    """Addresses of the control port (32-bit registers, 9-bit addresses)."""

    CONTROL = 0x00  # write 1: start. Read: bit 0 busy, bit 1 done, bits 15:8 error code
    PROGRAM = 0x01  # first beat of the program
    COMMANDS = 0x02  # number of commands
    ERROR_AT = 0x03  # index of the command that failed
    STEP = 0x04  # training step t; incremented by a commit
    DECAY = 0x05  # lambda^t, 17 bits, 1.0 = 2**16; multiplied by LAMBDA in a commit
    LAMBDA = 0x06
    THRESHOLD = 0x07  # log2 theta, unsigned, 20 fraction bits
    KEEP = 0x08  # 1-q, unsigned, 16 fraction bits
    RATE = 0x09  # quantile estimator: right shift of the error
    LEARNING = 0x0A  # bits 15:0 mantissa, bits 31:16 exponent (signed)
    PERIOD = 0x0B  # log2 of the exploration period T
    WEIGHT_EXPONENT = 0x0C  # signed
    MODE = 0x0D  # bit 0: dense mode (keep every visited weight, explore none)
    LOSS = 0x0E  # of the last softmax, sum over the minibatch in bits with 20 fraction bits; low 32 bits, then 16 high
    LOSS_HIGH = 0x0F
    RIGHT = 0x10  # right answers of the last softmax
    EXPONENT = 0x100  # + tensor: signed exponent
    COUNTER = 0x80  # + Counter
    ROW_COUNTER = 0xC0  # + row: busy cycles of that row in the last program (low 32 bits)


class Status(IntEnum):
    """Error codes. Zero is success; any other leaves the weights of the step before intact."""

    OK = 0
    MAGIC = 1  # not a command
    FIELD = 2  # a size is zero or contradicts another
    GATHER_OVERFLOW = 3  # gathered operand does not fit the gather bank
    UNITS_OVERFLOW = 4  # more units than the balancer, or rows * cap, hold
    PSUM_OVERFLOW = 5  # cap * lanes * positions exceed the psum bank
    MASK_OVERFLOW = 6  # a row's weight buffer has no room for another mask beat
    VALUE_OVERFLOW = 7  # ... for another value beat
    UPDATE_OVERFLOW = 8  # a row's update buffer is full: more weights kept than it holds
    STORE_OVERFLOW = 9  # the new region exceeds its limit in memory
    HEADER = 10  # a region's header contradicts its masks
    GATE_OVERFLOW = 11  # gate tensor does not fit the gate buffer
    PROGRAM = 12  # zero commands
    SUM_OVERFLOW = 13  # more visits in a row than it can store gradients of


class Counter(IntEnum):
    """Counters of the last program."""

    CYCLES = 0  # start to done
    BUSY = 1  # row-cycles in which a row issued a MAC or DOT
    SCAN = 2  # row-cycles spent on a mask word with nothing to visit
    BARRIER = 3  # row-cycles waiting for slower rows within compute
    WAIT_LOAD = 4  # cycles of slots after compute was done, load still running
    WAIT_PLAN = 5  # ... load done, plan still running
    WAIT_DRAIN = 6  # ... load and plan done, drain still running
    SATURATED = 7  # saturated requantisations (drain) and updates
    TRACKED = 8  # weights kept in weight updates of this program
    ADOPTED = 9  # kept now, not before
    EVICTED = 10  # before, not now
    SEEN = 11  # visits in weight updates
    READS = 12  # beats read
    WRITES = 13  # beats written
