"""Every Tcl script that `vitforge package` writes, under tclsh, against the facts of Vivado that the test data hold.

A recorder stands for Vivado: it knows the commands and their options (vivado_tcl.json), parts, board parts, runs, steps
and properties (vivado-facts.md), finds IP only where ip_repo_paths leads to a component.xml, and writes down every
command. Of these the block design is rebuilt - cells, pins, nets, interfaces, addresses - and judged pin by pin.
"""

import dataclasses
import fnmatch
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from vitforge.package import tcl
from vitforge.package.boards import FOLDER, board
from vitforge.package.registers import SPAN

DATA = Path(os.environ.get("VITFORGE_DATA", Path(__file__).parents[3] / "shared" / "data"))
BOARDS = sorted(p.stem for p in FOLDER.glob("*.toml"))
needs_tcl = pytest.mark.skipif(shutil.which("tclsh") is None, reason="tclsh is not installed (Debian: tcl)")

PS, CONNECT, RESET = (f"xilinx.com:ip:{n}" for n in ("zynq_ultra_ps_e", "smartconnect", "proc_sys_reset"))
#: of an IP: property CONFIG.x (pattern) -> what it may be
PROPERTIES = {
    PS: {
        r"PSU__USE__M_AXI_GP[0-2]": "[01]",
        r"PSU__USE__S_AXI_GP[0-6]": "[01]",
        r"PSU__[MS]AXIGP[0-6]__DATA_WIDTH": "32|64|128",
        r"PSU__USE__IRQ[01]": "[01]",
        r"PSU__FPGA_PL[0-3]_ENABLE": "[01]",
        r"PSU__CRL_APB__PL[0-3]_REF_CTRL__FREQMHZ": r"[1-9]\d*(\.\d+)?",
    },
    CONNECT: {"NUM_SI": r"[1-9]|1[0-6]", "NUM_MI": r"[1-9]|1[0-6]", "NUM_CLKS": "[1-3]"},
    RESET: {},
}
#: of other objects
OBJECTS = {
    "project": "board_part ip_repo_paths", "fileset": "top", "run": "PROGRESS STATUS",
    "core": "vendor library name version",
}  # fmt: skip
HANDED = ("vitforge.bit", "vitforge.hwh")  #: files that project.tcl leaves, beside vitforge.xsa
RULES = {"xilinx.com:bd_rule:zynq_ultra_ps_e": {"apply_board_preset": "1"}}

