"""CRC-32 without a table, a bit at a time: slow, and short enough to be read."""

POLYNOMIAL = 0xEDB88320


def crc32(data: bytes) -> int:
    """The checksum of `data`."""
    total = 0xFFFFFFFF
    for byte in data:
        total ^= byte
        for _ in range(8):
            total = total >> 1 ^ (POLYNOMIAL if total & 1 else 0)
    return total ^ 0xFFFFFFFF


def combine(pieces) -> int:
    """The checksum of all `pieces` as if they were one."""
    return crc32(b"".join(pieces))
