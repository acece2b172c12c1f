// Batch harness: clocks a verilated accelerator against a deterministic memory, without leaving C++.
//
// One shared object holds this file and the model; scripts/harness.py builds it, loads it and calls
// the functions at the end. Nothing is allocated per cycle: queues and logs grow by doubling.
//
// harness_config.h is generated: BEAT_BYTES, ROWS, HAS_TRACE, HAS_CENTRAL, HAS_ACTIVITY.

#include <cstdint>
#include <cstring>
#include <memory>
#include <type_traits>
#include <vector>

#include "Vtop.h"
#include "harness_config.h"
#include "verilated.h"
#if HAS_ACTIVITY
#include "verilated_saif_c.h"
#endif

double sc_time_stamp() { return 0; }

namespace {

// A port of up to 64 bits is an integer, a wider one an array of 32-bit words, lowest first. Both
// are little-endian bytes in memory on the machines Verilator runs on.
template <class Port>
inline void get_port(const Port& port, void* bytes, size_t size) {
    if constexpr (std::is_integral_v<Port>)
        std::memcpy(bytes, &port, size);
    else
        std::memcpy(bytes, port.data(), size);
}

template <class Port>
inline void set_port(Port& port, const void* bytes, size_t size) {
    if constexpr (std::is_integral_v<Port>)
        std::memcpy(&port, bytes, size);
    else
        std::memcpy(port.data(), bytes, size);
}

struct Response {
    uint64_t due;
    uint8_t data[BEAT_BYTES];
};

// First in, first out, in a ring whose size is a power of two.
class Queue {
public:
    Queue() : slots(64) {}
    bool empty() const { return head == tail; }
    Response& front() { return slots[head & (slots.size() - 1)]; }
    void pop() { ++head; }
    void clear() { head = tail = 0; }
    Response& push() {
        if (tail - head == slots.size()) grow();
        return slots[tail++ & (slots.size() - 1)];
    }

private:
    void grow() {
        std::vector<Response> wider(slots.size() * 2);
        for (uint64_t i = head; i != tail; ++i)
            wider[i & (wider.size() - 1)] = slots[i & (slots.size() - 1)];
        slots.swap(wider);
    }
    std::vector<Response> slots;
    uint64_t head = 0, tail = 0;
};

struct Access {
    uint64_t cycle, address;
};

struct Fault {
    uint64_t kind;  // 0 none, 1 read, 2 write
    uint64_t address, cycle;
};

class Harness {
public:
    explicit Harness(uint64_t response_latency)
        : latency(response_latency), context(new VerilatedContext) {
        context->threads(1);  // else every context keeps idle threads
#if HAS_ACTIVITY
        context->traceEverOn(true);
#endif
        top.reset(new Vtop(context.get(), "top"));
        top->clk = 1;
        top->eval();
    }

    // A model leaves the thread's current context, which would be the one of the harness that ran last: it may be gone.
    ~Harness() { Verilated::threadContextp(context.get()); }

    void reset(uint64_t cycles) {
        top->rst = 1;
        for (uint64_t i = 0; i < cycles; ++i) {
            queue.clear();
            presenting = false;
            cycle<false>();
        }
        top->rst = 0;
        queue.clear();
        presenting = false;
        fault = Fault{};
        started = false;
    }

    void write(uint32_t address, uint32_t value) {
        top->ctl_addr = address;
        top->ctl_wdata = value;
        top->ctl_we = 1;
        cycle<false>();
        top->ctl_we = 0;
    }

    uint32_t read(uint32_t address) {
        top->ctl_addr = address;
        top->clk = 0;
        top->eval();
        return top->ctl_rdata;
    }

    void begin() {
        reads.clear();
        writes.clear();
        trace.clear();
        central.clear();
        started = false;
        busy_cycles = 0;
    }

    // Runs at most `budget` cycles. 1: the design was busy and no longer is; 0: not finished.
    int run(uint64_t budget, bool with_trace) {
        return with_trace ? run_while_busy<true>(budget) : run_while_busy<false>(budget);
    }

    // Counts the changes of every signal from now on; with `path` null, writes them to the file and ends.
    void activity(const char* path) {
#if HAS_ACTIVITY
        if (path) {
            saif.reset(new VerilatedSaifC);
            top->trace(saif.get(), 99);
            saif->open(path);
        } else if (saif) {
            saif->close();
            saif.reset();
        }
#else
        (void)path;
#endif
    }

    void step(uint64_t cycles) {
        for (uint64_t i = 0; i < cycles; ++i) cycle<false>();
    }

    void set_stalls(uint64_t seed, uint64_t request, uint64_t response, uint64_t write_) {
        random_state = seed * 0x9E3779B97F4A7C15u + 0x2545F4914F6CDD1Du;
        stall_request = request;
        stall_response = response;
        stall_write = write_;
        stalling = request || response || write_;
    }

    uint8_t* memory = nullptr;
    uint64_t beats = 0;
    uint64_t busy_cycles = 0;
    Fault fault{};
    std::vector<Access> reads, writes;
    std::vector<uint64_t> trace, central;

private:
    template <bool with_trace>
    int run_while_busy(uint64_t budget) {
        for (uint64_t i = 0; i < budget; ++i) {
            const bool busy = cycle<with_trace>();
            if (busy) {
                started = true;
                ++busy_cycles;
            } else if (started) {
                return 1;
            }
        }
        return 0;
    }

