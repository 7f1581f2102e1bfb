"""The exported register map: files up to date, read back by independent tools, header compiled."""

import re
import subprocess

import pytest
from peakrdl_ipxact import IPXACTExporter
from systemrdl import RDLCompiler
from systemrdl.messages import RDLCompileError

from vitforge.package.registers import DRIVERS, FILES, c_header, fields, systemrdl
from vitforge_hw.arch.registers import REGISTERS, Error


def compiled(text, tmp_path):
    (tmp_path / "x.rdl").write_text(text)
    compiler = RDLCompiler()
    compiler.compile_file(str(tmp_path / "x.rdl"))
    return compiler.elaborate().top


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_files_are_up_to_date(path):
    assert path.read_text() == FILES[path](), "run python -m vitforge.package.registers"


def test_systemrdl_is_the_declaration(tmp_path):
    top = compiled(systemrdl({"watchdog": 1 << 20}), tmp_path)
    found = {r.inst_name: r for r in top.registers()}
    assert list(found) == list(REGISTERS)
    for name, r in REGISTERS.items():
        assert found[name].address_offset == r.offset and found[name].get_property("regwidth") == 32
        assert found[name].get_property("desc") == r.doc
        bits = {f.inst_name: f for f in found[name].fields()}
        assert {n: (f.low, f.width) for n, f in bits.items()} == {n: (low, w) for n, low, w, _ in fields(r)}
        for field in bits.values():
            how = field.is_sw_readable, field.is_sw_writable, field.get_property("onwrite") is not None
            wanted = {"ro": (1, 0, 0), "rw": (1, 1, 0), "w1c": (1, 1, 1), "wo": (0, 1, 0)}[r.access]
            assert how == tuple(map(bool, wanted)), name
    assert found["watchdog"].get_child_by_name("value").get_property("reset") == 1 << 20
    assert found["axi_attributes"].get_child_by_name("awcache").get_property("reset") == 3


def test_systemrdl_can_fail(tmp_path):
    """Two registers at one address are an error of the compiler."""
    with pytest.raises(RDLCompileError):
        compiled(systemrdl().replace("@ 0x004;", "@ 0x000;"), tmp_path)


def test_ipxact_by_another_tool(tmp_path):
    IPXACTExporter().export(compiled(systemrdl(), tmp_path), str(tmp_path / "x.xml"), component_name="x")
    text = (tmp_path / "x.xml").read_text()
    offsets = re.findall(r"<(?:\w+:)?addressOffset>([^<]*)<", text)
    assert [int(o.replace("'h", "0x"), 16) for o in offsets] == [r.offset for r in REGISTERS.values()]


def test_header(tmp_path):
    """gcc's own values of every name."""
    names = [f"VF_REG_{n.upper()}" for n in REGISTERS]
    names += [f"VF_{n.upper()}_{f.upper()}_MASK" for n, r in REGISTERS.items() for f, _, _, _ in r.bits]
    names += [f"VF_ERROR_{e.name}" for e in Error]
    lines = ['#include "vitforge_regs.h"', "#include <stdio.h>", "int main(void) {"]
    lines += [f'    printf("%u\\n", (unsigned){n});' for n in names]
    (tmp_path / "x.c").write_text("\n".join([*lines, "    return 0;", "}", ""]))
    assert (DRIVERS / "c" / "vitforge_regs.h").read_text() == c_header()
    subprocess.run(["gcc", "-Wall", "-Werror", f"-I{DRIVERS / 'c'}", "x.c", "-o", "x"], cwd=tmp_path, check=True)
    values = list(map(int, subprocess.run([tmp_path / "x"], capture_output=True, text=True).stdout.split()))
    want = [r.offset for r in REGISTERS.values()]
    want += [((1 << w) - 1) << low for r in REGISTERS.values() for _, low, w, _ in r.bits] + [int(e) for e in Error]
    assert values == want
