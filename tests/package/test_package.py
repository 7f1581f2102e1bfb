"""What `vitforge package` writes: component.xml by an independent reader against the RTL as Yosys reads it and the
register declaration; file lists, drivers, refusals. The Tcl scripts: test_tcl.py."""

import dataclasses
import json
import re
import shutil
import subprocess
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from ipyxact.ipyxact import Component

from vitforge.cli import main
from vitforge.package.ipxact import VLNV
from vitforge.package.ports import read
from vitforge.package.registers import SPAN, fields
from vitforge.package.write import fits
from vitforge.rtl import load_config
from vitforge_hw.arch.registers import REGISTERS
from vitforge_hw.verilog import TOP, emit
from vitforge_sim.synth.bound import BRAM36, least, misfits
from vitforge_sim.synth.parts import Part
from vitforge_sim.synth.yosys import run

# ---- component.xml

XML = {"s": "http://www.spiritconsortium.org/XMLSchema/SPIRIT/1685-2009"}


@dataclasses.dataclass
class Bus:
    """An interface: VLNV, master or slave, logical name -> port, parameters."""

    vlnv: str
    mode: str
    pins: dict[str, str]
    parameters: dict[str, str]


def top_ports(folder: Path) -> tuple[dict[str, tuple[str, int]], dict[str, Bus]]:
    """Ports and interfaces of the top module, from its declarations and attributes as Yosys reads them."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "top.json"
        run([f"read_verilog {folder / 'ip' / 'rtl' / TOP}.v", "proc -noopt", f"write_json {path}"])
        module = json.loads(path.read_text())["modules"][TOP]
    ports: dict[str, tuple[str, int]] = {}
    buses: dict[str, Bus] = {}
    for name, port in module["ports"].items():
        ports[name] = port["direction"], len(port["bits"])
        attributes = module["netnames"][name]["attributes"]
        vlnv, interface, pin = attributes["X_INTERFACE_INFO"].split()
        bus = buses.setdefault(interface, Bus(vlnv, "", {}, {}))
        bus.pins[pin] = name
        if pin in ("ARVALID", "CLK", "RST", "INTERRUPT"):
            bus.mode = "master" if port["direction"] == "output" else "slave"
        for item in attributes.get("X_INTERFACE_PARAMETER", "").split(","):
            key, _, value = item.strip().partition(" ")
            if key not in ("", "XIL_INTERFACENAME"):
                bus.parameters[key] = value
    return ports, buses


def faults(folder: Path) -> list[str]:
    """What component.xml says that RTL, files or declaration do not, and the other way round."""
    component = Component()
    component.load(str(folder / "ip" / "component.xml"))
    found = []

    def need(ok, text):
        if not ok:
            found.append(text)

    ports, interfaces = top_ports(folder)
    need((component.vendor, component.library, component.name, component.version) == VLNV, "VLNV")
    text = (folder / "ip" / "component.xml").read_text()  # the reader knows no vectors of 1685-2009, no fileSetRef
    tree = ET.fromstring(text)
    widths = {}
    for entry in re.findall(r"<spirit:port>(.*?)</spirit:port>", text, re.S):
        left = re.search(r"<spirit:left>(\d+)<", entry)
        widths[re.search(r"<spirit:name>(\w+)<", entry)[1]] = int(left[1]) + 1 if left else 1
    listed = {p.name: (f"{p.wire.direction}put", widths[p.name]) for p in component.model.ports.port}
    need(listed == ports, "ports are those of the RTL")
    mapped = []
    buses = [bus.name for bus in component.busInterfaces.busInterface]
    need(sorted(buses) == sorted(interfaces), "interfaces are those of the RTL")
    for bus in component.busInterfaces.busInterface:
        vlnv = ":".join((bus.busType.vendor, bus.busType.library, bus.busType.name, bus.busType.version))
        pins = {m.logicalPort.name: m.physicalPort.name for m in bus.portMaps.portMap}
        entry = next(e for e in tree.iterfind("s:busInterfaces/s:busInterface", XML) if e[0].text == bus.name)
        (mode,) = (m for m in ("master", "slave") if entry.find(f"s:{m}", XML) is not None)
        found_in = entry.iterfind("s:parameters/s:parameter", XML)
        values = {p.findtext("s:name", None, XML): p.findtext("s:value", None, XML) for p in found_in}
        want = interfaces.get(bus.name) or Bus("", "", {}, {})
        need(vlnv == want.vlnv, f"{bus.name}: bus type")
        need(mode == want.mode, f"{bus.name}: master or slave")
        need(pins == want.pins, f"{bus.name}: port maps")
        need(values == want.parameters, f"{bus.name}: parameters")
        for name, pin in (("DATA_WIDTH", "RDATA"), ("ADDR_WIDTH", "ARADDR")):
            if name in values:
                need(int(values[name]) == listed.get(pins.get(pin), (0, 0))[1], f"{bus.name}: {name}")
        mapped += pins.values()
    need(sorted(mapped) == sorted(listed), "every port is of one interface")
    block = component.memoryMaps.memoryMap[0].addressBlock[0]
    need(int(block.range) == SPAN, "range of the registers")
    registers = [(r.name, int(str(r.addressOffset), 0), [(f.name, int(f.bitOffset), int(f.bitWidth)) for f in r.field])
                 for r in block.register]  # fmt: skip
    want = [(n, r.offset, [f[:3] for f in fields(r)]) for n, r in REGISTERS.items()]
    need(registers == want, "memory map is the declaration")
    sets = {s.name: [f.name for f in s.file] for s in component.fileSets.fileSet}
    for name in re.findall(r"<spirit:localName>(.*?)<", text):
        need(name in sets, f"view: file set {name}")
    need(len(sets) == 2, "file sets")
    for name, files in sets.items():
        for file in files:
            need((folder / "ip" / file).is_file(), f"{name}: {file} exists")
    return found


def test_component(packaged):
    assert faults(packaged) == []


@pytest.mark.parametrize("old, new, says", [
    ("<spirit:name>m_axi_gmem0_araddr</spirit:name>", "<spirit:name>nobody</spirit:name>", "port maps"),
    ("<spirit:left>127</spirit:left>", "<spirit:left>63</spirit:left>", "ports are those of the RTL"),
    ("<spirit:version>1.0</spirit:version>", "<spirit:version>2.0</spirit:version>", "VLNV"),
    ("<spirit:addressOffset>0x48<", "<spirit:addressOffset>0x44<", "memory map"),
    ("rtl/vf_host.v", "rtl/vf_hosts.v", "exists"),
    ("<spirit:slave", "<spirit:master", "master or slave"),
    (">16</spirit:value>", ">256</spirit:value>", "parameters"),
    ("<spirit:name>m_axi_gmem0</spirit:name>", "<spirit:name>m_axi</spirit:name>", "interfaces are those of the RTL"),
])  # fmt: skip
def test_component_check_can_fail(packaged, tmp_path, old, new, says):
    shutil.copytree(packaged, tmp_path / "x")
    path = tmp_path / "x" / "ip" / "component.xml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    assert any(says in fault for fault in faults(tmp_path / "x"))


LOST = '  (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 m_axi_gmem0 ARLOST" *)\n  input wire [7:0] lost;'


@pytest.mark.parametrize("old, new, says", [
    ("  output interrupt;", f"  output interrupt;\n{LOST}", "ports are those of the RTL"),
    ("[127:0] m_axi_gmem0_rdata;", "[63:0] m_axi_gmem0_rdata;", "ports are those of the RTL"),
    ("MAX_BURST_LENGTH 16", "MAX_BURST_LENGTH 8", "m_axi_gmem0: parameters"),
    ("xilinx.com:signal:interrupt:1.0", "xilinx.com:signal:interrupt:2.0", "interrupt: bus type"),
])  # fmt: skip
def test_rtl_that_component_xml_does_not_describe(packaged, tmp_path, old, new, says):
    """Also where it is written as the generator's own reader does not know it; that one refuses it."""
    shutil.copytree(packaged, tmp_path / "x")
    path = tmp_path / "x" / "ip" / "rtl" / f"{TOP}.v"
    text = path.read_text()
    assert text.count("  interrupt,\n") == 1 and old in text
    if "lost" in new:
        text = text.replace("  interrupt,\n", "  interrupt,\n  lost,\n")
    path.write_text(text.replace(old, new))
    found = faults(tmp_path / "x")
    assert any(says in fault for fault in found), found
    if "lost" in new:
        with pytest.raises(ValueError, match=r"top module: declares no port lost in a form that is known"):
            read(path.read_text())


