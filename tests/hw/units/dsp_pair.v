// Two multipliers in a cascade, behavioural (SOFT) and explicit (HARD), fed alike; counts cycles in which they differ.
`timescale 1ns/1ps
module pair;
  reg clk = 0; always #1 clk = ~clk;
  reg signed [26:0] a [0:1]; reg signed [7:0] b [0:1]; reg [1:0] source [0:1]; reg [1:0] enable; integer n, i, wrong = 0, seed = 1;
  wire signed [47:0] p [0:3], up [0:3];
  SOFT s0 (.clk(clk), .a(a[0]), .b(b[0]), .source(source[0]), .enable(enable[0]), .below(48'd0), .p(p[0]), .above(up[0]));
  SOFT s1 (.clk(clk), .a(a[1]), .b(b[1]), .source(source[1]), .enable(enable[1]), .below(up[0]), .p(p[1]), .above(up[1]));
  HARD h0 (.clk(clk), .a(a[0]), .b(b[0]), .source(source[0]), .enable(enable[0]), .below(48'd0), .p(p[2]), .above(up[2]));
  HARD h1 (.clk(clk), .a(a[1]), .b(b[1]), .source(source[1]), .enable(enable[1]), .below(up[2]), .p(p[3]), .above(up[3]));
  initial begin
    for (n = 0; n < `CYCLES; n = n + 1) begin
      for (i = 0; i < 2; i = i + 1) begin
        a[i] = n % 3 ? $random(seed) : {27{1'b1}} << $unsigned($random(seed)) % 28;
        b[i] = $random(seed); source[i] = n < 4 ? 0 : $unsigned($random(seed)) % 3;
      end
      enable = n < 4 ? 3 : $random(seed);
      @(posedge clk); #0.5;
      if (n > 4 && (p[0] !== p[2] || p[1] !== p[3] || ^p[1] === 1'bx || up[0] !== up[2])) wrong = wrong + 1;
    end
    $display("wrong %0d of %0d", wrong, n);
    $finish;
  end
endmodule
