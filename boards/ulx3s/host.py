"""The host's side of the serial port: frames (control.py says what they hold), and the port itself."""

import dataclasses
import struct

from vitforge_hw.arch.registers import Error

from .control import BAD_SUM, HEAD_BYTES, REPLY, REQUEST


@dataclasses.dataclass(frozen=True)
class Reply:
    """What the board answers: cycles of the job, the result's bytes; errors by name, none if it ran."""

    errors: tuple[str, ...]
    cycles: int
    result: bytes


@dataclasses.dataclass(frozen=True)
class Frame:
    """Lengths of both frames, from a build: image_bytes, result_bytes."""

    image_bytes: int
    result_bytes: int

    @property
    def request_bytes(self) -> int:
        """Of a whole request."""
        return 1 + self.image_bytes + 2

    @property
    def reply_bytes(self) -> int:
        """Of a whole reply."""
        return 1 + HEAD_BYTES + self.result_bytes + 2

    def request(self, image: bytes) -> bytes:
        """The bytes to send for an image as the accelerator reads it (`vitforge pack`)."""
        if len(image) != self.image_bytes:
            raise ValueError(f"image must have {self.image_bytes} bytes, not {len(image)}")
        return bytes([REQUEST]) + image + struct.pack("<H", sum(image) & 0xFFFF)

    def reply(self, data: bytes) -> Reply:
        """What a reply says. Raises ValueError for one that is not whole or damaged."""
        if len(data) != self.reply_bytes or data[0] != REPLY:
            start = data[:16].hex()
            raise ValueError(f"reply must be {self.reply_bytes} bytes that begin with {REPLY:#x}, not {start}")
        body, (total,) = data[1:-2], struct.unpack("<H", data[-2:])
        if sum(body) & 0xFFFF != total:
            raise ValueError(f"reply: its bytes sum to {sum(body) & 0xFFFF:#06x}, it says {total:#06x}")
        status, errors, cycles = struct.unpack("<BII", body[:HEAD_BYTES])
        names = [e.name.lower() for e in Error if e and errors >> e & 1]
        names += ["transfer"] if status & BAD_SUM else []
        return Reply(tuple(names), cycles, body[HEAD_BYTES:])


class Port:
    """The board behind a serial port.

    Parameters
    ----------
    path : e.g. /dev/ttyUSB0; frame : from the build that the bitstream was made of; baud : of the design
    timeout : seconds for a whole reply
    """

    def __init__(self, path: str, frame: Frame, baud: int, timeout: float = 5.0):
        import serial  # pyserial: extra "board"

        self._frame = frame
        try:
            self._port = serial.Serial(path, baud, timeout=timeout)
        except serial.SerialException as error:
            raise ValueError(f"port {path}: {error}") from None
        self._port.reset_input_buffer()

    def run(self, image: bytes) -> Reply:
        """One image through the board. Raises ValueError for silence or a damaged reply."""
        self._port.write(self._frame.request(image))
        data = self._port.read(self._frame.reply_bytes)
        if len(data) < self._frame.reply_bytes:
            raise ValueError(f"board: {len(data)} of {self._frame.reply_bytes} bytes within {self._port.timeout:g} s")
        return self._frame.reply(data)
