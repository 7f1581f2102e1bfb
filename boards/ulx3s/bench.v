// The board at its pins: clock, a serial host that sends requests.bin and writes what comes back to replies.bin.
module EHXPLLL #(
    parameter CLKFB_DIV = 1, parameter CLKI_DIV = 1, parameter CLKOP_CPHASE = 0, parameter CLKOP_DIV = 8,
    parameter CLKOP_ENABLE = "", parameter DPHASE_SOURCE = "", parameter FEEDBK_PATH = "", parameter INTFB_WAKE = "",
    parameter OUTDIVIDER_MUXA = "", parameter PLLRST_ENA = "", parameter STDBY_ENABLE = ""
) (
    input CLKFB, CLKI, ENCLKOP, PHASEDIR, PHASELOADREG, PHASESEL0, PHASESEL1, PHASESTEP, PLLWAKESYNC, RST, STDBY,
   
    output CLKOP, output LOCK
);
    // a stub: the bench's clock is the output's, locked after 20 cycles
    reg [4:0] count = 5'd0;
    always @(posedge CLKI) if (count != 5'd20) count <= count + 5'd1;
    assign CLKOP = CLKI;
    assign LOCK = count == 5'd20;
endmodule

module ulx3s_bench #(parameter DIVISOR = 50) (input clk);
    integer requests, replies, byte_in, sent, want, got, quiet;
    reg receive = 1'b1;
    wire send;
    wire [7:0] leds;
    ulx3s_board board (.oscillator(clk), .receive(receive), .send(send), .leds(leds));

    // ---- host to board: a request, then wait for the reply's last byte
    integer request_bytes, reply_bytes, frames, in_frame, timer, bits;
    reg [8:0] shift;
    initial begin
        frames = 0; request_bytes = 0; reply_bytes = 0; in_frame = 0; timer = 1000; bits = 0; got = 0; quiet = 0;
        if ($value$plusargs("request_bytes=%d", request_bytes)) ;
        if ($value$plusargs("reply_bytes=%d", reply_bytes)) ;
        if ($value$plusargs("frames=%d", frames)) ;
        requests = $fopen("requests.bin", "rb");
        replies = $fopen("replies.bin", "wb");
    end
    integer done = 0;
    always @(posedge clk) begin
        if (timer != 0) timer <= timer - 1;
        else if (bits != 0) begin
            receive <= shift[0];
            shift <= {1'b1, shift[8:1]};
            bits <= bits - 1;
            timer <= DIVISOR - 1;
        end else if (done < frames && in_frame < request_bytes) begin
            byte_in = $fgetc(requests);
            receive <= 1'b0;
            shift <= {1'b1, byte_in[7:0]};
            bits <= 9;
            timer <= DIVISOR - 1;
            in_frame <= in_frame + 1;
        end
        if (last_byte) begin in_frame <= 0; done <= done + 1; end
    end

    // ---- board to host
    integer rx_timer = 0, rx_bits = 0;
    reg [7:0] rx;
    reg last_byte = 1'b0;
    always @(posedge clk) begin
        last_byte <= 1'b0;
        quiet <= quiet + 1;
        if (rx_bits == 0) begin
            if (!send) begin rx_bits <= 9; rx_timer <= DIVISOR + DIVISOR / 2 - 1; end
        end else if (rx_timer != 0) rx_timer <= rx_timer - 1;
        else begin
            rx_timer <= DIVISOR - 1;
            rx_bits <= rx_bits - 1;
            if (rx_bits != 1) rx <= {send, rx[7:1]};
            else begin
                quiet <= 0;
                $fwrite(replies, "%c", rx);
                got = got + 1;
                if (!send) $display("VF_FATAL stop bit missing after byte %0d", got);
                if (got % reply_bytes == 0) last_byte <= 1'b1;
            end
        end
        if (done == frames) begin $fclose(replies); $display("VF_DONE frames %0d", frames); $finish; end
        if (quiet == 4000000) begin
            $fclose(replies); $display("VF_FATAL no byte for 4000000 cycles in frame %0d", done); $finish;
        end
    end
endmodule
