"""Checkpoints: what people's files look like, with something odd in them, and files that are something else.

Names of three libraries, nesting, averaged copies, prefixes, ``--map``, JSON beside the file; tensors of every kind;
pickles of other classes and protocols; archives of other programs. The loader is taken stage by stage on models made
once, since making timm's takes most of the time; now and then ``load_model`` itself is called.
"""

import io
import json
import pickle
import random
import struct
import zipfile
from pathlib import Path

import numpy as np
import torch

from vitforge_sw.models.checkpoint import hub_json_beside, label_names, load, load_model, read_map, read_state_dict
from vitforge_sw.models.checkpoint.names import apply_map, fit_names, unsupported_names
from vitforge_sw.models.checkpoint.read import _MAGIC
from vitforge_sw.models.checkpoint.tensors import check_kinds
from vitforge_sw.models.resolve import ModelSpec, build_model, image_config, resolve_model

from .changes import changed, printable, scribbled, text
from .foreign import hugging_face, mit

ARGS = dict(img_size=16, patch_size=8, embed_dim=8, depth=1, num_heads=1, in_chans=1, mlp_ratio=1)
_SMALL = dict(widths=[8] * 5, depths=[1] * 5, head_dim=8, head_widths=[8, 8])
SPECS = {
    "vit": ModelSpec("tiny", "vit_tiny_patch16_224", ARGS, num_classes=3),
    "larger": ModelSpec("larger", "vit_tiny_patch16_224", ARGS | {"img_size": 32}, num_classes=3),
    "distilled": ModelSpec("distilled", "deit_tiny_distilled_patch16_224", ARGS, num_classes=3),
    "efficientvit": ModelSpec("evit", "efficientvit_b0", _SMALL, num_classes=3),
}
WIDTHS = dict(F64=8, F32=4, F16=2, BF16=2, I64=8, I32=4, I16=2, I8=1, U8=1, BOOL=1, F8_E4M3=1, F8_E5M2=1, U16=2, C64=8)
State = dict[str, torch.Tensor]


def tensor(r: random.Random, value: torch.Tensor) -> object:
    """``value`` as something else."""
    change = r.choice(
        [
            lambda x: x.half(), lambda x: x.bfloat16(), lambda x: x.double() * 1e200, lambda x: x * float("nan"),
            lambda x: x.to_sparse(), lambda x: x.to(torch.complex64), lambda x: x.to(torch.float8_e5m2),
            lambda x: x.to(torch.int8), lambda x: x.to("meta"), lambda x: x[..., None], lambda x: x.flatten()[:0],
            lambda x: x.numpy(), lambda x: x.tolist(), lambda x: None, lambda x: torch.nn.Parameter(x.float()),
            lambda x: torch.zeros(1).expand(1 << 40), lambda x: x.bool(), lambda x: x.t() if x.ndim == 2 else x,
            lambda x: torch.quantize_per_tensor(x.float(), 0.1, 0, torch.qint8), lambda x: -x.abs() - 1,
            lambda x: torch.nested.nested_tensor([x, x]), lambda x: x.flatten()[:1].expand(1 << 28, *x.shape[1:]),
            lambda x: torch.zeros(()),
        ]
    )  # fmt: skip
    return change(value)


class Meter:
    """Somebody's own class."""


