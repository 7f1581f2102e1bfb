// Main program of a Verilator simulation without Python: toggles `clk` of the top module until $finish.
// A clock from C++ is faster than `--binary --timing`, where every edge goes through the coroutine scheduler.
#include "Vtop.h"
#include "verilated.h"
#if VM_COVERAGE
#include <cstdio>
#include <cstdlib>
#include <string>
#include <unistd.h>
#include "verilated_cov.h"

// The run's counts go to $VITFORGE_COVERAGE/<folder of the program>.<process>.dat, whole or not at all.
static void write_coverage(VerilatedContext& context, const char* program) {
    const char* folder = std::getenv("VITFORGE_COVERAGE");
    if (folder == nullptr) return;
    std::string name(program);
    name = name.substr(0, name.rfind('/'));
    name = std::string(folder) + "/" + name.substr(name.rfind('/') + 1) + "." + std::to_string(getpid());
    context.coveragep()->write((name + ".part").c_str());
    std::rename((name + ".part").c_str(), (name + ".dat").c_str());
}
#endif

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
#if VM_COVERAGE
    write_coverage(context, argv[0]);
#endif
    return 0;
}
