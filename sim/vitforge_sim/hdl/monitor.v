// Passive monitor of one write port. In every cycle with `valid` it appends one record to <mon_dir>/monitor_<ID>.bin:
//   32-bit little-endian words: cycle, addr, data words from the least significant (data zero-extended to 32 bits).
// Without the plusarg mon_dir, or with bit ID of mon_mask (hexadecimal, default all ones) clear, nothing is written;
// the design sees no difference either way.
// vitforge_sim.run.monitor.read_records is the reader.
module monitor #(
    parameter WIDTH_ADDR = 16,  // at most 32
    parameter WIDTH_DATA = 128,
    parameter ID = 0
) (
    input wire                  clk,
    input wire [31:0]           cycle,
    input wire                  valid,
    input wire [WIDTH_ADDR-1:0] addr,
    input wire [WIDTH_DATA-1:0] data
);
    localparam WORDS = (WIDTH_DATA + 31) / 32;
    reg [8*512-1:0] folder, path;
    reg [63:0] mask;
    integer fd;
    wire [31:0] wide_addr = {{(32 - WIDTH_ADDR + 1){1'b0}}, addr} & 32'hffff_ffff;
    wire [WORDS*32:0] wide_data = {{(WORDS*32 - WIDTH_DATA + 1){1'b0}}, data};
    initial begin
        fd = 0;
        mask = ~64'd0;
        if ($value$plusargs("mon_mask=%h", mask)) ;
        if ($value$plusargs("mon_dir=%s", folder) && mask[ID]) begin
            $sformat(path, "%0s/monitor_%0d.bin", folder, ID);
            fd = $fopen(path, "wb");
            if (fd == 0) begin
                $display("VF_FATAL cannot open %0s", path);
                $finish;
            end
        end
    end
    always @(posedge clk)
        if (valid === 1'b1 && fd != 0) $fwrite(fd, "%u", {wide_data[WORDS*32-1:0], wide_addr, cycle});
endmodule
