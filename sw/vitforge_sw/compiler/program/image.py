"""The memory image: header, instructions chunk by chunk, then parameters, weights and constants; and its decoder.

Instruction index 0 is the header; a chunk's instructions start at its header field ``start``. Beats of all sources are
absolute in the image.
"""

import dataclasses

import numpy as np

from vitforge_hw.arch import memmap
from vitforge_hw.arch.build_hash import build_hash
from vitforge_hw.arch.checksum import balance, signature
from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.isa import (
    CHECKSUM_WORD,
    HEADER_FIELDS,
    INSTRUCTION_BYTES,
    MAGIC,
    Chunk,
    Instruction,
    Wait,
    pack,
    unpack,
)

from .steps import Piece


class ProgramError(ValueError):
    """More instructions than the program memory holds."""


def link(
    programs: dict[Chunk, list[Instruction]], pieces: list[Piece], config: AcceleratorConfig
) -> tuple[dict[Chunk, list[Instruction]], bytes]:
    """Absolute sources and the logical bytes of the image (not striped). ProgramError: they do not fit."""
    count = 1 + sum(len(p) for p in programs.values())
    beats = count * config.instruction_beats
    if beats > config.program_rows:
        raise ProgramError(
            f"program memory: {count} instructions of {INSTRUCTION_BYTES} bytes need {beats} beats, "
            f"program_rows = {config.program_rows} (preset {config.name})"
        )
    header = {"magic": MAGIC, "config_hash": config.hash, "build_hash": build_hash(config)}
    words: list[int] = []
    for chunk in Chunk:
        header |= {f"{chunk.name.lower()}_start": 1 + len(words), f"{chunk.name.lower()}_count": len(programs[chunk])}
        words += [_absolute(i, beats).encode() for i in programs[chunk]]
    parts = [pack(HEADER_FIELDS, header, "program header").to_bytes(INSTRUCTION_BYTES, "little")]
    parts += [w.to_bytes(INSTRUCTION_BYTES, "little") for w in words]
    parts += [p.data.tobytes() for p in pieces]
    unit = memmap.STRIPE_BEATS * config.beat_bytes
    logical = b"".join(parts)
    logical = _seal(logical + bytes(-len(logical) % unit), config)
    return _programs(logical), logical  # as decoded: with every field


def _absolute(instruction: Instruction, beats: int) -> Instruction:
    op = instruction.op
    if "source" in op and not op.get("job"):
        return dataclasses.replace(instruction, op=op | {"source": op["source"] + beats})
    return instruction


def _header(logical: bytes) -> dict[str, int]:
    return unpack(HEADER_FIELDS, int.from_bytes(logical[:INSTRUCTION_BYTES], "little"))


def _programs(logical: bytes) -> dict[Chunk, list[Instruction]]:
    """Instructions by chunk. ValueError: they end behind the image."""
    header = _header(logical)
    programs: dict[Chunk, list[Instruction]] = {}
    for chunk in Chunk:
        start, count = header[f"{chunk.name.lower()}_start"], header[f"{chunk.name.lower()}_count"]
        end = (start + count) * INSTRUCTION_BYTES
        if end > len(logical):
            raise ValueError(f"memory image: {chunk.name} instructions end at byte {end} of {len(logical)}")
        programs[chunk] = [
            Instruction.decode(
                chunk, int.from_bytes(logical[i * INSTRUCTION_BYTES : (i + 1) * INSTRUCTION_BYTES], "little")
            )
            for i in range(start, start + count)
        ]
    return programs


def _program_bytes(header: dict[str, int]) -> int:
    """Length of header and instructions."""
    names = [chunk.name.lower() for chunk in Chunk]
    return INSTRUCTION_BYTES * max(1, *(header[f"{n}_start"] + header[f"{n}_count"] for n in names))


def _seal(logical: bytes, config: AcceleratorConfig) -> bytes:
    """The logical bytes with every checksum as the data are: of what instructions load, then of the program."""
    out, header, unit = bytearray(logical), _header(logical), config.beat_bytes
    for chunk in (Chunk.WEIGHT_DMA, Chunk.IMAGE_DMA):
        for number, i in enumerate(_programs(logical)[chunk], header[f"{chunk.name.lower()}_start"]):
            if i.op.get("job"):
                continue
            at = i.op["source"] * unit
            data = logical[at : at + i.rows * i.op["beats"] * unit]
            new = dataclasses.replace(i, op=i.op | {"checksum": signature(data, unit)})
            at = number * INSTRUCTION_BYTES
            out[at : at + INSTRUCTION_BYTES] = new.encode().to_bytes(INSTRUCTION_BYTES, "little")
    field = slice(4 * CHECKSUM_WORD, 4 * CHECKSUM_WORD + 4)
    out[field] = bytes(4)
    out[field] = balance(bytes(out[: _program_bytes(header)]), unit, CHECKSUM_WORD).to_bytes(4, "little")
    return bytes(out)


def seal(memory_image: bytes, config: AcceleratorConfig) -> bytes:
    """A changed memory image whose checksums fit again: for programs or weights that are wrong on purpose."""
    return striped(_seal(memmap.unstripe(memory_image, config.masters), config), config)