    // One clock cycle; true when the design was busy in it.
    template <bool with_trace>
    bool cycle() {
        bool request_ready = true, write_ready = true;
        if (!presenting && !queue.empty() && queue.front().due <= now && !chance(stall_response)) {
            presenting = true;
            set_port(top->rd_resp_data, queue.front().data, BEAT_BYTES);
        }
        if (stalling) {
            request_ready = !chance(stall_request);
            write_ready = !chance(stall_write);
        }
        top->rd_req_ready = request_ready;
        top->wr_ready = write_ready;
        top->rd_resp_valid = presenting;
        top->clk = 0;
        top->eval();  // combinational outputs settle with the inputs of this cycle

        const bool busy = top->busy;
        if (with_trace && busy) record();
        if (presenting && top->rd_resp_ready) {
            queue.pop();
            presenting = false;
        }
        // Reads before writes: a read sees what was written in earlier cycles, not in this one.
        if (request_ready && top->rd_req_valid) accept_read(top->rd_req_addr);
        if (write_ready && top->wr_valid) accept_write(top->wr_addr);

#if HAS_ACTIVITY
        if (saif) saif->dump(2 * now);
#endif
        top->clk = 1;
        top->eval();
#if HAS_ACTIVITY
        if (saif) saif->dump(2 * now + 1);
#endif
        ++now;
        return busy;
    }

    void accept_read(uint64_t address) {
        reads.push_back({busy_cycles, address});
        Response& response = queue.push();
        response.due = now + latency;
        if (address < beats) {
            std::memcpy(response.data, memory + address * BEAT_BYTES, BEAT_BYTES);
        } else {
            std::memset(response.data, 0, BEAT_BYTES);
            note_fault(1, address);
        }
    }

    void accept_write(uint64_t address) {
        writes.push_back({busy_cycles, address});
        if (address < beats)
            get_port(top->wr_data, memory + address * BEAT_BYTES, BEAT_BYTES);
        else
            note_fault(2, address);
    }

    void note_fault(uint64_t kind, uint64_t address) {
        if (!fault.kind) fault = Fault{kind, address, busy_cycles};
    }

    void record() {
#if HAS_TRACE
        const size_t at = trace.size();
        trace.resize(at + ROWS);
        get_port(top->trace_rows, trace.data() + at, ROWS * 8);
#endif
#if HAS_CENTRAL
        central.push_back(top->trace_central);
#endif
    }

    // True with probability threshold / 2**32 (splitmix64).
    bool chance(uint64_t threshold) {
        if (!threshold) return false;
        uint64_t z = (random_state += 0x9E3779B97F4A7C15u);
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        return ((z ^ (z >> 31)) >> 32) < threshold;
    }

    const uint64_t latency;
    std::unique_ptr<VerilatedContext> context;
    std::unique_ptr<Vtop> top;
#if HAS_ACTIVITY
    std::unique_ptr<VerilatedSaifC> saif;
#endif
    Queue queue;
    bool presenting = false, started = false, stalling = false;
    uint64_t now = 0, random_state = 0;
    uint64_t stall_request = 0, stall_response = 0, stall_write = 0;
};

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT void* harness_create(uint64_t latency) { return new Harness(latency); }
EXPORT void harness_destroy(void* h) { delete static_cast<Harness*>(h); }
EXPORT void harness_memory(void* h, uint8_t* memory, uint64_t beats) {
    static_cast<Harness*>(h)->memory = memory;
    static_cast<Harness*>(h)->beats = beats;
}
EXPORT void harness_reset(void* h, uint64_t cycles) { static_cast<Harness*>(h)->reset(cycles); }
EXPORT void harness_write(void* h, uint32_t address, uint32_t value) {
    static_cast<Harness*>(h)->write(address, value);
}
EXPORT uint32_t harness_read(void* h, uint32_t address) { return static_cast<Harness*>(h)->read(address); }
EXPORT void harness_step(void* h, uint64_t cycles) { static_cast<Harness*>(h)->step(cycles); }
EXPORT void harness_stalls(void* h, uint64_t seed, uint64_t request, uint64_t response, uint64_t write) {
    static_cast<Harness*>(h)->set_stalls(seed, request, response, write);
}
EXPORT void harness_activity(void* h, const char* path) { static_cast<Harness*>(h)->activity(path); }
EXPORT void harness_begin(void* h) { static_cast<Harness*>(h)->begin(); }
EXPORT int harness_run(void* h, uint64_t budget, int trace) { return static_cast<Harness*>(h)->run(budget, trace); }
EXPORT uint64_t harness_cycles(void* h) { return static_cast<Harness*>(h)->busy_cycles; }
EXPORT void harness_fault(void* h, uint64_t* out) {
    std::memcpy(out, &static_cast<Harness*>(h)->fault, sizeof(Fault));
}
// Logs: 0 reads, 1 writes (pairs of cycle and address), 2 trace, 3 central trace. Length in words.
EXPORT uint64_t harness_log(void* h, int which, const uint64_t** words) {
    auto* harness = static_cast<Harness*>(h);
    if (which < 2) {
        const auto& log = which == 0 ? harness->reads : harness->writes;
        *words = reinterpret_cast<const uint64_t*>(log.data());
        return log.size() * 2;
    }
    const auto& log = which == 2 ? harness->trace : harness->central;
    *words = log.data();
    return log.size();
}
