"""What an accelerator instance looks like: one frozen dataclass with every cross-check, and the named presets."""

import dataclasses
import hashlib
import json
import re

from .isa import PARAM_BYTES, Chunk

WEIGHT_BITS = 8
ACC_BITS = 27  #: accumulator + bias, proved per layer by the compiler
ATTEND_ACC_BITS = 32  #: attention x value: 31 bits at 197 tokens for arbitrary codes (20-integer-contract)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AcceleratorConfig:
    """A preset's parameters. Every buffer address counts *rows*: one word of each of the ``cores`` banks.

    A *group* is ``cores`` consecutive tokens; all chunks work on the tokens of one group side by side.
    A *word* is ``word`` int8 channels of one token; ``lanes`` = ``word``, ``width`` divides it.
    """

    name: str = "custom"
    cores: int = 8  #: tokens side by side (banks of the activation buffer)
    word: int = 16  #: int8 channels per word = output lanes of an engine
    width: int = 16  #: input channels that an engine takes a cycle; slots of R-MAC's self-accumulation
    trio: bool = False  #: Trio-ViT's units: R-MAC engine beside MAT, dyadic re-quantization, Hardswish, division
    attention: bool = True  #: P2-ViT's attention: softmax, shifter array, key loader
    window_rows: int = 128  #: rows of R-MAC's window buffer (width words of every core each)
    ksum_rows: int = 128  #: words of the Ksum memory
    post_channels: int = 4  #: post-processing lanes per core (channels finished a cycle), shared by the engines
    attend_keys: int = 4  #: keys the shifter array adds a cycle (rows x keys x channels = cores x this x word)
    pools: int = 2  #: independent pools of the activation buffer, one read and one write a cycle each
    pool_rows: int = 4096  #: rows per pool (cores * word bytes each)
    weight_rows: int = 2560  #: rows of the weight buffer (lanes * width bytes each)
    param_rows: int = 1024  #: rows of post-processing parameters (one AXI beat of all masters each)
    ln_param_rows: int = 256  #: rows of LayerNorm parameters (one beat each)
    max_k: int = 3072  #: longest reduction of the PE array (group register: 2 x cores x max_k bytes)
    max_channels: int = 1024  #: longest LayerNorm row
    max_tokens: int = 256  #: longest softmax row
    code_rows: int = 1024  #: code ring between softmax and shifter array (cores * attend_keys codes a row)
    program_rows: int = 1024  #: program memory, in beats
    masters: int = 4  #: AXI masters of 128 bits
    burst_beats: int = 16  #: longest AXI burst
    read_fifo_beats: int = 256  #: read data each master can have in flight or waiting
    job_depth: int = 8  #: job queue entries
    watchdog_bits: int = 24  #: 2^n cycles without progress while busy latch an error

    # ---- derived
    lanes = property(lambda s: s.word)
    engines = property(lambda s: 1 + s.trio)
    multipliers = property(lambda s: s.cores * s.lanes * s.width * s.engines)
    row_bytes = property(lambda s: s.cores * s.word, doc="bytes of one activation-buffer row")
    weight_row_bytes = property(lambda s: s.lanes * s.width)
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
        def need(ok: object, text: str) -> None:
            if not ok:
                raise ValueError(f"config {self.name}: {text}")

        need(
            isinstance(self.name, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", self.name),
            f"name must be letters, digits, '_', '-' and '.', not {self.name!r}",  # it names files
        )
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if isinstance(f.default, bool):
                need(isinstance(value, bool), f"{f.name} must be true or false, not {value!r}")
            elif f.name != "name":
                need(
                    isinstance(value, int) and not isinstance(value, bool) and value > 0,
                    f"{f.name} must be a positive integer, not {value!r}",
                )
        power = lambda n: n & (n - 1) == 0  # noqa: E731
        need(self.word in (8, 16), f"word must be 8 or 16, not {self.word}")
        need(self.masters in (1, 2, 4), f"masters must be 1, 2 or 4, not {self.masters}")
        need(
            self.width in (8, 16) and self.width <= self.word,
            f"width must be 8 or 16, at most word, not {self.width}",
        )
        need(
            self.weight_row_bytes % self.beat_bytes == 0,
            f"a weight row of {self.weight_row_bytes} bytes must be whole beats of {self.beat_bytes}",
        )
        need(
            self.word % self.post_channels == 0,
            f"post_channels must divide word = {self.word}, not {self.post_channels}",
        )
        least = 4 if self.trio else 2  # R-MAC: a 7 x 7 window reaches into the neighbouring groups alone
        need(least <= self.cores <= 16, f"cores must be {least} to 16, not {self.cores}")
        need(self.trio or self.attention, "trio or attention: one of the two families must be there")
        if self.attention:
            need(self.width == self.word, f"attention needs width = word = {self.word} (key loader), not {self.width}")
            need(self.cores % 2 == 0, f"attention needs an even number of cores (softmax), not {self.cores}")
            need(self.lanes % self.cores == 0, f"cores must divide lanes = {self.lanes} (key loader), not {self.cores}")
            need(
                self.row_bytes % self.beat_bytes == 0,
                f"a buffer row of cores * word = {self.row_bytes} bytes must be whole beats of {self.beat_bytes}",
            )
            need(
                self.weight_row_bytes % self.row_bytes == 0,
                f"a weight row of {self.weight_row_bytes} bytes must be whole buffer rows of {self.row_bytes}",
            )
            need(
                self.cores % self.attend_keys == 0,
                f"attend_keys must divide cores = {self.cores}, not {self.attend_keys}",
            )
        for n in (
            "pools",
            "pool_rows",
            "param_rows",
            "ln_param_rows",
            "code_rows",
            "program_rows",
            "window_rows",
            "ksum_rows",
            "job_depth",
            "burst_beats",
            "read_fifo_beats",
        ):
            need(power(getattr(self, n)), f"{n} must be a power of two, not {getattr(self, n)}")
            need(getattr(self, n) <= 1 << 16, f"{n} must be at most 65536, not {getattr(self, n)}")
        need(self.watchdog_bits <= 40, f"watchdog_bits must be at most 40, not {self.watchdog_bits}")
        need(self.burst_beats <= 256, f"burst_beats must be at most 256 (AXI4), not {self.burst_beats}")
        need(self.read_fifo_beats >= 2 * self.burst_beats, "read_fifo_beats must hold two bursts")
        need(self.act_rows <= 1 << 16, f"pools * pool_rows must be at most 65536, not {self.act_rows}")
        need(self.weight_rows <= 1 << 16, f"weight_rows must be at most 65536, not {self.weight_rows}")
        need(self.max_k % self.word == 0, f"max_k must be a multiple of word = {self.word}, not {self.max_k}")
        need(self.max_k <= 4128, f"max_k must be at most 4128 ({ACC_BITS}-bit accumulators), not {self.max_k}")
        need(self.window_rows <= 256, f"window_rows must be at most 256, not {self.window_rows}")
        need(self.ksum_rows <= 2048, f"ksum_rows must be at most 2048, not {self.ksum_rows}")
        need(
            self.max_channels <= 4096, f"max_channels must be at most 4096 (LayerNorm z range), not {self.max_channels}"
        )
        need(
            self.max_tokens <= 511,
            f"max_tokens must be at most 511 ({ATTEND_ACC_BITS}-bit attention accumulators), not {self.max_tokens}",
        )
        need(
            self.code_rows * self.attend_keys >= 2 * self.max_tokens,
            f"code_rows must hold two rows of max_tokens = {self.max_tokens} codes, not {self.code_rows}",
        )

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_dict(cls, data: dict) -> "AcceleratorConfig":
        """Build from a JSON object; unknown names are refused."""
        known = {f.name for f in dataclasses.fields(cls)}
        for key in data:
            if key not in known:
                raise ValueError(f"config {data.get('name', 'custom')}: unknown parameter {key!r}")
        return cls(**data)

    @property
    def hash(self) -> int:
        """32-bit hash of everything but the name; the program header and the ID register carry it."""
        data = dataclasses.asdict(self)
        data.pop("name")
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
            weight_rows=8192,
            param_rows=2048,
            ln_param_rows=512,
            max_k=2560,
            max_channels=2560,
            program_rows=4096,
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


def get_config(name: str) -> AcceleratorConfig:
    """A preset by name."""
    if name not in PRESETS:
        raise ValueError(f"preset {name!r} is unknown; presets are {', '.join(sorted(PRESETS))}")
    return PRESETS[name]
