"""From the names in a checkpoint to the names of the timm model.

Wrappers (DistributedDataParallel, torch.compile, Lightning modules, a ``backbone`` attribute) put prefixes before every
name; other libraries have other names. What is still foreign after that is refused with the first few of both sides.
"""

from collections.abc import Mapping
from pathlib import Path

from ..text import few, shown
from ..written import read_json
from .families import FAMILIES, State

WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "base_model.", "student.")
AVERAGES = ("ema_model.", "model_ema.", "ema.", "module_ema.")  #: an averaged copy inside the same state dict
_COUNTERS = (".num_batches_tracked", ".total_ops", ".total_params")  #: buffers of training and profilers, no weights


def read_map(path: str | Path) -> dict[str, str | None]:
    """A JSON object found name -> name in the model; a name that ends in a dot is a prefix, null leaves tensors out."""
    try:
        data = read_json(path)
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"map {path}: not readable JSON ({str(error).splitlines()[0]})") from None
    if not isinstance(data, dict) or not all(v is None or isinstance(v, str) for v in data.values()):
        raise ValueError(f"map {path}: must be a JSON object of names (null leaves a tensor out)")
    return data


def apply_map(state: State, names: Mapping[str, str | None], where: str) -> State:
    """``state`` renamed; a rule that fits no tensor, or two tensors of one name, is a ValueError."""
    out, used = {}, set()
    prefixes = sorted((n for n in names if n == "" or n.endswith(".")), key=len, reverse=True)
    for name, value in state.items():
        rule = name if name in names else next((p for p in prefixes if name.startswith(p)), None)
        if rule is not None:
            used.add(rule)
            new = names[rule]
            if new is None:
                continue
            name = new if rule == name else new + name[len(rule) :]
        if name in out:
            raise ValueError(f"{where}: two tensors become {shown(name)} by --map")
        out[name] = value
    if unused := sorted(set(names) - used):
        raise ValueError(f"{where}: has no tensor {few(unused)} that --map names; it has {few(state)}")
    return out


def _without_prefixes(state: State, expected: set[str], notes: list[str]) -> State:
    """Wrappers' prefixes off, in any combination; names of the model itself and clashing ones stay."""
    out: State = {}
    for name, value in state.items():
        short = name
        while short not in expected and (prefix := next((p for p in WRAPPERS if short.startswith(p)), None)):
            short = short[len(prefix) :]
        out[name if short in out else short] = value
    tops = {name.partition(".")[0] for name in expected}
    while out and not expected & out.keys():  # any other prefix that all names have
        top = next(iter(out)).partition(".")[0] + "."
        if top[:-1] in tops or not all(name.startswith(top) for name in out):
            break
        out = {name[len(top) :]: value for name, value in out.items()}
    gone = {name[: len(name) - len(short)] for name, short in zip(state, out, strict=True)} - {""}
    if gone:
        notes.append(f"checkpoint: {few(sorted(gone))} taken off the names")
    return out


def _averaged(state: State, notes: list[str]) -> State:
    """Of an averaged copy among the names, that copy alone."""
    for prefix in AVERAGES:
        copy = {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}
        if copy and len(copy) < len(state):
            notes.append(f"checkpoint: averaged (EMA) weights taken, named {prefix}*, not the others")
        if copy:
            return copy
    return state


def fit_names(state: State, expected: set[str], model: str, where: str, notes: list[str]) -> State:
    """``state`` with the names of ``expected`` as far as wrappers and known families explain the difference.

    Counters that the model has not are left out, those that it has are not needed. Raises ValueError where less than
    half of the names can be found.
    """
    known, expected = expected, {n for n in expected if not n.endswith(_COUNTERS)}
    found = state
    if expected - found.keys():
        found = _without_prefixes(_averaged(state, notes), expected, notes)
        for family in FAMILIES:
            if (mapped := family(found, where, notes)) is not None:
                found = mapped
    found = {n: v for n, v in found.items() if n in known or not n.endswith(_COUNTERS)}
    if 2 * len(expected & found.keys()) < len(expected):
        strange = [n for n in found if n not in expected] or list(found)
        raise ValueError(
            f"{where}: its names are not those of {model}: found {few(strange)} ({len(found)} tensors), expected "
            f"{few(sorted(expected - found.keys()))} ({len(expected)}); --map F.json renames them"
        )
    return found


def unsupported_names(found: State, expected: set[str], where: str) -> None:
    """Refuse by name what is known to be another model than the one asked for."""
    if "dist_token" in found and "dist_token" not in expected:
        raise ValueError(
            f"{where}: is a distilled DeiT (dist_token, head_dist), which MODEL is not; give the distilled one, as "
            "deit_tiny_distilled_patch16_224"
        )
