"""component.xml: IP-XACT 1685-2009 as Vivado reads it, from the emitted top module and the register declaration."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence

from vitforge_hw.arch.registers import REGISTERS

from .ports import Interface, read
from .registers import SPAN, fields

SPIRIT = "http://www.spiritconsortium.org/XMLSchema/SPIRIT/1685-2009"
VLNV = ("vitforge", "vitforge", "vitforge_top", "1.0")
GROUPS = {"xilinx_verilogsynthesis": "synthesis", "xilinx_verilogbehavioralsimulation": "simulation"}
_ACCESS = {"ro": "read-only", "rw": "read-write", "w1c": "read-write", "wo": "write-only"}
_OUT = {"clock": False, "reset": False, "interrupt": True}


def _add(parent: ET.Element, tag: str, text: object = None, **attributes: str) -> ET.Element:
    new = ET.SubElement(parent, f"{{{SPIRIT}}}{tag}", {f"{{{SPIRIT}}}{k}": v for k, v in attributes.items()})
    new.text = None if text is None else str(text)
    return new


def _vlnv(parent: ET.Element, tag: str, vlnv: Sequence[str]) -> None:
    _add(parent, tag, **dict(zip(("vendor", "library", "name", "version"), vlnv, strict=True)))


def component(top: str, files: Sequence[str], name: str, constraints: str) -> str:
    """The text. top: Verilog of the top module; files: paths from the IP's folder, children first; constraints: the
    out-of-context XDC's path."""
    ports, interfaces = read(top)
    ET.register_namespace("spirit", SPIRIT)
    root = ET.Element(f"{{{SPIRIT}}}component")
    for tag, value in zip(("vendor", "library", "name", "version"), VLNV, strict=True):
        _add(root, tag, value)
    buses = _add(root, "busInterfaces")
    for interface in interfaces.values():
        _bus(buses, interface)
    spaces = _add(root, "addressSpaces")
    for interface in interfaces.values():
        if interface.name.startswith("m_axi"):
            space = _add(spaces, "addressSpace")
            _add(space, "name", interface.name)
            _add(space, "range", 1 << 64)
            _add(space, "width", 128)
    _memory_map(root)
    model = _add(root, "model")
    views = _add(model, "views")
    for group, kind in GROUPS.items():
        view = _add(views, "view")
        _add(view, "name", group)
        _add(view, "envIdentifier", f"verilogSource:vivado.xilinx.com:{kind}")
        _add(view, "language", "verilog")
        _add(view, "modelName", VLNV[2])
        _add(_add(view, "fileSetRef"), "localName", f"{group}_view_fileset")
    listed = _add(model, "ports")
    for port, (direction, width) in ports.items():
        entry = _add(listed, "port")
        _add(entry, "name", port)
        wire = _add(entry, "wire")
        _add(wire, "direction", "in" if direction == "input" else "out")
        if width > 1:
            vector = _add(wire, "vector")
            _add(vector, "left", width - 1)
            _add(vector, "right", 0)
    sets = _add(root, "fileSets")
    for group in GROUPS:
        entry = _add(sets, "fileSet")
        _add(entry, "name", f"{group}_view_fileset")
        for path in files:
            file = _add(entry, "file")
            _add(file, "name", path)
            _add(file, "fileType", "verilogSource")
        if "synthesis" in group:
            file = _add(entry, "file")
            _add(file, "name", constraints)
            _add(file, "userFileType", "xdc")
            _add(file, "userFileType", "USED_IN_out_of_context")
            _add(file, "userFileType", "USED_IN_synthesis")
    _add(root, "description", f"vitforge accelerator, configuration {name}")
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _bus(buses: ET.Element, interface: Interface) -> None:
    bus = _add(buses, "busInterface")
    vlnv = interface.vlnv.split(":")
    _add(bus, "name", interface.name)
    _vlnv(bus, "busType", vlnv)
    _vlnv(bus, "abstractionType", [*vlnv[:2], f"{vlnv[2]}_rtl", vlnv[3]])
    if interface.name.startswith("m_axi"):
        _add(_add(bus, "master"), "addressSpaceRef", addressSpaceRef=interface.name)
    elif interface.name.startswith("s_axi"):
        _add(_add(bus, "slave"), "memoryMapRef", memoryMapRef=interface.name)
    else:
        _add(bus, "master" if _OUT[vlnv[2]] else "slave")
    maps = _add(bus, "portMaps")
    for logical, physical in interface.pins.items():
        entry = _add(maps, "portMap")
        _add(_add(entry, "logicalPort"), "name", logical)
        _add(_add(entry, "physicalPort"), "name", physical)
    if interface.parameters:
        parameters = _add(bus, "parameters")
        for key, value in interface.parameters.items():
            parameter = _add(parameters, "parameter")
            _add(parameter, "name", key)
            _add(parameter, "value", value, id=f"BUSIFPARAM_VALUE.{interface.name.upper()}.{key}")


def _memory_map(root: ET.Element) -> None:
    found = _add(_add(root, "memoryMaps"), "memoryMap")
    _add(found, "name", "s_axi_ctrl")
    block = _add(found, "addressBlock")
    for tag, value in (("name", "Reg"), ("baseAddress", 0), ("range", SPAN), ("width", 32), ("usage", "register")):
        _add(block, tag, value)
    for name, r in REGISTERS.items():
        register = _add(block, "register")
        for tag, value in (("name", name), ("description", r.doc), ("addressOffset", hex(r.offset)), ("size", 32)):
            _add(register, tag, value)
        _add(register, "access", _ACCESS[r.access])
        for field, low, width, doc in fields(r):
            entry = _add(register, "field")
            for tag, value in (("name", field), ("description", doc or field), ("bitOffset", low), ("bitWidth", width)):
                _add(entry, tag, value)
            _add(entry, "access", _ACCESS[r.access])
            if r.access == "w1c":
                _add(entry, "modifiedWriteValue", "oneToClear")
