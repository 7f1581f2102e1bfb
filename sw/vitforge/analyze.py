"""``vitforge analyze``: tables as CSV and pictures of what ``families.vit.analysis`` measures."""

import csv
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from vitforge_sw.families.vit.analysis.budget import IMAGES, Source, noise_budget
from vitforge_sw.families.vit.analysis.sensitivity import sensitivities
from vitforge_sw.families.vit.analysis.tensors import attention_maps, compared_model, errors, floats, ranges, sites
from vitforge_sw.families.vit.frontend import import_vit
from vitforge_sw.families.vit.outliers import RATIO, outliers
from vitforge_sw.graph.ir import Graph
from vitforge_sw.models.images import ImageConfig, patches_to_float


def _table(path: Path, header: list[str], rows: list[list]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def _plots():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def analyze(graph: Graph, model: torch.nn.Module, patches: np.ndarray, folder: Path, sensitivity: bool) -> list[str]:
    """Write tables and pictures below ``folder``; the lines of the summary. ``patches``: input bytes of the images."""
    if type(model).__name__ == "EfficientVit":
        raise ValueError("analyze: needs a ViT; this model is an EfficientViT")
    image = ImageConfig.from_dict(graph.meta.get("image"))
    pixels = torch.from_numpy(patches_to_float(patches, image))
    x = F.unfold(pixels, image.patch_size, stride=image.patch_size).transpose(1, 2)
    folder.mkdir(parents=True, exist_ok=True)
    plain, vit = import_vit(model), compared_model(model, graph)
    names, own = sites(vit), floats(plain, x)
    lines = channel_ranges(ranges(own, names), folder)
    found = floats(vit, x)
    lines += tensor_errors(errors(graph, found, names, patches), folder)
    if len(patches) < IMAGES:
        lines.append(f"noise: no budget, which needs at least {IMAGES} images, not {len(patches)}")
    else:
        lines += budget(*noise_budget(graph, vit, patches, x), folder)
    attention(attention_maps(graph, found, patches, len(vit.blocks) - 1), folder, image.patches)
    if sensitivity:
        lines += sensitive(list(sensitivities(plain, x, names)), folder)
    return lines


def channel_ranges(rows: list[dict], folder: Path) -> list[str]:
    """ranges.csv and ranges.png: what each channel of each tensor reaches, relative to most; outliers with numbers."""
    _table(
        folder / "ranges.csv", ["site", "channel", "largest", "most reach", "ratio"],
        [[r["site"], r["channel"], r["top"], r["typical"], r["ratio"]] for r in rows],
    )  # fmt: skip
    plt = _plots()
    kinds = {"residual stream": ("embed", ".proj", ".fc2"), "hidden": (".fc1",), "LayerNorm": (".norm1", ".norm2")}
    figure, axes = plt.subplots(len(kinds), 1, figsize=(11, 11), layout="constrained")
    for ax, (kind, ends) in zip(axes, kinds.items(), strict=True):
        some = [r for r in rows if r["site"].endswith(ends)]
        for i, r in enumerate(some):
            relative = r["tops"] / r["typical"]
            ax.scatter(np.full(len(relative), i), relative, s=4, color="tab:blue", alpha=0.4)
            for c in outliers(torch.from_numpy(r["tops"])).tolist():
                ax.scatter([i], [relative[c]], s=30, color="tab:red")
                ax.annotate(str(c), (i, relative[c]), textcoords="offset points", xytext=(5, -3), fontsize=8)
        ax.axhline(RATIO, color="tab:red", lw=0.7, ls="--")
        ax.set_yscale("log")
        ax.set_ylabel(f"{kind}: largest / most")
        ax.set_xticks(range(len(some)), [r["site"].removeprefix("blocks.") for r in some], rotation=90, fontsize=7)
    figure.suptitle("what each channel reaches, over what 97 % of the channels reach (red: massive, by number)")
    figure.savefig(folder / "ranges.png", dpi=110)
    plt.close(figure)
    worst = sorted(rows, key=lambda r: -r["ratio"])[:3]
    return [f"range: {r['site']} channel {r['channel']}: {r['top']:.4g}, {r['ratio']:.1f} times most" for r in worst]


def tensor_errors(found: list, folder: Path) -> list[str]:
    """errors.csv, errors.png (SNR of class and patch tokens along the network), histograms.png."""
    columns = ["site", "mse", "mae", "noise_ratio", "snr", "class_snr", "patch_snr"]
    _table(folder / "errors.csv", columns, [[getattr(e, c) for c in columns] for e in found])
    plt = _plots()
    figure, ax = plt.subplots(figsize=(12, 4))
    for name, label in (("class_snr", "class token"), ("patch_snr", "patch tokens")):
        ax.plot([getattr(e, name) for e in found], ".-", label=label)
    ax.set_xticks(range(len(found)), [e.site.removeprefix("blocks.") for e in found], rotation=90, fontsize=6)
    ax.set_ylabel("SNR, dB")
    ax.grid(alpha=0.3)
    ax.legend()
    figure.savefig(folder / "errors.png", dpi=110, bbox_inches="tight")
    plt.close(figure)
    kinds: dict[str, list] = {}
    for e in found:
        kinds.setdefault(e.site.split(".", 2)[-1], []).append(e.residual)
    figure, axes = plt.subplots(1, len(kinds), figsize=(3 * len(kinds), 3), sharey=True)
    for ax, (kind, parts) in zip(np.atleast_1d(axes), kinds.items(), strict=True):
        ax.hist(np.clip(np.concatenate(parts), -6, 6), bins=61, log=True)
        ax.set_title(kind, fontsize=9)
        ax.set_xlabel("error / its deviation")
    np.atleast_1d(axes)[0].set_ylabel("elements")
    figure.savefig(folder / "histograms.png", dpi=110, bbox_inches="tight")
    plt.close(figure)
    worst = sorted(found, key=lambda e: e.snr)[:3]
    return [f"error: {e.site}: {e.snr:.1f} dB (class {e.class_snr:.1f}, patches {e.patch_snr:.1f})" for e in worst]


def budget(whole: float, sources: list[Source], folder: Path) -> list[str]:
    """budget.csv and .png: the logits' SQNR with each kind of rounding switched off, and its share of the noise."""
    rows = [[s.kind, s.without_db, s.share] for s in sources]
    _table(folder / "budget.csv", ["source", "logit_sqnr_db_without", "share_of_noise"], [["none", whole, 0.0], *rows])
    plt = _plots()
    figure, ax = plt.subplots(figsize=(9, 4), layout="constrained")
    ax.barh([s.kind for s in reversed(sources)], [s.without_db for s in reversed(sources)])
    ax.axvline(whole, color="tab:red", lw=1)
    for i, s in enumerate(reversed(sources)):
        ax.annotate(f" {s.share:.0%}", (s.without_db, i), va="center", fontsize=8)
    ax.set_xlim(left=whole - 1)
    ax.set_xlabel(
        f"logit SQNR with that source switched off, dB (red: with all of them, {whole:.1f}); share of the noise"
    )
    figure.savefig(folder / "budget.png", dpi=110)
    plt.close(figure)
    return [f"noise: {s.kind}: {s.share:.0%}, without {s.without_db:.1f} of {whole:.1f} dB" for s in sources[:3]]


def attention(maps: np.ndarray, folder: Path, patches: int) -> None:
    """attention.png: the last block's class token over the patches, float above integer, a head a column."""
    plt, side = _plots(), int(patches**0.5)
    figure, axes = plt.subplots(2, maps.shape[1], figsize=(3 * maps.shape[1], 6), squeeze=False)
    for h in range(maps.shape[1]):
        top = maps[:, h, -patches:].max()
        for row, name in enumerate(("float", "integer")):
            axes[row, h].imshow(maps[row, h, -patches:].reshape(side, side), vmin=0, vmax=top)
            axes[row, h].set_title(f"{name}, head {h}", fontsize=9)
            axes[row, h].axis("off")
    figure.savefig(folder / "attention.png", dpi=110, bbox_inches="tight")
    plt.close(figure)


def sensitive(found: list[tuple], folder: Path) -> list[str]:
    """sensitivity.csv and .png: the logits' SQNR with one layer's weights, or one tensor, at 8 bits alone."""
    _table(folder / "sensitivity.csv", ["kind", "site", "logit_sqnr_db"], [list(r) for r in found])
    plt = _plots()
    figure, axes = plt.subplots(2, 1, figsize=(12, 8))
    for ax, kind in zip(axes, ("weights", "activations"), strict=True):
        some = [(site, db) for k, site, db in found if k == kind]
        ax.bar(range(len(some)), [db for _, db in some])
        ax.set_xticks(range(len(some)), [s.removeprefix("blocks.") for s, _ in some], rotation=90, fontsize=6)
        ax.set_ylabel(f"{kind} at 8 bits alone: dB")
    figure.tight_layout()
    figure.savefig(folder / "sensitivity.png", dpi=110)
    plt.close(figure)
    worst = sorted(found, key=lambda r: r[2])[:3]
    return [f"sensitive: {kind} of {site}: {db:.1f} dB alone at 8 bits" for kind, site, db in worst]
