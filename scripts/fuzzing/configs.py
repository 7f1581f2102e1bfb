"""Configurations: values within their limits that may not go together, and JSON that is none."""

import dataclasses
import json
import random
from pathlib import Path

from vitforge.rtl import load_config
from vitforge_hw.arch.config import PRESETS, AcceleratorConfig, get_config

from .changes import changed

_FIELDS = [f for f in dataclasses.fields(AcceleratorConfig) if f.name != "name"]


def _value(r: random.Random, field: dataclasses.Field) -> object:
    """Within the parameter's own limits, or just beside them."""
    limits = field.metadata["limits"]
    if limits is None:
        return r.random() < 0.5
    if limits.choices:
        return r.choice(limits.choices)
    value = 1 << r.randrange(13) if limits.power_of_two or r.random() < 0.5 else r.randrange(1, 64)
    return r.choice([value, value, value, limits.least, limits.most or value, (limits.most or value) + 1])


class Configs:
    """A file of ``--config``, or a preset's name."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "c.json"
        self.whole = [json.loads(get_config(name).to_json()) for name in ("tiny", "p2vit", "trio", "hybrid")]

    def file(self, r: random.Random) -> Path:
        base: dict = r.choice([{}, {"base": "tiny"}, {"base": "trio"}, {"base": "tiny_hybrid"}])
        if r.random() < 0.5:
            few = r.sample(_FIELDS, r.randrange(1, 4))
            data: object = base | {f.name: _value(r, f) for f in few}
        else:
            data = {k: v for k, v in r.choice(self.whole).items() if r.random() < 0.5} | base
        for _ in range(r.choice([0, 1, 2])):
            data = changed(r, data, list(PRESETS))
        text = json.dumps(data)
        self.path.write_text(text if r.random() < 0.97 else text[: r.randrange(len(text) + 1)])
        return self.path

    def __call__(self, r: random.Random) -> None:
        how = r.random()
        if how < 0.01:
            load_config(r.choice(["tiny", "Tiny", "p2vit_", None, ""]), r.choice([None, self.file(r)]))
            return
        path = self.file(r) if how < 0.995 else self.path.parent / r.choice(["none.json", "."])
        config = load_config(None, path)
        again = AcceleratorConfig.from_dict(json.loads(config.to_json()))
        assert again == config and again.hash == config.hash, "another configuration when it is read again"
