#!/usr/bin/env python3
"""vmlinux.py VMLINUZ VMLINUX: unpacks a kernel as distributions pack it for a processor of x86 into the
file that Firecracker starts, by what its header says of where it is (Documentation/arch/x86/boot.rst)."""
import lzma
import struct
import subprocess
import sys
import zlib


def unpack(image):
    if image[0x202:0x206] != b"HdrS":
        sys.exit("this is no kernel with a boot header")
    sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    payload = image[(sectors + 1) * 512 + offset:][:length]
    # The kernel's build puts its unpacked size behind it.
    packed = payload[:-4]
    if payload.startswith(b"\x7fELF"):
        return payload
    if payload.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(31).decompress(payload)
    if payload.startswith(b"\xfd7zXZ\0"):
        return lzma.decompress(packed)
    for magic, program in [(b"\x28\xb5\x2f\xfd", "zstd"), (b"\x02\x21\x4c\x18", "lz4")]:
        if payload.startswith(magic):
            return subprocess.run([program, "-dc"], input=packed, stdout=subprocess.PIPE, check=True).stdout
    sys.exit("it is packed in a way that this does not know")


with open(sys.argv[1], "rb") as packed, open(sys.argv[2], "wb") as unpacked:
    unpacked.write(unpack(packed.read()))
