"""The search itself, on numbers alone: sampled assignments, their Pareto front, evolution of the best. Seeded.

An assignment is {layer: bits}, the bits one of the search's widths, of which HIGH is the top. Noise powers of single
layers add (measured: 13.5 dB predicted, 13.3 found), so the fitness of an assignment is the sum of its layers' noises
and costs nothing to ask for.
"""

import random
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise

Assignment = dict[str, int]
Noise = Mapping[str, Mapping[int, float]]  #: layer -> bits below HIGH -> what they add to the logits' noise power
HIGH = 8  #: bits that a layer has to begin with, and whose noise is that of the whole model at 8 bits
FIXED = ("embed", "head")  #: 8 bits: first and last layer (3 % of DeiT-Tiny's MACs, 16 dB at 4 bits)
SAMPLES, SEEDS, GENERATIONS, P_MUTATE = 500, 25, 8, 0.5
KEPT = 200  #: of the last generation
MUTATIONS, CROSSOVERS = 200, 200  #: a generation; 20 times P2-ViT's, since asking costs nothing


def free(layers: Iterable[str]) -> list[str]:
    """The layers whose bits are chosen, in the model's order."""
    return [name for name in layers if name not in FIXED]


def pareto(points: Iterable[tuple[float, float]]) -> list[int]:
    """Indices of the points (cost, noise) that no other point beats in both, by rising cost."""
    listed, best, front = list(points), float("inf"), []
    for i in sorted(range(len(listed)), key=lambda i: (listed[i], i)):
        if listed[i][1] < best:
            front.append(i)
            best = listed[i][1]
    return front


def widths_of(noise: Noise) -> list[int]:
    """The widths that a search chooses from, by falling bits: HIGH and those whose noise is known."""
    return sorted({HIGH}.union(*noise.values()), reverse=True)


def total(bits: Assignment, noise: Noise) -> float:
    """The noise power that an assignment adds to that of all layers at HIGH."""
    return sum(noise[g][b] for g, b in bits.items() if b != HIGH)


def greedy(noise: Noise, cost: Callable, budget: float) -> Assignment:
    """A step down for the layer with the least noise for what it saves, again and again until the budget holds."""
    steps = list(pairwise(widths_of(noise)))
    bits = dict.fromkeys(noise, HIGH)
    whole = cost(bits)
    saved = {(g, b): whole - cost(bits | {g: b}) for g in noise for _, b in steps}

    def price(g: str, above: int, below: int) -> float:
        more = noise[g][below] - noise[g].get(above, 0.0)
        return more / max(saved[g, below] - saved.get((g, above), 0.0), 1e-30)

    # no layer's second step comes before its first, which costs less: noise falls by a factor with each bit
    for _, g, below in sorted((price(g, a, b), g, b) for g in noise for a, b in steps):
        if cost(bits) <= budget:
            break
        bits[g] = min(bits[g], below)
    return bits


def sample(names: list[str], cost: Callable, budget: float, rng: random.Random, widths: list[int]) -> Assignment:
    """A random assignment within the budget: layers in random order go a step down until it holds."""
    bits = dict.fromkeys(names, HIGH)
    turns = [g for g in names for _ in widths[1:]]
    for g in rng.sample(turns, len(turns)):
        if cost(bits) <= budget:
            break
        bits[g] = widths[widths.index(bits[g]) + 1]
    return bits


def mutate(bits: Assignment, rng: random.Random, widths: list[int]) -> Assignment:
    """Each layer takes a step with a chance that changes about two of them; or (P_MUTATE) one goes up and one down."""
    names, top = list(bits), len(widths) - 1
    at = {g: widths.index(b) for g, b in bits.items()}
    if rng.random() < P_MUTATE:
        low, high = [g for g in names if at[g] > 0], [g for g in names if at[g] < top]
        if low and high:
            up, down = rng.choice(low), rng.choice(high)
            return bits | {up: widths[at[up] - 1]} | {down: widths[at[down] + 1]}

    def moved(i: int) -> int:
        return i + (rng.choice((-1, 1)) if 0 < i < top else 1 if i == 0 else -1)

    return {g: widths[moved(at[g]) if rng.random() < 2 / len(names) else at[g]] for g in names}


def cross(a: Assignment, b: Assignment, rng: random.Random) -> Assignment:
    return {g: (a if rng.random() < 0.5 else b)[g] for g in a}


def search(
    noise: Noise,
    cost: Callable[[Mapping[str, int]], float],
    budget: float,
    seed: int = 0,
    coarse: Noise | None = None,
) -> list[Assignment]:
    """Assignments within ``budget``, the least noise first, all different.

    ``noise``: layers, widths and what these add; ``coarse``: what ranks the samples (default: ``noise``).
    Raises ValueError for a budget that all layers at the fewest bits exceed.
    """
    names, widths = list(noise), widths_of(noise)
    least = cost(dict.fromkeys(names, widths[-1]))
    if budget < least:
        raise ValueError(f"budget must be at least {least:.4g} (all layers at {widths[-1]} bits), not {budget:.4g}")
    rng = random.Random(seed)

    def best(pool: list[Assignment], count: int, of: Noise = noise) -> list[Assignment]:
        different = {tuple(b[g] for g in names): b for b in pool}
        return sorted(different.values(), key=lambda b: (total(b, of), tuple(b[g] for g in names)))[:count]

    sampled = [sample(names, cost, budget, rng, widths) for _ in range(SAMPLES)]
    rank = coarse or noise
    front = [sampled[i] for i in pareto((cost(b), total(b, rank)) for b in sampled)]
    pool = best(sampled, SEEDS - len(front), rank) + front[:SEEDS] + [greedy(noise, cost, budget)]
    for _ in range(GENERATIONS):
        pool = best(pool, SEEDS)
        children = [mutate(rng.choice(pool), rng, widths) for _ in range(MUTATIONS)]
        children += [cross(rng.choice(pool), rng.choice(pool), rng) for _ in range(CROSSOVERS)]
        pool += [c for c in children if cost(c) <= budget]
    return best(pool, KEPT)


def layer_wbits(bits: Assignment) -> list[list]:
    """A scheme's ``layer_wbits`` of an assignment."""
    return [[name, b] for name, b in bits.items() if b != HIGH]
