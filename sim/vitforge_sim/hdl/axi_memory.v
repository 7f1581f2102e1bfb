// AXI4 slave memory for simulation: MASTERS ports of 128 bits share one byte-addressed DRAM. Runs in Verilator at full
// speed and in Icarus 11 (-g2012), cycle for cycle alike: random stalls come from its own generator.
//
// Per master: responses with the request's ID, in order or, with interleave, those of different IDs (by their lowest
// two bits) in any order, beat by beat; up to 2**DEPTH_LOG2 read bursts (of each ID) and as many write bursts outstanding,
// INCR bursts of 1 to 256 full beats. The first R beat is transferred `latency` cycles after its AR at the earliest
// (B likewise after the last W); afterwards a beat a cycle. All masters' read and written beats together take at most
// `bandwidth` bytes a cycle; who goes first is random.
//
// Plusargs (decimal unless said):
//   mem_file=F       binary image loaded at mem_base; 16-byte words with their bytes reversed ($fread is big-endian)
//   mem_base=HEX     address of the first byte (0)
//   latency=N (100)  jitter=N (0: random extra latency below N, at most 65535)
//   bandwidth=N      bytes a cycle for all masters together (64)
//   seed=N  stall_ar=P stall_r=P stall_aw=P stall_w=P stall_b=P   probability P/256 that a channel stalls in a cycle
//   err_addr=HEX err_bytes=N (16) err_resp=N (2 SLVERR, 3 DECERR) err_read=0/1 (1) err_write=0/1 (1)
//   err_count=N      faulty beats before the fault heals (0: never heals)
//   interleave=0/1 (0)   keep_reset=0/1 (0: aresetn forgets what is outstanding; 1: the first one alone does, as a
//                    port that the fabric cannot reset: it answers what was asked before)
//   hold_from=N hold_cycles=N (0)   for so many cycles from cycle hold_from on the memory takes and answers nothing new
// A beat outside the memory answers DECERR. Rule violations print "AXI_ERROR master rule value" and count in `errors`.
module axi_memory #(
    parameter MASTERS = 1,
    parameter ID_WIDTH = 4,
    parameter SIZE_LOG2 = 24,  // bytes
    parameter DEPTH_LOG2 = 4
) (
    input  wire                        aclk,
    input  wire                        aresetn,
    input  wire [MASTERS*ID_WIDTH-1:0] awid,
    input  wire [MASTERS*64-1:0]       awaddr,
    input  wire [MASTERS*8-1:0]        awlen,
    input  wire [MASTERS*3-1:0]        awsize,
    input  wire [MASTERS*2-1:0]        awburst,
    input  wire [MASTERS-1:0]          awvalid,
    output wire [MASTERS-1:0]          awready,
    input  wire [MASTERS*128-1:0]      wdata,
    input  wire [MASTERS*16-1:0]       wstrb,
    input  wire [MASTERS-1:0]          wlast,
    input  wire [MASTERS-1:0]          wvalid,
    output wire [MASTERS-1:0]          wready,
    output wire [MASTERS*ID_WIDTH-1:0] bid,
    output wire [MASTERS*2-1:0]        bresp,
    output wire [MASTERS-1:0]          bvalid,
    input  wire [MASTERS-1:0]          bready,
    input  wire [MASTERS*ID_WIDTH-1:0] arid,
    input  wire [MASTERS*64-1:0]       araddr,
    input  wire [MASTERS*8-1:0]        arlen,
    input  wire [MASTERS*3-1:0]        arsize,
    input  wire [MASTERS*2-1:0]        arburst,
    input  wire [MASTERS-1:0]          arvalid,
    output wire [MASTERS-1:0]          arready,
    output wire [MASTERS*ID_WIDTH-1:0] rid,
    output wire [MASTERS*128-1:0]      rdata,
    output wire [MASTERS*2-1:0]        rresp,
    output wire [MASTERS-1:0]          rlast,
    output wire [MASTERS-1:0]          rvalid,
    input  wire [MASTERS-1:0]          rready
);
    localparam DEPTH = 1 << DEPTH_LOG2;
    localparam WORDS = 1 << (SIZE_LOG2 - 4);
    localparam IDS = 4;  // read queues of a master
    localparam QUEUES = MASTERS * DEPTH;

    reg [127:0] mem [0:WORDS-1];

    // ---- settings
    reg [63:0] base, err_addr, err_bytes;
    integer latency, jitter, bandwidth, seed;
    integer stall_ar, stall_r, stall_aw, stall_w, stall_b;
    integer err_resp, err_read, err_write, err_count;
    integer hold_from, hold_cycles, interleave, keep_reset;
    reg err_on, random_on, holds;
    reg [8*512-1:0] mem_file;
    integer errors, fd, got, i;

    // ---- ports as arrays
    wire [ID_WIDTH-1:0] aw_id [0:MASTERS-1], ar_id [0:MASTERS-1];
    wire [63:0] aw_addr [0:MASTERS-1], ar_addr [0:MASTERS-1];
    wire [7:0] aw_len [0:MASTERS-1], ar_len [0:MASTERS-1];
    wire [2:0] aw_size [0:MASTERS-1], ar_size [0:MASTERS-1];
    wire [1:0] aw_burst [0:MASTERS-1], ar_burst [0:MASTERS-1];
    wire [127:0] w_data [0:MASTERS-1];
    wire [15:0] w_strb [0:MASTERS-1];
    reg [ID_WIDTH-1:0] r_id [0:MASTERS-1], b_id [0:MASTERS-1];
    reg [127:0] r_data [0:MASTERS-1];
    reg [1:0] r_resp [0:MASTERS-1], b_resp [0:MASTERS-1];
    reg [MASTERS-1:0] r_last, r_valid, b_valid, s_arready, s_awready, s_wready;
    assign rlast = r_last;
    assign rvalid = r_valid;
    assign bvalid = b_valid;
    assign arready = s_arready;
    assign awready = s_awready;
    assign wready = s_wready;
    genvar g;
    generate
        for (g = 0; g < MASTERS; g = g + 1) begin : port
            assign aw_id[g] = awid[g*ID_WIDTH +: ID_WIDTH];
            assign ar_id[g] = arid[g*ID_WIDTH +: ID_WIDTH];
            assign aw_addr[g] = awaddr[g*64 +: 64];
            assign ar_addr[g] = araddr[g*64 +: 64];
            assign aw_len[g] = awlen[g*8 +: 8];
            assign ar_len[g] = arlen[g*8 +: 8];
            assign aw_size[g] = awsize[g*3 +: 3];
            assign ar_size[g] = arsize[g*3 +: 3];
            assign aw_burst[g] = awburst[g*2 +: 2];
            assign ar_burst[g] = arburst[g*2 +: 2];
            assign w_data[g] = wdata[g*128 +: 128];
            assign w_strb[g] = wstrb[g*16 +: 16];
            assign rid[g*ID_WIDTH +: ID_WIDTH] = r_id[g];
            assign bid[g*ID_WIDTH +: ID_WIDTH] = b_id[g];
            assign rdata[g*128 +: 128] = r_data[g];
            assign rresp[g*2 +: 2] = r_resp[g];
            assign bresp[g*2 +: 2] = b_resp[g];
        end
    endgenerate

    // ---- queues: entry of queue a at a*DEPTH + position; read queues a = m*IDS + id, the others a = m
    reg [63:0] arq_addr [0:IDS*QUEUES-1], awq_addr [0:QUEUES-1];
    reg [7:0] arq_len [0:IDS*QUEUES-1], awq_len [0:QUEUES-1];
    reg [ID_WIDTH-1:0] arq_id [0:IDS*QUEUES-1], awq_id [0:QUEUES-1], bq_id [0:QUEUES-1];
    reg [1:0] bq_resp [0:QUEUES-1];
    reg [31:0] arq_time [0:IDS*QUEUES-1], bq_time [0:QUEUES-1];
    integer arq_head [0:IDS*MASTERS-1], awq_head [0:MASTERS-1], bq_head [0:MASTERS-1];
    integer arq_count [0:IDS*MASTERS-1], awq_count [0:MASTERS-1], bq_count [0:MASTERS-1];
    reg [8:0] r_beat [0:IDS*MASTERS-1], w_beat [0:MASTERS-1];
    reg [1:0] w_resp [0:MASTERS-1];
    integer read_beats [0:MASTERS-1], write_beats [0:MASTERS-1];
    reg [63:0] rng [0:MASTERS-1];

    // ---- the last cycle's requests, for the stability rule
    reg [MASTERS-1:0] held_ar, held_aw, held_w;
    reg [64+8+ID_WIDTH-1:0] last_ar [0:MASTERS-1], last_aw [0:MASTERS-1];
    reg [128+16:0] last_w [0:MASTERS-1];

    reg [31:0] now;
    integer tokens, k, m, q, a, j, byte_lane;
    reg cold, found;
    reg [15:0] turn;
    reg [63:0] addr, roll;
    reg [127:0] word;
    reg [1:0] resp;

    task error(input integer master, input [8*40-1:0] rule, input [63:0] value);
        begin
            errors = errors + 1;
            if (errors <= 20) $display("AXI_ERROR %0d %0s %h cycle %0d", master, rule, value, now);
        end
    endtask

    task check_burst(input integer master, input [63:0] a, input [7:0] len, input [2:0] size, input [1:0] burst);
        begin
            if (^{a, len, size, burst} === 1'bx) error(master, "undefined_request", a);
            if (burst != 2'b01) error(master, "burst_is_not_INCR", {62'd0, burst});
            if (size != 3'd4) error(master, "size_is_not_16_bytes", {61'd0, size});
            if (a[3:0] != 4'd0) error(master, "address_is_not_aligned", a);
            if ({1'b0, a[11:4]} + {1'b0, len} > 9'd255) error(master, "burst_crosses_4_KiB", a);
        end
    endtask

    // response of one beat at address a
    task respond(input [63:0] a, input is_write, output [1:0] answer);
        begin
            answer = 2'b00;
            if (a < base || ((a - base) >> SIZE_LOG2) != 64'd0) answer = 2'b11;
            else if (err_on && (is_write ? err_write != 0 : err_read != 0)
                     && a + 64'd16 > err_addr && a < err_addr + err_bytes) begin
                answer = err_resp[1:0];
                if (err_count > 0) begin
                    err_count = err_count - 1;
                    if (err_count == 0) err_on = 1'b0;
                end
            end
        end
    endtask

    initial begin
        base = 64'd0; latency = 100; jitter = 0; bandwidth = 64; seed = 1; errors = 0;
        stall_ar = 0; stall_r = 0; stall_aw = 0; stall_w = 0; stall_b = 0;
        err_addr = 64'd0; err_bytes = 64'd16; err_resp = 2; err_read = 1; err_write = 1; err_count = 0;
        if ($value$plusargs("mem_base=%h", base)) ;
        if ($value$plusargs("latency=%d", latency)) ;
        if ($value$plusargs("jitter=%d", jitter)) ;
        if ($value$plusargs("bandwidth=%d", bandwidth)) ;
        if ($value$plusargs("seed=%d", seed)) ;
        if ($value$plusargs("stall_ar=%d", stall_ar)) ;
        if ($value$plusargs("stall_r=%d", stall_r)) ;
        if ($value$plusargs("stall_aw=%d", stall_aw)) ;
        if ($value$plusargs("stall_w=%d", stall_w)) ;
        if ($value$plusargs("stall_b=%d", stall_b)) ;
        err_on = $value$plusargs("err_addr=%h", err_addr);
        if ($value$plusargs("err_bytes=%d", err_bytes)) ;
        if ($value$plusargs("err_resp=%d", err_resp)) ;
        if ($value$plusargs("err_read=%d", err_read)) ;
        if ($value$plusargs("err_write=%d", err_write)) ;
        if ($value$plusargs("err_count=%d", err_count)) ;
        hold_from = 0; hold_cycles = 0; holds = 1'b0; interleave = 0; keep_reset = 0; cold = 1'b1;
        if ($value$plusargs("interleave=%d", interleave)) ;
        if ($value$plusargs("keep_reset=%d", keep_reset)) ;
        if ($value$plusargs("hold_from=%d", hold_from)) ;
        if ($value$plusargs("hold_cycles=%d", hold_cycles)) ;
        random_on = interleave != 0 || jitter != 0 || (stall_ar + stall_r + stall_aw + stall_w + stall_b) != 0;
        for (i = 0; i < MASTERS; i = i + 1) begin
            rng[i] = {seed[31:0] ^ 32'h9e3779b9, 32'h85ebca6b * (i[31:0] + 32'd1)};
            read_beats[i] = 0; write_beats[i] = 0;
            awq_count[i] = 0; bq_count[i] = 0;
            awq_head[i] = 0; bq_head[i] = 0;
            w_beat[i] = 9'd0; w_resp[i] = 2'd0;
        end
        for (i = 0; i < IDS * MASTERS; i = i + 1) begin
            arq_count[i] = 0; arq_head[i] = 0; r_beat[i] = 9'd0;
        end
        now = 32'd0; tokens = 0; turn = 16'hace1;
        r_valid = 0; b_valid = 0; s_arready = 0; s_awready = 0; s_wready = 0; r_last = 0;
        held_ar = 0; held_aw = 0; held_w = 0;
        // poison, the same in both simulators: a read of memory that nobody wrote shows
        for (i = 0; i < WORDS; i = i + 1) mem[i] = {4{32'hdeadbeef}};
        if ($value$plusargs("mem_file=%s", mem_file)) begin
            fd = $fopen(mem_file, "rb");
            if (fd == 0) begin
                $display("VF_FATAL cannot open %0s", mem_file);
                $finish;
            end else begin
                got = $fread(mem, fd);
                $fclose(fd);
            end
        end
    end

    // writes `bytes` bytes from address `from` (both multiples of 16) as 32-bit little-endian words
    task dump(input [8*512-1:0] file, input [63:0] from, input [63:0] bytes);
        begin
            fd = $fopen(file, "wb");
            for (i = 0; i < bytes / 16; i = i + 1) $fwrite(fd, "%u", mem[((from - base) >> 4) + i]);
            $fclose(fd);
        end
    endtask

    task statistics;
        for (i = 0; i < MASTERS; i = i + 1)
            $display("AXI_STATS %0d read_beats %0d write_beats %0d", i, read_beats[i], write_beats[i]);
    endtask

    always @(posedge aclk) begin
        now = now + 32'd1;
        if (aresetn) cold = 1'b0;
        else begin
            held_ar = 0; held_aw = 0; held_w = 0;
        end
        if (!aresetn && (cold || keep_reset == 0)) begin
            r_valid <= 0; b_valid <= 0; s_arready <= 0; s_awready <= 0; s_wready <= 0;
            tokens = 0;
            for (k = 0; k < MASTERS; k = k + 1) begin
                awq_count[k] = 0; bq_count[k] = 0;
                w_beat[k] = 9'd0; w_resp[k] = 2'd0;
            end
            for (k = 0; k < IDS * MASTERS; k = k + 1) begin
                arq_count[k] = 0; r_beat[k] = 9'd0;
            end
        end else begin
            tokens = tokens + bandwidth;
            if (tokens > bandwidth + 15) tokens = bandwidth + 15;  // unused bandwidth is lost
            // a fixed rotation would favour masters in step with it
            holds = hold_cycles != 0 && now >= hold_from && now < hold_from + hold_cycles;
            turn = {turn[14:0], turn[15] ^ turn[13] ^ turn[12] ^ turn[10]};
            m = {16'd0, turn} % MASTERS;
            for (k = 0; k < MASTERS; k = k + 1) begin
                roll = 64'hffff_ffff_ffff_ffff;
                if (random_on) begin
                    roll = rng[m];
                    roll = roll ^ (roll << 13);
                    roll = roll ^ (roll >> 7);
                    roll = roll ^ (roll << 17);
                    rng[m] = roll;
                end

                // -- stability: a request that was not taken stays as it was, unless a reset takes it away
                if (held_ar[m] && (!arvalid[m] || last_ar[m] !== {ar_addr[m], ar_len[m], ar_id[m]}))
                    error(m, "AR_changed_before_ready", ar_addr[m]);
                if (held_aw[m] && (!awvalid[m] || last_aw[m] !== {aw_addr[m], aw_len[m], aw_id[m]}))
                    error(m, "AW_changed_before_ready", aw_addr[m]);
                if (held_w[m] && (!wvalid[m] || last_w[m] !== {w_data[m], w_strb[m], wlast[m]}))
                    error(m, "W_changed_before_ready", w_data[m][63:0]);
                held_ar[m] = aresetn && arvalid[m] && !s_arready[m];
                held_aw[m] = aresetn && awvalid[m] && !s_awready[m];
                held_w[m] = aresetn && wvalid[m] && !s_wready[m];
                if (held_ar[m]) last_ar[m] = {ar_addr[m], ar_len[m], ar_id[m]};
                if (held_aw[m]) last_aw[m] = {aw_addr[m], aw_len[m], aw_id[m]};
                if (held_w[m]) last_w[m] = {w_data[m], w_strb[m], wlast[m]};

                // -- AR and AW: into their queues
                if (arvalid[m] && s_arready[m]) begin
                    check_burst(m, ar_addr[m], ar_len[m], ar_size[m], ar_burst[m]);
                    a = m * IDS + (interleave != 0 ? {30'd0, ar_id[m][1:0]} : 0);
                    q = a * DEPTH + ((arq_head[a] + arq_count[a]) & (DEPTH - 1));
                    arq_addr[q] = ar_addr[m];
                    arq_len[q] = ar_len[m];
                    arq_id[q] = ar_id[m];
                    arq_time[q] = now + latency - 32'd1 + (jitter == 0 ? 32'd0 : {16'd0, roll[55:40]} % jitter);
                    arq_count[a] = arq_count[a] + 1;
                end
                if (awvalid[m] && s_awready[m]) begin
                    check_burst(m, aw_addr[m], aw_len[m], aw_size[m], aw_burst[m]);
                    q = m * DEPTH + ((awq_head[m] + awq_count[m]) & (DEPTH - 1));
                    awq_addr[q] = aw_addr[m];
                    awq_len[q] = aw_len[m];
                    awq_id[q] = aw_id[m];
                    awq_count[m] = awq_count[m] + 1;
                end

                // -- W: written at once; the last beat queues the response
                if (wvalid[m] && s_wready[m]) begin
                    q = m * DEPTH + awq_head[m];
                    addr = awq_addr[q] + {51'd0, w_beat[m], 4'd0};
                    tokens = tokens - 16;
                    write_beats[m] = write_beats[m] + 1;
                    respond(addr, 1'b1, resp);
                    if (resp != 2'b00) begin
                        if (w_resp[m] == 2'b00) w_resp[m] = resp;
                    end else begin
                        addr = (addr - base) >> 4;
                        word = mem[addr[SIZE_LOG2-5:0]];
                        for (byte_lane = 0; byte_lane < 16; byte_lane = byte_lane + 1)
                            if (w_strb[m][byte_lane]) word[byte_lane*8 +: 8] = w_data[m][byte_lane*8 +: 8];
                        mem[addr[SIZE_LOG2-5:0]] = word;
                        if (^word === 1'bx) error(m, "undefined_write_data", awq_addr[q]);
                    end
                    if (wlast[m] != (w_beat[m] == {1'b0, awq_len[q]})) error(m, "WLAST_at_wrong_beat", {55'd0, w_beat[m]});
                    if (w_beat[m] == {1'b0, awq_len[q]}) begin
                        bq_id[m * DEPTH + ((bq_head[m] + bq_count[m]) & (DEPTH - 1))] = awq_id[q];
                        bq_resp[m * DEPTH + ((bq_head[m] + bq_count[m]) & (DEPTH - 1))] = w_resp[m];
                        bq_time[m * DEPTH + ((bq_head[m] + bq_count[m]) & (DEPTH - 1))] = now + latency - 32'd1;
                        bq_count[m] = bq_count[m] + 1;
                        awq_head[m] = (awq_head[m] + 1) & (DEPTH - 1);
                        awq_count[m] = awq_count[m] - 1;
                        w_beat[m] = 9'd0;
                        w_resp[m] = 2'b00;
                    end else w_beat[m] = w_beat[m] + 9'd1;
                end

                // -- R: the next beat of a queue whose oldest burst's time has come; which queue is random
                if (!r_valid[m] || rready[m]) begin
                    a = m * IDS;
                    found = 1'b0;
                    for (j = 0; j < (interleave != 0 ? IDS : 1); j = j + 1) if (!found) begin
                        a = m * IDS + (interleave != 0 ? ({30'd0, roll[57:56]} + j) % IDS : 0);
                        q = a * DEPTH + arq_head[a];
                        found = arq_count[a] != 0 && $signed(now - arq_time[q]) >= 0;
                    end
                    r_valid[m] <= 1'b0;
                    if (!holds && found && tokens >= 16 && {1'b0, roll[7:0]} >= stall_r[8:0]) begin
                        addr = arq_addr[q] + {51'd0, r_beat[a], 4'd0};
                        tokens = tokens - 16;
                        read_beats[m] = read_beats[m] + 1;
                        respond(addr, 1'b0, resp);
                        addr = (addr - base) >> 4;
                        r_valid[m] <= 1'b1;
                        r_id[m] <= arq_id[q];
                        r_data[m] <= resp == 2'b00 ? mem[addr[SIZE_LOG2-5:0]] : {4{32'hdeadbeef}};
                        r_resp[m] <= resp;
                        r_last[m] <= r_beat[a] == {1'b0, arq_len[q]};
                        if (r_beat[a] == {1'b0, arq_len[q]}) begin
                            r_beat[a] = 9'd0;
                            arq_head[a] = (arq_head[a] + 1) & (DEPTH - 1);
                            arq_count[a] = arq_count[a] - 1;
                        end else r_beat[a] = r_beat[a] + 9'd1;
                    end
                end

                // -- B
                if (!b_valid[m] || bready[m]) begin
                    q = m * DEPTH + bq_head[m];
                    b_valid[m] <= 1'b0;
                    if (!holds && bq_count[m] != 0 && {1'b0, roll[15:8]} >= stall_b[8:0]
                        && $signed(now - bq_time[q]) >= 0) begin
                        b_valid[m] <= 1'b1;
                        b_id[m] <= bq_id[q];
                        b_resp[m] <= bq_resp[q];
                        bq_head[m] = (bq_head[m] + 1) & (DEPTH - 1);
                        bq_count[m] = bq_count[m] - 1;
                    end
                end

                // -- readiness in the next cycle; a W beat that is let in owes its tokens
                found = 1'b1;
                for (j = 0; j < IDS; j = j + 1) if (arq_count[m * IDS + j] >= DEPTH) found = 1'b0;
                s_arready[m] <= !holds && found && {1'b0, roll[23:16]} >= stall_ar[8:0];
                s_awready[m] <= !holds && awq_count[m] + bq_count[m] < DEPTH && {1'b0, roll[31:24]} >= stall_aw[8:0];
                s_wready[m] <= !holds && awq_count[m] != 0 && tokens > 0 && {1'b0, roll[39:32]} >= stall_w[8:0];
                m = (m + 1 == MASTERS) ? 0 : m + 1;
            end
        end
    end
endmodule
