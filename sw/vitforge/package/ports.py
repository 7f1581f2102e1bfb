"""The ports of an emitted top module and the interfaces that their attributes declare."""

import dataclasses
import re

_ATTRIBUTE = re.compile(r'  \(\* (\w+) = "(.*)" \*\)')
_HEADER = re.compile(r"^module \w+\((.*?)\);", re.M | re.S)
_PORT = re.compile(r"  (input|output) (?:\[(\d+):0\] )?(\w+);")


@dataclasses.dataclass
class Interface:
    """An interface: VLNV of its bus type, parameters, logical name -> port."""

    name: str
    vlnv: str
    parameters: dict[str, str] = dataclasses.field(default_factory=dict)
    pins: dict[str, str] = dataclasses.field(default_factory=dict)


def read(text: str) -> tuple[dict[str, tuple[str, int]], dict[str, Interface]]:
    """Port -> (direction, width), and interfaces by name, from the Verilog of the top module.

    ValueError: a port of the module's header without a declaration as our emitter writes it, or without an interface.
    """
    ports: dict[str, tuple[str, int]] = {}
    interfaces: dict[str, Interface] = {}
    attributes: dict[str, str] = {}
    for line in text.split("\n"):
        if match := _ATTRIBUTE.fullmatch(line):
            attributes[match[1]] = match[2]
            continue
        if match := _PORT.fullmatch(line):
            ports[match[3]] = match[1], int(match[2] or 0) + 1
            if info := attributes.get("X_INTERFACE_INFO"):
                vlnv, name, pin = info.split(" ")
                found = interfaces.setdefault(name, Interface(name, vlnv))
                found.pins[pin] = match[3]
                pairs = attributes.get("X_INTERFACE_PARAMETER", "").split(", ")
                found.parameters |= dict(p.split(" ", 1) for p in pairs if p and not p.startswith("XIL_INTERFACENAME"))
        attributes = {}
    header = _HEADER.search(text)
    names = re.findall(r"\w+", header[1]) if header else []
    mapped = {port for interface in interfaces.values() for port in interface.pins.values()}
    if not names:
        raise ValueError("top module: has no header with ports")
    if lost := [n for n in names if n not in ports] + [n for n in ports if n not in names]:
        raise ValueError(f"top module: declares no port {lost[0]} in a form that is known")
    if lost := [n for n in names if n not in mapped]:
        raise ValueError(f"top module: port {lost[0]} must be of an interface (X_INTERFACE_INFO)")
    return ports, interfaces