PRELUDE = r"""
set log [open [lindex $argv 1] w]
lassign {} project repo design top core modules cells launched waited
proc note {words} {
    puts $::log [join [lmap w $words { binary encode hex [encoding convertto utf-8 $w] }] " "]
}
proc name {handle} { regsub {^[a-z]+:} $handle {} }
proc expect {name kind handle} {
    if {![string match $kind:?* $handle]} { error "$name: must be a $kind, not '$handle'" }
}
proc has {name handle property} {
    set kind [lindex [split $handle :] 0]
    if {$kind eq "cell" && [string match CONFIG.?* $property]} { return }
    if {![dict exists $::objects $kind] || $property ni [dict get $::objects $kind]} {
        error "$name: '$handle' has no property $property"
    }
}
proc check {name options words} {
    set found {}
    set chosen {}
    for {set i 0} {$i < [llength $words]} {incr i} {
        set word [lindex $words $i]
        if {[regexp {^-[a-z]} $word]} {
            if {![dict exists $options $word]} { error "$name: unknown option $word" }
            if {[dict get $options $word]} { dict set chosen $word [lindex $words [incr i]] }
        } else { lappend found $word }
    }
    if {"" in $found || "" in [dict values $chosen]} { error "$name: an argument is empty" }
    set first [lindex $found 0]
    if {$name eq "set_property"} {
        set objects [lindex $found end]
        if {[dict exists $chosen -dict]} {
            set pairs [dict get $chosen -dict]
            if {[llength $found] != 1 || [llength $pairs] % 2} { error "$name: needs pairs and objects" }
        } else {
            if {[llength $found] != 3} { error "$name: needs name, value and objects" }
            set pairs [lrange $found 0 1]
        }
        foreach {property value} $pairs {
            foreach object $objects {
                has $name $object $property
                note [list $name $property $value $object]
                switch $property {
                    ip_repo_paths { set ::repo $value }
                    board_part { if {$value ni $::boards} { error "$name: no board part $value" } }
                    top {
                        if {$value ni $::modules} { error "$name: no module $value" }
                        set ::top $value
                    }
                }
            }
        }
        return
    }
    note [list $name {*}$words]
    switch $name {
        create_project {
            if {[dict get $chosen -part] ni $::parts} { error "$name: no part [dict get $chosen -part]" }
            set ::project $first
            set ::place [lindex $found 1]
        }
        current_project {
            if {$::project eq ""} { error "$name: none is open" }
            return project:$::project
        }
        current_fileset { return fileset:sources_1 }
        get_board_parts { return [lindex [lsearch -all -inline $::boards $first] end] }
        update_ip_catalog {
            foreach folder $::repo {
                foreach file [glob -nocomplain $folder/component.xml $folder/*/component.xml] {
                    set file [open $file]
                    set text [read $file]
                    close $file
                    set vlnv [lmap tag {vendor library name version} {
                        regexp "<spirit:$tag>(\[^<\]*)<" $text all value
                        set value
                    }]
                    lappend ::known [join $vlnv :]
                }
            }
        }
        create_bd_design { set ::design $first }
        create_bd_cell {
            if {$::design eq ""} { error "$name: no design" }
            if {[dict get $chosen -type] ne "ip"} { error "$name: no type [dict get $chosen -type]" }
            set vlnv [dict get $chosen -vlnv]
            if {$vlnv ni $::known} { error "$name: no IP $vlnv" }
            if {$first in $::cells} { error "$name: $first is there" }
            lappend ::cells $first
            return cell:$first
        }
        apply_bd_automation { expect $name cell $first }
        get_bd_cells { return [expr {[name $first] in $::cells ? "cell:$first" : ""}] }
        get_bd_pins { return pin:$first }
        get_bd_intf_pins { return interface:$first }
        get_bd_addr_spaces { return space:$first }
        get_bd_addr_segs { return segment:$first }
        get_ports { return port:$first }
        connect_bd_net { foreach pin $found { expect $name pin $pin } }
        connect_bd_intf_net { foreach pin $found { expect $name interface $pin } }
        assign_bd_address {
            expect $name space [dict get $chosen -target_address_space]
            expect $name segment $first
        }
        get_files { return [expr {$::design ne "" && $first eq "$::design.bd" ? "file:$first" : ""}] }
        make_wrapper {
            expect $name file [dict get $chosen -files]
            lappend ::modules ${::design}_wrapper
        }
        get_runs { return [expr {$first in {synth_1 impl_1} ? "run:$first" : ""}] }
        launch_runs - wait_on_run {
            if {[name $first] ni {synth_1 impl_1}} { error "$name: no run $first" }
            if {$name eq "wait_on_run"} {
                if {[name $first] ni $::launched} { error "$name: $first was not launched" }
                lappend ::waited [name $first]
                set run $::place/$::project.runs/[name $first]
                set design $::place/$::project.gen/sources_1/bd/$::design/hw_handoff
                file mkdir $run $design
                close [open $run/$::top.bit w]
                close [open $design/$::design.hwh w]
            } else {
                set step [dict get $chosen -to_step]
                if {$step ne "write_bitstream"} { error "$name: no step $step" }
                lappend ::launched [name $first]
            }
        }
        get_property {
            has $name [lindex $found 1] $first
            return [expr {[name [lindex $found 1]] in $::waited ? $::progress : "0%"}]
        }
        add_files - read_xdc {
            foreach file $first {
                if {![file exists $file]} { error "$name: missing file $file" }
                lappend ::modules [file rootname [file tail $file]]
            }
        }
        ipx::package_project {
            if {$::project eq "" || $::top eq ""} { error "$name: no project or no top" }
            set ::core x
        }
        ipx::current_core {
            if {$::core eq ""} { error "$name: none is open" }
            return core:$::core
        }
        ipx::create_xgui_files - ipx::update_checksums - ipx::check_integrity - ipx::save_core {
            expect $name core $first
        }
    }
    return $first
}
"""


@dataclasses.dataclass
class Call:
    """A command as Vivado would see it; of set_property one call a property and object."""

    name: str
    options: dict[str, str]
    words: list[str]


def facts() -> str:
    path = DATA / "vivado-facts.md"
    if not path.is_file():
        pytest.skip(f"{path} is not there: the facts of Vivado (VITFORGE_DATA)")
    return path.read_text()


def parts() -> list[str]:
    return re.findall(r"\bxc[a-z]+\d+\w*-\w+-\w+-\w+\b", facts())


