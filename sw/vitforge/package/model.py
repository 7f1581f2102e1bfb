"""The record of build.json as C: ``vitforge_model.c`` and its header."""

import re
from typing import Any

HEADER = """/* The compiled model, from build.json's record. */
#ifndef VITFORGE_MODEL_H
#define VITFORGE_MODEL_H
#include "vitforge.h"
extern const struct vf_model vitforge_model;
extern const char *const vitforge_labels[]; /* one a class; a single empty one where the model has none */
#endif
"""


def c_model(record: dict[str, Any]) -> str:
    """``vitforge_model.c``: struct vf_model with the record's values. ValueError: too many colours for it."""
    hardware, memory, job, image, out = (record[n] for n in ("hardware", "memory", "job", "input", "output"))
    if len(image["pad"]) > 4:
        raise ValueError(f"driver record: at most 4 colours, not {len(image['pad'])}")
    fields: dict[str, Any] = {n: f"0x{hardware[n]:08x}u" for n in ("ident", "config_hash", "build_hash", "magic")}
    fields |= {n: f"{hardware[n]}u" for n in ("version", "masters")}
    fields |= {"image_bytes": f"{memory['bytes']}u", "image_crc32": f"0x{memory['crc32']:08x}u"}
    fields |= {"program_beats": f"{memory['program_beats']}u"}
    fields |= {"job_images": f"{job['images']}u", "job_lag": f"{job['lag']}u"}
    fields |= {f"job_{n}": f"{job[n]}u" for n in ("image_bytes", "result_bytes")}
    for name in ("height", "width", "channels", "kernel", "stride", "padding", "rows", "columns", "cores", "word",
                 "beat_bytes", "run_bytes", "image_stride"):  # fmt: skip
        fields[name] = f"{image[name]}u"
    fields |= {"scale": repr(float(image["scale"])), "zero_point": image["zero_point"]}
    fields["pad"] = "{" + ", ".join(map(str, image["pad"])) + "}"
    fields |= {"classes": f"{out['classes']}u", "out_word": f"{out['word']}u", "planes": f"{out['planes']}u"}
    fields |= {"result_stride": f"{out['image_stride']}u", "out_scale": repr(float(out["scale"]))}
    fields["out_zero_point"] = out["zero_point"]
    name, preset = _comment(record["model_hash"][:16]), _comment(record["preset"])
    lines = [f"/* Model {name} for {preset}. */", '#include "vitforge_model.h"', ""]
    lines += ["const struct vf_model vitforge_model = {", *(f"    .{n} = {v}," for n, v in fields.items()), "};", ""]
    labels = out["labels"] or [""]
    lines += ["const char *const vitforge_labels[] = {", *(f"    {literal(x)}," for x in labels), "};", ""]
    return "\n".join(lines)


def literal(text: str) -> str:
    """A C string of the UTF-8 bytes, in ASCII. Octal: a hexadecimal escape would swallow the digits behind it; and no
    question mark as it is: two of them begin a trigraph."""
    plain = {byte for byte in range(0x20, 0x7F)} - set(b'"?\\')
    return '"' + "".join(chr(b) if b in plain else f"\\{b:03o}" for b in text.encode()) + '"'


def _comment(text: str) -> str:
    """Text that can end no comment and no line."""
    return re.sub(r"[^A-Za-z0-9_.-]", "?", text)
