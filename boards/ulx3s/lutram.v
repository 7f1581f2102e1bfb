// Small memories in LUTs without address bits that are constant 0.
//
// A memory of less than 16 rows leaves upper address bits at 0, and nextpnr routes that 0 to each of their pins, 5,300 all
// over the part, from one cell: of all nets the one that wants most wires that others want as well. Here such a bit is the
// highest one that is used, on the read and on the write side: other rows of the same 16, and a pin beside one that the
// net goes to anyway.
(* techmap_celltype = "TRELLIS_DPR16X4" *)
module ulx3s_lutram_without_zeros (DI, WAD, WRE, WCK, RAD, DO);
    input [3:0] DI, WAD, RAD;
    input WRE, WCK;
    output [3:0] DO;
    parameter WCKMUX = "WCK", WREMUX = "WRE";
    parameter [63:0] INITVAL = 64'bx;
    parameter [3:0] _TECHMAP_CONSTMSK_RAD_ = 0, _TECHMAP_CONSTVAL_RAD_ = 0;
    parameter [3:0] _TECHMAP_CONSTMSK_WAD_ = 0, _TECHMAP_CONSTVAL_WAD_ = 0;

    localparam [3:0] ZEROS =
        _TECHMAP_CONSTMSK_RAD_ & ~_TECHMAP_CONSTVAL_RAD_ & _TECHMAP_CONSTMSK_WAD_ & ~_TECHMAP_CONSTVAL_WAD_;
    localparam TOP = !ZEROS[3] ? 3 : !ZEROS[2] ? 2 : !ZEROS[1] ? 1 : 0;

    // a memory with contents has them in the rows that it had
    wire _TECHMAP_FAIL_ = ZEROS == 0 || ZEROS == 15 || INITVAL !== 64'bx;

    wire [3:0] write, read;
    genvar i;
    generate
        for (i = 0; i < 4; i = i + 1) begin
            assign write[i] = WAD[ZEROS[i] ? TOP : i];
            assign read[i] = RAD[ZEROS[i] ? TOP : i];
        end
    endgenerate

    TRELLIS_DPR16X4 #(.WCKMUX(WCKMUX), .WREMUX(WREMUX), .INITVAL(INITVAL)) _TECHMAP_REPLACE_ (
        .DI(DI), .WAD(write), .WRE(WRE), .WCK(WCK), .RAD(read), .DO(DO)
    );
endmodule
