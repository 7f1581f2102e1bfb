"""The whole search: sensitivities, candidates, finalists re-quantized and measured on held-back calibration images.

Every finished step is kept in ``state`` (a dict that ``save`` writes), so that a stopped search goes on where it was.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch.nn import functional as F

from ....evaluate import float_logits, real_logits, sqnr_db
from ....golden.model import Golden
from ....models.images import ImageConfig, patches_to_float
from ....models.resolve import ModelSpec
from ....pool import Pool
from ...quantize import quantize_model
from ..frontend import FloatViT, import_vit
from ..rotation import mixing, rotate
from ..schemes import Scheme
from ..walk import weight_layers
from .search import HIGH, Noise, free, greedy, layer_wbits, search, total, widths_of
from .sensitivity import Single, hessian_traces, omegas

HELD = 4  #: every fourth calibration image is held back: candidates are measured on it
HESSIAN_IMAGES = 16
LEAST = 1e-30  #: noise power that is said of a layer without any
APART = 4  #: layers that finalists differ in
STEPS = 24  #: budgets on the plotted front


@dataclasses.dataclass
class Task:
    """A model to be searched: ``patches`` are the bytes of calibration images, nothing else is read.

    ``widths``: the bits below 8 that a layer may have.
    """

    model: torch.nn.Module
    spec: ModelSpec
    image: ImageConfig
    scheme: Scheme
    patches: np.ndarray
    trained: bool = True
    widths: tuple[int, ...] = (4,)

    def __post_init__(self):
        if not self.widths or any(not 2 <= bits < HIGH for bits in self.widths):
            raise ValueError(f"search: widths below {HIGH} must be some of 2 to {HIGH - 1}, not {list(self.widths)}")
        if len(self.patches) < 2 * HELD:
            raise ValueError(f"calibration: a search needs at least {2 * HELD} images, not {len(self.patches)}")
        held = np.arange(len(self.patches)) % HELD == HELD - 1
        self.fit, self.held = self.patches[~held], self.patches[held]

    def floats(self, patches: np.ndarray) -> torch.Tensor:
        """Normalised float patches (B, tokens, K)."""
        pixels = torch.from_numpy(patches_to_float(patches, self.image))
        return F.unfold(pixels, self.image.patch_size, stride=self.image.patch_size).transpose(1, 2)

    @functools.cached_property
    def single(self) -> Single:
        return Single(self.vit(), self.floats(self.fit), self.floats(self.held), self.widths)

    def vit(self) -> FloatViT:
        """The float model as the scheme quantizes it."""
        vit = import_vit(self.model)
        return rotate(vit, mixing(vit.channels)) if self.scheme.rotation == "mixing" else vit


def noise_of(task: Task, name: str) -> dict[int, float]:
    return task.single.noise(name)


def sensitivities(
    task: Task, pool: Pool, state: dict, save: Callable[[], None], say: Callable[[str], None], seed: int, traces: bool
) -> None:  # fmt: skip
    """Fill state["noise"], and with ``traces`` state["omega"]: {layer: {bits: value}}, as a state file has them."""
    vit = task.vit()
    names = free(weight_layers(vit))
    noise = state.setdefault("noise", {})
    missing = [name for name in names if name not in noise]
    if missing:
        say(f"noise of {len(missing)} layers, one by one, {pool.count} at a time ...")
    for name, values in zip(missing, pool.map(noise_of, missing), strict=True):
        noise[name] = {str(bits): value for bits, value in values.items()}
        db = {b: -10 * math.log10(max(value, LEAST)) for b, value in values.items()}
        listed = ", ".join(f"{value:.1f} dB at {b} bits" for b, value in db.items())
        say(f"noise {len(noise)}/{len(names)}: {name} {listed}")
        save()
    if traces and "omega" not in state:
        traces_of = hessian_traces(vit, task.floats(task.fit[:HESSIAN_IMAGES]), seed=seed)
        omega = omegas(vit, traces_of, task.widths)
        state["omega"] = {name: {str(bits): value for bits, value in values.items()} for name, values in omega.items()}
        save()


def mirrored(patches: np.ndarray, image: ImageConfig) -> np.ndarray:
    """The images of ``patches`` (B, patches, C * ps * ps), left and right exchanged."""
    shape = (-1, image.side, image.side, image.in_chans, image.patch_size, image.patch_size)
    return np.ascontiguousarray(patches.reshape(shape)[:, :, ::-1, :, :, ::-1]).reshape(patches.shape)


def measured(task: Task, bits: dict[str, int]) -> list[float]:
    """[logit SQNR in dB, divergence] of the integer model, quantized on the fitted part: SQNR on the held-back part,
    divergence (Kullback-Leibler, of the classes' probabilities from the float model's, mean) on it and its mirror
    images. It looks at what decides, the largest logits, where SQNR counts all thousand alike."""
    options = tuple((name, b) for name, b in layer_wbits(bits)) + task.scheme.layer_wbits
    scheme = dataclasses.replace(task.scheme, layer_wbits=options)
    graph = quantize_model(task.model, task.spec, task.image, scheme, task.fit, trained=task.trained, progress=False)
    images = np.concatenate([task.held, mirrored(task.held, task.image)])
    want = float_logits(task.model, images, task.image)
    got = real_logits(graph, Golden(graph).logits(images))
    log_p, log_q = want.double().log_softmax(1), got.double().log_softmax(1)
    divergence = F.kl_div(log_q, log_p, log_target=True, reduction="batchmean")
    return [sqnr_db(want[: len(task.held)], got[: len(task.held)]), float(divergence)]


def run(
    task: Task,
    cost: Callable,
    budget: float,
    *,
    finalists: int = 6,
    rank: str = "noise",
    seed: int = 0,
    state: dict | None = None,
    save: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = lambda line: None,
    verify: Callable | None = None,
    pool: Pool | None = None,
) -> dict:
    """The best assignment within ``budget``: {bits, cost, predicted_db, measured_db, divergence, finalists, ...}.

    Of the finalists, which differ in ``APART`` layers at least, the one with the least divergence.

    ``rank``: what ranks the samples of the coarse stage, noise | hessian. ``verify``: the true cost where ``cost`` only
    comes near it; a finalist must keep the budget by both. ``pool``: of calls that share ``task`` (here, one by one).
    """
    state = {} if state is None else state
    pool = Pool(task) if pool is None else pool
    sensitivities(task, pool, state, save, say, seed, rank == "hessian")
    by_bits = lambda table: {name: {int(b): v for b, v in values.items()} for name, values in table.items()}  # noqa: E731
    noise = by_bits(state["noise"])
    names = list(noise)
    coarse = by_bits(state["omega"]) if rank == "hessian" else None
    found = search(noise, cost, budget, seed, coarse)
    key = lambda bits: "".join(str(bits[g]) for g in names)  # noqa: E731
    done = state.setdefault("finalists", {})
    kept = list(verified(apart(found), cost, verify, budget, finalists, say))
    todo = [bits for bits in kept if key(bits) not in done]
    if "base_db" not in state:
        todo.insert(0, dict.fromkeys(names, HIGH))
    if todo:
        say(f"quantizing {len(todo)} models, {pool.count} at a time ...")
    for bits, (db, divergence) in zip(todo, pool.map(measured, todo), strict=True):
        if "base_db" in state:
            done[key(bits)] = [db, divergence]
            say(f"quantized {sum(key(b) in done for b in kept)}/{len(kept)}: {db:.2f} dB, divergence {divergence:.4f}")
        else:
            state["base_db"] = db
            say(f"all at 8 bits: {db:.2f} dB on {len(task.held)} held-back images, divergence {divergence:.4f}")
        save()
    base = state["base_db"]

    def predicted(bits: dict[str, int]) -> float:
        return -10 * math.log10(10 ** (-base / 10) + total(bits, noise))

    best = None
    for bits in kept:
        db, divergence = done[key(bits)]
        say(
            f"finalist: cost {cost(bits):.4g}, predicted {predicted(bits):.2f} dB, measured {db:.2f} dB, "
            f"divergence {divergence:.4f}"
        )
        if best is None or divergence < best[2]:
            best = (bits, db, divergence)
    if best is None:
        raise ValueError(f"search: no candidate keeps the budget of {budget:.6g} when it is compiled")
    bits, db, divergence = best
    return {
        "bits": bits, "cost": cost(bits), "predicted_db": predicted(bits), "measured_db": db, "divergence": divergence,
        "base_db": base,
        "finalists": [[cost(b), predicted(b), *done[key(b)]] for b in kept],
        "candidates": [[cost(b), predicted(b)] for b in found],
        "front": front(noise, cost, predicted),
    }  # fmt: skip


def apart(found: list[dict[str, int]]) -> list[dict[str, int]]:
    """``found`` in an order in which each differs in ``APART`` layers at least from those before, as long as there are
    such: the first ones by predicted noise are all but the same, and the prediction is not that good."""
    first, rest = [], []
    for bits in found:
        near = any(sum(bits[g] != other[g] for g in bits) < APART for other in first)
        (rest if near else first).append(bits)
    return first + rest


def verified(
    found: list[dict[str, int]],
    cost: Callable,
    verify: Callable | None,
    budget: float,
    count: int,
    say: Callable[[str], None],
) -> Iterator[dict[str, int]]:
    """The first ``count`` candidates that keep the budget by their true cost as well."""
    for bits in found:
        if count == 0:
            return
        if verify is not None:
            true = verify(bits)
            say(f"finalist: predicted {cost(bits):.6g}, compiled {true:.6g} ({true / cost(bits) - 1:+.2%})")
            if true > budget:
                continue
        count -= 1
        yield bits


def front(noise: Noise, cost: Callable, predicted: Callable) -> list[list]:
    """[cost, predicted dB] from all 8 bits to the fewest, the layers with the least noise for what they save first."""
    widths = widths_of(noise)
    low, high = (cost(dict.fromkeys(noise, b)) for b in (widths[-1], widths[0]))
    chain = [greedy(noise, cost, low + (high - low) * k / STEPS) for k in range(STEPS + 1)]
    return sorted([cost(b), predicted(b)] for b in chain)
