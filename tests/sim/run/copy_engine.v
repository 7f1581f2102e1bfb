// One lane of the test design: copies `beats` beats of 16 bytes from src to dst in bursts of 16 beats.
// BUG 1: the first read burst crosses a 4 KiB boundary; 2: ignores B, never finishes; 3: WLAST one beat early.
module copy_lane #(parameter BUG = 0) (
    input  wire         aclk,
    input  wire         aresetn,
    input  wire         start,
    input  wire [31:0]  src,
    input  wire [31:0]  dst,
    input  wire [31:0]  beats,  // a multiple of 16
    output reg          busy,
    output reg          error,
    output wire [3:0]   awid,
    output wire [63:0]  awaddr,
    output reg          awvalid,
    input  wire         awready,
    output wire [127:0] wdata,
    output wire         wlast,
    output wire         wvalid,
    input  wire         wready,
    input  wire [3:0]   bid,
    input  wire [1:0]   bresp,
    input  wire         bvalid,
    output wire [3:0]   arid,
    output wire [63:0]  araddr,
    output reg          arvalid,
    input  wire         arready,
    input  wire [3:0]   rid,
    input  wire [127:0] rdata,
    input  wire [1:0]   rresp,
    input  wire         rlast,
    input  wire         rvalid,
    output wire         rready
);
    reg [31:0] ar_next, aw_next, src_end, dst_end;
    reg [8:0] room;              // free places of the FIFO not yet promised to a read burst
    reg [127:0] fifo [0:255];
    reg [8:0] head, tail;
    reg [15:0] aw_ahead;         // beats whose address was sent and whose data was not
    reg [15:0] bursts_open;
    reg [3:0] beat, id;
    wire fifo_push = rvalid && rready;
    wire fifo_pop = wvalid && wready;
    assign rready = 1'b1;
    assign araddr = {32'd0, ar_next} + (BUG == 1 && ar_next[11:0] == 12'd0 ? 64'hff0 : 64'd0);
    assign arid = id;
    assign awaddr = {32'd0, aw_next};
    assign awid = aw_next[11:8];
    assign wdata = fifo[head[7:0]];
    assign wvalid = head != tail && aw_ahead != 16'd0;
    assign wlast = beat == (BUG == 3 ? 4'd14 : 4'd15);
    wire ar_take = arvalid && arready, aw_take = awvalid && awready;
    wire ar_more = (ar_take ? ar_next + 32'd256 : ar_next) != src_end;
    wire aw_more = (aw_take ? aw_next + 32'd256 : aw_next) != dst_end;
    wire [8:0] room_now = room - (ar_take ? 9'd16 : 9'd0) + (fifo_pop ? 9'd1 : 9'd0);
    always @(posedge aclk) begin
        if (!aresetn) begin
            busy <= 1'b0; error <= 1'b0; arvalid <= 1'b0; awvalid <= 1'b0; head <= 9'd0; tail <= 9'd0;
            room <= 9'd256; aw_ahead <= 16'd0; bursts_open <= 16'd0; beat <= 4'd0; id <= 4'd0;
            ar_next <= 32'd0; aw_next <= 32'd0; src_end <= 32'd0; dst_end <= 32'd0;
        end else begin
            if (start) begin
                busy <= 1'b1; error <= 1'b0;
                ar_next <= src; src_end <= src + (beats << 4);
                aw_next <= dst; dst_end <= dst + (beats << 4);
            end else if (busy) begin
                if (ar_take) begin ar_next <= ar_next + 32'd256; id <= id + 4'd1; end
                if (aw_take) aw_next <= aw_next + 32'd256;
                if (!arvalid || arready) arvalid <= ar_more && room_now >= 9'd16;
                if (!awvalid || awready) awvalid <= aw_more && aw_ahead < 16'd64;
                room <= room_now;
                if (fifo_push) begin fifo[tail[7:0]] <= rdata; tail <= tail + 9'd1; end
                if (fifo_pop) begin head <= head + 9'd1; beat <= beat + 4'd1; end
                aw_ahead <= aw_ahead + (aw_take ? 16'd16 : 16'd0) - (fifo_pop ? 16'd1 : 16'd0);
                bursts_open <= bursts_open + (aw_take ? 16'd1 : 16'd0) - (bvalid && BUG != 2 ? 16'd1 : 16'd0);
                if ((rvalid && rresp != 2'd0) || (bvalid && bresp != 2'd0)) error <= 1'b1;
                if (aw_next == dst_end && bursts_open == 16'd0 && !awvalid) busy <= 1'b0;
            end
        end
    end
endmodule

// Registers of the test design: 0x0 start (write), 0x4 status {error, done} (any write clears done),
// 0x8 src, 0xc dst, 0x10 beats per lane. The interrupt is `done`.
module copy_registers (
    input  wire        aclk,
    input  wire        aresetn,
    input  wire [11:0] awaddr,
    input  wire        awvalid,
    output wire        awready,
    input  wire [31:0] wdata,
    input  wire        wvalid,
    output wire        wready,
    output wire [1:0]  bresp,
    output reg         bvalid,
    input  wire        bready,
    input  wire [11:0] araddr,
    input  wire        arvalid,
    output wire        arready,
    output reg  [31:0] rdata,
    output wire [1:0]  rresp,
    output reg         rvalid,
    input  wire        rready,
    input  wire        busy,
    input  wire        error,
    output reg         start,
    output reg         done,
    output reg  [31:0] src,
    output reg  [31:0] dst,
    output reg  [31:0] beats
);
    reg was_busy;
    wire take = awvalid && wvalid && !bvalid;
    assign awready = take;
    assign wready = take;
    assign bresp = 2'd0;
    assign rresp = 2'd0;
    assign arready = !rvalid;
    always @(posedge aclk) begin
        start <= 1'b0;
        was_busy <= busy;
        if (was_busy && !busy) done <= 1'b1;
        if (bvalid && bready) bvalid <= 1'b0;
        if (rvalid && rready) rvalid <= 1'b0;
        if (take) begin
            bvalid <= 1'b1;
            case (awaddr)
                12'h00: start <= 1'b1;
                12'h04: done <= 1'b0;
                12'h08: src <= wdata;
                12'h0c: dst <= wdata;
                12'h10: beats <= wdata;
                default: ;
            endcase
        end
        if (arvalid && arready) begin
            rvalid <= 1'b1;
            case (araddr)
                12'h04: rdata <= {30'd0, error, done};
                12'h08: rdata <= src;
                12'h0c: rdata <= dst;
                12'h10: rdata <= beats;
                default: rdata <= 32'h600d_cafe;
            endcase
        end
        if (!aresetn) begin
            start <= 1'b0; done <= 1'b0; was_busy <= 1'b0; bvalid <= 1'b0; rvalid <= 1'b0;
            src <= 32'd0; dst <= 32'd0; beats <= 32'd0; rdata <= 32'd0;
        end
    end
endmodule
