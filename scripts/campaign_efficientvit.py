"""Steps of the campaign for the EfficientViT family: B1 at 224 whole, Trio-ViT's ablation, bandwidths; both families on
one accelerator."""

import json
import zipfile
from pathlib import Path

import torch
from campaign_base import (
    DATA,
    ROOT,
    TEST,
    WORK,
    against_estimate,
    compiled,
    need,
    quantized,
    simulated,
)
from safetensors.torch import load_file, save_file

from vitforge.rtl import get_config, load_config
from vitforge_sw.cycles.estimate import estimate

TRIO, HYBRID = get_config("trio"), get_config("hybrid")
TWO_WORDS = load_config(None, ROOT / "configs" / "trio_two_words.json")
SEVEN = TRIO.cores
BACKBONE = DATA / "checkpoints" / "efficientvit_b1_cifar10_r64.safetensors"
DEIT = DATA / "checkpoints" / "deit_tiny_patch16_224.safetensors"
ARCHIVE = DATA / "cifar10_jpeg.zip"
CALIB, IMAGES = WORK / "cifar" / "calib", WORK / "cifar" / "test"
#: numbers of the images in the archive, by class
CALIB_IMAGES = {
    "airplane": (138, 1462, 1667, 1857, 2004, 4135),
    "automobile": (1151, 1699, 2727, 3805),
    "bird": (3759, 4992),
    "cat": (1716, 2454),
    "deer": (803, 4878),
}
TEST_IMAGES = {"airplane": (150,), "cat": (548,), "horse": (174,), "truck": (58, 59, 60, 61, 62)}
HEAD = "head.classifier.4"  #: the last layer
SIZE = 224
BOUND = 0.01  #: of the cycle model
DEAD = 8  #: tensors with few distinct values (behind the classifier's Hardswish) or much saturation (sums of keys)
#: name -> compile options; the first is what the others are compared with
VARIANTS = {
    "hybrid_fused": {},
    "hybrid_not_fused": {"pipelining": "none"},
    "rmac_only": {"engines": "rmac"},
    "mat_only": {"engines": "mat"},
}


