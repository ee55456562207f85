"""Covert channels by files: one jail marks what it shares with another, bit by bit, and the other looks.

Each payload is two programs, run in two jails. `send(bit, number)` and `receive(number)` are called in turn; a
receiver that hears what was sent, or the contrary, is a breach.
"""

# %% flock: whole-file locks on the library's files
import fcntl
def send(bit, number):
    file = open(FILES[number])
    fcntl.flock(file, fcntl.LOCK_EX if bit else fcntl.LOCK_UN)
    globals()[f"kept{number}"] = file
# %% --
import fcntl
def receive(number):
    try:
        fcntl.flock(open(FILES[number]), fcntl.LOCK_EX | fcntl.LOCK_NB)
        return 0
    except BlockingIOError:
        return 1

# %% record-locks: byte ranges, as POSIX has them
import fcntl
def send(bit, number):
    file = open(FILES[0])
    fcntl.fcntl(file, fcntl.F_SETLK, struct.pack("hhqqi", 0 if bit else 2, 0, number, 1, 0))
    globals()[f"kept{number}"] = file
# %% --
import fcntl
def receive(number):
    asked = fcntl.fcntl(open(FILES[0]), fcntl.F_GETLK, struct.pack("hhqqi", 1, 0, number, 1, 0))
    return int(struct.unpack("hhqqi", asked[:28])[0] != 2)

# %% description-locks: byte ranges that belong to an open file
import fcntl
def send(bit, number):
    globals()[f"kept{number}"] = file = open(FILES[0])
    fcntl.fcntl(file, 37, struct.pack("hhqqiI", 0 if bit else 2, 0, number, 1, 0, 0))
# %% --
import fcntl
def receive(number):
    asked = fcntl.fcntl(open(FILES[0]), 36, struct.pack("hhqqiI", 1, 0, number, 1, 0, 0))
    return int(struct.unpack("hhqqi", asked[:28])[0] != 2)

# %% leases: a lease breaks when somebody else opens
import fcntl
def send(bit, number):
    globals()[f"kept{number}"] = file = open(FILES[number])
    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK if bit else fcntl.F_UNLCK)
# %% --
import fcntl
def receive(number):
    file = open(FILES[number])
    try:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        return 0
    except BlockingIOError:
        return 1

# %% write-hints: a number that the kernel keeps with an inode
import fcntl
def send(bit, number):
    fcntl.fcntl(open(FILES[number]), 1036, struct.pack("Q", 5 if bit else 1))
# %% --
import fcntl
def receive(number):
    return int(struct.unpack("Q", fcntl.fcntl(open(FILES[number]), 1035, bytes(8)))[0] == 5)

# %% directory-watch: be told when another jail opens a file
def send(bit, number):
    if bit:
        open(FILES[number]).read()
# %% --
watch = call(294, 0o4000)
for path in FILES[:64]:
    call(254, watch, path.encode() + b"\0", 0xFFF)
def receive(number):
    return int(len(os.read(watch, 4096)) > 0)

# %% directory-signal: dnotify sends a signal for the same
heard = 0
def send(bit, number):
    if bit:
        open(FILES[number]).read()
# %% --
import fcntl
heard = 0
def note(*arguments):
    global heard
    heard = 1
signal.signal(signal.SIGIO, note)
def receive(number):
    global heard
    result, heard = heard, 0
    fcntl.fcntl(os.open(LIBRARY, os.O_RDONLY), 1026, 0x80000001)
    return result

# %% access-times: a read leaves a time behind
def send(bit, number):
    if bit:
        os.utime(FILES[number]) if number % 2 else open(FILES[number]).read(1)
# %% --
before = {path: os.stat(path).st_atime_ns for path in FILES}
def receive(number):
    return int(os.stat(FILES[number]).st_atime_ns != before[FILES[number]])

# %% modes: bits of a file's mode, owner, or flags
def send(bit, number):
    os.chmod(FILES[number], 0o600 if bit else 0o644)
