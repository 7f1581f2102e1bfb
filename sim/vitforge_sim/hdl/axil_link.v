// AXI4-Lite master that a program outside plays, command by command, through two named pipes; time stands still while
// it thinks. The program also reaches the memory (as a processor does) and its faults. See run/link.py.
// +commands=F: five 32-bit big-endian words a command: op, addr, data, and two more; +answers=F: four 32-bit little-
// endian words an answer: value, response, cycle, op. Without +commands it does nothing.
//   0 END                     stop the simulation
//   1 WRITE addr data
//   2 READ addr
//   4 INTERRUPT data          wait until the interrupt is high, at most so many cycles; the value is its level
//   5 WAIT data               wait that many cycles
//   6 RESET data              hold aresetn low for that many cycles
//   7 POKE addr data          data 16-byte words follow, to memory word addr on (the first byte is the highest)
//   8 PEEK addr data          the answer is followed by data 16-byte words
//   9 ERROR addr data low high  answers of response data for addr beats from byte address {high, low} on; 0 beats: none
//  10 HOLD data               the memory takes and answers nothing for so many cycles
module axil_link (
    input  wire        clk,
    output reg         aresetn,
    input  wire [31:0] cycle,
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
    localparam END = 0, WRITE = 1, READ = 2, INTERRUPT = 4, WAIT = 5, RESET = 6, POKE = 7, PEEK = 8, ERROR = 9, HOLD = 10;
    reg [8*512-1:0] path;
    reg [159:0] command;
    reg [127:0] word;
    reg [31:0] op, addr, data, low, high, count, value;
    reg [1:0] resp;
    reg started, done, at_once;
    integer in, out, got, i;
    assign bready = 1'b1;
    assign rready = 1'b1;

    initial begin
        in = 0; out = 0;
        if ($value$plusargs("commands=%s", path)) in = $fopen(path, "rb");
        if ($value$plusargs("answers=%s", path)) out = $fopen(path, "wb");
        aresetn = 1'b0; finished = 1'b0; started = 1'b1; done = 1'b0; at_once = 1'b0;
        awvalid = 1'b0; wvalid = 1'b0; arvalid = 1'b0;
        awaddr = 12'd0; wdata = 32'd0; araddr = 12'd0;
        op = RESET; addr = 32'd0; data = 32'd0; count = 32'd8; value = 32'd0; resp = 2'd0;
    end

    task answer;
        begin
            $fwrite(out, "%u", {op, cycle, 30'd0, resp, value});
            $fflush(out);
        end
    endtask

    always @(posedge clk) begin
        done = 1'b0;
        if (!started && !finished && in != 0) begin
            at_once = 1'b1;
            while (at_once) begin
                value = 32'd0;
                resp = 2'd0;
                got = $fread(command, in);
                if (got != 20) command = 160'd0;  // the other side is gone
                {op, addr, data, low, high} = command;
                count = data;
                case (op)
                    POKE: begin
                        for (i = 0; i < data; i = i + 1) begin
                            got = $fread(word, in);
                            vf_bench.memory.mem[addr + i] = word;
                        end
                        answer;
                    end
                    PEEK: begin
                        answer;
                        for (i = 0; i < data; i = i + 1) $fwrite(out, "%u", vf_bench.memory.mem[addr + i]);
                        $fflush(out);
                    end
                    ERROR: begin
                        vf_bench.memory.err_on = addr != 32'd0;
                        vf_bench.memory.err_count = addr;
                        vf_bench.memory.err_resp = data;
                        vf_bench.memory.err_addr = {high, low};
                        answer;
                    end
                    HOLD: begin
                        vf_bench.memory.hold_from = cycle;
                        vf_bench.memory.hold_cycles = data;
                        answer;
                    end
                    default: at_once = 1'b0;
                endcase
            end
            started = 1'b1;
            case (op)
                WRITE: begin
                    awaddr <= addr[11:0]; awvalid <= 1'b1;
                    wdata <= data; wvalid <= 1'b1;
                end
                READ: begin
                    araddr <= addr[11:0]; arvalid <= 1'b1;
                end
                RESET: aresetn <= 1'b0;
                default: ;
            endcase
        end else if (started && !finished) begin
            if (awvalid && awready) awvalid <= 1'b0;
            if (wvalid && wready) wvalid <= 1'b0;
            if (arvalid && arready) arvalid <= 1'b0;
            if (count != 32'd0) count = count - 32'd1;
            case (op)
                END: finished <= 1'b1;
                WRITE: if (bvalid) begin
                    done = 1'b1; resp = bresp;
                end
                READ: if (rvalid) begin
                    done = 1'b1; value = rdata; resp = rresp;
                end
                INTERRUPT: if (interrupt === 1'b1 || count == 32'd0) begin
                    done = 1'b1; value = {31'd0, interrupt};
                end
                WAIT: done = count == 32'd0;
                RESET: if (count == 32'd0) begin
                    aresetn <= 1'b1; done = 1'b1;
                end
                default: begin
                    $display("VF_FATAL command has unknown op %0d", op);
                    $finish;
                end
            endcase
        end
        if (done) begin
            if (cycle > 32'd8) answer;  // the reset at the start has nobody who waits
            started = 1'b0;
        end
    end
endmodule
