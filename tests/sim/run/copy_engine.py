"""The test design as `vitforge_top`: N AXI masters, each copying its own region; see copy_engine.v."""

from pathlib import Path

from vitforge_sim.run.monitor import Monitor
from vitforge_sim.run.script import Read, WaitInterrupt, Write

_WIDTHS = {
    "awid": (4, "output"), "awaddr": (64, "output"), "awvalid": (1, "output"), "awready": (1, "input"),
    "wdata": (128, "output"), "wlast": (1, "output"), "wvalid": (1, "output"), "wready": (1, "input"),
    "bid": (4, "input"), "bresp": (2, "input"), "bvalid": (1, "input"),
    "arid": (4, "output"), "araddr": (64, "output"), "arvalid": (1, "output"), "arready": (1, "input"),
    "rid": (4, "input"), "rdata": (128, "input"), "rresp": (2, "input"), "rlast": (1, "input"),
    "rvalid": (1, "input"), "rready": (1, "output"),
}  # fmt: skip
_FIXED = {"awlen": (8, 15), "awsize": (3, 4), "awburst": (2, 1), "arlen": (8, 15), "arsize": (3, 4), "arburst": (2, 1)}
_FIXED |= {"wstrb": (16, 0xFFFF), "bready": (1, 1), "awcache": (4, 3), "awprot": (3, 2), "aruser": (1, 1)}
_LITE = {"awaddr": 12, "awvalid": 1, "wdata": 32, "wvalid": 1, "bready": 1, "araddr": 12, "arvalid": 1, "rready": 1}
_LITE_OUT = {"awready": 1, "wready": 1, "bresp": 2, "bvalid": 1, "arready": 1, "rdata": 32, "rresp": 2, "rvalid": 1}


def sources(lanes: int, bug: int = 0) -> dict[str, str]:
    """Verilog of vitforge_top with `lanes` copy lanes; lane n works at src + n * 16 * beats.

    bug: those of copy_engine.v; 4: AWLOCK is set."""
    fixed = _FIXED | {"awlock": (1, int(bug == 4))}
    ports = ["input wire aclk", "input wire aresetn", "output wire interrupt"]
    ports += [f"input wire [{w - 1}:0] s_axi_ctrl_{n}" for n, w in _LITE.items()]
    ports += ["input wire [3:0] s_axi_ctrl_wstrb", "input wire [2:0] s_axi_ctrl_awprot"]
    ports += [f"output wire [{w - 1}:0] s_axi_ctrl_{n}" for n, w in _LITE_OUT.items()]
    body = [f"wire start; wire [31:0] src, dst, beats; wire [{lanes - 1}:0] busy, error;"]
    body.append("copy_registers registers (.aclk(aclk), .aresetn(aresetn), .start(start), .done(interrupt), ")
    body.append(".src(src), .dst(dst), .beats(beats), .busy(|busy), .error(|error), ")
    body.append(", ".join(f".{n}(s_axi_ctrl_{n})" for n in [*_LITE, *_LITE_OUT]) + ");")
    for lane in range(lanes):
        prefix = f"m_axi_gmem{lane}_"
        ports += [f"{d} wire [{w - 1}:0] {prefix}{n}" for n, (w, d) in _WIDTHS.items()]
        ports += [f"output wire [{w - 1}:0] {prefix}{n}" for n, (w, _) in fixed.items()]
        body += [f"assign {prefix}{n} = {w}'d{v};" for n, (w, v) in fixed.items()]
        body.append(f"wire [31:0] offset{lane} = (beats << 4) * {lane};")
        body.append(f"copy_lane #(.BUG({bug})) lane{lane} (.aclk(aclk), .aresetn(aresetn), .start(start), ")
        body.append(f".src(src + offset{lane}), .dst(dst + offset{lane}), .beats(beats), ")
        body.append(f".busy(busy[{lane}]), .error(error[{lane}]), ")
        body.append(", ".join(f".{n}({prefix}{n})" for n in _WIDTHS) + ");")
    top = "module vitforge_top (\n    " + ",\n    ".join(ports) + "\n);\n    " + "\n    ".join(body) + "\nendmodule\n"
    return {"copy_engine.v": (Path(__file__).parent / "copy_engine.v").read_text(), "vitforge_top.v": top}


def monitors(lanes: int) -> list[Monitor]:
    """One monitor per lane on its FIFO's write port; the odd ones as expressions."""
    return [
        Monitor(f"fifo{n}", f"lane{n}.fifo_push", f"lane{n}.tail", f"lane{n}.rdata", 9, 128)
        if n % 2 == 0
        else Monitor(f"fifo{n}", f"$lane{n}.rvalid & $lane{n}.rready", f"lane{n}.tail", f"lane{n}.rdata", 9, 128)
        for n in range(lanes)
    ]


def copy_script(src: int, dst: int, beats: int) -> list:
    """Programs one copy, waits for the interrupt, reads status (the last but one event), clears it."""
    return [
        Write(0x8, src), Write(0xC, dst), Write(0x10, beats), Write(0x0, 1), WaitInterrupt(), Read(0x4), Write(0x4, 1),
    ]  # fmt: skip
