// Main program of a Verilator simulation without Python: toggles `clk` of the top module until $finish.
// A clock from C++ is faster than `--binary --timing`, where every edge goes through the coroutine scheduler.
#include "Vtop.h"
#include "verilated.h"

double sc_time_stamp() { return 0; }

int main(int argc, char** argv) {
    VerilatedContext context;
    context.commandArgs(argc, argv);
#ifdef VF_TRACE
    context.traceEverOn(true);
#endif
    Vtop top{&context};
    top.clk = 0;
    top.eval();
    while (!context.gotFinish()) {
        context.timeInc(5000);  // picoseconds: 10 ns a cycle, as in Icarus
        top.clk = 1;
        top.eval();
        context.timeInc(5000);
        top.clk = 0;
        top.eval();
    }
    top.final();
    return 0;
}
