"""What leaves for Vivado and for a board: register views, IP-XACT, Tcl, constraints, drivers, file lists."""