def decode(memory_image: bytes, config: AcceleratorConfig) -> tuple[dict[Chunk, list[Instruction]], bytes]:
    """Programs by chunk and the logical bytes, from a striped image.

    ValueError: wrong magic, configuration, generator or checksum of the program.
    """
    unit = memmap.STRIPE_BEATS * config.beat_bytes
    if not memory_image or len(memory_image) % unit:
        raise ValueError(f"memory image: length must be a positive multiple of {unit} bytes, not {len(memory_image)}")
    logical = memmap.unstripe(memory_image, config.masters)
    header = _header(logical)
    if header["magic"] != MAGIC:
        raise ValueError(f"memory image: magic must be {MAGIC:#x}, not {header['magic']:#x}")
    if header["config_hash"] != config.hash:
        raise ValueError(
            f"memory image: made for configuration {header['config_hash']:#010x}, "
            f"not for {config.hash:#010x} (preset {config.name})"
        )
    if header["build_hash"] != build_hash(config):
        raise ValueError(
            f"memory image: made by another generator (build hash {header['build_hash']:#010x}, "
            f"not {build_hash(config):#010x}): compile again"
        )
    programs = _programs(logical)
    if found := signature(logical[: _program_bytes(header)], config.beat_bytes):
        raise ValueError(f"memory image: signature of the program must be 0, not {found:#010x}")
    return programs, logical


def striped(logical: bytes, config: AcceleratorConfig) -> bytes:
    """DRAM order."""
    return memmap.stripe(logical, config.masters)


def replace(memory_image: bytes, chunk: Chunk, number: int, new: Instruction, config: AcceleratorConfig) -> bytes:
    """The memory image with one instruction changed and sealed again (what-if runs, negative controls)."""
    _, logical = decode(memory_image, config)
    at = (_header(logical)[f"{chunk.name.lower()}_start"] + number) * INSTRUCTION_BYTES
    word = new.encode().to_bytes(INSTRUCTION_BYTES, "little")
    return striped(_seal(logical[:at] + word + logical[at + INSTRUCTION_BYTES :], config), config)


def image_beats(beats: int) -> int:
    """Beats from one image of a job to the next: whole stripes."""
    return -(-beats // memmap.STRIPE_BEATS) * memmap.STRIPE_BEATS


def result_units(words: int, config: AcceleratorConfig) -> int:
    """16-byte units of one image's result of ``words`` buffer words."""
    return -(-words * config.word // 16)


def image_bytes(x: np.ndarray, config: AcceleratorConfig, height: int = 0, width: int = 0) -> bytes:
    """An input tensor (tokens, channels) of int8 as the job's image in DRAM; height and width of a spatial one."""
    rows = memmap.rows_to_beats(memmap.to_map_rows(x, height, width, config.cores, config.word), config.beat_bytes)
    return memmap.stripe(rows.tobytes(), config.masters)


def result_logits(data: bytes, tokens: int, channels: int, planes: int, config: AcceleratorConfig) -> np.ndarray:
    """Logits (channels,) from the result in DRAM: the words of token 0, block after block, plane after plane."""
    assert tokens == 1
    blocks = -(-channels // config.word)
    raw = np.frombuffer(data, dtype=np.uint8)[: blocks * planes * config.word].reshape(blocks, planes, config.word)
    value = raw[:, -1].view(np.int8).astype(np.int64)
    if planes == 2:
        value = (value << 8) | raw[:, 0]
    return value.ravel()[:channels]


def logits_result(logits: np.ndarray, planes: int, config: AcceleratorConfig) -> bytes:
    """The inverse of :func:`result_logits`: logits (channels,) as the result DMA writes them, the rest 0."""
    blocks = -(-len(logits) // config.word)
    value = np.zeros(blocks * config.word, dtype=np.int64)
    value[: len(logits)] = logits
    raw = np.empty((blocks, planes, config.word), dtype=np.uint8)
    raw[:, -1] = (value >> 8 * (planes - 1)).reshape(blocks, -1) & 255
    if planes == 2:
        raw[:, 0] = value.reshape(blocks, -1) & 255
    return raw.tobytes()


def disassemble(memory_image: bytes, config: AcceleratorConfig) -> str:
    """Every instruction as text: chunk, number, rows, op fields, waits."""
    programs, _ = decode(memory_image, config)
    lines = []
    for chunk, program in programs.items():
        lines.append(f"{chunk.name}: {len(program)} instructions")
        for n, i in enumerate(program):
            op = " ".join(f"{k}={v}" for k, v in i.op.items() if v)
            lines.append(f"  {n:4} rows={i.rows:<4} {op}")
            lines += [f"       wait {describe(w)}" for w in i.waits]
    return "\n".join(lines) + "\n"


def describe(w: Wait) -> str:
    """A wait as text."""
    previous = w.base < -(1 << 15)
    base = w.base + (1 << 16) * previous
    slope = f" + min((row + 1) * {w.a} + {w.b} >> {w.s}, {w.cap})" if w.a or w.b else ""
    return f"{w.src.name} >= {base}{slope}{' of the previous image' if previous else ''}"
