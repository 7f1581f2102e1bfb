"""Full-size runs: whole DeiT-Tiny and EfficientViT-B1 in RTL, one block of DeiT-Small and -Base, bandwidths, resets,
the ablations of P2-ViT and Trio-ViT, both families on one accelerator.

``python scripts/campaign.py [STEP ...]`` (``make campaign``) runs the named steps, all by default, and keeps the last
result of each in docs/campaign.json and docs/campaign.md. Needs the test data (VITFORGE_DATA, default ../shared/data).
A step fails when a figure misses its bound or a byte differs; the exit status says so.
"""

import argparse
import datetime
import json
import sys
import time
import traceback

import campaign_efficientvit
import campaign_outliers
import campaign_synth
from campaign_base import (
    DATA,
    P2VIT,
    ROOT,
    TEST,
    WORK,
    against_estimate,
    compiled,
    inputs,
    need,
    quantized,
    simulated,
)

from vitforge import api
from vitforge.simulation import prepare
from vitforge_hw.arch.config import get_config
from vitforge_hw.arch.registers import REGISTERS
from vitforge_sim.compare.verify import golden_tensors
from vitforge_sim.run import script
from vitforge_sim.run.accelerator import MemoryPlan, job_script, place_images
from vitforge_sim.run.topbench import run_bench
from vitforge_sw.compiler import compile_graph
from vitforge_sw.cycles.estimate import estimate
from vitforge_sw.families.vit.bits import average_bits, with_bits
from vitforge_sw.graph.serialize import write_atomic

CHECKPOINT = DATA / "checkpoints" / "deit_tiny_patch16_224.safetensors"


def hub_json(name: str, **model_args) -> str:
    """A hub-form JSON of a timm architecture with other arguments."""
    WORK.mkdir(parents=True, exist_ok=True)
    path = WORK / f"{name}_depth{model_args['depth']}.json"
    path.write_text(json.dumps({"architecture": name, "model_args": model_args}))
    return str(path)


def block(size: str) -> dict:
    """One block of DeiT's shapes, untrained, on the full p2vit: every tensor; steady state and whole run within 1 %
    of the estimate, one image alone within 2 %."""
    graph, _ = quantized(hub_json(f"deit_{size}_patch16_224", depth=1), "vitforge", limit=16)
    build, folder = compiled(graph, f"block_{size}")
    figures = simulated(graph, build, folder, 2, True)
    bounds = {"steady_state_cycles": 0.01, "run_cycles": 0.01, "first_image_cycles": 0.02}
    return figures | against_estimate(build, figures, bounds)


def explicit_block() -> dict:
    """One block of DeiT-Tiny's shapes on the Verilog that is synthesised for Xilinx: multipliers as DSP48E2, on our
    model of the primitive; every tensor."""
    graph, _ = quantized(hub_json("deit_tiny_patch16_224", depth=1), "vitforge", limit=16)
    build, folder = compiled(graph, "block_explicit")
    return simulated(graph, build, folder, 1, True, primitives="dsp48e2")


def collisions() -> dict:
    """One block of DeiT-Tiny's shapes with memories that give noise for a row that is read while it is written
    (vitforge_sim.run.collisions): every tensor is still equal, no such data are used."""
    graph, _ = quantized(hub_json("deit_tiny_patch16_224", depth=1), "vitforge", limit=16)
    build, folder = compiled(graph, "block_collisions")
    return simulated(graph, build, folder, 2, True, collisions=True)