def board_parts() -> list[str]:
    return re.findall(r"xilinx\.com:\w+:part0:[\d.]+\d", facts())


def run_tcl(folder: Path, script: str, progress: str = "100%") -> list[Call]:
    """What a script asks of Vivado. AssertionError with Tcl's message if the script fails."""
    table = json.loads((DATA / "vivado_tcl.json").read_text()) if facts() else {}
    known = {"known": [PS, CONNECT, RESET], "parts": parts(), "boards": board_parts(), "progress": [progress]}
    lines = [PRELUDE, *(f"set {name} {{{' '.join(words)}}}" for name, words in known.items())]
    lines.append("set objects {" + " ".join(f"{kind} {{{names}}}" for kind, names in OBJECTS.items()) + "}")
    for name, entry in table.items():
        options = " ".join(f"{o} {int(v)}" for o, v in entry["options"].items())
        space = "::".join(name.split("::")[:-1])
        lines += [f"namespace eval {space} {{}}"] if space else []
        lines.append(f"proc {name} {{args}} {{ check {name} {{{options}}} $args }}")
    lines.append("source [lindex $argv 0]\nclose $log")
    (folder / "prelude.tcl").write_text("\n".join(lines))
    done = subprocess.run(["tclsh", "prelude.tcl", script, "log"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    calls = []
    for line in (folder / "log").read_text().splitlines():
        name, *words = (bytes.fromhex(word).decode() for word in line.split(" "))
        call = Call(name, {}, [])
        while words:
            word = words.pop(0)
            if name != "set_property" and word in table[name]["options"]:
                call.options[word] = words.pop(0) if table[name]["options"][word] else ""
            else:
                call.words.append(word)
        calls.append(call)
    return calls


# ---- the block design


@dataclasses.dataclass
class Cell:
    """An instance: pins (name -> what it is: "clock in", "reset out", ...), interfaces (name -> master or slave)."""

    pins: dict[str, str]
    interfaces: dict[str, str]


def processor(config: dict[str, str]) -> Cell:
    """The PS's pins: those of the clocks, ports and interrupts that its properties turn on."""
    pins, interfaces = {"pl_resetn0": "board reset out"}, {}
    for n in range(4):
        if config.get(f"PSU__FPGA_PL{n}_ENABLE") == "1":
            pins[f"pl_clk{n}"] = "clock out"
    for n, port in enumerate(("HPM0_FPD", "HPM1_FPD", "HPM0_LPD")):
        if config.get(f"PSU__USE__M_AXI_GP{n}") == "1":
            interfaces[f"M_AXI_{port}"] = "master"
            pins[f"maxi{port.lower()}_aclk"] = "clock in"
    for n, port in enumerate(("HPC0", "HPC1", "HP0", "HP1", "HP2", "HP3")):
        if config.get(f"PSU__USE__S_AXI_GP{n}") == "1":
            interfaces[f"S_AXI_{port}_FPD"] = "slave"
            pins[f"saxi{port.lower()}_fpd_aclk"] = "clock in"
    for n in (0, 1):
        if config.get(f"PSU__USE__IRQ{n}") == "1":
            pins[f"pl_ps_irq{n}"] = "interrupt in"
    return Cell(pins, interfaces)


def smartconnect(config: dict[str, str]) -> Cell:
    clocks = range(int(config.get("NUM_CLKS", "1")))
    pins = {"aresetn": "reset in"} | {f"aclk{n or ''}": "clock in" for n in clocks}
    interfaces = {f"S{n:02}_AXI": "slave" for n in range(int(config.get("NUM_SI", "0")))}
    return Cell(pins, interfaces | {f"M{n:02}_AXI": "master" for n in range(int(config.get("NUM_MI", "0")))})


def reset_block(config: dict[str, str]) -> Cell:
    outputs = ("peripheral_aresetn", "interconnect_aresetn")
    pins = {"slowest_sync_clk": "clock in", "ext_reset_in": "board reset in"}
    return Cell(pins | {n: "reset out" for n in outputs}, {})


def accelerator(masters: int) -> Cell:
    pins = {"aclk": "clock in", "aresetn": "reset in", "interrupt": "interrupt out"}
    return Cell(pins, {"s_axi_ctrl": "slave"} | {f"m_axi_gmem{n}": "master" for n in range(masters)})


def number(text: str) -> int:
    """Of an offset or range: 0x1000, 4K, 2G; -1: no number."""
    match = re.fullmatch(r"(0x[0-9a-fA-F]+|\d+)([KMG]?)", text)
    return int(match[1], 0) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2]] if match else -1