# ---- the rest


def test_folder(packaged, build):
    """File lists name files; drivers come with the model's record; the bytes depend on build and board alone."""
    for name in ("synthesis.f", "simulation.f"):
        assert all((packaged / line).is_file() for line in (packaged / name).read_text().split())
    for line in re.findall(r"^      - (\S+)$", (packaged / "vitforge.core").read_text(), re.M):
        assert (packaged / line).is_file()
    record = json.loads((packaged / "driver" / "build.json").read_text())["driver"]
    assert record == json.loads((build / "build.json").read_text())["driver"]
    assert (packaged / "driver" / "memory.bin").read_bytes() == (build / "memory.bin").read_bytes()
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    for path in (packaged / "driver" / "c").glob("*.c"):
        subprocess.run(["gcc", *flags, path], check=True)
    assert {p.name for p in (packaged / "driver" / "python").iterdir()} >= {"pyproject.toml", "vitforge_driver"}


def test_refusals(build, tmp_path, capsys):
    assert main(["package", str(build), "--board", "zcu999", "-o", str(tmp_path / "x")]) == 2
    assert "board: must be one of kv260, zcu102, zcu104, not 'zcu999'" in capsys.readouterr().err
    config = load_config("tiny", None)
    total = {"dsp": 171, "lut": 150_000, "ff": 45_000, "bram36": 400, "uram": 0}
    info = {"config_hash": f"{config.hash:08x}", "target": "xcup", "total": total}
    (tmp_path / "synth.json").write_text(json.dumps(info))
    with pytest.raises(ValueError, match="board kv260: the design does not fit: lut 128 %, bram36 278 %"):
        fits(tmp_path, config.hash, "kv260", {})
    assert fits(tmp_path, config.hash, "zcu102", {}).startswith("yes")
    sources = emit(config)
    assert fits(tmp_path, config.hash ^ 1, "kv260", sources).startswith("unknown: multipliers and memories alone would")


def test_least():
    """What certainly does not fit is refused without synthesis: multipliers and memories of the Verilog."""
    config = load_config("tiny", None)
    sources = emit(config)
    need = least(sources, TOP)
    assert need["dsp"] == config.multipliers // 2 and need["memory_bits"] > config.program_rows * config.beat_bytes * 8
    part = Part("small", "xcup", lut=10**6, dsp=need["dsp"], bram36=-(-need["memory_bits"] // BRAM36))
    assert misfits(sources, TOP, part) == []
    for smaller, text in (({"dsp": part.dsp - 1}, "dsp of"), ({"bram36": part.bram36 - 1}, "Mbit of memory of")):
        (line,) = misfits(sources, TOP, dataclasses.replace(part, **smaller))
        assert line.startswith("at least") and text in line


def test_what_cannot_fit_is_refused_without_synthesis(tmp_path):
    config = dataclasses.replace(load_config("tiny", None), pool_rows=1 << 15, weight_rows=1 << 15)
    with pytest.raises(ValueError, match=r"board kv260: the design does not fit: at least .* Mbit of memory of 24.2"):
        fits(tmp_path, config.hash, "kv260", emit(config))