def whole(scheme: str, count: int, bounds: dict) -> dict:
    """Real DeiT-Tiny: quantize, evaluate on the test images with float, every tensor in RTL, estimate beside it."""
    graph, seconds = quantized("deit_tiny_patch16_224", scheme, CHECKPOINT)
    need(seconds < 300, f"quantize took {seconds} s")
    net = api.load_float("deit_tiny_patch16_224", CHECKPOINT).model
    accuracy = api.evaluate(graph, TEST, TEST / "labels.csv", net, progress=True)
    out = {"quantize_seconds": seconds, "accuracy": accuracy}
    for key, least in bounds.items():
        need(accuracy[key] >= least, f"{key} is {accuracy[key]}, must be at least {least}")
    rate = accuracy["images_per_second"] / accuracy["float"]["images_per_second"]
    need(rate >= 1 / 3, f"integer model runs at {rate:.2f} of float's rate, must be at least 1/3")
    build, folder = compiled(graph, f"whole_{scheme}")
    figures = simulated(graph, build, folder, count, True)
    if count > 1:
        need(figures["utilization"] >= 0.975, f"utilization is {figures['utilization']}, must be at least 0.975")
        need(figures["run_seconds"] < 900, f"simulation took {figures['run_seconds']} s")
    bounds = {"first_image_cycles": 0.01} | ({"steady_state_cycles": 0.01, "run_cycles": 0.01} if count > 1 else {})
    return out | figures | against_estimate(build, figures, bounds)


#: MLP and proj of every block: softmax and shifter array would keep q, k and v from gaining as much
FOUR_BITS = (("*.mlp.fc?", 4), ("*.attn.proj", 4))


def on_four_bits(tag: str, layer_wbits: tuple) -> tuple:
    """DeiT-Tiny with these bits on p2vit_w4, three images: every tensor in RTL, cycles within 1 % of the estimate;
    beside it the same network with weights of 8 bits. (build, figures, estimate for 8 bits)."""
    graph, _ = quantized("deit_tiny_patch16_224", "vitforge", CHECKPOINT, tag=tag, layer_wbits=layer_wbits)
    build, folder = compiled(graph, f"deit_tiny{tag}", get_config("p2vit_w4"))
    figures = simulated(graph, build, folder, 3, True)
    figures |= against_estimate(build, figures, {"steady_state_cycles": 0.01, "run_cycles": 0.01})
    eight = estimate(compile_graph(with_bits(graph, {}), build.config))
    average, _ = average_bits(graph)
    faster = round(eight["cycles"] / figures["steady_state_cycles"], 3)
    return build, figures | {"average_bits": round(average, 2), "by_8_bits_estimate": faster}, eight


def mixed() -> dict:
    """Weights of 4 bits in fc1, fc2 and proj, 8 elsewhere, on p2vit_w4: every tensor in RTL, cycles within 1 % of the
    estimate; beside it the same network with weights of 8 bits (estimate), and the steps of its layers by these."""
    build, figures, eight = on_four_bits("_w4", FOUR_BITS)
    steps = [{x["name"]: x["busy"] for x in e["layers"] if x["chunk"] == "mat"} for e in (eight, estimate(build))]
    layers = ("attn.proj", "mlp.fc1", "mlp.fc2")
    rates = {name: round(steps[0][f"blocks.0.{name}"] / steps[1][f"blocks.0.{name}"], 3) for name in layers}
    need(min(rates.values()) >= 1.9, f"rates of layers of 4 bits by those of 8 bits: {rates}")
    return figures | {"layer_rates": rates}


def searched() -> dict:
    """The choice of `vitforge search --by cycles` (configs/schemes/deit_tiny_fast.json) on p2vit_w4: every tensor in
    RTL, cycles within 1 % of the estimate, at least 1.35 times as fast as with weights of 8 bits (estimate)."""
    chosen = json.loads((ROOT / "configs" / "schemes" / "deit_tiny_fast.json").read_text())
    _, figures, _ = on_four_bits("_fast", tuple((name, bits) for name, bits in chosen["layer_wbits"]))
    faster = figures["by_8_bits_estimate"]
    need(faster >= 1.35, f"{faster} times as fast as with 8 bits, must be at least 1.35")
    return figures


def bandwidth() -> dict:
    """Steady state and single image at 16, 32 and 64 bytes a cycle."""
    graph, _ = quantized("deit_tiny_patch16_224", "vitforge", CHECKPOINT)
    build, folder = compiled(graph, "bandwidth")
    out = {}
    for rate in (16, 32, 64):
        figures = simulated(graph, build, folder, 4, False, bandwidth=rate, latency=100)
        model = estimate(build, bytes_per_cycle=rate)
        out[str(rate)] = figures | {"steady_state_estimate": round(model["cycles"])}
    return out


