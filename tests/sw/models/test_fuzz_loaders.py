"""Structure-aware fuzzing of what users bring, in this process: every input is taken or refused in one line.

Files are changed inside their structure, with lengths, hashes and checksums made again, so that most changes get past
the container to the code behind it. A seed is an input: a failure names it.
"""

import io
import json
import random
import re
import struct
import zipfile
import zlib
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from vitforge_sw.models.checkpoint import load_model, read_state_dict
from vitforge_sw.models.checkpoint.names import fit_names
from vitforge_sw.models.checkpoint.tensors import as_weight, check_kinds
from vitforge_sw.models.labels import folder_classes, labelled_images
from vitforge_sw.models.pixels import load_image
from vitforge_sw.models.resolve import ModelSpec, build_model

ARGS = dict(img_size=16, patch_size=8, embed_dim=8, depth=1, num_heads=1, in_chans=1, mlp_ratio=1)
SPEC = ModelSpec("tiny", "vit_tiny_patch16_224", ARGS, num_classes=3)
campaign = pytest.mark.campaign


def counts(few: int, many: int):
    return pytest.mark.parametrize("count", [few, pytest.param(many, marks=campaign)])


def attempt(seed: int, call, *args) -> str:
    """What came of it: ``taken``, or the refusal with what varies taken out."""
    try:
        call(*args)
    except ValueError as error:
        text = str(error)
        assert text.isprintable() and 10 < len(text) < 1200, (seed, text)
        return re.sub(r"'[^']*'|\S*[\d/_.]\S*", "", text.partition(": ")[2])[:60]
    except Exception as error:
        raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
    return "taken"


# ---------------------------------------------------------------- checkpoints

STATE = {n: v.clone() for n, v in build_model(SPEC).state_dict().items()}
NAMES = list(STATE)
EXPECTED = set(STATE)
WIDTHS = dict(F64=8, F32=4, F16=2, BF16=2, I64=8, I32=4, I16=2, I8=1, U8=1, BOOL=1, F8_E4M3=1, F8_E5M2=1, U16=2, C64=8)


def text(r: random.Random) -> str:
    pieces = ["module.", "model.", "ema_model.", "vit.", "head", ".weight", "\x1b[31m", "\n", "é", "0", "\0", "🙂", "."]
    return "".join(r.choice(pieces) for _ in range(r.randrange(1, 6)))


def tensor(r: random.Random, value: torch.Tensor) -> object:
    """``value`` as something else."""
    change = r.choice(
        [
            lambda x: x.half(), lambda x: x.bfloat16(), lambda x: x.double() * 1e200, lambda x: x * float("nan"),
            lambda x: x.to_sparse(), lambda x: x.to(torch.complex64), lambda x: x.to(torch.float8_e5m2),
            lambda x: x.to(torch.int8), lambda x: x.to("meta"), lambda x: x[..., None], lambda x: x.flatten()[:0],
            lambda x: x.numpy(), lambda x: x.tolist(), lambda x: None, lambda x: torch.nn.Parameter(x),
            lambda x: torch.zeros(1).expand(1 << 40), lambda x: x.bool(), lambda x: x.t() if x.ndim == 2 else x,
        ]
    )  # fmt: skip
    return change(value)


def structure(r: random.Random) -> object:
    """A state dict with something odd about it, somewhere in a checkpoint."""
    state = dict(STATE)
    for _ in range(r.randrange(3)):
        name = r.choice(list(state) or NAMES)
        kind = r.randrange(5)
        if kind == 0:
            state[name] = tensor(r, STATE.get(name, torch.zeros(2)))
        elif kind == 1:
            state.pop(name, None)
        elif kind == 2:
            state[text(r)] = r.choice([torch.zeros(2), 3, "x", None, [1], {"a": torch.zeros(1)}])
        elif kind == 3:
            state[text(r)] = state.pop(name, torch.zeros(1))
        else:
            state[r.choice([3, (1, 2), b"x", 0.5])] = torch.zeros(2)
    if r.random() < 0.3:
        prefix = r.choice(["module.", "model.", "x.y.", "backbone.", "ema_model.", "vit.", text(r)])
        state = {f"{prefix}{n}" if isinstance(n, str) else n: v for n, v in state.items()}
    found: object = state
    for _ in range(r.randrange(4)):
        key = r.choice(["model", "state_dict", "model_ema", "state_dict_ema", "ema", "net", "optimizer", 0.99, text(r)])
        found = {key: found} | r.choice([{}, {"epoch": 3}, {"model": STATE}, {"ema": None}, {"ema": [1]}, {"lr": 0.1}])
    return r.choice([found] * 12 + [[found], (found, 1), None, torch.zeros(2)])


