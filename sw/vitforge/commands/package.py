"""IP, block design and drivers for Vivado and a board.

Writes DIR: ip/ (component.xml, Verilog, out-of-context XDC), project.tcl (project, block design, bitstream),
package_ip.tcl (the IP by Vivado's own packager), vitforge.core, file lists, driver/ (C, Python, SystemRDL, the model's
record). Refuses a board that has too few ports, or is too small by BUILD/synth.json; a record that is damaged or not
BUILD's; a DIR that holds anything but an earlier package, of which it replaces its own files only. No Vivado has run
these files.

example: vitforge package build/digits --board zcu104 -o build/digits/vivado
"""

from pathlib import Path

from .options import output_folder


def arguments(parser) -> None:
    parser.add_argument("build", metavar="BUILD", help="from vitforge compile")
    parser.add_argument("--board", metavar="NAME", required=True, help="zcu102, zcu104 or kv260")
    parser.add_argument(
        "-o", "--output", metavar="DIR", help="new, empty or an earlier package (default: BUILD/vivado)"
    )


def run(args, command: str) -> int:
    from ..package.write import package

    folder = Path(args.output or Path(args.build) / "vivado")
    output_folder(str(folder))
    info = package(Path(args.build), args.board, folder, command)
    print(f"{folder}: {len(info['files'])} Verilog files, {info['masters']} HP port(s), board {info['board']}")
    print(f"part {info['part']}; fits: {info['fits']}; next: vivado -mode batch -source {folder}/project.tcl")
    return 0