def ablation() -> dict:
    """P2-ViT's ablation: the same results bit for bit, four cycle counts (published: 1.57, 1.32, 1.37, 1.00)."""
    graph, _ = quantized("deit_tiny_patch16_224", "vitforge", CHECKPOINT)
    out = {}
    for pipelining in ("none", "inter", "intra", "both"):
        build, folder = compiled(graph, f"ablation_{pipelining}", pipelining=pipelining)
        out[pipelining] = simulated(graph, build, folder, 1, True)["first_image_cycles"]
    base = out["both"]
    published = {"none": 1.57, "inter": 1.32, "intra": 1.37, "both": 1.0}
    return {k: {"cycles": v, "normalised": round(v / base, 3), "published": published[k]} for k, v in out.items()}


def reset() -> dict:
    """Two different images, a soft reset in the middle of a third, then a fourth: the logits of all that finished."""
    graph, _ = quantized("deit_tiny_patch16_224", "vitforge", CHECKPOINT)
    build, folder = compiled(graph, "reset")
    patches = inputs(graph, 4)
    bench = prepare(build, folder, "verilator", 4)
    plan = MemoryPlan.of(len(build.memory_image), build.image_bytes, build.result_bytes, 4)
    dram = place_images(plan, build.memory_image, [build.pack_image(p) for p in patches])
    reg = {name: r.offset for name, r in REGISTERS.items()}
    commands = [*job_script(P2VIT, plan, build.program_beats, 2), script.Write(reg["job_submit"], 1)]
    commands += [script.Wait(250_000), script.Write(reg["control"], 2), script.Poll(reg["control"], 0, 2)]
    last = MemoryPlan(plan.image_base + 3 * plan.image_stride, plan.image_stride,
                      plan.result_base + 3 * plan.result_stride, plan.result_stride, plan.total)  # fmt: skip
    commands += job_script(P2VIT, last, build.program_beats, 1)
    dump = (plan.result_base, 4 * plan.result_stride)
    result = run_bench(bench, commands, memory=dram, dump=dump, monitor=("image_end",))
    need(not result.axi_errors, f"AXI rule broken: {result.axi_errors[:1]}")
    rows = result.memory.reshape(4, plan.result_stride)[:, : build.result_bytes]
    golden = golden_tensors(graph, patches)[graph.output][:, 0]
    for i in (0, 1, 3):
        need((build.logits(rows[i].tobytes()) == golden[i]).all(), f"image {i}: logits differ from golden")
    return {"images_right": 3, "reset_in_image": 2, "cycles": result.cycles}


def larger(size: str) -> dict:
    """DeiT-Small or -Base whole: quantize untrained weights, compile, estimate; a refusal must name the sizes."""
    graph, seconds = quantized(f"deit_{size}_patch16_224", "vitforge", limit=8)
    try:
        build = compile_graph(graph, P2VIT)
    except ValueError as error:
        return {"quantize_seconds": seconds, "refused": str(error)}
    model = estimate(build)
    return {
        "quantize_seconds": seconds,
        "steady_state_estimate": round(model["cycles"]),
        "utilization_estimate": round(model["utilization"], 4),
        "buffer_rows": build.used,
    }


def base(model: str, least: float) -> dict:
    """A large ViT whole on `p2vit_base`: every tensor of three images, untrained live weights quantized without
    the costly choices; utilization at least the bound, cycles within 1 % of the estimate; DRAM bytes read a cycle."""
    graph, _ = quantized(model, "vitforge", limit=12, tag="_quick12", **QUICK)
    build, folder = compiled(graph, f"base_{model}", get_config("p2vit_base"))
    figures = simulated(graph, build, folder, 3, True)
    need(figures["utilization"] >= least, f"utilization is {figures['utilization']}, must be at least {least}")
    bounds = {"steady_state_cycles": 0.01, "run_cycles": 0.01, "first_image_cycles": 0.01}
    return figures | {"buffer_rows": build.used} | against_estimate(build, figures, bounds)


#: untrained weights gain nothing by these
QUICK = dict(weight_rounding="nearest", rotation="none", hidden_steps="tensor", bias_correction=False, smoothing=())

