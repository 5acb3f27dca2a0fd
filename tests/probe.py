"""Tiny programs for x86-64 made by hand, so that a test can make any system call in any image, without a compiler."""

import struct

BASE = 0x400000
HEADER_SIZE = 64 + 56


def _elf(code: bytes) -> bytes:
    """A static ELF executable with ``code`` as its only segment (elf(5))."""
    entry = BASE + HEADER_SIZE
    size = HEADER_SIZE + len(code)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return header + struct.pack("<IIQQQQQQ", 1, 5, 0, BASE, BASE, size, size, 0x1000) + code


def syscall(number: int, *args: int) -> bytes:
    """A program that makes one system call and exits with its errno, 0 if it succeeded."""
    registers = (b"\x48\xbf", b"\x48\xbe", b"\x48\xba", b"\x49\xba")  # mov rdi|rsi|rdx|r10, imm64
    code = b"".join(
        opcode + struct.pack("<Q", value & (2**64 - 1))
        for opcode, value in zip(registers, args, strict=False)
    )
    code += b"\xb8" + struct.pack("<I", number) + b"\x0f\x05"  # mov eax, number; syscall
    return _elf(code + _EXIT_ERRNO)


def syscall_i386(number: int, *args: int) -> bytes:
    """The same through the 32-bit entry, ``int 0x80``: another ABI that a seccomp filter must know."""
    registers = (b"\xbb", b"\xb9", b"\xba", b"\xbe")  # mov ebx|ecx|edx|esi, imm32
    code = b"".join(
        opcode + struct.pack("<I", value & (2**32 - 1))
        for opcode, value in zip(registers, args, strict=False)
    )
    code += b"\xb8" + struct.pack("<I", number) + b"\xcd\x80\x48\x98"  # mov eax, number; int 0x80; cdqe
    return _elf(code + _EXIT_ERRNO)


def geteuid() -> bytes:
    """Exits with its effective uid (below 256): set-user-ID shows with it."""
    return _elf(b"\xb8\x6b\x00\x00\x00\x0f\x05\x89\xc7\xb8\x3c\x00\x00\x00\x0f\x05")


_EXIT_ERRNO = (
    b"\x31\xff"  # xor edi, edi
    b"\x48\x85\xc0"  # test rax, rax
    b"\x79\x04"  # jns +4
    b"\xf7\xd8"  # neg eax
    b"\x89\xc7"  # mov edi, eax
    b"\xb8\x3c\x00\x00\x00\x0f\x05"  # mov eax, 60 (exit); syscall
)