def once(found: list[str], text: str, wanted: list[str], seen: list[str]) -> None:
    """Everything wanted is seen once, nothing else is seen."""
    for x in sorted(set(wanted) | set(seen)):
        if x not in wanted:
            found.append(f"{text}: there is no {x}")
        elif seen.count(x) != 1:
            found.append(f"{text}: {x} {'twice' if x in seen else 'is not there'}")


def design_faults(log: list[Call], data: dict, masters: int) -> list[str]:
    """What is wrong with the block design that the commands make: for a board's data and an accelerator of so many
    masters."""
    found: list[str] = []
    vlnvs, configs, automated = {}, {}, []
    for call in log:
        if call.name == "create_bd_cell":
            vlnvs[call.words[-1]] = call.options["-vlnv"]
            configs[call.words[-1]] = {}
        elif call.name == "apply_bd_automation":
            cell = call.words[0].removeprefix("cell:")
            automated.append((cell, call.options["-rule"], call.options["-config"].replace('"', "").split()))
            if configs[cell]:
                found.append(f"{cell}: properties before the board's preset, which sets them again")
        elif call.name == "set_property" and call.words[2].startswith("cell:"):
            cell, name = call.words[2].removeprefix("cell:"), call.words[0].removeprefix("CONFIG.")
            rules = PROPERTIES.get(vlnvs[cell], {})
            values = [v for pattern, v in rules.items() if re.fullmatch(pattern, name)]
            if not values:
                found.append(f"{cell}: has no property CONFIG.{name}")
            elif not re.fullmatch(values[0], call.words[1]):
                found.append(f"{cell}: CONFIG.{name} cannot be {call.words[1]}")
            configs[cell][name] = call.words[1]
    named = {v: [c for c, x in vlnvs.items() if x == v] for v in vlnvs.values()}
    own = next((v for v in named if v.startswith("vitforge:")), "")
    for vlnv in (PS, RESET, own):
        if len(named.get(vlnv, [])) != 1:
            return [*found, f"one cell of {vlnv or 'the accelerator'}, not {len(named.get(vlnv, []))}"]
    (ps,), (reset,), (unit,) = named[PS], named[RESET], named[own]
    kinds = {PS: processor, CONNECT: smartconnect, RESET: reset_block, own: lambda config: accelerator(masters)}
    cells = {c: kinds[v](configs[c]) for c, v in vlnvs.items()}
    wanted = [(ps, rule, [w for pair in pairs.items() for w in pair]) for rule, pairs in RULES.items()]
    if automated != wanted:
        found.append(f"{ps}: the board's preset")

    found += processor_faults(configs[ps], data, masters)
    found += net_faults(log, cells, data, ps, reset, unit)
    peers, faults = interface_faults(log, cells)
    found += faults

    def reached(port: str) -> set[str]:
        """Where a master's transfers end, through the SmartConnects."""
        peer = peers.get(port, "")
        cell = peer.partition("/")[0]
        if vlnvs.get(cell) != CONNECT:
            return {peer}
        ends = [f"{cell}/{n}" for n, kind in cells[cell].interfaces.items() if kind == "master"]
        return set().union(*(reached(e) if e != port else {e} for e in ends))

    hps, low = data["processor"]["hp_ports"][:masters], data["dram"]["low_bytes"]
    port, base = data["processor"]["register_port"], data["processor"]["register_base"]
    spaces = {f"{ps}/Data": (f"{unit}/s_axi_ctrl/Reg", base, SPAN)}
    if reached(f"{ps}/M_AXI_HPM{port}_FPD") != {f"{unit}/s_axi_ctrl"}:
        found.append(f"{ps}/M_AXI_HPM{port}_FPD does not lead to the registers alone")
    for n, hp in enumerate(hps):
        spaces[f"{unit}/m_axi_gmem{n}"] = f"{ps}/SAXIGP{2 + hp}/HP{hp}_DDR_LOW", 0, low
        if reached(f"{unit}/m_axi_gmem{n}") != {f"{ps}/S_AXI_HP{hp}_FPD"}:
            found.append(f"{unit}/m_axi_gmem{n} does not lead to HP{hp} alone")
    calls = [c for c in log if c.name == "assign_bd_address"]
    once(found, "address spaces", list(spaces), [c.options["-target_address_space"][len("space:") :] for c in calls])
    for call in calls:
        space = call.options["-target_address_space"].removeprefix("space:")
        segment, offset, size = spaces.get(space, ("", 0, 0))
        if not fnmatch.fnmatchcase(segment, call.words[0].removeprefix("segment:")):
            found.append(f"{space}: must see {segment}, not {call.words[0]}")
        if (number(call.options.get("-offset", "")), number(call.options.get("-range", ""))) != (offset, size):
            found.append(f"{space}: must be {size:#x} bytes at {offset:#x}")
    order = [c.name for c in log if c.name in ("connect_bd_net", "connect_bd_intf_net", "assign_bd_address",
                                               "validate_bd_design", "save_bd_design", "make_wrapper")]  # fmt: skip
    if order[-3:] != ["validate_bd_design", "save_bd_design", "make_wrapper"] or len(set(order[:-3])) != 3:
        found.append("the design is validated and saved when it is whole, then wrapped")
    return found


