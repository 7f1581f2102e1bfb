"""Window buffer of R-MAC: a small RAM per core and slot, and the way from there to the multipliers."""

from amaranth import Array, C, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ...arch.config import AcceleratorConfig
from ...memory.ram import ram
from ...units.copies import copies

REACH = 3  #: the largest kernel's k // 2: columns beside an output pixel's own
CARRIES = range(-1, 3)  #: groups between an output group (times the stride) and a tap's group
ADDRESSED = 3  #: memories of a core that a copy of their address serves
LATENCY = 6  #: cycles from a step to its operands: two address registers, RAM, padding, rotator


def step_layout(config: AcceleratorConfig) -> data.StructLayout:
    """What a step reads. A tap of depthwise convolution, or one group of K^T V (column REACH, stride 0, pad 0)."""
    c = config
    halves = {"half": 1} if c.tap_cycles == 2 else {}  # stride 2: upper half of the output cores
    return data.StructLayout(
        {
            "addr": range(c.window_rows),  # of the word of group ``group`` in the tap's map row
            "row_ok": 1,  # the tap's map row exists
            "group": signed(10),  # group in the map row of output pixel 0's own column
            "last_group": 7,
            "rest": c.cores,  # pixels of the last group
            "sets": 7,  # window rows from one group to the next
            "narrow": 1,  # slots are groups of a map row
            "column": range(2 * REACH + 1),  # tap's column minus k // 2, plus REACH
            "stride": 1,
            **halves,
            "pad": 8,
            "k_slot": range(c.width),
            "v_slot": range(c.width),
            "part": 1,  # K^T V: which ``width`` bytes of the k word
        }
    )


def write_members(config: AcceleratorConfig) -> dict:
    """Ports by which the fetch writes: a word of every core into a slot; with ``write_pair`` (pool_words 2) also one
    into the slot behind it. The data come a cycle later, then those of odd slots in ``write_odd``."""
    c = config
    members = {
        "write": Out(1),
        "write_addr": Out(range(c.window_rows)),
        "write_slot": Out(range(c.width)),
        "write_data": Out(c.row_bytes * 8),
    }
    return members | ({"write_pair": Out(1), "write_odd": Out(c.row_bytes * 8)} if c.pool_words == 2 else {})


def lower_cores(config: AcceleratorConfig) -> int:
    """Output cores of a stride-2 tap's first cycle: all of an odd number, since 2 j mod cores are all different."""
    return config.cores // config.tap_cycles


def turns(config: AcceleratorConfig, column: int, stride: int, half: int) -> tuple[int, list[int]]:
    """Rotation (output = source + rotation, stride 2: 2 * output) and the carry of every source core."""
    cores, first = config.cores, half * lower_cores(config)
    carry = [0] * cores
    outputs = range(cores) if not stride else range(first, cores if half else lower_cores(config))
    for j in outputs:
        group, source = divmod(j * (1 + stride) + column - REACH, cores)
        carry[source] = group
    return (first * 2 + column - REACH) % cores, carry


