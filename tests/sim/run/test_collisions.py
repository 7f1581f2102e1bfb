"""Memories that give noise where a row is read and written in one cycle."""

import subprocess

import pytest

from vitforge_hw.emit import convert
from vitforge_hw.memory.ram import Ram
from vitforge_sim.run.build import build
from vitforge_sim.run.collisions import collide

# rows 0..7 hold 16 + row; then row 3 becomes 99 while row 3 (met) or row 4 (apart) is read, and is read once more
BENCH = """
module bench;
  reg clk = 0; always #5 clk = !clk;
  reg write = 0, read = 0; reg [2:0] to = 0, from = 0; reg [7:0] data = 0; wire [7:0] out;
  unit unit(.clk(clk), .write_enable(write), .write_addr(to), .write_data(data), .read_enable(read),
            .read_addr(from), .read_data(out));
  integer i;
  task tick; begin @(posedge clk); #1; end endtask
  task show; begin repeat (2) begin tick; write = 0; read = 0; end $display("%0d", out); end endtask
  initial begin
    for (i = 0; i < 8; i = i + 1) begin write = 1; to = i; data = 16 + i; tick; end
    to = 3; data = 99; read = 1; from = 3; show;
    read = 1; show;
    write = 1; data = 98; read = 1; from = 4; show;
    $finish;
  end
endmodule
"""


def shown(text: str) -> list[int]:
    program = build("icarus", "bench", {"unit.v": text, "bench.v": BENCH})
    done = subprocess.run(program.command, capture_output=True, text=True, check=True, timeout=60)
    return [int(line) for line in done.stdout.split() if line.isdigit()]


@pytest.mark.parametrize("always", [False, True])
def test_only_the_row_that_is_written_is_noise(always):
    text = convert(Ram(8, 8, always=always), "unit")
    assert shown(text) == [19, 99, 20], "old data where the ports meet"
    assert shown(collide({"unit.v": text})["unit.v"]) == [19 ^ 255, 99, 20]


def test_a_table_stays_and_a_write_of_another_form_is_an_error():
    table = "  always @(posedge clk)\n    _0_ <= rom[address];\n"
    memory = convert(Ram(8, 8), "unit")
    assert collide({"a.v": table, "b.v": memory})["a.v"] == table
    with pytest.raises(ValueError, match="no memory is read into a register"):
        collide({"a.v": table})
    with pytest.raises(ValueError, match="memory rom must be written as"):
        collide({"a.v": table + "  always @(posedge clk) rom[address] <= data;\n"})
