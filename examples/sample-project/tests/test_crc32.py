"""The Python module and the C program say the same as `zlib`."""

import pathlib
import random
import subprocess
import unittest
import zlib

from src.crc32 import combine, crc32

PROGRAM = pathlib.Path("build/crc32")


def program(data: bytes) -> int:
    return int(subprocess.run([PROGRAM], input=data, capture_output=True, check=True).stdout, 16)


class Module(unittest.TestCase):
    def test_nothing(self):
        self.assertEqual(crc32(b""), 0)

    def test_known_value(self):
        self.assertEqual(crc32(b"123456789"), 0xCBF43926)

    def test_every_byte(self):
        for byte in range(256):
            self.assertEqual(crc32(bytes([byte])), zlib.crc32(bytes([byte])))

    def test_pieces(self):
        self.assertEqual(combine([b"12345", b"", b"6789"]), 0xCBF43926)


class Program(unittest.TestCase):
    def test_nothing(self):
        self.assertEqual(program(b""), 0)

    def test_known_value(self):
        self.assertEqual(program(b"123456789"), 0xCBF43926)

    def test_block_borders(self):
        for length in (65535, 65536, 65537, 1 << 20):
            data = random.Random(length).randbytes(length)
            self.assertEqual(program(data), zlib.crc32(data), f"{length} bytes")

    def test_agrees_with_module(self):
        for seed in range(20):
            data = random.Random(seed).randbytes(seed * 97)
            self.assertEqual(program(data), crc32(data))
