"""Decodes the run-length code of Label Studio's brush: a stream of bits over RGBA bytes. (torch-free)

The stream has the number of values (32 bits), the bits of a value less 1 (5), and four lengths less 1 (4 each). Then
come runs: whether it repeats one value (1), which of the four lengths its own is written in (2), its length less 1,
and its value, or as many values. The last byte of four is how much of the brush covers the pixel.
"""

from collections.abc import Sequence

import numpy as np

MAX_VALUES = 4 * 64_000_000


class Bits:
    """Reads numbers from bytes, bit by bit."""

    def __init__(self, codes: Sequence[int]):
        self.bits = np.unpackbits(np.asarray(codes, np.uint8))
        self.at = 0

    def number(self, size: int) -> int:
        """The next number of `size` bits. Raises ValueError at the end of the stream."""
        part = self.bits[self.at : self.at + size]
        if len(part) < size:
            raise ValueError("a run-length code that ends early")
        self.at += size
        return int("".join(map(str, part.tolist())), 2)

    def numbers(self, count: int, size: int) -> np.ndarray:
        """The next `count` numbers of `size` bits, at most 8. Raises ValueError at the end of the stream."""
        part = self.bits[self.at : self.at + count * size]
        if len(part) < count * size:
            raise ValueError("a run-length code that ends early")
        self.at += count * size
        return part.reshape(count, size) @ (1 << np.arange(size - 1, -1, -1))


def decode_brush(codes: Sequence[int], wh: tuple[int, int]) -> np.ndarray:
    """The mask (height, width) of booleans. Raises ValueError for a code that is broken or of another size."""
    width, height = wh
    if not all(type(code) is int and 0 <= code < 256 for code in codes):
        raise ValueError("a run-length code that is no list of bytes")
    bits = Bits(codes)
    count, size = bits.number(32), bits.number(5) + 1
    lengths = [bits.number(4) + 1 for _ in range(4)]
    if count != 4 * width * height or count > MAX_VALUES or size > 8:
        raise ValueError(f"a run-length code of {count} values, not of 4 for each pixel of {width}x{height}")
    values = np.zeros(count, np.uint8)
    at = 0
    while at < count:
        repeats = bits.number(1)
        length = bits.number(lengths[bits.number(2)]) + 1
        if at + length > count:
            raise ValueError("a run-length code that is longer than its picture")
        values[at : at + length] = bits.number(size) if repeats else bits.numbers(length, size)
        at += length
    return values.reshape(height, width, 4)[:, :, 3] > 0