def _levels(count: int) -> int:
    """Multiplexers of four that choose one of ``count`` one behind the other: each takes the result of the one before
    and three more. A bit of each is one 6-input LUT."""
    return max(1, -(-(count - 1) // 3))


def _path(number: int, count: int) -> list[int]:
    """The choices of all levels for one of ``count``."""
    return [0 if number < at else min(number - at + (at > 0), 3) for at in (0, *range(4, count, 3))]


def _one_of(values: list, choices: list):
    """One of ``values`` by the choices of _path."""
    found, rest = None, list(values)
    for choice in choices:
        four = [] if found is None else [found]
        while rest and len(four) < 4:
            four.append(rest.pop(0))
        four += four[-1:] * (4 - len(four))
        found = Mux(choice[1], Mux(choice[0], four[3], four[2]), Mux(choice[0], four[1], four[0]))
    return found


class WindowBuffer(wiring.Component):
    """``window_rows`` rows of ``width`` slots (words) for each core; writes a word of each core, reads all slots.

    Output core j of a step has the slots of pixel (group, (1 + stride) * j + column - REACH), which may lie in a group
    beside: every core is read at an address of its own, then all are rotated. Narrow mapping: slot j belongs to group
    ``group`` + j, a neighbouring group is a neighbouring slot. Pixels outside the map read ``pad``. At stride 2 an odd
    number of cores reads a tap at once; of an even number two outputs want each core, so a tap takes two cycles, and
    the output cores that a cycle leaves out read 0.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    write, write_addr, write_slot ; write_data, a cycle later : one word of every core (write_members)
    step : what is read (step_layout)
    slots : byte ``(core * width + slot) * word + channel``
    k : byte ``core * width + i``, part ``part`` of slot ``k_slot``; v : byte ``core * word + e``, slot ``v_slot``;
        neither is rotated

    Latency/throughput: step of cycle t -> operands in t + LATENCY (6); one step and one write (pool_words 2: of two
    slots) a cycle.

    Reference: arch.arith.depthwise (the pixels of each tap)
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = c = config
        super().__init__(
            {
                **{name: member.flip() for name, member in write_members(c).items()},
                "step": In(step_layout(c)),
                "slots": Out(c.cores * c.width * c.word * 8),
                "k": Out(c.cores * c.width * 8),
                "v": Out(c.row_bytes * 8),
            }
        )

    @property
    def module_name(self) -> str:
        """For ``block``."""
        c = self._config
        luts = f"_{c.window_lut_cores}" if c.window_lut_cores else ""
        pairs = "_pairs" * (c.pool_words == 2)
        return f"vf_window_buffer_{c.cores}x{c.width}x{c.word}x{c.window_rows}{luts}{pairs}"

    def elaborate(self, platform):
        c = self._config
        m = Module()
        bits = c.word * 8
        steps = [self.step]
        for i in range(1, LATENCY):
            s = Signal(step_layout(c), name=f"step{i}", reset_less=True)
            m.d.sync += s.eq(steps[-1])
            steps.append(s)

        # ---- stage 1: carry of each core, rotation, which pixels exist
        s = steps[1]
        carry = [Signal(signed(3), name=f"carry{core}") for core in range(c.cores)]
        turn = [Signal(range(c.cores), name=f"turn{i}", reset_less=True) for i in range(3)]
        now = Signal(range(c.cores))
        halved = c.tap_cycles == 2
        with m.Switch(Cat(s.column, s.stride, s.half if halved else C(0, 1))):
            for column in range(2 * REACH + 1):
                for stride, half in ((0, 0), (1, 0), (1, 1))[: 2 + halved]:
                    with m.Case(column | stride << len(s.column) | half << len(s.column) + 1):
                        rotation, carries = turns(c, column, stride, half)
                        m.d.comb += [now.eq(rotation), *(to.eq(v) for to, v in zip(carry, carries, strict=True))]
        m.d.sync += [turn[0].eq(now), *(b.eq(a) for a, b in zip(turn, turn[1:], strict=False))]

        exists = {}  # groups beside the step's own: (all its pixels, those of the last group)
        for n in range(CARRIES[0], c.width + CARRIES[-1]):
            number = (s.group + n)[: len(s.group)].as_signed()
            full, rest = Signal(name=f"full{n + 1}"), Signal(name=f"rest{n + 1}")
            m.d.comb += [
                full.eq(s.row_ok & ~number[-1] & (number < s.last_group)),
                rest.eq(s.row_ok & (number == s.last_group)),
            ]
            exists[n] = full, rest
        ok = Signal(c.cores * c.width)
        for core in range(c.cores):
            with m.Switch(carry[core]):
                for value in CARRIES:
                    with m.Case(value):
                        for slot in range(c.width):
                            by_slot = [exists[n][0] | exists[n][1] & s.rest[core] for n in (value, slot + value)]
                            m.d.comb += ok[core * c.width + slot].eq(Mux(s.narrow, by_slot[1], by_slot[0]))
        oks = [Signal(len(ok), name=f"ok{i}", reset_less=True) for i in range(2)]
        m.d.sync += [a.eq(b) for a, b in zip(oks, (ok, *oks), strict=False)]
        carries = [Cat(carry)]
        for i in range(2):
            r = Signal(3 * c.cores, name=f"carries{i}", reset_less=True)
            m.d.sync += r.eq(carries[-1])
            carries.append(r)

        # ---- stages 2 and 3: RAMs; the outer slots of the narrow mapping have addresses of their own
        words = []
        two = c.pool_words == 2
        write_pair = [self.write_pair] if two else []
        writes = copies(m, c.cores, "write", self.write, self.write_addr, self.write_slot, *write_pair)
        for core, (write, write_addr, write_slot, *pair) in enumerate(writes):
            addresses = []
            with_carry = Signal(range(c.window_rows), name=f"with_carry{core}")
            with m.Switch(carry[core]):
                for value in CARRIES:
                    with m.Case(value):
                        moved = {-1: s.addr - s.sets, 0: s.addr, 1: s.addr + s.sets, 2: s.addr + Cat(C(0, 1), s.sets)}
                        m.d.comb += with_carry.eq(moved[value][: len(with_carry)])
            inner = c.width - 2
            for name, slots, narrow in (
                ("low", 1, (s.addr + (carry[core] == 1))),
                ("mid", inner, s.addr),
                ("high", 1, (s.addr - (carry[core] == -1))),
            ):
                number = -(-slots // ADDRESSED)
                address = Mux(s.narrow, narrow[: len(with_carry)], with_carry)
                found = [a for (a,) in copies(m, number, f"addr_{name}{core}_", address)]
                addresses += [found[slot // ADDRESSED] for slot in range(slots)]
            row = []
            for slot, address in enumerate(addresses):
                memory = ram(bits, c.window_rows, "distributed" if core < c.window_lut_cores else "")
                m.submodules[f"ram{core}_{slot}"] = memory
                mine = write_slot == slot
                if two and slot:
                    mine |= pair[0] & (write_slot == slot - 1)
                given = self.write_odd if two and slot % 2 else self.write_data
                m.d.comb += [
                    memory.write_enable.eq(write & mine),
                    memory.write_addr.eq(write_addr),
                    memory.write_data.eq(given.word_select(core, bits)),
                    memory.read_enable.eq(1),
                    memory.read_addr.eq(address),
                ]
                row.append(memory.read_data)
            words.append(row)

        # ---- stage 4: slots turned (narrow mapping), pixels outside the map: one of four, chosen a cycle ahead
        s = steps[3]
        padded = []
        for core in range(c.cores):
            by = carries[2].word_select(core, 3).as_signed()
            row = []
            for slot in range(c.width):
                chosen, pick = Signal(2, name=f"chosen{core}_{slot}"), Signal(2, name=f"pick{core}_{slot}")
                with m.If(~oks[1][core * c.width + slot]):
                    m.d.comb += chosen.eq(3)
                with m.Elif(s.narrow & (by == 1)):
                    m.d.comb += chosen.eq(1)
                with m.Elif(s.narrow & (by == -1)):
                    m.d.comb += chosen.eq(2)
                m.d.sync += pick.eq(chosen)
                own, after, before = (words[core][(slot + n) % c.width] for n in (0, 1, -1))
                r = Signal(bits, name=f"padded{core}_{slot}", reset_less=True)
                m.d.sync += r.eq(_one_of([own, after, before, steps[4].pad.replicate(c.word)], [pick]))
                row.append(r)
            padded.append(row)

        # ---- stage 5: each output core takes one of all cores, or 0; K^T V takes its words in front of it
        s = steps[4]
        lower = lower_cores(c)
        outputs = []
        for core in range(c.cores):
            at = Mux(s.stride, 2 * (core % lower) % c.cores, core) + turn[2]
            picks = [Signal(2, name=f"turn{core}_{level}") for level in range(_levels(c.cores))]
            with m.Switch(at):
                for number in range(2 * c.cores - 1):
                    with m.Case(number):
                        m.d.comb += [p.eq(v) for p, v in zip(picks, _path(number % c.cores, c.cores), strict=True)]
            none = [s.stride & (s.half != (core >= lower))] if halved else []
            row = []
            for slot, own in enumerate(copies(m, c.width, f"picks{core}_", *picks, *none)):
                out = Signal(bits, name=f"out{core}_{slot}", reset_less=True)
                m.d.sync += out.eq(_one_of([padded[source][slot] for source in range(c.cores)], own[: len(picks)]))
                if halved:
                    with m.If(own[-1]):
                        m.d.sync += out.eq(0)
                row.append(out)
            outputs.append(Cat(row))
        k = Signal(len(self.k), reset_less=True)
        v = Signal(len(self.v), reset_less=True)
        chosen = copies(m, c.cores, "outer", s.k_slot, s.part, s.v_slot)
        for core, (row, (k_slot, part, v_slot)) in enumerate(zip(padded, chosen, strict=True)):
            parts = Array(word.word_select(part, c.width * 8) for word in row)
            m.d.sync += [
                k.word_select(core, c.width * 8).eq(parts[k_slot]),
                v.word_select(core, bits).eq(Array(row)[v_slot]),
            ]
        m.d.comb += [self.slots.eq(Cat(outputs)), self.k.eq(k), self.v.eq(v)]
        return m
