"""Exhaustion: memory, files, descriptors, kernel objects; all of it must end at the jail's own bounds."""

# %% bytes: one object larger than the cell's memory
try:
    bytearray(1 << 40)
    pwn("a terabyte")
except MemoryError:
    print("MemoryError")

# %% hoard: small objects until nothing is left
hoard = []
while True:
    hoard.append(bytearray(1 << 20))

# %% nested: a list in a list in a list, freed by recursion in C
deep = []
for _ in range(1_000_000):
    deep = [deep]
del deep

# %% text: a str that doubles, four bytes a character
text = "\U0001f600" * 1024
while True:
    text += text

# %% integer: a number of a billion digits [wall 0.3]
10 ** 10 ** 9

# %% anonymous-pages: mappings past the library, touched one by one
count = 0
while isinstance(page := call(9, 0, 1 << 24, 3, 0x22, -1, 0), int):
    ctypes.memset(page, 1, 1 << 24)
    count += 1
print(count, page)

# %% reserved-pages: more address space than there is, never touched
for flags in (0x22, 0x4022, 0x21, 0x100022):
    must_refuse(hex(flags), 9, 0, 1 << 40, 3, flags, -1, 0)
must_refuse("none", 9, 0, 1 << 40, 0, 0x22, -1, 0)

# %% break: the old way to more memory
top = call(12, 0)
print("moved" if call(12, top + (1 << 40)) != top else "stayed")
pwn("a terabyte") if call(12, 0) > top + (1 << 39) else None

# %% growing-stack: a stack that grows by recursion in C
import re
try:
    eval("(" * 100_000 + ")" * 100_000)
except (MemoryError, SyntaxError, RecursionError) as error:
    print(type(error).__name__)

# %% recursion: no limit to the depth of calls, so that the stack runs over
sys.setrecursionlimit(1 << 30)
class Endless:
    def __repr__(self):
        return repr(self)
    def __del__(self):
        repr(self)
repr(Endless())

# %% thread-stacks: each thread with a stack of half the memory
threading.stack_size(96 << 20)
try:
    threads = [threading.Thread(target=time.sleep, args=(0.2,), daemon=True) for _ in range(64)]
    for thread in threads:
        thread.start()
    pwn("64 stacks")
except (RuntimeError, MemoryError) as error:
    print(error)
threading.stack_size(0)

# %% locked-memory: pages that cannot be swapped
must_refuse("mlock", 149, id(target), 4096)
must_refuse("mlockall", 151, 3)
must_refuse("MAP_LOCKED", 9, 0, 1 << 20, 3, 0x2022, -1, 0)

# %% huge-pages: the host's own pool, of both sizes
for size in (0, 21 << 26, 30 << 26):
    must_refuse(size, 9, 0, 1 << 21, 3, 0x40022 | size, -1, 0)

# %% disk: one file, then many, until the folder is full
written = 0
try:
    for number in range(8):
        with open(f"/tmp/{number}", "wb") as file:
            for _ in range(32):
                written += file.write(bytes(1 << 20))
    pwn(written)
except OSError as error:
    print(written >> 20, name_of(error))

# %% sparse: a file of a terabyte that holds nothing
number = os.open("/tmp/sparse", os.O_RDWR | os.O_CREAT)
must_fail("truncate", os.truncate, number, 1 << 40)
must_fail("write far away", os.pwrite, number, b"x", 1 << 40)
must_refuse("fallocate", 285, number, 0, 0, 1 << 40)

# %% inodes: files without bytes
try:
    for number in range(100_000):
        os.mknod(f"/tmp/{number}") if number % 2 else os.mkdir(f"/tmp/{number}")
    pwn(number)
except OSError as error:
    print(number, name_of(error))

# %% names: links with the longest names and targets
try:
    for number in range(100_000):
        os.symlink("x" * 4000, f"/tmp/{number:0250}")
    pwn(number)
except OSError as error:
    print(number, name_of(error))

# %% hard-links: one file under a million names
open("/tmp/one", "w").close()
try:
    for number in range(1_000_000):
        os.link("/tmp/one", f"/tmp/{number}")
    pwn(number)
