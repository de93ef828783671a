"""Damage of stored files, described by a few bytes, so that an input stays small."""


def damage(content: bytes, instructions: bytes) -> bytes:
    """Change a file as instructions say, six bytes each: an operation, a position (3 bytes, modulo the size) and two values.

    The operations are: flip bits of one byte, cut the file, set a block to zero, overwrite a byte, copy a block of 512 bytes to
    another block, and delete bytes.
    """
    file = bytearray(content)
    for start in range(0, len(instructions) - 5, 6):
        if not file:
            break
        operation, *position_bytes, first, second = instructions[start : start + 6]
        position = int.from_bytes(bytes(position_bytes), "little") % len(file)
        match operation % 6:
            case 0:
                file[position] ^= first or 1
            case 1:
                del file[position:]
            case 2:
                size = min(512 * (first % 9) or second, len(file) - position)
                file[position : position + size] = bytes(size)
            case 3:
                file[position] = first
            case 4:
                source = (first * 256 + second) * 512 % len(file)
                block = file[source : source + 512]
                position -= position % 512
                file[position : position + len(block)] = block
            case 5:
                del file[position : position + 1 + first]
    return bytes(file)
