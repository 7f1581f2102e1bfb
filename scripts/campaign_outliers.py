"""Steps of the campaign without hardware: massive activations planted into DeiT-Tiny and ViT-Tiny."""

import json

from campaign_base import CALIB, DATA, TEST, WORK, need

from vitforge_sw.evaluate import float_logits, real_logits, sqnr_db
from vitforge_sw.families.quantize import quantize_model
from vitforge_sw.families.vit.planting import UNTREATED, plant
from vitforge_sw.families.vit.schemes import get_scheme
from vitforge_sw.golden.model import Golden
from vitforge_sw.graph.serialize import write_atomic
from vitforge_sw.models.checkpoint import load_model
from vitforge_sw.models.files import list_images
from vitforge_sw.models.images import load_patches
from vitforge_sw.models.resolve import resolve_model

LOSS, GAIN = 2.0, 4.0  #: dB below the unplanted model at most, dB gained over the treatment switched off at least


def planted(name: str, seeds: int = 5) -> dict:
    """Massive activations planted at places and by factors drawn from five seeds: treated at most 2 dB below the model
    without them, and at least 4 dB above the treatment switched off. Golden model; logit SQNR in dB against the planted
    float model. 40 images for calibration, 40 others. Cases that are done are kept in build/campaign."""
    spec = resolve_model(name)
    model, image = load_model(spec, DATA / f"checkpoints/{name}.safetensors")
    calib, test = (load_patches(list_images(part), image) for part in (CALIB, TEST))
    path = WORK / f"planted_{name}_{len(calib)}_{len(test)}.json"
    done = json.loads(path.read_text()) if path.exists() else {}

    def sqnr(net, **options) -> tuple[float, list[str]]:
        graph = quantize_model(net, spec, image, get_scheme("vitforge", **options), calib, progress=False)
        got = real_logits(graph, Golden(graph).logits(test))
        return sqnr_db(float_logits(net, test, image), got), graph.meta["treated"]

    def keep(key: str, value) -> None:
        done[key] = value
        write_atomic(path, json.dumps(done, indent=1).encode())

    if "unplanted" not in done:
        keep("unplanted", round(sqnr(model)[0], 2))
    for seed in range(seeds):
        if str(seed) not in done:
            net, what = plant(model, image, calib, seed)
            on, treated = sqnr(net)
            off, _ = sqnr(net, **UNTREATED)
            unit, channel = (f"blocks.{what['block']}.mlp.fc1: unit {what['unit']}:", f"channel {what['channel']}:")
            found = [any(word in note for note in treated) for word in (unit, channel)]
            keep(str(seed), {"treated": round(on, 2), "off": round(off, 2), "found": all(found), **what})
            print(f"{name} seed {seed}: {done[str(seed)]}", flush=True)
    cases = {seed: done[str(seed)] for seed in range(seeds)}
    whole = done["unplanted"]
    bad = [
        seed for seed, c in cases.items()
        if not c["found"] or c["treated"] < whole - LOSS or c["treated"] < c["off"] + GAIN
    ]  # fmt: skip
    text = "; ".join(f"seed {s}: treated {c['treated']}, off {c['off']}" for s, c in cases.items())
    need(not bad, f"unplanted {whole} dB; {text}; out of bounds: seeds {bad}")
    return {"unplanted": whole, "cases": cases}


STEPS = {
    "deit_tiny_planted": (planted, "deit_tiny_patch16_224"),
    "vit_tiny_planted": (planted, "vit_tiny_patch16_224"),
}
