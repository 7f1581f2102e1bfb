"""The search itself, on numbers alone: sampled assignments, their Pareto front, evolution of the best. Seeded.

An assignment is {layer: bits}. Noise powers of single layers add (measured: 13.5 dB predicted, 13.3 found), so the
fitness of an assignment is the sum of its layers' noises and costs nothing to ask for.
"""

import random
from collections.abc import Callable, Iterable, Mapping

Assignment = dict[str, int]
HIGH, LOW = 8, 4
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


def greedy(names: list[str], noise: Mapping[str, float], cost: Callable, budget: float) -> Assignment:
    """4 bits to the layers with the least noise for what they save until the budget holds."""
    bits = dict.fromkeys(names, HIGH)
    whole = cost(bits)
    saved = {g: whole - cost(bits | {g: LOW}) for g in names}
    for g in sorted(names, key=lambda g: (noise[g] / max(saved[g], 1e-30), g)):
        if cost(bits) <= budget:
            break
        bits[g] = LOW
    return bits


def sample(names: list[str], cost: Callable, budget: float, rng: random.Random) -> Assignment:
    """A random assignment within the budget: layers in random order get 4 bits until it holds."""
    bits = dict.fromkeys(names, HIGH)
    for g in rng.sample(names, len(names)):
        if cost(bits) <= budget:
            break
        bits[g] = LOW
    return bits


def mutate(bits: Assignment, rng: random.Random) -> Assignment:
    """Each layer flips with a chance that changes about two of them, or (P_MUTATE) two layers swap."""
    names = list(bits)
    if rng.random() < P_MUTATE:
        low, high = ([g for g in names if bits[g] == b] for b in (LOW, HIGH))
        if low and high:
            return bits | {rng.choice(low): HIGH, rng.choice(high): LOW}
    return {g: (LOW + HIGH - b if rng.random() < 2 / len(names) else b) for g, b in bits.items()}


def cross(a: Assignment, b: Assignment, rng: random.Random) -> Assignment:
    return {g: (a if rng.random() < 0.5 else b)[g] for g in a}


def search(
    names: list[str],
    noise: Mapping[str, float],
    cost: Callable[[Mapping[str, int]], float],
    budget: float,
    seed: int = 0,
    coarse: Mapping[str, float] | None = None,
) -> list[Assignment]:
    """Assignments within ``budget``, the least noise first, all different.

    ``noise``: what 4 bits in a layer add, {layer: power}; ``coarse``: what ranks the samples (default: ``noise``).
    Raises ValueError for a budget that all groups at 4 bits exceed.
    """
    least = cost(dict.fromkeys(names, LOW))
    if budget < least:
        raise ValueError(f"budget must be at least {least:.4g} (all layers at {LOW} bits), not {budget:.4g}")
    rng = random.Random(seed)

    def total(bits: Assignment, of: Mapping[str, float] = noise) -> float:
        return sum(of[g] for g in names if bits[g] == LOW)

    def best(pool: list[Assignment], count: int, of: Mapping[str, float] = noise) -> list[Assignment]:
        different = {tuple(b[g] for g in names): b for b in pool}
        return sorted(different.values(), key=lambda b: (total(b, of), tuple(b[g] for g in names)))[:count]

    sampled = [sample(names, cost, budget, rng) for _ in range(SAMPLES)]
    rank = coarse or noise
    front = [sampled[i] for i in pareto((cost(b), total(b, rank)) for b in sampled)]
    pool = best(sampled, SEEDS - len(front), rank) + front[:SEEDS] + [greedy(names, noise, cost, budget)]
    for _ in range(GENERATIONS):
        pool = best(pool, SEEDS)
        children = [mutate(rng.choice(pool), rng) for _ in range(MUTATIONS)]
        children += [cross(rng.choice(pool), rng.choice(pool), rng) for _ in range(CROSSOVERS)]
        pool += [c for c in children if cost(c) <= budget]
    return best(pool, KEPT)


def layer_wbits(bits: Assignment) -> list[list]:
    """A scheme's ``layer_wbits`` of an assignment."""
    return [[name, b] for name, b in bits.items() if b != HIGH]
