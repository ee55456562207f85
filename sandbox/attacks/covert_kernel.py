"""Covert channels by the kernel: names, counters and queues that two jails could have in common.

Each payload is two programs, run in two jails. `send(bit, number)` and `receive(number)` are called in turn; a
receiver that hears what was sent, or the contrary, is a breach.
"""

# %% futex: wait on a page of a file; whoever wakes it is told how many waited
page = map_file("/lib/libc.so.6")
def wait(address):
    call(202, address, 0, ctypes.c_int.from_address(address).value, SECOND, 0, 0)
def send(bit, number):
    if bit:
        threading.Thread(target=wait, args=(page + 8 * number,), daemon=True).start()
        time.sleep(0.002)
# %% --
page = map_file("/lib/libc.so.6")
def receive(number):
    answer = call(202, page + 8 * number, 1, 64, 0, 0, 0)
    if isinstance(answer, str):
        raise OSError(answer)
    return int(answer > 0)

# %% futex-private-mapping: the same through a mapping that is not shared
page = map_file("/lib/libc.so.6", mmap.MAP_PRIVATE)
def send(bit, number):
    if bit:
        value = ctypes.c_int.from_address(page + 4 * number).value
        threading.Thread(target=call, args=(202, page + 4 * number, 9, value, SECOND, 0, 1), daemon=True).start()
        time.sleep(0.002)
# %% --
page = map_file("/lib/libc.so.6", mmap.MAP_PRIVATE)
def receive(number):
    answer = call(202, page + 4 * number, 10, 64, 0, 0, 1)
    if isinstance(answer, str):
        raise OSError(answer)
    return int(answer > 0)

# %% futex-of-a-dying-thread: the kernel itself wakes the address that a thread named as its own
page = map_file("/lib/libc.so.6")
def end():
    if isinstance(answer := call(218, page), str):
        raise OSError(answer)
    call(60, 0)
def send(bit, number):
    if bit:
        end()
# %% --
page = map_file("/lib/libc.so.6")
def receive(number):
    answer = call(202, page, 0, ctypes.c_int.from_address(page).value, struct.pack("qq", 0, 5_000_000), 0, 0)
    if answer not in (0, "ETIMEDOUT"):
        raise OSError(answer)
    return int(answer == 0)

# %% abstract-names: a name that is taken cannot be taken twice
def send(bit, number):
    globals()[f"kept{number}"] = one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    if bit:
        one.bind(f"\0bit{number}")
# %% --
def receive(number):
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        one.sendto(b"x", f"\0bit{number}")
        return 1
    except ConnectionRefusedError:
        return 0

# %% datagrams: send to a name of the other jail's, in a folder that both have
def send(bit, number):
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.sendto(bytes((bit,)), "/tmp/inbox")
# %% --
def receive(number):
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.bind("/tmp/inbox")
    return one.recv(1)[0]

# %% keys: the keyring of a user
def send(bit, number):
    if bit:
        call(248, b"user\0", f"bit{number}".encode() + b"\0", b"1", 1, -4)
# %% --
def receive(number):
    answer = call(249, b"user\0", f"bit{number}".encode() + b"\0", 0, -4)
    return int(not isinstance(answer, str))

# %% semaphores: by a number that both know
def send(bit, number):
    answer = call(64, 7000 + number, 1, 0o1666) if bit else 0
    if isinstance(answer, str):
        raise OSError(answer)
# %% --
def receive(number):
    answer = call(64, 7000 + number, 1, 0o666)
    if answer not in (0, "ENOENT"):
        raise OSError(answer)
    return int(answer != "ENOENT")

# %% message-queues: POSIX queues have names
def send(bit, number):
    answer = call(240, f"bit{number}".encode() + b"\0", 0o102, 0o666, 0) if bit else 0
    if isinstance(answer, str):
        raise OSError(answer)
# %% --
def receive(number):
    answer = call(240, f"bit{number}".encode() + b"\0", 0, 0, 0)
    if isinstance(answer, str) and answer != "ENOENT":
        raise OSError(answer)
    return int(answer != "ENOENT")

# %% segments: System V memory by a number
def send(bit, number):
    answer = call(29, 8000 + number, 4096, 0o1666) if bit else 0
    if isinstance(answer, str):
        raise OSError(answer)
# %% --
def receive(number):
    answer = call(29, 8000 + number, 0, 0o666)
    if isinstance(answer, str) and answer != "ENOENT":
        raise OSError(answer)
    return int(answer != "ENOENT")

# %% timers-of-a-user: signals that wait are counted by user, and two jails may be one user
kept = []
def send(bit, number):
    while bit and call(222, 1, 0, timer := ctypes.c_int()) == 0:
        kept.append(timer.value)
    while not bit and kept:
        call(226, kept.pop())
# %% --
def receive(number):
    made = []
    while len(made) < 2000 and call(222, 1, 0, ctypes.byref(timer := ctypes.c_int())) == 0:
        made.append(timer.value)
    for one in made:
        call(226, one)
    most.append(len(made))
    return int(len(made) < max(most))
