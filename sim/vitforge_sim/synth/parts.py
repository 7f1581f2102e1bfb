"""Parts: what an FPGA holds, and whether a design fits."""

from dataclasses import dataclass

TARGETS = ("xcup", "xc7", "ecp5")
RESOURCES = ("dsp", "lut", "ff", "bram36", "uram")  #: as in synth.json; ECP5: MULT18, LUT4, FF, EBR of 18 kbit, none


@dataclass(frozen=True)
class Part:
    """Numbers of the vendor's product table. On ECP5 ``bram36`` counts EBR blocks of 18 kbit."""

    name: str
    target: str
    lut: int
    dsp: int
    bram36: int
    uram: int = 0

    @property
    def ff(self) -> int:
        """Flip-flops: two a LUT, one on ECP5."""
        return self.lut if self.target == "ecp5" else 2 * self.lut

    def misfits(self, total: dict[str, float]) -> list[str]:
        """One line per resource that the design has too much of, e.g. "lut 122 %"; empty if it fits."""
        shares = ((r, total[r], getattr(self, r)) for r in RESOURCES)
        return [
            f"{r} {100 * used / has:.0f} %" if has else f"{r} {used:g} of 0" for r, used, has in shares if used > has
        ]


PARTS = {
    part.name: part
    for part in (
        Part("zcu102", "xcup", 274_080, 2520, 912),
        Part("zcu104", "xcup", 230_400, 1728, 312, 96),
        Part("kv260", "xcup", 117_120, 1248, 144, 64),
        Part("artix7-200t", "xc7", 134_600, 740, 365),
        Part("kintex7-325t", "xc7", 203_800, 840, 445),
        Part("virtex7-690t", "xc7", 433_200, 3600, 1470),
        Part("ecp5-85", "ecp5", 83_640, 156, 208),
        Part("ecp5-45", "ecp5", 43_848, 72, 108),
    )
}
DEFAULT = {"xcup": "zcu102", "xc7": "kintex7-325t", "ecp5": "ecp5-85"}


def part(name: str | None, target: str) -> Part:
    """The part of that name, or the target's default. ValueError if it is unknown or of another target."""
    chosen = PARTS.get((name or DEFAULT[target]).lower())
    names = sorted(p.name for p in PARTS.values() if p.target == target)
    if chosen is None or chosen.target != target:
        raise ValueError(f"part: must be one of {', '.join(names)} for {target}, not {name!r}")
    return chosen