# %% --
def receive(number):
    return int(os.stat(FILES[number]).st_mode & 0o777 == 0o600)

# %% attributes: extended attributes of a file that both see
def send(bit, number):
    os.setxattr(FILES[number], "user.bit", b"1" if bit else b"0")
# %% --
def receive(number):
    return int(os.getxattr(FILES[number], "user.bit"))

# %% emptied-cache: pages thrown out of the cache by advice, and the time to read them again
def send(bit, number):
    if bit:
        os.posix_fadvise(os.open(FILES[number], os.O_RDONLY), 0, 0, os.POSIX_FADV_DONTNEED)
# %% --
for path in FILES:
    open(path, "rb").read()
def receive(number):
    file = os.open(FILES[number], os.O_RDONLY)
    began = time.perf_counter_ns()
    os.read(file, 4096)
    return int(time.perf_counter_ns() - began > 50_000)

# %% paged-out: the same by advice on a mapping
def send(bit, number):
    if bit:
        answer = call(28, map_file(FILES[number]), 4096, 21)
        if isinstance(answer, str):
            raise OSError(answer)
# %% --
def receive(number):
    file = os.open(FILES[number], os.O_RDONLY)
    began = time.perf_counter_ns()
    os.read(file, 4096)
    return int(time.perf_counter_ns() - began > 50_000)

# %% cached-pages: ask which pages somebody has read
def send(bit, number):
    if bit:
        open(FILES[number], "rb").read()
# %% --
def receive(number):
    answer = call(327, os.open(FILES[number], os.O_RDONLY), struct.pack("QQ", map_file(FILES[0]), 1), 1, 0, 0, 8)
    if isinstance(answer, str):
        raise OSError(answer)
    return int(answer > 0)

# %% shared-folder: a file where another jail may look for it
def send(bit, number):
    path = f"/tmp/bit{number}"
    if bit:
        open(path, "w").close()
# %% --
def receive(number):
    return int(os.path.exists(f"/tmp/bit{number}"))

# %% shared-memory-folder: the same below /dev/shm
def send(bit, number):
    from multiprocessing import shared_memory
    globals()[f"kept{number}"] = shared_memory.SharedMemory(f"bit{number}", True, 4096)
# %% --
def receive(number):
    from multiprocessing import shared_memory
    return int(bool(shared_memory.SharedMemory(f"bit{number}")))

# %% free-room: how much is left of a file system that both fill
def send(bit, number):
    with open("/tmp/room", "wb") as file:
        file.write(bytes((8 << 20) if bit else 1))
# %% --
def receive(number):
    return int(os.statvfs("/tmp").f_bavail < before)
before = os.statvfs("/tmp").f_bavail - 1000

# %% flushed-disk: a disk that is made to write is slow for the other
def send(bit, number):
    if bit:
        for _ in range(100):
            os.fsync(os.open(FILES[number], os.O_RDONLY))
# %% --
times = []
def receive(number):
    began = time.perf_counter_ns()
    os.fsync(os.open(FILES[number], os.O_RDONLY))
    times.append(time.perf_counter_ns() - began)
    return int(times[-1] > 2 * sorted(times)[len(times) // 2])

# %% device-times: the times of the two device files
def send(bit, number):
    if bit:
        with open("/dev/null", "wb") as file:
            file.write(b"x")
        os.read(os.open("/dev/urandom", os.O_RDONLY), 1)
        os.utime("/dev/null")
# %% --
def state():
    return [(found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns) for found in map(os.stat, ("/dev/null", "/dev/urandom"))]
before = state()
def receive(number):
    global before
    now = state()
    changed, before = now != before, now
    return int(changed)

# %% open-file-offset: a descriptor that two processes hold has one offset
def send(bit, number):
    os.lseek(0, 1000 + bit, os.SEEK_SET)
# %% --
def receive(number):
    return int(os.lseek(0, 0, os.SEEK_CUR) == 1001)