most = []

# %% pipes-of-a-user: the pages of pipes are counted by user too
kept = []
def send(bit, number):
    while bit and len(kept) < 16:
        kept.append(os.pipe())
        if isinstance(answer := call(72, kept[-1][1], 1031, 1 << 20), str):
            raise OSError(answer)
    while not bit and kept:
        for one in kept.pop():
            os.close(one)
# %% --
def receive(number):
    made, sizes = [], 0
    for _ in range(16):
        made += os.pipe()
        answer = call(72, made[-1], 1031, 1 << 20)
        sizes += not isinstance(answer, str)
    for one in made:
        os.close(one)
    if not sizes and number == 0:
        raise OSError("no pipe grows")
    return int(sizes < 16)

# %% threads-of-a-user: how many threads are left
stop = threading.Event()
def send(bit, number):
    global stop
    stop.set()
    stop = threading.Event()
    for _ in range(20 * bit):
        threading.Thread(target=stop.wait, daemon=True).start()
# %% --
most = []
def receive(number):
    stop, made = threading.Event(), []
    try:
        while len(made) < 100:
            thread = threading.Thread(target=stop.wait, daemon=True)
            thread.start()
            made.append(thread)
    except (RuntimeError, MemoryError):
        pass
    stop.set()
    for thread in made:
        thread.join()
    most.append(len(made))
    return int(len(made) < max(most) - 5)

# %% locked-pages: how much memory may still be locked
def send(bit, number):
    answer = call(9, 0, 1 << 16, 3, 0x2022, -1, 0) if bit else 0
    if isinstance(answer, str):
        raise OSError(answer)
# %% --
def receive(number):
    answer = call(9, 0, 1 << 16, 3, 0x2022, -1, 0)
    if number == 0 and isinstance(answer, str):
        raise OSError(answer)
    return int(isinstance(answer, str))

# %% huge-pages: a pool of the whole machine
page = 0
def send(bit, number):
    global page
    page = call(9, 0, 1 << 21, 3, 0x40022, -1, 0) if bit else call(11, page, 1 << 21)
    if isinstance(page, str):
        raise OSError(page)
# %% --
def receive(number):
    page = call(9, 0, 1 << 21, 3, 0x40022, -1, 0)
    if page == "EPERM":
        raise OSError(page)
    call(11, page, 1 << 21) if isinstance(page, int) else None
    return int(isinstance(page, str))

# %% merged-pages: equal pages of two jails become one, and a write to it is slow
def send(bit, number):
    globals()[f"kept{number}"] = page = mmap.mmap(-1, 4096)
    page.write((b"bit%d" % number).ljust(4096, b"\1" if bit else b"\0"))
    page.madvise(12)
# %% --
def receive(number):
    page = mmap.mmap(-1, 4096)
    page.write((b"bit%d" % number).ljust(4096, b"\1"))
    page.madvise(12)
    began = time.perf_counter_ns()
    page[0] = 1
    return int(time.perf_counter_ns() - began > 5_000)

# %% host-name: a name that both have
def send(bit, number):
    socket.sethostname(f"bit{bit}")
# %% --
def receive(number):
    return int(socket.gethostname() == "bit1")

# %% process-numbers: whether a process, or a thread, is there
stop = threading.Event()
def send(bit, number):
    global stop
    stop.set()
    stop = threading.Event()
    for _ in range(8 * bit):
        threading.Thread(target=stop.wait, daemon=True).start()
# %% --
def receive(number):
    return int(sum(not isinstance(call(145, pid), str) for pid in range(2, 20)) > 6)

# %% best-priority: of all processes of a user
def send(bit, number):
    os.setpriority(os.PRIO_PROCESS, 0, 19 if bit else 5)
# %% --
def receive(number):
    return int(os.getpriority(os.PRIO_USER, os.getuid()) > 5)

# %% stopped-processor: a barrier that halts every processor
def send(bit, number):
    for _ in range(200 * bit):
        if isinstance(answer := call(324, 1, 0), str):
            raise OSError(answer)
# %% --
def receive(number):
    began = time.perf_counter_ns()
    call(324, 1, 0)
    return int(time.perf_counter_ns() - began > 20_000_000)

# %% load-between-cells: a thread that works on while another jail's cell is timed
stop = threading.Event()
def work(stop):
    import hashlib
    while not stop.is_set():
        hashlib.pbkdf2_hmac("sha256", b"x", b"y", 20_000)
def send(bit, number):
    global stop
    stop.set()
    stop = threading.Event()
    for _ in range(8 * bit):
        threading.Thread(target=work, args=(stop,), daemon=True).start()
# %% --
times = []
def receive(number):
    began = time.perf_counter_ns()
    sum(range(100_000))
    times.append(time.perf_counter_ns() - began)
    return int(times[-1] > 1.5 * min(times))