def processor_faults(config: dict[str, str], data: dict, masters: int) -> list[str]:
    """Properties of the PS: said by the board's data, not left to the board's preset."""
    found, port, pl = [], data["processor"]["register_port"], data["clock"]["pl"]
    wanted = {f"PSU__USE__M_AXI_GP{n}": str(int(n == port)) for n in range(3)}
    wanted |= {f"PSU__MAXIGP{port}__DATA_WIDTH": "32", "PSU__USE__IRQ0": "1", f"PSU__FPGA_PL{pl}_ENABLE": "1"}
    wanted[f"PSU__CRL_APB__PL{pl}_REF_CTRL__FREQMHZ"] = str(data["clock"]["mhz"])
    for hp in data["processor"]["hp_ports"][:masters]:
        wanted |= {f"PSU__USE__S_AXI_GP{2 + hp}": "1", f"PSU__SAXIGP{2 + hp}__DATA_WIDTH": "128"}
    for name in sorted(wanted.keys() | config.keys()):
        if wanted.get(name) != config.get(name):
            found.append(f"processor: CONFIG.{name} must be {wanted.get(name)}, not {config.get(name)}")
    return found


def net_faults(log: list[Call], cells: dict[str, Cell], data: dict, ps: str, reset: str, unit: str) -> list[str]:
    """Every input is wired once, to the one source that is right for it."""
    found: list[str] = []
    kinds = {f"{c}/{n}": kind for c, cell in cells.items() for n, kind in cell.pins.items()}
    nets: list[set[str]] = []
    named = []
    for call in (c for c in log if c.name == "connect_bd_net"):
        pins = [w.removeprefix("pin:") for w in call.words]
        named += [p for p in pins if not kinds.get(p, " in").endswith(" out")]
        joined = set(pins).union(*(n for n in nets if n & set(pins)))
        nets = [n for n in nets if not n & set(pins)] + [joined]
        if len(set(pins)) < 2:
            found.append(f"a net of {pins}")
        found += [f"nets: there is no {p}" for p in pins if p not in kinds]
    once(found, "nets", [p for p, kind in kinds.items() if kind.endswith(" in")], named)
    right = {
        "clock in": [f"{ps}/pl_clk{data['clock']['pl']}"], "board reset in": [f"{ps}/pl_resetn0"],
        "reset in": [f"{reset}/peripheral_aresetn"], "interrupt in": [f"{unit}/interrupt"],
    }  # fmt: skip
    for net in nets:
        sources = sorted(p for p in net if kinds.get(p, "").endswith(" out"))
        for pin in sorted(net - set(sources)):
            if sources != right.get(kinds.get(pin, "")):
                found.append(f"{pin}: must be driven by {right.get(kinds.get(pin, ''))}, not {sources}")
    return found


def interface_faults(log: list[Call], cells: dict[str, Cell]) -> tuple[dict[str, str], list[str]]:
    """Master -> slave, and: every interface is wired once, a master to a slave of another cell."""
    found: list[str] = []
    kinds = {f"{c}/{n}": kind for c, cell in cells.items() for n, kind in cell.interfaces.items()}
    peers, named = {}, []
    for call in (c for c in log if c.name == "connect_bd_intf_net"):
        ends = [w.removeprefix("interface:") for w in call.words]
        named += ends
        sides = {kinds.get(e): e for e in ends}
        if len(ends) != 2 or sides.keys() != {"master", "slave"}:
            found.append(f"interfaces: {' to '.join(ends)} is not a master to a slave")
        elif len({e.partition("/")[0] for e in ends}) != 2:
            found.append(f"interfaces: {' to '.join(ends)} is of one cell")
        else:
            peers[sides["master"]] = sides["slave"]
    once(found, "interfaces", list(kinds), named)
    return peers, found


