// The part of Xilinx' DSP48E2 that the engines use, for simulation: the vendor's own model is not free to ship.
// P <= X + Y + Z with X, Y the multiplier's product M or 0 (X also P, Y also C), Z 0, PCIN, P or C. Registers A, B, M,
// P and OPMODE once each. Every other setting, and every other OPMODE, stops the simulation.
// tests/hw/units/test_dsp.py compares it with Yosys' model of the DSP48E1. Beyond that one's reach: the 27-bit A
// operand (25 there), and the W multiplexer, of which only 0 is taken.
module DSP48E2 #(
    parameter integer AREG = 1, ACASCREG = 1, ADREG = 1, BREG = 1, BCASCREG = 1, CREG = 1, DREG = 1, MREG = 1, PREG = 1,
    parameter integer OPMODEREG = 1, ALUMODEREG = 1, CARRYINREG = 1, CARRYINSELREG = 1, INMODEREG = 1,
    parameter A_INPUT = "DIRECT", B_INPUT = "DIRECT", AMULTSEL = "A", BMULTSEL = "B", USE_MULT = "MULTIPLY",
    parameter USE_SIMD = "ONE48", USE_PATTERN_DETECT = "NO_PATDET", USE_WIDEXOR = "FALSE"
) (
    input CLK,
    input signed [29:0] A, ACIN,
    input signed [17:0] B, BCIN,
    input signed [47:0] C, PCIN,
    input signed [26:0] D,
    input [8:0] OPMODE,
    input [3:0] ALUMODE,
    input [4:0] INMODE,
    input [2:0] CARRYINSEL,
    input CARRYIN, CARRYCASCIN, MULTSIGNIN,
    input CEA1, CEA2, CEAD, CEALUMODE, CEB1, CEB2, CEC, CECARRYIN, CECTRL, CED, CEINMODE, CEM, CEP,
    input RSTA, RSTALLCARRYIN, RSTALUMODE, RSTB, RSTC, RSTCTRL, RSTD, RSTINMODE, RSTM, RSTP,
    output signed [47:0] P, PCOUT
);
    initial begin
        if (AREG != 1 || BREG != 1 || CREG != 0 || MREG != 1 || PREG != 1 || OPMODEREG != 1 || ALUMODEREG != 0
            || CARRYINREG != 0 || CARRYINSELREG != 0 || INMODEREG != 0)
            $fatal(1, "DSP48E2: registers other than A, B, M, P, OPMODE are not modelled");
        if (A_INPUT != "DIRECT" || B_INPUT != "DIRECT" || AMULTSEL != "A" || BMULTSEL != "B" || USE_MULT != "MULTIPLY"
            || USE_SIMD != "ONE48" || USE_PATTERN_DETECT != "NO_PATDET" || USE_WIDEXOR != "FALSE")
            $fatal(1, "DSP48E2: a setting is not modelled");
    end

    reg signed [26:0] a = 0;
    reg signed [17:0] b = 0;
    reg signed [44:0] product = 0;
    reg [8:0] mode = 0;
    reg signed [47:0] sum = 0;
    wire signed [47:0] wide = product;
    reg signed [47:0] x, y, z;
    reg known;

    always @* begin
        known = mode[8:7] == 0 && ALUMODE == 0 && INMODE == 0 && CARRYINSEL == 0;
        x = 0;
        y = 0;
        z = 0;
        case (mode[1:0])
            2'b00: ;
            2'b01: begin x = wide; known = known && mode[3:2] == 2'b01; end // X and Y take the product together
            2'b10: x = sum;
            default: known = 0;
        endcase
        case (mode[3:2])
            2'b00: ;
            2'b01: known = known && mode[1:0] == 2'b01;
            2'b11: y = C;
            default: known = 0;
        endcase
        case (mode[6:4])
            3'b000: ;
            3'b001: z = PCIN;
            3'b010: z = sum;
            3'b011: z = C;
            default: known = 0;
        endcase
    end

    always @(posedge CLK) begin
        if (RSTA) a <= 0; else if (CEA2) a <= A[26:0];
        if (RSTB) b <= 0; else if (CEB2) b <= B;
        if (RSTM) product <= 0; else if (CEM) product <= a * b;
        if (RSTCTRL) mode <= 0; else if (CECTRL) mode <= OPMODE;
        if (RSTP) sum <= 0;
        else if (CEP) begin
            if (known !== 1) $fatal(1, "DSP48E2: OPMODE %b, ALUMODE %b, INMODE %b are not modelled", mode, ALUMODE, INMODE);
            sum <= x + y + z + CARRYIN;
        end
    end
    assign P = sum;
    assign PCOUT = sum;
endmodule