except OSError as error:
    print(number, name_of(error))

# %% deep-folders: folders in folders, deeper than a path may be long
depth = 0
try:
    while depth < 10_000:
        os.mkdir("d")
        os.chdir("d")
        depth += 1
    pwn(depth)
except OSError as error:
    print(depth, name_of(error))
os.chdir("/tmp")

# %% deleted-files: room that nobody can see, kept by descriptors and by mappings
held = []
try:
    for number in range(32):
        file = open("/tmp/gone", "wb+")
        os.unlink("/tmp/gone")
        file.write(bytes(8 << 20))
        file.flush()
        held.append((file, mmap.mmap(file.fileno(), 0)))
    pwn(number)
except (OSError, MemoryError) as error:
    print(number, error)

# %% descriptors: every kind that there is, as many as there may be
held = []
for kind in (os.pipe, socket.socketpair, lambda: os.open("/", os.O_RDONLY), lambda: os.dup(0), lambda: os.eventfd(0)):
    try:
        while len(held) < 100_000:
            held.append(kind())
    except OSError as error:
        print(len(held), name_of(error))
pwn(len(held)) if len(held) > 64 else None

# %% pipes: kernel memory behind pipes that nobody reads
held = []
try:
    while len(held) < 1000:
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        held.append((reader, writer))
        must_refuse("larger", 72, writer, 1031, 1 << 20) if len(held) == 1 else None
        while True:
            try:
                os.write(writer, bytes(1 << 16))
            except BlockingIOError:
                break
except OSError as error:
    print(len(held), name_of(error))

# %% socket-buffers: the same behind sockets
held = []
try:
    while len(held) < 1000:
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        held.append(pair)
        pair[0].setblocking(False)
        try:
            while True:
                pair[0].send(bytes(4096))
        except BlockingIOError:
            pass
except OSError as error:
    print(len(held), name_of(error))
must_refuse("SO_SNDBUF", 54, CHANNEL, 1, 7, struct.pack("i", 1 << 30), 4)

# %% timers: kernel objects that cost no descriptor
made = 0
while made < 200_000 and call(222, 1, 0, bytes(4)) == 0:
    made += 1
pwn(made) if made > 64 else print(made)

# %% queued-signals: blocked, and sent again and again
signal.pthread_sigmask(signal.SIG_BLOCK, range(34, 64))
try:
    for number in range(200_000):
        signal.raise_signal(34 + number % 30)
    pwn(number)
except OSError as error:
    print(number, len(signal.sigpending()), name_of(error))

# %% watches: an epoll that watches epolls, each watching the others
polls = []
try:
    while True:
        polls.append(call(291, 0))
        if isinstance(polls[-1], str):
            break
        for other in polls[:-1]:
            call(233, other, 1, polls[-1], struct.pack("=IQ", 1, 0))
except OSError as error:
    print(error)
print(len(polls), polls[-1])

# %% processor-limits: raise what bounds us
import resource
for name in ("AS", "NPROC", "NOFILE", "FSIZE", "CORE", "CPU", "SIGPENDING", "STACK", "MEMLOCK", "MSGQUEUE", "RTPRIO"):
    number = getattr(resource, "RLIMIT_" + name)
    soft, hard = resource.getrlimit(number)
    must_refuse(name, 302, 0, number, struct.pack("QQ", 2**64 - 1, 2**64 - 1), 0)
    must_refuse("old " + name, 160, number, struct.pack("QQ", 2**64 - 1, 2**64 - 1))

# %% compressed: a bomb of zeros in a few bytes
import zlib
try:
    data = zlib.compress(bytes(1 << 24), 9)
    for _ in range(20):
        data = zlib.decompress(data) + zlib.decompress(data)
        data = zlib.compress(data * 64, 1)
except (MemoryError, zlib.error) as error:
    print(type(error).__name__)

# %% hash-flood: keys that all fall into one bucket
class Same:
    def __hash__(self):
        return 1
{Same(): number for number in range(1500)}
print("slow, and ours alone")

# %% print-memory: text that the host would have to hold, printed and asked
for _ in range(64):
    print("x" * (1 << 22))