def project_faults(log: list[Call], data: dict, folder: Path) -> list[str]:
    """What is wrong around the design: part, board, top, a bitstream whose run is looked at, what is handed off."""
    found = []
    (made,) = [c for c in log if c.name == "create_project"]
    if made.options["-part"] != data["part"]:
        found.append(f"part: must be {data['part']}, not {made.options['-part']}")
    values = {c.words[0]: c.words[1] for c in log if c.name == "set_property" and not c.words[2].startswith("cell:")}
    if not values.get("board_part", "").startswith(data["board_part"] + ":"):
        found.append(f"board_part: must be a {data['board_part']}, not {values.get('board_part')}")
    if values.get("top") != "vitforge_wrapper":
        found.append(f"top: must be the wrapper, not {values.get('top')}")
    steps = [(c.name, c.words[-1]) for c in log if c.name in ("launch_runs", "wait_on_run", "get_property")]
    platform = [(c.options.get("-file", ""), sorted(c.options)) for c in log if c.name == "write_hw_platform"]
    if platform != [(str(folder / "vitforge.xsa"), ["-file", "-fixed", "-force", "-include_bit"])]:
        found.append(f"the platform is vitforge.xsa with the bitstream, not {platform}")
    found += [f"{name} is not handed off" for name in HANDED if not (folder / name).exists()]
    if steps != [("launch_runs", "impl_1"), ("wait_on_run", "impl_1"), ("get_property", "run:impl_1")]:
        found.append(f"the run is launched, waited for and looked at, not {steps}")
    return found


@dataclasses.dataclass
class Design:
    """A folder with the scripts and an IP; ``faults`` runs it as it is or with other texts."""

    folder: Path
    data: dict
    masters: int

    def __post_init__(self):
        self.texts = {"block_design.tcl": tcl.block_design(self.data, self.masters)}
        self.texts["project.tcl"] = tcl.project(self.data)
        vlnv = zip(("vendor", "library", "name", "version"), ("vitforge", "vitforge", "vitforge_top", "1.0"))
        (self.folder / "ip").mkdir(parents=True)
        xml = "".join(f"<spirit:{tag}>{text}</spirit:{tag}>" for tag, text in vlnv)
        (self.folder / "ip" / "component.xml").write_text(xml)

    def faults(self, **texts: str) -> list[str]:
        """Of the scripts, some of them exchanged (name without suffix); what tclsh says where they do not run."""
        for name, text in self.texts.items():
            (self.folder / name).write_text(texts.get(name.removesuffix(".tcl"), text))
        shutil.rmtree(self.folder / "build", ignore_errors=True)
        for name in HANDED:
            (self.folder / name).unlink(missing_ok=True)
        try:
            log = run_tcl(self.folder, "project.tcl")
        except AssertionError as error:
            return [str(error).splitlines()[0]]
        return design_faults(log, self.data, self.masters) + project_faults(log, self.data, self.folder)


@needs_tcl
@pytest.mark.parametrize("masters", [1, 2, 3, 4])
@pytest.mark.parametrize("name", BOARDS)
def test_block_designs(tmp_path, name, masters):
    assert Design(tmp_path / "x", board(name), masters).faults() == []