class Checkpoints:
    """A checkpoint file, what lies beside it, or a MODEL's JSON."""

    def __init__(self, folder: Path) -> None:
        self.path, self.beside = folder / "c.pth", folder / "c.json"
        self.processor, self.map = folder / "preprocessor_config.json", folder / "m.json"
        self.models = {name: build_model(spec) for name, spec in SPECS.items()}
        self.states: dict[str, State] = {n: {k: v.clone() for k, v in m.state_dict().items()}
                                         for n, m in self.models.items()}  # fmt: skip
        self.others = [*map(self._saved, (torch.nn.Linear(2, 2), {"model": {}, "meter": Meter()}, self.models["vit"]))]
        torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(str(self.path))
        self.others.append(self.path.read_bytes())
        npz, empty = io.BytesIO(), io.BytesIO()
        np.savez(npz, a=np.zeros(2))
        zipfile.ZipFile(empty, "w").writestr("x", b"y")
        self.others += [npz.getvalue(), empty.getvalue(), pickle.dumps({"a": 1}, 4)]
        self.others += [b"", b'{"weight_map": {}}', b"hello"]

    @staticmethod
    def _saved(what: object, **how) -> bytes:
        buffer = io.BytesIO()
        torch.save(what, buffer, **how)
        return buffer.getvalue()

    def __call__(self, r: random.Random) -> None:
        how = r.random()
        (self.file if how < 0.93 else self.neighbours if how < 0.975 else self.model)(r)

    # ------------------------------------------------------------ the file

    def base(self, r: random.Random) -> tuple[str, State]:
        """(model, its weights under the names of one of the libraries)"""
        model = r.choices(["vit", "larger", "distilled", "efficientvit"], [82, 6, 8, 4])[0]
        state = self.states[model]
        if r.random() < 0.02:
            state = self.states[r.choice([*self.states])]  # another model's
        if model == "efficientvit":
            if r.random() < 0.1:
                state = state | {n: v - 2 for n, v in state.items() if n.endswith("running_var")}
            return model, mit(state) if r.random() < 0.5 else state
        return model, hugging_face(state, r.choice(["vit", "deit"])) if r.random() < 0.25 else state

    def structure(self, r: random.Random, state: State) -> object:
        """A state dict with something odd about it, somewhere in a checkpoint."""
        whole, state = state, dict(state)
        for _ in range(r.randrange(3)):
            name = r.choice(list(state) or [*whole])
            kind = r.randrange(6)
            if kind == 0:
                state[name] = tensor(r, whole.get(name, torch.zeros(2)))
            elif kind == 1:
                state.pop(name, None)
            elif kind == 2:
                state[text(r)] = r.choice([torch.zeros(2), 3, "x", None, [1], {"a": torch.zeros(1)}])
            elif kind == 3:
                state[text(r)] = state.pop(name, torch.zeros(1))
            elif kind == 4:
                state.update({n: tensor(r, v) for n, v in whole.items() if r.random() < 0.02})
            else:
                state[r.choice([3, (1, 2), b"x", 0.5])] = torch.zeros(2)
        if r.random() < 0.3:
            prefix = r.choice(["module.", "model.", "x.y.", "backbone.", "ema_model.", "vit.", text(r)])
            state = {f"{prefix}{n}" if isinstance(n, str) else n: v for n, v in state.items()}
        found: object = state
        for _ in range(r.randrange(4)):
            key = r.choice(["model", "state_dict", "model_ema", "state_dict_ema", "ema", "net", "optimizer", 0.9])
            key = text(r) if r.random() < 0.1 else key
            more = [{}, {"epoch": 3}, {"model": whole}, {"ema": None}, {"ema": [1]}, {"lr": 0.1}, {"b": whole}]
            found = {key: found} | r.choice(more)
        return r.choice([found] * 12 + [[found], (found, 1), None, torch.zeros(2)])

    def pickled(self, r: random.Random, state: State) -> bytes:
        """A file of torch.save; now and then with bytes of its pickle changed, in a zip file that is whole."""
        zipped, protocol = r.random() < 0.7, 2 if r.random() < 0.97 else r.choice([3, 4, 5])
        what = self.structure(r, state)
        blob = self._saved(what, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
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

    def safetensors(self, r: random.Random, state: State) -> bytes:
        """A safetensors file whose entries are odd but whole; now and then with a header that lies."""
        kinds = {torch.float32: "F32", torch.int64: "I64"}
        entries = {n: (kinds[v.dtype], list(v.shape), v.numpy().tobytes()) for n, v in state.items()}
        for _ in range(r.randrange(4)):
            name, kind = r.choice(list(entries)), r.randrange(6)
            dtype, shape, data = entries[name]
            if kind == 0:
                dtype = r.choice(list(WIDTHS))
                data = r.randbytes(WIDTHS[dtype]) * max(1, len(data) // 4)
            elif kind == 1:
                shape = r.choice([shape[::-1], [1, *shape], [len(data) // 4], [len(data) // 8, 2]])
            elif kind == 2:
                data = struct.pack("<f", r.choice([float("nan"), float("inf"), 3e38, -1.0])) + data[4:]
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

    def other(self, r: random.Random) -> bytes:
        """A file that is something else, by its first bytes or by what it holds."""
        if r.random() < 0.5:
            return r.choice(self.others)
        offset, magic, _ = r.choice(_MAGIC)
        return r.randbytes(offset) + magic + r.randbytes(r.randrange(300))

    def rules(self, r: random.Random, state: State) -> dict | None:
        """A ``--map`` as a file gives it, mostly none."""
        if r.random() < 0.9:
            return None
        names = [*r.sample([*state], 2), "nothing.", "", "module.", "blocks.", text(r)]
        data: object = {r.choice(names): r.choice([*names, "head.weight", None]) for _ in range(r.randrange(1, 4))}
        data = changed(r, data) if r.random() < 0.2 else data
        blob = json.dumps(data)
        self.map.write_text(blob if r.random() < 0.95 else blob[:-1])
        return read_map(self.map if r.random() < 0.97 else self.map.parent)

    def file(self, r: random.Random) -> None:
        model, state = self.base(r)
        large = model == "efficientvit"
        how = r.random()
        if how < 0.03:
            blob = self.other(r)
        else:
            blob = (self.pickled if how < (0.2 if large else 0.55) else self.safetensors)(r, state)
        self.path.write_bytes(blob)
        names = self.rules(r, state)
        none = r.choice([self.path.parent, "none", "n" * 300, "/proc/self/mem"])
        path = self.path if r.random() < 0.995 else Path(none)
        notes: list[str] = []
        if r.random() < 0.01:
            load_model(SPECS[model], path, names=names, notes=notes)
        else:
            self.stages(model, path, names, notes)
        for line in notes:
            printable(line)

    def stages(self, which: str, path: Path, names: dict | None, notes: list[str]) -> None:
        """``load_model``, with the models that are there already."""
        spec, model, where = SPECS[which], self.models[which], f"checkpoint {path}"
        state = read_state_dict(path, notes)
        if names:
            state = apply_map(state, names, where)
        expected = set(self.states[which])
        state = fit_names(state, expected, spec.name, where, notes)
        unsupported_names(state, expected, where)
        check_kinds(state, where)
        load._declared(spec, load._classes(state, model, where), notes)
        state = load._adapted(state, model, spec.name, where, notes)
        load._fill(model, state, spec.name, where)
        for name, value in model.state_dict().items():
            assert name not in state or torch.equal(value, state[name].to(value.dtype)), f"{name} is not the file's"

    # ------------------------------------------------------------ beside the file

    def neighbours(self, r: random.Random) -> None:
        """The JSON beside a checkpoint and what is taken from it."""
        hub: object = {"architecture": "vit_tiny_patch16_224", "num_classes": 3, "label_names": ["a", "b", "c"],
                       "pretrained_cfg": {"mean": [0.5], "std": [0.5], "crop_pct": 0.9, "input_size": [1, 16, 16]},
                       "id2label": {"0": "a", "1": "LABEL_1"}}  # fmt: skip
        processor: object = {"image_mean": [0.25], "image_std": [0.5], "resample": 2, "do_center_crop": True,
                             "size": r.choice([16, {"height": 20, "width": 20}, {"shortest_edge": 18}]),
                             "crop_size": {"height": 16, "width": 16}, "do_normalize": r.random() < 0.9}  # fmt: skip
        for path, data in ((self.beside, hub), (self.processor, processor)):
            path.unlink(missing_ok=True)
            if r.random() < 0.7:
                for _ in range(r.randrange(3)):
                    data = changed(r, data)
                data.pop("pretrained_cfg", None) if isinstance(data, dict) and r.random() < 0.4 else None
                blob = json.dumps(data)
                path.write_text(blob if r.random() < 0.97 else blob[:-2])
        notes: list[str] = []
        try:
            found = hub_json_beside(self.path, notes)
            names = label_names(SPECS["vit"], found, 3, notes)
            assert len(names) in (0, 3) and all(isinstance(n, str) for n in names)
            size = {"image_size": r.choice([16, 16, 24, "x"])} if r.random() < 0.1 else None
            image_config(self.models["vit"], SPECS["vit"], found, size)
        finally:
            self.beside.unlink(missing_ok=True)
            self.processor.unlink(missing_ok=True)
        for line in notes:
            printable(line)

    def model(self, r: random.Random) -> None:
        """MODEL: a name of timm, or a JSON file in its hub form."""
        if r.random() < 0.15:
            resolve_model(r.choice(["vit_tiny_patch16_224", "timm/vit_tiny_patch16_224", "vit_tiny", "c.pth", text(r)]))
            return
        data: object = {"architecture": "vit_tiny_patch16_224", "num_classes": 3, "model_args": dict(ARGS),
                        "pretrained_cfg": {"mean": [0.5], "std": [0.5]}, "label_names": ["a", "b", "c"]}  # fmt: skip
        if aimed := r.random() < 0.5:
            name = r.choice([*ARGS, "num_classes", "qkv_bias"])
            data["model_args"][name] = r.choice([-1, 0, 2, 3, 201, 1025, 40_000, 1 << 16, 1 << 40, True, [1], "x", 0.5])
        else:
            for _ in range(r.randrange(1, 3)):
                data = changed(r, data)
        path = self.map.with_name("model.json")
        path.write_text(json.dumps(data))
        spec = resolve_model(str(path))
        assert ModelSpec.from_dict(spec.to_dict()) == spec, "another model when it is read again"
        if r.random() < 0.2 or aimed:
            image_config(build_model(spec, shapes_only=True), spec)
        elif r.random() < 0.2:
            ModelSpec.from_dict(changed(r, spec.to_dict()))