def pickled(r: random.Random) -> bytes:
    """A file of torch.save; now and then with bytes of its pickle changed, in a zip file that is whole."""
    buffer = io.BytesIO()
    zipped = r.random() < 0.7
    torch.save(structure(r), buffer, _use_new_zipfile_serialization=zipped)
    blob = buffer.getvalue()
    if r.random() < 0.75:
        return blob
    if not zipped:
        return scribbled(r, blob, 600)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(blob)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith("data.pkl"):
                data = scribbled(r, data, len(data))
            elif r.random() < 0.02:
                data = data[: r.randrange(len(data) + 1)]
            if r.random() > 0.01:
                new.writestr(name, data)
    return out.getvalue()


def scribbled(r: random.Random, blob: bytes, reach: int) -> bytes:
    changed = bytearray(blob)
    for _ in range(r.randrange(1, 4)):
        if changed:
            changed[r.randrange(min(reach, len(changed)))] = r.randrange(256)
    return bytes(changed) if r.random() < 0.9 else bytes(changed[: r.randrange(len(changed) + 1)])


def safetensors(r: random.Random) -> bytes:
    """A safetensors file whose entries are odd but whole; now and then with a header that lies."""
    entries = {name: ("F32", list(value.shape), value.numpy().tobytes()) for name, value in STATE.items()}
    for _ in range(r.randrange(4)):
        name, kind = r.choice(list(entries)), r.randrange(6)
        dtype, shape, data = entries[name]
        if kind == 0:
            dtype = r.choice(list(WIDTHS))
            data = bytes(r.randrange(256) for _ in range(WIDTHS[dtype])) * max(1, len(data) // 4)
        elif kind == 1:
            shape = r.choice([shape[::-1], [1, *shape], [len(data) // 4], [len(data) // 8, 2]])
        elif kind == 2:
            odd = r.choice([float("nan"), float("inf"), 3e38, -1.0])
            data = struct.pack("<f", odd) + data[4:]
        elif kind == 3:
            del entries[name]
            name = text(r)
        elif kind == 4:
            shape, data = [0], b""
        elif len(entries) > 1:
            del entries[name]
            continue
        entries[name] = (dtype, shape, data)
    header, body = {}, b""
    for name, (dtype, shape, data) in entries.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    if r.random() < 0.25:
        name, field = r.choice(list(header)), r.choice(["dtype", "shape", "data_offsets"])
        lies = [3, "X9", [-1], [1 << 62, 1 << 62], [0, 1 << 40], {}, None]
        header[name] = header[name] | {field: r.choice(lies)} if r.random() < 0.9 else r.choice(lies)
    head = json.dumps(header).encode()
    return struct.pack("<Q", len(head)) + head + body


def through(path) -> None:
    """All of the loader but timm's model itself, which takes most of the time."""
    state = fit_names(read_state_dict(path), EXPECTED, "tiny", "checkpoint", [])
    check_kinds(state, "checkpoint")
    for name in EXPECTED & state.keys():
        if state[name].shape == STATE[name].shape:
            as_weight(name, state[name], "checkpoint")


@counts(1200, 400_000)
def test_checkpoints(tmp_path, count):
    seen: Counter = Counter()
    for seed in range(count):
        r = random.Random(seed)
        path = tmp_path / "c"
        path.write_bytes(r.choice([pickled, safetensors])(r))
        whole = seed % 20 == 0  # the rest of the way, timm's model included
        seen[attempt(seed, load_model, SPEC, path) if whole else attempt(seed, through, path)] += 1
    print(seen.most_common(40))
    damaged = sum(n for what, n in seen.items() if "corrupt or truncated" in what)
    assert 2 * damaged <= count and seen["taken"] > count / 20 and len(seen) >= 12


# ---------------------------------------------------------------- labels


@counts(1500, 300_000)
def test_folder_names(count):
    """Distinct classes in range, by the labels' names where these say it, or a refusal."""
    pool = [
        "cat",
        "Cat",
        "dog",
        "hot dog",
        "hot_dog",
        "0",
        "1",
        "2",
        "10",
        "n01440764",
        "n02099601",
        "x",
        "é",
        "e\u0301",
    ]
    seen: Counter = Counter()
    for seed in range(count):
        r = random.Random(seed)
        found = sorted({r.choice([*pool, text(r)]) for _ in range(r.randrange(1, 6))})
        names = [r.choice(pool) for _ in range(r.randrange(6))]
        classes = r.choice([None, len(names) or None, len(found), 10, 1000])
        names = names if len(names) == classes else []

        def check(found=found, names=names, classes=classes, seed=seed):
            decided, line = folder_classes("here", found, names, classes)
            assert len(set(decided)) == len(decided) == len(found) and line.isprintable(), seed
            assert all(0 <= c < (classes or len(found)) for c in decided), seed
            if set(found) <= set(names):
                assert [names[c] for c in decided] == found, seed

        seen[attempt(seed, check)] += 1
    assert seen["taken"] > count / 20 and len(seen) >= 6, seen


ROWS = [*["a.png,1", "b.png,0"] * 6, "file,label", "a.png,-1", "b.png,1e3", '"a.png', ",", "c.png,3", "b.png;2",
        "\ufefffile,label", "\0", "a.png,99999999999999999999", "a.png,1,2,3", "label,file", "../a.png,1",
        "x" * 300 + ",1", "é,ü", ""]  # fmt: skip


def label_file(r: random.Random) -> bytes:
    """A CSV of labels for a.png and b.png with odd rows, line ends and encodings."""
    lines = r.choice([["file,label"]] * 4 + [[], ["file;label"]]) + [r.choice(ROWS) for _ in range(r.randrange(5))]
    encoding = r.choice(["utf-8"] * 6 + ["utf-16", "latin-1"])
    return r.choice(["\n", "\r\n", "\r"]).join(lines).encode(encoding, "replace")


@counts(600, 100_000)
def test_label_files(tmp_path, count):
    for name in ("a.png", "b.png"):
        Image.new("L", (2, 2)).save(tmp_path / name)
    seen: Counter = Counter()
    for seed in range(count):
        (tmp_path / "l.csv").write_bytes(label_file(random.Random(seed)))
        seen[attempt(seed, labelled_images, tmp_path, tmp_path / "l.csv")] += 1
    assert seen["taken"] > count / 40 and len(seen) >= 4, seen


# ---------------------------------------------------------------- images


def _chunks(blob: bytes) -> list[tuple[bytes, bytes]]:
    out, at = [], 8
    while at < len(blob):
        size = struct.unpack(">I", blob[at : at + 4])[0]
        out.append((blob[at + 4 : at + 8], blob[at + 8 : at + 8 + size]))
        at += 12 + size
    return out


def png(r: random.Random, blob: bytes) -> bytes:
    """Chunks changed, with right checksums."""
    chunks = _chunks(blob)
    for _ in range(r.randrange(1, 3)):
        i = r.randrange(len(chunks))
        kind, data = chunks[i]
        if kind == b"IHDR" and r.random() < 0.8:
            side = r.choice([0, 1, 5, 33, 1 << 16, 0x7FFFFFFF])
            data = struct.pack(">IIBBBBB", side, r.choice([1, 5, 1 << 16]), r.choice([1, 2, 4, 8, 16, 7]),
                               r.choice([0, 2, 3, 4, 6, 5]), 0, 0, r.choice([0, 1]))  # fmt: skip
        elif kind == b"IDAT" and r.random() < 0.5:
            data = zlib.compress(bytes(r.randrange(256) for _ in range(r.randrange(200))))
        elif r.random() < 0.5:
            data = scribbled(r, data, 200) if data else b"x"
        else:
            kind = r.choice([b"tRNS", b"PLTE", b"gAMA", b"eXIf", b"iCCP", b"zTXt", b"acTL", b"IEND", b"sBIT"])
        chunks[i] = (kind, data)
    if r.random() < 0.2:
        del chunks[r.randrange(len(chunks))]
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return blob[:8] + body


def _samples() -> list[tuple[str, bytes]]:
    rng = np.random.default_rng(0)
    rgb, gray = rng.integers(0, 256, (9, 7, 3), np.uint8), rng.integers(0, 65536, (9, 7)).astype(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    out = []
    for image, kind, options in (
        (Image.fromarray(rgb), "PNG", dict(exif=exif)), (Image.fromarray(rgb), "JPEG", dict(exif=exif)),
        (Image.fromarray(rgb), "WEBP", {}), (Image.fromarray(rgb), "BMP", {}), (Image.fromarray(rgb), "TIFF", {}),
        (Image.fromarray(gray), "TIFF", {}), (Image.fromarray(gray), "PNG", {}), (Image.fromarray(rgb), "PPM", {}),
        (Image.fromarray(rgb).convert("P"), "PNG", dict(transparency=3)),
        (Image.fromarray(gray.astype(np.float32)), "TIFF", {}), (Image.fromarray(gray // 300), "PNG", {}),
        (Image.fromarray(rgb).convert("RGBA"), "PNG", {}), (Image.fromarray(rgb).convert("CMYK"), "JPEG", {}),
    ):  # fmt: skip
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        out.append((kind, buffer.getvalue()))
    return out


@counts(1500, 200_000)
def test_images(tmp_path, count):
    samples, seen = _samples(), Counter()
    for seed in range(count):
        r = random.Random(seed)
        kind, blob = r.choice(samples)
        path = tmp_path / f"x.{kind.lower()}"
        path.write_bytes(png(r, blob) if kind == "PNG" and r.random() < 0.8 else scribbled(r, blob, 200))
        channels = r.choice([1, 3])

        def check(path=path, channels=channels, r=r, seed=seed):
            how = r.choice(["ignore", "apply"]), r.choice(["ignore", "white", "black"])
            assert load_image(path, channels, *how).mode == ("L" if channels == 1 else "RGB"), seed

        seen[attempt(seed, check)] += 1
    print(seen.most_common(30))
    assert seen["taken"] > count / 10 and len(seen) >= 8, seen