#: what to exchange in which script, and a word of the fault
BROKEN = [
    ("block_design", "[get_bd_pins ps/saxihp0_fpd_aclk]", None, "ps/saxihp0_fpd_aclk is not there"),
    ("block_design", "[get_bd_pins memory0/aresetn]", None, "memory0/aresetn is not there"),
    ("block_design", "[get_bd_pins ps/pl_resetn0]", None, "reset/ext_reset_in is not there"),
    ("block_design", "[get_bd_intf_pins memory0/M00_AXI]", "[get_bd_intf_pins ps/S_AXI_HP0_FPD]", "master to a slave"),
    ("block_design", "memory0/M00_AXI", "nothing/there", "there is no nothing/there"),
    ("block_design", "memory0/M00_AXI", "memory1/M00_AXI", "memory1/M00_AXI twice"),
    ("block_design", "[get_bd_intf_pins ps/S_AXI_HP0_FPD]", "[get_bd_intf_pins memory0/S00_AXI]", "is of one cell"),
    ("block_design", "CONFIG.NUM_SI", "CONFIG.NUM_SX", "has no property CONFIG.NUM_SX"),
    ("block_design", "PSU__SAXIGP2__DATA_WIDTH", "PSU__SAXIGP2__DATA_WITH", "no property CONFIG.PSU__SAXI"),
    ("block_design", "PSU__SAXIGP2__DATA_WIDTH {128}", "PSU__SAXIGP2__DATA_WIDTH {129}", "cannot be 129"),
    ("block_design", "apply_board_preset", "apply_board_presets", "board's preset"),
    ("block_design", "HP1_DDR_LOW", "HP1_DDR_LOO", "must see ps/SAXIGP3/HP1_DDR_LOW"),
    ("block_design", "accelerator/m_axi_gmem1]", "accelerator/m_axi_gmem0]", "accelerator/m_axi_gmem0 twice"),
    ("block_design", "ps/pl_clk0] [get_bd_pins memory0", "reset/peripheral_aresetn] [get_bd_pins memory0", "driven by"),
    ("block_design", "[get_bd_pins ps/pl_clk0] [get_bd_pins memory0/aclk]", "ps/pl_clk0 memory0/aclk", "must be a pin"),
    ("block_design", "reset/peripheral_aresetn] [get_bd_pins acc", "ps/pl_resetn0] [get_bd_pins acc", "driven by"),
    ("block_design", "-vlnv", "-vlvn", "unknown option -vlvn"),
    ("block_design", "vitforge_top:1.0", "vitforge_top:1.1", "no IP vitforge:vitforge:vitforge_top:1.1"),
    ("project", "xczu7ev-ffvc1156-2-e", "xczu7ev-wrong", "no part xczu7ev-wrong"),
    ("project", "xczu7ev-ffvc1156-2-e", "xczu9eg-ffvb1156-2-e", "part: must be xczu7ev"),
    ("project", "xilinx.com:zcu104", "xilinx.com:zcu102", "board_part: must be"),
    ("project", "ip_repo_paths [list $here/ip]", "ip_repo_paths [list $here/nowhere]", "no IP vitforge"),
    ("project", "PROGRESS", "PROGRES", "no property PROGRES"),
]


@needs_tcl
@pytest.mark.parametrize("script, old, new, says", BROKEN)
def test_design_check_can_fail(tmp_path, script, old, new, says):
    """``new`` instead of every ``old``; None: the lines with ``old`` are not there."""
    design = Design(tmp_path / "x", board("zcu104"), 2)
    text = design.texts[f"{script}.tcl"]
    assert old in text
    if new is None:
        changed = "\n".join(line for line in text.split("\n") if old not in line)
    else:
        changed = text.replace(old, new)
    faults = design.faults(**{script: changed})
    assert any(says in fault for fault in faults), faults


#: names that the user sees and nothing else, a pattern, and what Tcl itself takes abbreviated
FREE = {"vitforge_zcu104", "build", "Reg", "exists", "copy"}


@needs_tcl
@pytest.mark.parametrize("script", ["block_design", "project"])
def test_every_line_and_every_word_counts(tmp_path, script):
    """No line can be left out, no word loses its last letter, without a fault."""
    design = Design(tmp_path / "x", board("zcu104"), 2)
    lines = design.texts[f"{script}.tcl"].split("\n")
    missed = []
    for n, line in enumerate(lines):
        if not line or line.startswith("#") or "info script" in line:  # Tcl itself takes `info scrip`
            continue
        changes = [] if line.startswith("if ") else [""]
        for match in re.finditer(r"\w+", line.partition(" error ")[0]):
            if match[0] not in FREE and (not match[0].isdigit() or line[match.end() :].startswith("%")):
                changes.append(line[: match.end() - 1] + line[match.end() :])
        for changed in changes:
            if not design.faults(**{script: "\n".join([*lines[:n], changed, *lines[n + 1 :]])}):
                missed.append(changed or f"without {line}")
    assert missed == []


@needs_tcl
def test_project_stops(tmp_path):
    """Where the IP is missing, and where a run fails: Vivado's wait_on_run does not say so."""
    design = Design(tmp_path / "x", board("zcu104"), 2)
    assert design.faults() == []
    with pytest.raises(AssertionError, match="implementation failed"):
        run_tcl(design.folder, "project.tcl", "50%")
    shutil.move(design.folder / "ip", design.folder / "elsewhere")
    assert re.fullmatch(r"missing file .*/ip/component\.xml: the IP of this project", design.faults()[0])
    # and without that line of the script: there is no such IP
    text = "\n".join(x for x in design.texts["project.tcl"].split("\n") if "component.xml" not in x)
    assert "no IP vitforge:vitforge:vitforge_top:1.0" in design.faults(project=text)[0]