STEPS = {
    "deit_tiny_block": (block, "tiny"),
    "deit_tiny_block_explicit": (explicit_block,),
    "deit_tiny_block_collisions": (collisions,),
    "deit_small_block": (block, "small"),
    "deit_base_block": (block, "base"),
    "deit_tiny_vitforge": (whole, "vitforge", 4, {"top1": 162, "agreement": 95, "logit_sqnr_db": 18.5}),
    "deit_tiny_p2vit": (whole, "p2vit", 1, {"top1": 161, "agreement": 90, "logit_sqnr_db": 12.5}),
    "deit_tiny_w4": (mixed,),
    "deit_tiny_searched": (searched,),
    "deit_tiny_bandwidth": (bandwidth,),
    "deit_tiny_ablation": (ablation,),
    "deit_tiny_reset": (reset,),
    "deit_small": (larger, "small"),
    "deit_base": (larger, "base"),
    "deit_small_whole": (base, "deit_small_patch16_224", 0.97),
    "deit_base_whole": (base, "deit_base_patch16_224", 0.97),
    "vit_base_patch32_whole": (base, "vit_base_patch32_224", 0.883),
    **campaign_outliers.STEPS,
    **campaign_efficientvit.STEPS,
    **campaign_synth.STEPS,
}


INTRODUCTION = """\
Last results of `make campaign` (scripts/campaign.py; below each heading the command of that step alone). Runs of the
generated Verilog in Verilator: `preset` is the accelerator, the `images` of a run lie in DRAM and are queued back to
back; DRAM model of 100 cycles latency and 64 bytes a cycle unless said. Every value compared with the golden integer
model is equal. Figures named `estimate` are the cycle model's, all other cycles are simulated, not placed and routed.
DeiT-Tiny: trained weights, photographs. EfficientViT-B1: backbone trained on CIFAR-10, untrained classifier of 1000
classes, CIFAR-10 images at 224 x 224. Other models: untrained weights."""


def page(results: dict) -> str:
    """docs/campaign.md."""
    lines = ["# Full-size runs", "", *INTRODUCTION.split("\n"), ""]
    for name, entry in results.items():
        lines += [f"## {name}: {entry['status']}", "", f"    python scripts/campaign.py {name}", ""]
        lines += [f"{' '.join(entry['doc'].split())} ({entry['date']}, {entry['seconds']:.0f} s)", ""]
        lines += ["```json", json.dumps(entry["result"], indent=1), "```", ""]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"of {', '.join(STEPS)} (default: all)")
    chosen = parser.parse_args().steps or list(STEPS)
    if unknown := [s for s in chosen if s not in STEPS]:
        parser.error(f"unknown step {unknown[0]}; steps are {', '.join(STEPS)}")
    if not CHECKPOINT.exists():
        print(f"skipped: the campaign needs test data; VITFORGE_DATA is {DATA}, which has no {CHECKPOINT.name}")
        return 0
    WORK.mkdir(parents=True, exist_ok=True)
    store = ROOT / "docs" / "campaign.json"
    failed = []
    for name in chosen:
        print(f"[{name}]", flush=True)
        begin = time.monotonic()
        try:
            function, *arguments = STEPS[name]
            result, status = function(*arguments), "passed"
        except AssertionError as error:
            result, status = {"failed": str(error)}, "FAILED"
        except Exception as error:  # noqa: BLE001 - one broken step must not hide the others
            traceback.print_exc()
            result, status = {"failed": f"{type(error).__name__}: {error}"}, "FAILED"
        if status != "passed":
            failed.append(name)
        results = json.loads(store.read_text()) if store.exists() else {}  # another run may have added to it
        results[name] = {"status": status, "date": datetime.date.today().isoformat(), "doc": STEPS[name][0].__doc__,
                         "seconds": round(time.monotonic() - begin, 1), "result": result}  # fmt: skip
        results = {k: results[k] for k in STEPS if k in results}
        write_atomic(store, (json.dumps(results, indent=1) + "\n").encode())
        write_atomic(ROOT / "docs" / "campaign.md", page(results).encode())
        print(f"[{name}] {status} in {time.monotonic() - begin:.0f} s: {json.dumps(result)[:600]}", flush=True)
    print(f"{len(chosen) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
