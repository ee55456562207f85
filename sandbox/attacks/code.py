"""Code: put instructions into memory and run them; reach the kernel by another door than x86-64's."""

# %% writable-executable: one page that is both
must_fail("mmap", mmap.mmap, -1, 4096, prot=7)
must_refuse("anonymous", 9, 0, 4096, 7, 0x22, -1, 0)
must_refuse("shared", 9, 0, 4096, 7, 0x21, -1, 0)

# %% executable-later: write first, then ask for the right to run
page = call(9, 0, 4096, 3, 0x22, -1, 0)
ctypes.memset(page, 0xC3, 4096)
for protection in (5, 4, 7):
    must_refuse(f"mprotect({protection})", 10, page, 4096, protection)
must_refuse("pkey_mprotect", 329, page, 4096, 5, -1)

# %% executable-only: neither readable nor writable, just to be run
for protection in (4, 5):
    must_refuse(protection, 9, 0, 4096, protection, 0x22, -1, 0)

# %% executable-by-high-bits: the bit hidden behind a wider number
for protection in (4 | 1 << 32, 7 | 1 << 40, 4 | 1 << 63 - 1):
    must_refuse(hex(protection), 9, 0, 4096, protection, 0x22, -1, 0)

# %% file-of-our-own: an executable mapping of a file that we wrote
with open("/tmp/code", "wb") as file:
    file.write(b"\xc3" * 4096)
for flags in (1, 2):
    number = os.open("/tmp/code", os.O_RDWR)
    must_refuse(flags, 9, 0, 4096, 5, flags, number, 0)

# %% private-copy: a library's page that is written and stays executable
number = os.open("/lib/libc.so.6", os.O_RDONLY)
for protection in (7, 6):
    must_refuse(protection, 9, 0, 4096, protection, 2, number, 0)
page = call(9, 0, 4096, 5, 2, number, 0)
print("may be written:", call(10, page, 4096, 3))
must_refuse("and run again", 10, page, 4096, 5)

# %% moved-mapping: mremap code over data, then data over code
number = os.open("/lib/libc.so.6", os.O_RDONLY)
page = call(9, 0, 8192, 5, 2, number, 0)
data = call(9, 0, 8192, 3, 0x22, -1, 0)
ctypes.memset(data, 0xCC, 8192)
print(isinstance(call(25, data, 4096, 4096, 3, page), int))  # data now lies where code was
must_refuse("still no right to run", 10, page, 4096, 5)

# %% remapped-pages: pages of a file in another order
must_refuse("remap_file_pages", 216, 0, 4096, 0, 0, 0)

# %% shared-segment: System V memory may be attached executable
must_refuse("shmget", 29, 0, 4096, 0o1777)
must_refuse("shmat", 30, 0, 0, 0o100000)

# %% read-implies-exec: a personality in which all that is readable may be run
must_refuse("personality", 135, 0x0400000)

# %% callback: a C function made from Python, which needs a page of code
try:
    made = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 1)
    print("made without a page of ours", made())
except (MemoryError, OSError) as error:
    print(type(error).__name__)

# %% executable-stack: a library that asks for a stack that may be run
class Flags(ctypes.Structure):
    _fields_ = [("type", ctypes.c_uint32), ("flags", ctypes.c_uint32)]
base = ctypes.addressof(ctypes.c_char.from_buffer(bytearray(64))) & ~4095
must_refuse("stack", 10, base, 4096, 7 | 0x01000000)

# %% old-gate: int 0x80, found as bytes inside the C library, enters by the 32-bit door
number = os.open("/lib/libc.so.6", os.O_RDONLY)
data = mmap.mmap(number, 0, prot=1, flags=mmap.MAP_PRIVATE)
base = ctypes.cast(libc.getpid, ctypes.c_void_p).value
at = ctypes.string_at(base & ~4095, 1 << 16).find(b"\xcd\x80")
page = call(9, 0, len(data), 5, 2, number, 0)
at = data.find(b"\xcd\x80") if at < 0 else at
print("found", at >= 0)
if at >= 0:
    ctypes.CFUNCTYPE(ctypes.c_long)(page + at)()
    pwn("came back")

# %% x32: the same calls, numbered for another data model
refused = [number for number in range(548) if number not in (0, 1, 3, 34, 35, 60, 219, 231)
           and not isinstance(call(number | 0x40000000, -1, 0, 0, 0, 0, 0), str)]
pwn(refused) if refused else print("none")

# %% far-numbers: calls beyond the table, and negative ones
for number in (463, 512, 547, 999, 1 << 20, 0x7FFFFFFF, -2, -(1 << 31), 1 << 32 | 999):
    must_refuse(number, number, 0, 0, 0, 0, 0)

# %% high-half: a refused number with bits that the kernel ignores
for number in (41 | 1 << 32, 57 | 1 << 33, 59 | 1 << 40):
    must_refuse(hex(number), number, 0, 0, 0, 0, 0)

# %% vsyscall: the page of calls that old programs jump to [wall 5]
gate = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_void_p)(0xFFFFFFFFFF600400)
print("time by the old page", gate(None) > 0)
