"""Does a model fit an accelerator, and what would have to change: the compiler's own allocation, on shapes alone."""

import dataclasses
import re
import time
from collections.abc import Iterable

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_sw.compiler.compile import fit_graph
from vitforge_sw.graph.ir import Graph
from vitforge_sw.graph.rules import check_graph

#: what the compiler's refusals call a memory -> the parameter that sizes it, and where they say what is needed
MEMORIES = {
    "program memory": ("program_rows", r"need (\d+) beats"),
    "LayerNorm parameter memory": ("ln_param_rows", r"needs (\d+) rows"),
    "parameter memory": ("param_rows", r"needs (\d+) rows"),
    "window buffer": ("window_rows", r"need (\d+) rows"),
    "window_rows / 2": ("window_rows", r"$^"),
    "ksum_rows": ("ksum_rows", r"Ksum of (\d+) words"),
    "code_rows": ("code_rows", r"row of (\d+) code words"),
    "weight buffer": ("weight_rows", r"needs (\d+) rows"),
    "weight rows": ("weight_rows", r"$^"),
    "activation buffer": ("pool_rows", r"(\d+) rows of \d+ bytes needed"),
}
TRIES = 16  #: changes of one parameter that are tried before giving up
SECONDS = 60.0  #: after which `repaired` no longer looks for a smaller configuration than the one that it has found


@dataclasses.dataclass(frozen=True)
class Fit:
    """``fits``; ``text``: what of the memories is used, or why the model does not fit."""

    config: AcceleratorConfig
    fits: bool
    text: str


def fit(graph: Graph, config: AcceleratorConfig) -> Fit:
    """Compile ``graph`` (shapes suffice) without proof and choice of schedule; the verdict is that of compile_graph."""
    return fits(graph, [config])[0]


def fits(graph: Graph, configs: Iterable[AcceleratorConfig]) -> list[Fit]:
    """The verdict for each of ``configs``; a graph that breaks a rule of all of them fits none."""
    try:
        check_graph(graph)
    except ValueError as error:
        return [Fit(config, False, str(error)) for config in configs]
    return [_fit(graph, config) for config in configs]


def _fit(graph: Graph, config: AcceleratorConfig) -> Fit:
    """Of a graph that has been checked."""
    try:
        build = fit_graph(graph, config)
    except ValueError as error:
        return Fit(config, False, str(error).removesuffix(f" (preset {config.name})"))
    instructions = sum(map(len, build.programs.values()))
    return Fit(
        config,
        True,
        f"activations {build.used} of {config.pool_rows} rows per pool, {instructions} instructions in "
        f"{(1 + instructions) * config.instruction_beats} of {config.program_rows} beats, "
        f"memory image {len(build.memory_image)} bytes",
    )


def repaired(graph: Graph, config: AcceleratorConfig, seconds: float = SECONDS) -> tuple[Fit, dict[str, int]]:
    """The configuration with memories and limits as much larger as ``graph`` needs, and the parameters that differ.

    Grows what the compiler's refusal names, then takes back what was not needed in the end, as long as less than
    ``seconds`` have passed: a large model's configuration fits then, and may have more memory than it needs. The Fit
    does not fit if no size of them helps (units or words that the model needs are others).
    """
    end = time.monotonic() + seconds
    found = fit(graph, config)
    for _ in range(TRIES):
        if found.fits:
            break
        ways = filter(None, (_grown(found.config, text) for text in found.text.split("; or: ")))
        larger = min(ways, key=memory_bytes, default=None)
        if larger is None:
            return found, {}
        found = _fit(graph, larger)
    if not found.fits:
        return found, {}
    for f in dataclasses.fields(config):  # a step may have been too long, or superfluous after a later one
        first = getattr(config, f.name)
        while (value := getattr(found.config, f.name)) != first and time.monotonic() < end:
            halved = f.metadata["limits"].power_of_two and value // 2 >= first
            try:
                back = dataclasses.replace(found.config, **{f.name: value // 2 if halved else first})
            except ValueError:  # needed by another parameter
                break
            if not (smaller := _fit(graph, back)).fits:
                break
            found = smaller
    names = [f.name for f in dataclasses.fields(config)]
    changed = {n: getattr(found.config, n) for n in names if getattr(found.config, n) != getattr(config, n)}
    return found, changed


def memory_bytes(config: AcceleratorConfig) -> int:
    """Bytes of the memories that grow with the parameters above."""
    rows = config.program_rows + config.param_rows + config.ln_param_rows
    return (
        config.act_rows * config.row_bytes + config.weight_rows * config.weight_row_bytes + rows * config.beat_bytes
        + (config.window_rows + config.ksum_rows) * config.width * config.cores + 2 * config.cores * config.max_k
        + config.code_rows * config.cores * config.attend_keys // 2
    )  # fmt: skip


def _grown(config: AcceleratorConfig, refusal: str) -> AcceleratorConfig | None:
    """``config`` with the parameter that ``refusal`` names one step larger; None if it names none, or has no room."""
    wanted: dict[str, int] = {}
    names = {f.name: f.metadata["limits"] for f in dataclasses.fields(config) if f.metadata["limits"]}
    if stated := re.search(r"\b(max_tokens|max_channels|max_k) = \d+\b.*, not (\d+)", refusal):
        wanted[stated[1]] = -(-int(stated[2]) // config.word) * config.word if stated[1] == "max_k" else int(stated[2])
    else:
        named = next(((p, needs) for phrase, (p, needs) in MEMORIES.items() if phrase in refusal), None)
        if named is None:
            return None
        parameter, needs = named
        rows = getattr(config, parameter)
        needed = int(match[1]) if (match := re.search(needs, refusal)) else 0
        needed = needed // config.pools if parameter == "pool_rows" else needed
        if names[parameter].power_of_two:
            wanted[parameter] = max(2 * rows, 1 << (needed - 1).bit_length() if needed else 0)
        else:
            wanted[parameter] = -(-max(rows * 5 // 4, needed) // 64) * 64
    tokens, codes = wanted.get("max_tokens", config.max_tokens), config.code_rows
    while codes * config.attend_keys < 2 * tokens:  # two rows of codes, as the configuration demands
        codes *= 2
    try:
        return dataclasses.replace(config, **wanted | {"code_rows": wanted.get("code_rows", codes)})
    except ValueError:
        return None
