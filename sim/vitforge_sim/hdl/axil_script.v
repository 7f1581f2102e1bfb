// AXI4-Lite master that plays a script, so that no Python runs during a simulation.
// +script=F: hexadecimal 32-bit words ($readmemh), four per command: op, addr, data, mask.
//   0 END                     stop the simulation
//   1 WRITE addr data
//   2 READ addr
//   3 POLL addr data mask     read until (value & mask) == data
//   4 INTERRUPT data          wait until the interrupt's level is data
//   5 WAIT data               wait that many cycles
//   6 RESET data              hold aresetn low for that many cycles
//   7 POLL_IRQ addr data mask as POLL, but a read while the interrupt is high is the last one too
// +events=F gets one record of four 32-bit little-endian words per finished command: index, cycle, value, response.
// +watchdog=N: a run longer than N cycles prints "VF_HANG ..." and stops.
module axil_script #(
    parameter MAX_COMMANDS = 4096
) (
    input  wire        clk,
    output reg         aresetn,
    output reg  [31:0] cycle,
    output reg         finished,
    input  wire        interrupt,
    output reg  [11:0] awaddr,
    output reg         awvalid,
    input  wire        awready,
    output reg  [31:0] wdata,
    output reg         wvalid,
    input  wire        wready,
    input  wire [1:0]  bresp,
    input  wire        bvalid,
    output wire        bready,
    output reg  [11:0] araddr,
    output reg         arvalid,
    input  wire        arready,
    input  wire [31:0] rdata,
    input  wire [1:0]  rresp,
    input  wire        rvalid,
    output wire        rready
);
    localparam END = 0, WRITE = 1, READ = 2, POLL = 3, INTERRUPT = 4, WAIT = 5, RESET = 6, POLL_IRQ = 7;
    reg [31:0] script [0:4*MAX_COMMANDS-1];
    reg [8*512-1:0] path;
    reg [31:0] watchdog, op, addr, data, mask, count;
    integer index, fd, i;
    reg started, done;
    reg [31:0] value;
    reg [1:0] resp;
    assign bready = 1'b1;
    assign rready = 1'b1;

    initial begin
        for (i = 0; i < 4 * MAX_COMMANDS; i = i + 1) script[i] = 32'd0;
        if ($value$plusargs("script=%s", path)) $readmemh(path, script);
        fd = 0;
        if ($value$plusargs("events=%s", path)) fd = $fopen(path, "wb");
        watchdog = 32'd0;
        if ($value$plusargs("watchdog=%d", watchdog)) ;
        aresetn = 1'b0; cycle = 32'd0; finished = 1'b0; index = 0; started = 1'b0; count = 32'd8;
        awvalid = 1'b0; wvalid = 1'b0; arvalid = 1'b0;
        awaddr = 12'd0; wdata = 32'd0; araddr = 12'd0;
        op = RESET; addr = 32'd0; data = 32'd0; mask = 32'd0; done = 1'b0;  // starts with eight cycles of reset
        index = -1; started = 1'b1;
    end

    always @(posedge clk) begin
        cycle <= cycle + 32'd1;
        done = 1'b0;
        value = 32'd0;
        resp = 2'd0;
        if (!started) begin
            started = 1'b1;
            op = script[4*index];
            addr = script[4*index+1];
            data = script[4*index+2];
            mask = script[4*index+3];
            count = data;
            case (op)
                WRITE: begin
                    awaddr <= addr[11:0]; awvalid <= 1'b1;
                    wdata <= data; wvalid <= 1'b1;
                end
                READ, POLL, POLL_IRQ: begin
                    araddr <= addr[11:0]; arvalid <= 1'b1;
                end
                RESET: aresetn <= 1'b0;
                default: ;
            endcase
        end else begin
            if (awvalid && awready) awvalid <= 1'b0;
            if (wvalid && wready) wvalid <= 1'b0;
            if (arvalid && arready) arvalid <= 1'b0;
            case (op)
                END: finished <= 1'b1;
                WRITE: if (bvalid) begin
                    done = 1'b1; value = data; resp = bresp;
                end
                READ: if (rvalid) begin
                    done = 1'b1; value = rdata; resp = rresp;
                end
                POLL, POLL_IRQ: if (rvalid) begin
                    value = rdata; resp = rresp;
                    if ((rdata & mask) == data || op == POLL_IRQ && interrupt === 1'b1) done = 1'b1;
                    else begin
                        arvalid <= 1'b1;
                    end
                end
                INTERRUPT: if (interrupt === data[0]) done = 1'b1;
                WAIT: begin
                    if (count <= 32'd1) done = 1'b1;
                    count = count - 32'd1;
                end
                RESET: begin
                    if (count <= 32'd1) begin
                        aresetn <= 1'b1;
                        done = 1'b1;
                    end
                    count = count - 32'd1;
                end
                default: begin
                    $display("VF_FATAL script command %0d has unknown op %0d", index, op);
                    $finish;
                end
            endcase
        end
        if (done) begin
            if (fd != 0 && index >= 0) begin
                $fwrite(fd, "%u", {30'd0, resp, value, cycle, index[31:0]});
                $fflush(fd);  // tells where a killed simulation was
            end
            index = index + 1;
            started = 1'b0;
        end
        if (watchdog != 32'd0 && cycle >= watchdog && !finished) begin
            $display("VF_HANG command %0d op %0d addr %h data %h mask %h cycle %0d", index, op, addr, data, mask, cycle);
            finished <= 1'b1;
        end
    end
endmodule
