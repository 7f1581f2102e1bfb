"""How much of the generated Verilog the tests make move: Verilator's line and toggle points over any runs.

While VITFORGE_COVERAGE names a folder, every Verilator program is built with counters and leaves its counts there.
`points` reads and adds them, `report` says what was never reached, `waivers` why some of it need not be.
"""
