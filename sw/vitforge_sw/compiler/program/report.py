"""The text report of a build: buffers, memory map, schedule."""

from vitforge_hw.arch.isa import Chunk

from .build import Build
from .image import describe


def report(build: Build) -> str:
    """schedule.txt."""
    c = build.config
    out = [
        f"preset {c.name} (configuration {c.hash:#010x}), model {build.model_hash}",
        f"options {build.options}",
        f"program: {sum(len(p) for p in build.programs.values())} instructions, {build.program_beats} of "
        f"{c.program_rows} beats; " + ", ".join(f"{k.name} {len(p)}" for k, p in build.programs.items()),
        f"waits: {sum(len(i.waits) for p in build.programs.values() for i in p)}",
        f"DRAM bytes: memory image {len(build.memory_image)}, image {build.image_bytes}, result {build.result_bytes}",
        "",
        f"activation buffer: rows of {c.row_bytes} bytes; used "
        + ", ".join(f"pool {i}: {n} of {c.pool_rows}" for i, n in enumerate(build.used)),
        "   first    rows  stride planes  tensor",
    ]
    slots: dict[tuple[int, int], list[str]] = {}
    for name, p in build.places.items():
        key = (p.address, p.stride)
        slots.setdefault(key, []).append(name)
    for (address, stride), names in sorted(slots.items()):
        p = build.places[names[0]]
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        out.append(f"{address:8} {stride * p.groups:7} {stride:7} {p.planes:6}  {p.klass}.{p.slot}: {shown}")
    out += ["", "memory image", "    beat   beats  piece", f"{0:8} {c.instruction_beats:7}  header"]
    beat = c.instruction_beats
    for chunk, program in build.programs.items():
        n = len(program) * c.instruction_beats
        out.append(f"{beat:8} {n:7}  {chunk.name} instructions")
        beat += n
    out += [f"{p.beat:8} {p.beats:7}  {p.name}" for p in build.pieces]
    out += ["", "schedule (threshold of a wait: rows of the other chunk finished in this image)"]
    for chunk in Chunk:
        out.append(f"{chunk.name}")
        done = 0
        for i, label in zip(build.programs[chunk], build.labels[chunk]):
            groups = f"groups {label.first}..{label.first + i.rows - 1}" if i.rows > 1 else f"group {label.first}"
            waits = "; ".join(describe(w) for w in i.waits)
            out.append(f"  rows {done:5}.. {label.layer} {groups}{'  waits: ' + waits if waits else ''}")
            done += i.rows
    return "\n".join(out) + "\n"
