"""The build hash in look-up tables of its own, so that it moves nothing.

Whatever changes in the hardware's sources changes the 32 constant bits of the build hash, though this board's Verilog
may be the same otherwise. As constants they shape the logic around them, and with it the whole placement: 41 to 60 MHz
by the placer's estimate, for a few hashes and seeds. Here each bit is the table of a LUT4 that synthesis leaves alone:
another hash is another table in the same place.
"""

import re

NAME = "ulx3s_identity"


def apart(sources: dict[str, str], value: int) -> dict[str, str]:
    """``sources`` (file name -> Verilog) with each constant ``value`` of 32 bits from look-up tables, and their module.

    ValueError: no such constant, so that the hash would go into the logic unseen.
    """
    literal = re.compile(rf"\b32'd{value}\b")
    if not any(literal.search(text) for text in sources.values()):
        raise ValueError(f"ulx3s: no source has the build hash as 32'd{value}: Amaranth writes constants another way")
    tables = "".join(
        f"  (* keep *) LUT4 #(.INIT(16'h{'ffff' if value >> i & 1 else '0000'})) bit{i} "
        f"(.A(1'b1), .B(1'b1), .C(1'b1), .D(1'b1), .Z(q[{i}]));\n"
        for i in range(32)
    )
    own = {f"{NAME}.v": f"module {NAME}(output [31:0] q);\n{tables}endmodule\n"}
    return {name: _read(text, literal) for name, text in sources.items()} | own


def _read(text: str, literal: re.Pattern) -> str:
    """Verilog of one file: in modules with the literal a wire in its place, driven by an instance of the tables."""
    modules = re.split(r"^(?=module )", text, flags=re.MULTILINE)
    wire = f"  wire [31:0] {NAME}__q;\n  {NAME} {NAME}__i (.q({NAME}__q));\n"
    return "".join(
        literal.sub(f"{NAME}__q", part).replace(");\n", f");\n{wire}", 1) if literal.search(part) else part
        for part in modules
    )
