"""Driving and observing streams one clock cycle at a time, without knowing which simulator turns the clock.

The stream rules are checked on the way: a valid word stays valid and unchanged until it is taken.
"""

import dataclasses
import itertools
import random
from collections.abc import Mapping, Sequence


def _random_bits(seed: int, ones: float, length: int = 997) -> tuple[int, ...]:
    generator = random.Random(seed)
    return tuple(int(generator.random() < ones) for _ in range(length))


# Name -> bits, repeated for ever: may a word be offered (idle patterns), is the receiver ready (stall patterns).
PATTERNS: dict[str, tuple[int, ...]] = {
    "full": (1,),
    "alternate": (1, 0),
    "bursts": (1,) * 7 + (0,) * 5,
    "random": _random_bits(1, 0.5),
    "rare": _random_bits(2, 0.15),
}
CROSSED = tuple(itertools.product(("full", "alternate", "random"), ("full", "bursts", "random")))
"""(idle, stall) pairs: the test axes of every stream unit."""


class StreamRuleBroken(AssertionError):
    """The component changed or withdrew a word before it was taken; the message names stream and cycle."""


@dataclasses.dataclass
class Transfers:
    """What went over one stream: the payloads as unsigned ints, and the clock edge of each (0 = first after reset)."""

    values: list[int] = dataclasses.field(default_factory=list)
    cycles: list[int] = dataclasses.field(default_factory=list)


def pattern(name_or_bits: str | Sequence[int]) -> tuple[int, ...]:
    """Bits of a named pattern, or the bits given. Raises ValueError for an unknown name or a pattern without a 1."""
    if isinstance(name_or_bits, str):
        if name_or_bits not in PATTERNS:
            raise ValueError(f"pattern must be one of {', '.join(PATTERNS)}, not {name_or_bits!r}")
        return PATTERNS[name_or_bits]
    bits = tuple(int(bool(bit)) for bit in name_or_bits)
    if not any(bits):
        raise ValueError("pattern must have at least one 1")
    return bits


class Driver:
    """Plays input streams and takes output streams.

    inputs: stream name -> payloads; outputs: stream name -> number of words expected; idle, stall: patterns (each
    stream reads them at a place of its own); linger: cycles to go on after the last expected word, so that surplus
    words are seen; max_cycles: give up then.
    """

    def __init__(
        self, inputs: Mapping[str, Sequence[int]], outputs: Mapping[str, int], idle, stall, linger: int, max_cycles: int
    ):
        self.inputs = {name: list(values) for name, values in inputs.items()}
        self.expected = dict(outputs)
        self.idle, self.stall = pattern(idle), pattern(stall)
        self.linger, self.max_cycles = linger, max_cycles
        self.cycle = 0
        self.sent = {name: Transfers() for name in self.inputs}
        self.taken = {name: Transfers() for name in self.expected}
        self._offered = dict.fromkeys(self.inputs, False)
        self._waiting: dict[str, int] = {}  # output stream -> payload that was valid and not taken
        self._rest = linger

    def drive(self) -> tuple[dict[str, tuple[int, int]], dict[str, int]]:
        """Levels for this cycle: input stream -> (valid, payload), output stream -> ready."""
        offers, ready = {}, {}
        for place, (name, values) in enumerate(self.inputs.items()):
            position = len(self.sent[name].values)
            if not self._offered[name]:  # once offered, a word stays
                allowed = self.idle[(self.cycle + 3 * place) % len(self.idle)]
                self._offered[name] = position < len(values) and bool(allowed)
            offered = self._offered[name]
            # the payload while not valid is noise: nothing may depend on it
            offers[name] = (int(offered), values[position] if offered else (values[position - 1] if values else 0))
        for place, name in enumerate(self.expected):
            ready[name] = self.stall[(self.cycle + 5 * place) % len(self.stall)]
        return offers, ready

    def sample(self, input_ready: Mapping[str, int], outputs: Mapping[str, tuple[int, int]], ready: Mapping[str, int]):
        """Takes the levels just before the clock edge: input stream -> ready, output stream -> (valid, payload)."""
        for name, is_ready in input_ready.items():
            if self._offered[name] and is_ready:
                self.sent[name].values.append(self.inputs[name][len(self.sent[name].values)])
                self.sent[name].cycles.append(self.cycle)
                self._offered[name] = False
        for name, (valid, payload) in outputs.items():
            if name in self._waiting and (not valid or payload != self._waiting[name]):
                now = f"{payload:#x}" if valid else "nothing"
                raise StreamRuleBroken(
                    f"stream {name} must hold {self._waiting[name]:#x} until it is taken, not offer {now} "
                    f"in cycle {self.cycle}"
                )
            self._waiting.pop(name, None)
            if valid and ready[name]:
                self.taken[name].values.append(payload)
                self.taken[name].cycles.append(self.cycle)
            elif valid:
                self._waiting[name] = payload
        self.cycle += 1

    @property
    def complete(self) -> bool:
        """All words sent and received."""
        return all(len(self.sent[n].values) == len(v) for n, v in self.inputs.items()) and all(
            len(self.taken[n].values) >= count for n, count in self.expected.items()
        )

    @property
    def finished(self) -> bool:
        """No more cycles needed; call once per cycle."""
        if self.complete:
            self._rest -= 1
        return self._rest < 0 or self.cycle >= self.max_cycles

    def state(self) -> str:
        """How far it came, for messages."""
        parts = [f"{n} sent {len(self.sent[n].values)} of {len(v)}" for n, v in self.inputs.items()]
        parts += [f"{n} received {len(self.taken[n].values)} of {c}" for n, c in self.expected.items()]
        return f"{', '.join(parts)} after {self.cycle} cycles"

    def answer(self, error: str | None) -> dict:
        """What the simulation reports, as plain JSON values."""
        transfers = {name: [t.values, t.cycles] for name, t in (self.sent | self.taken).items()}
        return {"transfers": transfers, "complete": self.complete, "state": self.state(), "error": error}
