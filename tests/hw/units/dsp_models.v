// Yosys' DSP48E1 and our DSP48E2 fed alike over what both have; counts cycles in which they differ.
`timescale 1ns/1ps
module models;
  reg clk = 0; always #1 clk = ~clk;
  reg signed [24:0] a; reg signed [17:0] b; reg signed [47:0] c, pcin; reg [6:0] mode; reg cep, cem, cea, ceb, cectrl, rstp, rstm;
  reg [1:0] xy; reg [2:0] z; integer n, wrong = 0, seed = 2; wire signed [47:0] p1, p2;
  localparam [0:0] N = 0;
  DSP48E1 #(.AREG(1), .ACASCREG(1), .ADREG(0), .BREG(1), .BCASCREG(1), .CREG(0), .DREG(0), .MREG(1), .PREG(1), .OPMODEREG(1),
    .ALUMODEREG(0), .CARRYINREG(0), .CARRYINSELREG(0), .INMODEREG(0)) one (.CLK(clk), .A({{5{a[24]}}, a}), .B(b), .C(c),
    .PCIN(pcin), .D(25'd0), .ACIN(30'd0), .BCIN(18'd0), .OPMODE(mode), .ALUMODE(4'd0), .INMODE(5'd0), .CARRYINSEL(3'd0),
    .CARRYIN(N), .CARRYCASCIN(N), .MULTSIGNIN(N), .CEA1(N), .CEA2(cea), .CEAD(N), .CEALUMODE(N), .CEB1(N), .CEB2(ceb), .CEC(N),
    .CECARRYIN(N), .CECTRL(cectrl), .CED(N), .CEINMODE(N), .CEM(cem), .CEP(cep), .RSTA(N), .RSTALLCARRYIN(N), .RSTALUMODE(N),
    .RSTB(N), .RSTC(N), .RSTCTRL(N), .RSTD(N), .RSTINMODE(N), .RSTM(rstm), .RSTP(rstp), .P(p1));
  DSP48E2 #(.ADREG(0), .CREG(0), .DREG(0), .ALUMODEREG(0), .CARRYINREG(0), .CARRYINSELREG(0), .INMODEREG(0)) two (.CLK(clk),
    .A({{5{a[24]}}, a}), .B(b), .C(c), .PCIN(pcin), .D(27'd0), .ACIN(30'd0), .BCIN(18'd0), .OPMODE({2'd0, mode}), .ALUMODE(4'd0),
    .INMODE(5'd0), .CARRYINSEL(3'd0), .CARRYIN(N), .CARRYCASCIN(N), .MULTSIGNIN(N), .CEA1(N), .CEA2(cea), .CEAD(N),
    .CEALUMODE(N), .CEB1(N), .CEB2(ceb), .CEC(N), .CECARRYIN(N), .CECTRL(cectrl), .CED(N), .CEINMODE(N), .CEM(cem), .CEP(cep),
    .RSTA(N), .RSTALLCARRYIN(N), .RSTALUMODE(N), .RSTB(N), .RSTC(N), .RSTCTRL(N), .RSTD(N), .RSTINMODE(N), .RSTM(rstm),
    .RSTP(rstp), .P(p2));
  initial begin
    for (n = 0; n < `CYCLES; n = n + 1) begin
      a = n % 3 ? $random(seed) : {25{1'b1}} << $unsigned($random(seed)) % 26; b = $random(seed);
      c = {$random(seed), $random(seed)}; pcin = {$random(seed), $random(seed)};
      case ($unsigned($random(seed)) % 5)
        0: mode[3:0] = 4'b0000; 1, 2: mode[3:0] = 4'b0101; 3: mode[3:0] = 4'b1100; 4: mode[3:0] = 4'b0010;
      endcase
      mode[6:4] = $unsigned($random(seed)) % 4;
      {cep, cem, cea, ceb, cectrl} = n < 6 ? 31 : $random(seed) | $random(seed);
      {rstp, rstm} = n < 2 ? 3 : $unsigned($random(seed)) % 16 ? 0 : $random(seed);
      @(posedge clk); #0.5;
      if (n > 5 && (p1 !== p2 || ^p1 === 1'bx)) wrong = wrong + 1;
    end
    $display("wrong %0d of %0d", wrong, n);
    $finish;
  end
endmodule