def test_facts():
    """The tables of this file say nothing that the facts do not: properties, automation, boards and their parts."""
    text = facts()
    told = re.sub(r"\d(\.\.\d)?", "0", text)  # GP2..5 and GP1 are one name
    for rules in PROPERTIES.values():
        for pattern in rules:
            for name in (pattern.replace("[MS]", x) for x in "MS"):
                plain = re.sub(r"\[[0-9-]+\]|[0-9]", "0", name)
                assert re.search(rf"\b{plain}\b", told), name
    for word in ("apply_board_preset", *RULES, PS.split(":")[-1], "smartconnect", "proc_sys_reset", "PROGRESS"):
        assert word in text
    for name in BOARDS:
        data = board(name)
        assert re.search(rf"{data['part']}, {data['board_part']}:\d", text), name
        assert f"{data['processor']['register_base']:X}" in text


# ---- the other scripts


def packaged_core(folder: Path) -> dict[str, str]:
    """The VLNV that package_ip.tcl gives its core, and the top module."""
    values = {}
    for call in run_tcl(folder, "package_ip.tcl"):
        if call.name == "ipx::package_project":
            values |= {o[1:]: v for o, v in call.options.items() if o in ("-vendor", "-library", "-name", "-version")}
        elif call.name == "set_property":
            values[call.words[0]] = call.words[1]
    return values


def packaging_faults(folder: Path) -> list[str]:
    """Where package_ip.tcl makes another core than component.xml is."""
    text = (folder / "ip" / "component.xml").read_text()
    wanted = {tag: re.search(rf"<spirit:{tag}>([^<]*)<", text)[1] for tag in ("vendor", "library", "name", "version")}
    wanted["top"] = re.search(r"<spirit:modelName>([^<]*)<", text)[1]
    found = packaged_core(folder)
    return [f"{n}: must be {wanted.get(n)}, not {found.get(n)}" for n in sorted(wanted | found)
            if wanted.get(n) != found.get(n)]  # fmt: skip


@needs_tcl
def test_package_ip(packaged, tmp_path):
    shutil.copytree(packaged, tmp_path / "x")
    assert packaging_faults(tmp_path / "x") == []
    calls = {c.name: c for c in run_tcl(tmp_path / "x", "package_ip.tcl")}
    assert "vf_host.v" in calls["add_files"].words[0] and "ipx::save_core" in calls
    assert calls["create_project"].options["-part"] == board("zcu104")["part"]
    (tmp_path / "x" / "ip" / "rtl" / "vf_host.v").unlink()
    with pytest.raises(AssertionError, match="missing file .*vf_host.v"):
        run_tcl(tmp_path / "x", "package_ip.tcl")


@needs_tcl
@pytest.mark.parametrize("old, new, says", [
    ("-vendor vitforge", "-vendor someone", "vendor: must be vitforge, not someone"),
    ("-library vitforge", "-library user", "library: must be vitforge, not user"),
    ("set_property name vitforge_top", "set_property name vitforge", "name: must be vitforge_top, not vitforge"),
    ("set_property version 1.0", "set_property version 1.1", "version: must be 1.0, not 1.1"),
    ("set_property top vitforge_top", "set_property top vf_host", "top: must be vitforge_top, not vf_host"),
])  # fmt: skip
def test_package_ip_check_can_fail(packaged, tmp_path, old, new, says):
    shutil.copytree(packaged, tmp_path / "x")
    path = tmp_path / "x" / "package_ip.tcl"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert packaging_faults(tmp_path / "x") == [says]


@needs_tcl
def test_packaged_project(packaged, tmp_path):
    """The scripts of the folder as users get them, on its own component.xml."""
    shutil.copytree(packaged, tmp_path / "x")
    log = run_tcl(tmp_path / "x", "project.tcl")
    assert design_faults(log, board("zcu104"), 1) == project_faults(log, board("zcu104"), tmp_path / "x") == []


@needs_tcl
def test_constraints(packaged, tmp_path):
    shutil.copy(packaged / "ip" / "vitforge_ooc.xdc", tmp_path / "x.tcl")
    (call,) = [c for c in run_tcl(tmp_path, "x.tcl") if c.name == "create_clock"]
    assert (call.options["-period"], call.words) == ("6.667", ["port:aclk"])
