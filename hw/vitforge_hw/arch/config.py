"""What an accelerator instance looks like: one frozen dataclass with every cross-check, and the named presets."""

import dataclasses
import hashlib
import json
import re

from .isa import PARAM_BYTES, Chunk
from .limits import ACC_BITS, ACT_ROWS, ATTEND_ACC_BITS, KSUM_ROWS, MAX_CHANNELS, MAX_K, MAX_TOKENS, WEIGHT_ROWS
from .parameter import did_you_mean, parameter


@dataclasses.dataclass(frozen=True, kw_only=True)
class AcceleratorConfig:
    """A preset's parameters. Every buffer address counts *rows*: one word of each of the ``cores`` banks.

    A *group* is ``cores`` consecutive tokens; all chunks work on the tokens of one group side by side.
    A *word* is ``word`` int8 channels of one token; ``lanes`` = ``word``, ``width`` divides it.
    """

    name: str = parameter("custom", "names files; of no other consequence")
    cores: int = parameter(
        8, "tokens side by side: banks of the activation buffer; with trio at least 4; with attention even, divides "
        "word", "tokens", least=2, most=16,
    )  # fmt: skip
    word: int = parameter(16, "int8 channels per word; lanes of an engine", "channels", choices=(8, 16))
    width: int = parameter(
        16, "input channels that an engine takes a cycle, slots of R-MAC's self-accumulation; at most word, with "
        "attention equal to it", "channels", choices=(8, 16),
    )  # fmt: skip
    trio: bool = parameter(False, "Trio-ViT's units: R-MAC beside MAT, dyadic re-quantization, Hardswish, division")
    attention: bool = parameter(True, "P2-ViT's attention: softmax, shifter array, key loader")
    w4: bool = parameter(
        False, "weights of 4 bits run at twice the rate: four products a multiplier, two output tiles a step; without "
        "trio",
    )  # fmt: skip
    packed: bool = parameter(
        True, "two int8 products share a multiplier of 27 x 18 bits (UltraScale+); false: each has its own, of 8 x 8 "
        "bits (7-series, ECP5), without trio and w4",
    )  # fmt: skip
    window_rows: int = parameter(
        128, "R-MAC's window buffer (width words of every core each)", "rows", most=256, power_of_two=True
    )
    ksum_rows: int = parameter(128, "Ksum memory", "words", most=KSUM_ROWS, power_of_two=True)
    post_channels: int = parameter(
        4, "post-processing lanes per core (channels finished a cycle), shared by the engines; a divisor of word",
        "channels", most=16,
    )  # fmt: skip
    attend_keys: int = parameter(
        4, "keys that the shifter array adds a cycle (rows x keys x channels = cores x this x word); a divisor of "
        "cores", "keys", most=16,
    )  # fmt: skip
    pools: int = parameter(
        2, "independent pools of the activation buffer, one read and one write a cycle each; pools * pool_rows at most "
        "65536", "pools", most=ACT_ROWS, power_of_two=True,
    )  # fmt: skip
    pool_words: int = parameter(
        1, "words of each core that R-MAC's window fetch reads of a pool in a cycle; 2: two blocks of a pixel, from "
        "banks of even and of odd rows; with trio", "words", choices=(1, 2),
    )  # fmt: skip
    pool_rows: int = parameter(4096, "a pool (cores * word bytes each)", "rows", most=ACT_ROWS, power_of_two=True)
    weight_rows: int = parameter(2560, "weight buffer (lanes * width bytes each)", "rows", most=WEIGHT_ROWS)
    param_rows: int = parameter(
        1024, "post-processing parameters (one AXI beat of all masters each)", "rows", most=WEIGHT_ROWS,
        power_of_two=True,
    )  # fmt: skip
    ln_param_rows: int = parameter(
        256, "LayerNorm parameters (one beat of all masters each)", "rows", most=WEIGHT_ROWS, power_of_two=True
    )
    max_k: int = parameter(
        3072, f"longest reduction of the PE array (group register: 2 x cores x max_k bytes; {ACC_BITS}-bit sums), "
        "a multiple of word", "channels", most=MAX_K,
    )  # fmt: skip
    max_channels: int = parameter(1024, "longest LayerNorm row (range of its z)", "channels", most=MAX_CHANNELS)
    max_tokens: int = parameter(
        256, f"longest softmax row ({ATTEND_ACC_BITS}-bit attention accumulators)", "tokens", most=MAX_TOKENS
    )
    code_rows: int = parameter(
        1024, "code ring between softmax and shifter array (cores * attend_keys codes each); holds two rows of "
        "max_tokens codes", "rows", most=1 << 16, power_of_two=True,
    )  # fmt: skip
    program_rows: int = parameter(1024, "program memory", "beats", most=1 << 16, power_of_two=True)
    masters: int = parameter(4, "AXI masters of 128 bits", "ports", choices=(1, 2, 4))
    burst_beats: int = parameter(16, "longest AXI burst (AXI4)", "beats", most=256, power_of_two=True)
    read_fifo_beats: int = parameter(
        256, "read data that each master can have in flight or waiting; two bursts at least", "beats", most=1 << 16,
        power_of_two=True,
    )  # fmt: skip
    job_depth: int = parameter(8, "job queue", "jobs", most=128, power_of_two=True)
    ultraram: bool = parameter(
        False, "activation and weight buffers in UltraRAM, 4096 x 72 bits (UltraScale+ parts that have it)"
    )
    window_lut_cores: int = parameter(
        0, "cores whose window memories (128 bits x window_rows for each slot, two block RAMs of 36 kbit) are in LUTs",
        "cores", most=16, least=0,
    )  # fmt: skip
    watchdog_bits: int = parameter(
        24, "2^n cycles without progress are an error, until register watchdog is written", "bits", most=31
    )

    # ---- derived
    lanes = property(lambda s: s.word)
    engines = property(lambda s: 1 + s.trio)
    multipliers = property(lambda s: s.cores * s.lanes * s.width * s.engines)
    row_bytes = property(lambda s: s.cores * s.word, doc="bytes of one activation-buffer row")
    weight_row_bytes = property(lambda s: s.lanes * s.width)
    tap_cycles = property(
        lambda s: 2 - s.cores % 2,
        doc="cycles of a depthwise tap at stride 2: pixels 2 j lie in different banks where cores is odd",
    )
    beat_bytes = property(lambda s: 16 * s.masters, doc="bytes of one beat of all masters together")
    beats_per_row = property(lambda s: -(-s.row_bytes // s.beat_bytes), doc="a row is padded to whole beats in DRAM")
    beats_per_weight_row = property(lambda s: s.weight_row_bytes // s.beat_bytes)
    instruction_beats = property(lambda s: 64 // s.beat_bytes, doc="beats of one 64-byte instruction")
    act_rows = property(lambda s: s.pools * s.pool_rows)
    param_read_bytes = property(
        lambda s: max(s.beat_bytes, s.post_channels * PARAM_BYTES),
        doc="bytes of post-processing parameters read at once: whole beats, those of post_channels channels at least",
    )

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """The chunks that this instance has, in the order of isa.Chunk; counters of the others read 0."""
        absent = set() if self.trio else {Chunk.RMAC}
        if not self.attention:
            absent |= {Chunk.SHIFTER, Chunk.SOFTMAX, Chunk.LOADER}
        return tuple(chunk for chunk in Chunk if chunk not in absent)

    @property
    def engine_names(self) -> tuple[str, ...]:
        """The engines' names in ports and files."""
        return ("mat", "rmac") if self.trio else ("mat",)

    def __post_init__(self) -> None:
        faults = self._own_faults() or self._cross_faults()
        if faults:
            name = self.name if isinstance(self.name, str) and self.name.isprintable() else ascii(self.name)
            raise ValueError(f"config {name[:70]}: {'; '.join(faults)}")

    def _own_faults(self) -> list[str]:
        """What is wrong with each parameter by itself."""
        faults = []
        if not isinstance(self.name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", self.name):
            faults.append(f"name must be letters, digits, '_', '-' and '.', not {self.name!r}")  # it names files
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if isinstance(f.default, bool) and not isinstance(value, bool):
                faults.append(f"{f.name} must be true or false, not {value!r}")
            elif limits := f.metadata["limits"]:
                faults += filter(None, [limits.fault(f.name, value)])
        return faults

    def _cross_faults(self) -> list[str]:
        """What does not go together, of parameters that are each within their limits."""
        rules = [
            (self.width <= self.word, f"width must be at most word = {self.word}, not {self.width}"),
            (
                self.weight_row_bytes % self.beat_bytes == 0,
                f"a weight row of {self.weight_row_bytes} bytes must be whole beats of {self.beat_bytes}",
            ),
            (
                self.word % self.post_channels == 0,
                f"post_channels must divide word = {self.word}, not {self.post_channels}",
            ),
            # R-MAC: a 7 x 7 window reaches into the neighbouring groups alone
            (self.cores >= 4 or not self.trio, f"cores must be 4 to 16 with trio, not {self.cores}"),
            (not (self.w4 and self.trio), "w4 must be false with trio: R-MAC has no cells for it"),
            (self.packed or not self.trio, "packed must be true with trio: R-MAC has no cells without it"),
            (self.packed or not self.w4, "packed must be true with w4: its multipliers hold four products"),
            (self.trio or self.pool_words == 1, f"pool_words must be 1 without trio, not {self.pool_words}"),
            (self.pool_rows >= self.pool_words, f"pool_rows must be at least pool_words = {self.pool_words}"),
            (
                self.window_lut_cores <= self.cores * self.trio,
                f"window_lut_cores must be at most {self.cores * self.trio}, not {self.window_lut_cores}",
            ),
            (self.trio or self.attention, "trio or attention: one of the two families must be there"),
            (self.read_fifo_beats >= 2 * self.burst_beats, "read_fifo_beats must hold two bursts"),
            (self.act_rows <= ACT_ROWS, f"pools * pool_rows must be at most {ACT_ROWS}, not {self.act_rows}"),
            (self.max_k % self.word == 0, f"max_k must be a multiple of word = {self.word}, not {self.max_k}"),
            (
                self.code_rows * self.attend_keys >= 2 * self.max_tokens,
                f"code_rows must hold two rows of max_tokens = {self.max_tokens} codes, not {self.code_rows}",
            ),
        ]
        if self.attention:
            rules += [
                (
                    self.width == self.word,
                    f"attention needs width = word = {self.word} (key loader), not {self.width}",
                ),
                (self.cores % 2 == 0, f"attention needs an even number of cores (softmax), not {self.cores}"),
                (
                    self.lanes % self.cores == 0,
                    f"cores must divide lanes = {self.lanes} (key loader), not {self.cores}",
                ),
                (
                    self.row_bytes % self.beat_bytes == 0,
                    f"a buffer row of cores * word = {self.row_bytes} bytes must be whole beats of {self.beat_bytes}",
                ),
                (
                    self.weight_row_bytes % self.row_bytes == 0,
                    f"a weight row of {self.weight_row_bytes} bytes must be whole buffer rows of {self.row_bytes}",
                ),
                (
                    self.cores % self.attend_keys == 0,
                    f"attend_keys must divide cores = {self.cores}, not {self.attend_keys}",
                ),
            ]
        return [text for holds, text in rules if not holds]

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_dict(cls, data: dict) -> "AcceleratorConfig":
        """Build from a JSON object: the parameters that differ from those of the preset ``base`` (default: p2vit).

        ValueError with every unknown name and every parameter out of its limits.
        """
        data = dict(data)
        base = get_config(data.pop("base")) if "base" in data else cls()
        known = [f.name for f in dataclasses.fields(cls)]
        faults = [f"unknown parameter {key!r}{did_you_mean(key, known)}" for key in data if key not in known]
        chosen = {"name": "custom"} | {key: value for key, value in data.items() if key in known}
        try:
            config = dataclasses.replace(base, **chosen)
        except ValueError as error:
            name, _, text = str(error).partition(": ")
            raise ValueError("; ".join([f"{name}: {text}", *faults])) from None
        if faults:
            raise ValueError(f"config {config.name}: {'; '.join(faults)}")
        return config

    @property
    def hash(self) -> int:
        """32-bit hash of everything but the name; the program header and the ID register carry it."""
        data = dataclasses.asdict(self)
        data.pop("name")
        for name, usual in (("w4", False), ("packed", True), ("pool_words", 1)):
            if data[name] == usual:  # the hash is what it was before there was this parameter
                data.pop(name)
        return int.from_bytes(hashlib.sha256(json.dumps(data, sort_keys=True).encode()).digest()[:4], "little")


PRESETS = {
    c.name: c
    for c in (
        # tests and the demo: 256 multipliers, one AXI master
        AcceleratorConfig(
            name="tiny",
            cores=4,
            word=8,
            width=8,
            post_channels=2,
            attend_keys=2,
            pools=2,
            pool_rows=1024,
            weight_rows=2048,
            param_rows=1024,
            ln_param_rows=512,
            max_k=256,
            max_channels=128,
            max_tokens=64,
            code_rows=128,
            program_rows=2048,
            masters=1,
            read_fifo_beats=64,
            job_depth=4,
            watchdog_bits=20,
        ),
        # P2-ViT: 2048 multipliers, ZCU102-class parts
        AcceleratorConfig(name="p2vit"),
        # the same for embeddings of 768 channels: DeiT-Base and ViT-B whole, DeiT-Small, in a ZCU102's block RAM
        AcceleratorConfig(name="p2vit_base", pool_rows=8192, program_rows=4096),
        # the same with multipliers that take two weights of 4 bits
        AcceleratorConfig(name="p2vit_w4", w4=True),
        # tests and the demo of EfficientViT: 512 multipliers, every chunk
        AcceleratorConfig(
            name="tiny_hybrid",
            cores=4,
            word=8,
            width=8,
            trio=True,
            window_rows=64,
            ksum_rows=32,
            post_channels=4,
            attend_keys=2,
            pools=4,
            pool_rows=1024,
            weight_rows=2048,
            param_rows=1024,
            ln_param_rows=512,
            max_k=512,
            max_channels=512,
            max_tokens=64,
            code_rows=128,
            program_rows=4096,
            masters=1,
            read_fifo_beats=128,
            job_depth=4,
            watchdog_bits=20,
        ),
        # Trio-ViT: 1792 multipliers, two engines; 7 divides the feature maps of 224 pixels
        AcceleratorConfig(
            name="trio",
            cores=7,
            width=8,
            trio=True,
            attention=False,
            post_channels=16,
            pools=4,
            weight_rows=4096,
            param_rows=2048,
            ln_param_rows=512,
            max_k=2560,
            max_channels=2560,
            program_rows=4096,
            window_lut_cores=5,
        ),
        # both families: every chunk, 2048 multipliers in two engines
        AcceleratorConfig(
            name="hybrid",
            cores=4,
            trio=True,
            window_rows=256,
            post_channels=16,
            pools=4,
            pool_rows=8192,
            weight_rows=4096,
            param_rows=2048,
            ln_param_rows=512,
            max_channels=2560,
            program_rows=4096,
        ),
    )
}
PRESETS["tiny_w4"] = dataclasses.replace(PRESETS["tiny"], name="tiny_w4", w4=True)


def get_config(name: str) -> AcceleratorConfig:
    """A preset by name."""
    if not isinstance(name, str) or name not in PRESETS:
        near = did_you_mean(name, PRESETS)
        raise ValueError(f"preset {name!r} is unknown{near}; presets are {', '.join(sorted(PRESETS))}")
    return PRESETS[name]
