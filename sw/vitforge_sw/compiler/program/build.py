"""What the compiler hands over: program, memory image, maps."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.isa import Chunk, Instruction

from ...kinds import Memory, kind_of
from ..memory.place import Place
from ..options import CompileOptions
from . import image
from .proof import Proof, prove
from .steps import Label


@dataclasses.dataclass(frozen=True)
class Write:
    """One expected write of a memory row: ``plane`` 0 low, 1 high bytes of channel block ``block`` (Z: weight row of
    the head); ``image`` of the batch, -1: one token of each."""

    address: int
    tensor: str
    group: int
    block: int
    plane: int
    image: int = 0


@dataclasses.dataclass(frozen=True)
class Stored:
    """A piece of the memory image: first beat (absolute) and number of beats; bytes of each layer in it."""

    name: str
    beat: int
    beats: int
    layers: dict[str, int]


@dataclasses.dataclass
class Build:
    """A compiled model.

    programs, labels: per chunk, instruction by instruction. places: tensor -> Place. pieces: what lies in the memory
    image. memory_image: the bytes to put into DRAM. tensors: name -> tokens, channels, fmt
    and of maps height, width. model_hash: of the graph.
    macs: layer -> multiplications of the model (the class token's row of the patch embedding has none).
    driver: what a driver may know (record.py).
    """

    config: AcceleratorConfig
    options: CompileOptions
    programs: dict[Chunk, list[Instruction]]
    labels: dict[Chunk, list[Label]]
    places: dict[str, Place]
    used: list[int]
    pieces: list[Stored]
    memory_image: bytes
    tensors: dict[str, dict]
    input: str
    output: str
    model_hash: str
    macs: dict[str, int]
    driver: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def program_beats(self) -> int:
        """Beats of header and instructions (register program_beats)."""
        return (1 + sum(len(p) for p in self.programs.values())) * self.config.instruction_beats

    @property
    def batch(self) -> int:
        """Images of a job."""
        return self.options.batch

    @property
    def lag(self) -> int:
        """Jobs by which results come later than their images: a deferred classifier's come with the next job."""
        return int(self.options.defer)

    @property
    def image_bytes(self) -> int:
        """DRAM bytes of one job's images."""
        place = self.places[self.input]
        beats = place.groups * place.stride * self.config.beats_per_row
        return self.batch * image.image_beats(beats) * self.config.beat_bytes

    @property
    def result_bytes(self) -> int:
        """DRAM bytes of one job's results."""
        return self.batch * self._result_bytes

    @property
    def _result_bytes(self) -> int:
        return 16 * image.result_units(self.places[self.output].stride, self.config)

    def prove(self) -> Proof:
        """The order proof of the program; OrderError or DeadlockError (ValueErrors) if it does not hold."""
        return prove(self.programs, self.labels, self.config)

    def pack_image(self, x: np.ndarray) -> bytes:
        """Input tensor (tokens, channels) of int8 as it lies in DRAM, one of the job's ``batch`` images."""
        t = self.tensors[self.input]
        if x.shape != (t["tokens"], t["channels"]):
            raise ValueError(f"image: must have shape {(t['tokens'], t['channels'])}, not {tuple(x.shape)}")
        return image.image_bytes(np.asarray(x), self.config, t.get("height", 0), t.get("width", 0))

    def jobs(self, images: Sequence[np.ndarray]) -> list[Sequence[np.ndarray]]:
        """The images job by job; the last one is repeated where the last job is not full, and for a job more where
        results come one job later."""
        missing = -len(images) % self.batch + self.lag * self.batch
        padded = [*images, *[images[-1]] * missing]
        return [padded[i : i + self.batch] for i in range(0, len(padded), self.batch)]

    def pack_job(self, images: Sequence[np.ndarray]) -> bytes:
        """A job's images in DRAM, one after the other."""
        if len(images) != self.batch:
            raise ValueError(f"job: must have {self.batch} images, not {len(images)}")
        return b"".join(self.pack_image(x) for x in images)

    def logits(self, result: bytes, number: int = 0) -> np.ndarray:
        """Integer logits (classes,) of image ``number`` of a job from the job's result."""
        t, place = self.tensors[self.output], self.places[self.output]
        own = result[number * self._result_bytes :][: self._result_bytes]
        return image.result_logits(own, 1, t["channels"], place.planes, self.config)

    def pack_result(self, logits: np.ndarray) -> bytes:
        """The inverse of :meth:`logits` for a whole job: integers (batch, classes) to its result in DRAM."""
        planes = self.places[self.output].planes
        each = [image.logits_result(row, planes, self.config) for row in logits]
        return b"".join(data.ljust(self._result_bytes, b"\0") for data in each)

    def writes(self, chunk: Chunk, memory: Memory = Memory.ACT) -> Iterator[Write]:
        """Expected writes of a chunk's tensors to a memory for one job, in program order."""
        for instruction, label in zip(self.programs[chunk], self.labels[chunk]):
            place = self.places.get(label.tensor)  # none: Z, Ksum
            stride, planes = (place.stride, place.planes) if place else (0, 1)
            out = kind_of(chunk, instruction.op).output(instruction.op, stride, planes, self.config)
            if out is None or out.memory != memory:
                continue
            first, block = label.first * out.step if out.whole else label.first, label.channel // self.config.word
            for row in range(instruction.rows):
                for group in range(row * out.step, row * out.step + out.groups):
                    for i in range(out.words):
                        at = out.address + group * out.stride + i
                        yield Write(at, label.tensor, first + group, block + i // planes, i % planes, label.image)

    def codes(self) -> Iterator[tuple[str, int]]:
        """(softmax layer, group) of each entry of the code ring, in order."""
        for instruction, label in zip(self.programs[Chunk.SOFTMAX], self.labels[Chunk.SOFTMAX]):
            for row in range(instruction.rows):
                yield label.layer, label.first + row