def images() -> None:
    """Sixteen calibration and eight test images as files."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        for folder, split, numbers in ((CALIB, "train", CALIB_IMAGES), (IMAGES, "test", TEST_IMAGES)):
            folder.mkdir(parents=True, exist_ok=True)
            for member in (f"{split}/{c}/{n:04d}.jpg" for c, each in numbers.items() for n in each):
                (folder / member.replace("/", "_")).write_bytes(archive.read(member))


def checkpoint() -> tuple[str, Path]:
    """B1's trained backbone with a last layer of 1000 classes, untrained: the published network's size. (hub-form
    JSON, weights.)"""
    path = WORK / "efficientvit_b1_1000.safetensors"
    state = load_file(BACKBONE)
    generator = torch.Generator().manual_seed(0)
    for name in ("weight", "bias"):
        old = state[f"{HEAD}.{name}"]
        state[f"{HEAD}.{name}"] = torch.randn(1000, *old.shape[1:], generator=generator) * old.std()
    save_file(state, path)
    info = json.loads(BACKBONE.with_suffix(".json").read_text())
    info["num_classes"] = info["pretrained_cfg"]["num_classes"] = 1000
    info.pop("label_names", None)
    info["pretrained_cfg"].pop("label_names", None)
    path.with_suffix(".json").write_text(json.dumps(info))
    return str(path.with_suffix(".json")), path


def model(scheme: str):
    images()
    return quantized(*(c := checkpoint())[:1], scheme, c[1], 16, CALIB, SIZE)[0]


def run(
    graph,
    name: str,
    count: int = 1,
    tensors: bool = True,
    config=TRIO,
    memory: dict | None = None,
    dead: int = DEAD,
    **options,
):
    """(figures, build) of B1; ``dead``: tensors that may prove little."""
    build, folder = compiled(graph, name, config, **options)
    return simulated(graph, build, folder, count, tensors, IMAGES, dead, **(memory or {})), build


def whole(scheme: str, count: int) -> dict:
    """Real EfficientViT-B1 backbone, images back to back: every tensor in RTL, estimate beside it (also of the backbone
    where images follow each other)."""
    figures, build = run(model(scheme), f"b1_{scheme}", count)
    bounds = dict.fromkeys(("first_image_cycles", *(("steady_state_cycles", "run_cycles") if count > 1 else ())), BOUND)
    if count > 1:
        backbone, found = estimate(build)["backbone"], figures["backbone_utilization"]
        figures["backbone_estimate"] = {k: backbone[k] for k in ("cycles", "macs", "utilization")}
        off = backbone["utilization"] / found - 1
        need(abs(off) < BOUND, f"backbone: estimate {backbone['utilization']:.4f} is {off:+.2%} off {found}")
    return figures | against_estimate(build, figures, bounds)


def alive() -> dict:
    """B1 with untrained weights brought to life, four images: every tensor, and none may be dead."""
    images()
    graph, _ = quantized("efficientvit_b1", "vitforge", None, 16, CALIB, SIZE)
    return run(graph, "b1_alive", 4, dead=0)[0]


def collisions() -> dict:
    """B1, one image, with memories that give noise for a row that is read while it is written: every tensor equal."""
    return run(model("vitforge"), "b1_collisions", memory={"collisions": True})[0]


def ablation() -> dict:
    """Trio-ViT's ablation on B1, one image: the same tensors bit for bit, four cycle counts. Fused: both engines share
    layers and layers overlap; not fused: each layer begins when the one before has ended; R-MAC alone; MAT alone, with
    R-MAC only for what MAT has no datapath for (depthwise, K^T V, sums), one layer after the other."""
    graph = model("vitforge")
    out, builds, base = {}, {}, 0
    for name, options in VARIANTS.items():
        figures, builds[name] = run(graph, f"b1_{name}", **options)
        base = base or figures["first_image_cycles"]
        out[name] = figures | {"normalised": round(figures["first_image_cycles"] / base, 3)}
    for name, build in builds.items():
        out[name] |= against_estimate(build, out[name], {"first_image_cycles": BOUND})
    return out


def bandwidth() -> dict:
    """B1, one image at 64, 32 and 16 bytes a cycle, logits; several images: estimate."""
    graph = model("vitforge")
    out = {}
    for rate in (64, 32, 16):
        figures, build = run(graph, "b1_bandwidth", tensors=False, memory={"bandwidth": rate, "latency": 100})
        alone, queued = (estimate(build, bytes_per_cycle=rate, images=n) for n in (1, 4))
        error = alone["first_image_cycles"] / figures["first_image_cycles"] - 1
        out[str(rate)] = figures | {
            "first_image_estimate": alone["first_image_cycles"],
            "first_image_error_percent": round(100 * error, 3),
            "steady_state_estimate": round(queued["cycles"]),
        }
    return out


def jobs(count: int, rate: int = 64, tensors: bool = False, config=TRIO, **options) -> dict:
    """``count`` images in jobs of the given CompileOptions: cycles of an image in the steady state, within 1 % of the
    estimate."""
    name = f"b1_jobs_{config.name}_" + "_".join(f"{k}{v}" for k, v in options.items())
    memory = {"bandwidth": rate, "latency": 100}
    figures, build = run(model("vitforge"), name, count, tensors, config, memory, **options)
    predicted = estimate(build, bytes_per_cycle=rate, images=2)["cycles"]
    error = predicted / figures["steady_state_cycles"] - 1
    need(abs(error) <= 0.01, f"estimate {predicted:.0f} is {100 * error:.2f} % off {figures['steady_state_cycles']}")
    figures["first_job_cycles"] = figures.pop("first_image_cycles")
    del figures["run_cycles"]
    return figures | {
        "steady_state_estimate": round(predicted),
        "steady_state_error_percent": round(100 * error, 3),
    }


def jobs_of_seven() -> dict:
    """Jobs of seven images, the classifier deferred, i.e. beside the next job's first layers: every tensor of eight
    images (the last one six times more, and in a third job)."""
    figures = jobs(8, tensors=True, batch=SEVEN, defer=True)
    need(figures["utilization"] >= 0.96, f"utilization is {figures['utilization']}, must be at least 0.96")
    return figures


def two_words() -> dict:
    """R-MAC's window fetch reads two words of a pool in a cycle (configs/trio_two_words.json): every tensor of four
    images back to back; jobs of seven images, the classifier deferred: logits of eight."""
    figures, build = run(model("vitforge"), "b1_two_words", 4, config=TWO_WORDS)
    found = figures["backbone_utilization"]
    need(found >= 0.96, f"backbone_utilization is {found}, must be at least 0.96")
    bounds = dict.fromkeys(("first_image_cycles", "steady_state_cycles", "run_cycles"), BOUND)
    seven = jobs(8, config=TWO_WORDS, batch=SEVEN, defer=True)
    return figures | against_estimate(build, figures, bounds) | {"jobs_of_seven": seven}


#: jobs of one and of seven images, the classifier at the end of each job or deferred, and slower memory
JOBS = {
    "batch_7": (8, 64, dict(batch=SEVEN)),
    "deferred": (4, 64, dict(defer=True)),
    "batch_1": (4, 64, dict(batch=1)),
    "batch_7_deferred_32_bytes": (8, 32, dict(batch=SEVEN, defer=True)),
    "batch_7_deferred_16_bytes": (8, 16, dict(batch=SEVEN, defer=True)),
}


def kind_of_jobs(name: str) -> dict:
    """Jobs of one or of seven images, the classifier at the end of each job or deferred, i.e. beside the next job's
    first layers; 64 bytes a cycle or fewer: the cycles of an image."""
    count, rate, options = JOBS[name]
    figures = jobs(count, rate, **options)
    if name == "batch_1":  # in other jobs a backbone holds parts of several images, or the classifier's
        found = figures["backbone_utilization"]
        need(found >= 0.955, f"backbone_utilization is {found}, must be at least 0.955")
    return figures


def both_families(which: str) -> dict:
    """The accelerator with every chunk: a whole network of each family, every tensor; DeiT-Tiny two images, in the
    steady state at least 95 % of both engines' multipliers, EfficientViT-B1 one."""
    if which == "deit_tiny":
        graph, _ = quantized("deit_tiny_patch16_224", "vitforge", DEIT)
        build, folder = compiled(graph, "hybrid_deit_tiny", HYBRID)
        figures = simulated(graph, build, folder, 2, True, TEST)
        need(figures["utilization"] >= 0.95, f"utilization is {figures['utilization']}")
        figures |= against_estimate(build, figures, {"steady_state_cycles": 0.01})
    else:
        figures, build = run(model("vitforge"), "hybrid_b1", config=HYBRID)
    alone = estimate(build, images=1)["first_image_cycles"]
    error = alone / figures["first_image_cycles"] - 1
    need(abs(error) <= BOUND, f"estimate {alone} is {100 * error:.2f} % off {figures['first_image_cycles']}")
    return figures | {"first_image_estimate": alone, "first_image_error_percent": round(100 * error, 3)}


STEPS = {
    "efficientvit_b1_vitforge": (whole, "vitforge", 4),
    "efficientvit_b1_trio": (whole, "trio", 1),
    "efficientvit_b1_alive": (alive,),
    "efficientvit_b1_collisions": (collisions,),
    "efficientvit_b1_ablation": (ablation,),
    "efficientvit_b1_bandwidth": (bandwidth,),
    "efficientvit_b1_jobs": (jobs_of_seven,),
    "efficientvit_b1_two_words": (two_words,),
    **{f"efficientvit_b1_{name}": (kind_of_jobs, name) for name in JOBS},
    "hybrid_deit_tiny": (both_families, "deit_tiny"),
    "hybrid_efficientvit_b1": (both_families, "efficientvit_b1"),
}
