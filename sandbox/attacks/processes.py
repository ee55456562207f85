"""Processes: start a program, a process, or anything that outlives its cell."""

# %% fork: the call by every name
for what, action in (("fork", os.fork), ("forkpty", os.forkpty)):
    if must_fail(what, action) == 0:
        os._exit(0)

# %% fork-by-number: fork, vfork, clone and clone3 without the library
for number, arguments in ((57, ()), (58, ()), (56, (17, 0, 0, 0, 0)), (435, (struct.pack("8Q", 0, 0, 0, 0, 17, 0, 0, 0), 64))):
    must_refuse(number, number, *arguments)

# %% vfork-flags: a child that shares memory and is no thread
for flags in (0x4111, 0x100, 0x100 | 17, 0x8000, 0x1000, 0x10000 | 17):
    must_refuse(hex(flags), 56, flags, 0, 0, 0, 0)

# %% thread-that-is-almost-a-process: each flag of a thread left out in turn
for bit in (0x100, 0x200, 0x400, 0x800, 0x10000, 0x40000, 0x80000, 0x100000, 0x200000):
    must_refuse(hex(bit), 56, 0x3D0F00 & ~bit, 0, 0, 0, 0)

# %% thread-in-a-namespace: a namespace's flag added to those of a thread
for bit in (0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
    must_refuse(hex(bit), 56, 0x3D0F00 | bit, 0, 0, 0, 0)

# %% thread-traced-or-parented: flags that change who is told of the end
for bit in (0x2000, 0x4000, 0x8000, 0x800000, 0x1000):
    must_refuse(hex(bit), 56, 0x3D0F00 | bit, 0, 0, 0, 0)

# %% exec: replace the worker with another interpreter
for action in (lambda: os.execv(sys.executable, ["x", "-c", "0"]), lambda: os.execve(sys.executable, ["x"], {})):
    must_fail("exec", action)

# %% exec-by-descriptor: execveat of an open file
number = os.open(sys.executable, os.O_RDONLY)
must_fail("fexecve", os.execve, number, ["x"], {})
must_refuse("execveat", 322, number, b"\0", 0, 0, 0x1000)

# %% exec-the-loader: the dynamic loader runs a program that has no right to be run
import glob
loader = glob.glob("/lib64/*")[0]
must_fail("loader", os.execv, loader, [loader, sys.executable, "-c", "0"])

# %% spawn: posix_spawn has its own way in the library
must_fail("spawn", os.posix_spawn, sys.executable, ["x"], {})
must_fail("spawnp", os.posix_spawnp, "python3", ["x"], {})

# %% subprocess: every helper of the standard library
import subprocess
for action in (lambda: subprocess.run([sys.executable]), lambda: subprocess.check_output("id", shell=True)):
    must_fail("subprocess", action)

# %% system: the C library's shells
must_fail("popen", os.popen, "id")
print("system", libc.system(b"id"))
ctypes.CDLL(None).popen.restype = ctypes.c_void_p
pwn("popen") if ctypes.CDLL(None).popen(b"id", b"r") else print("popen refused")

# %% multiprocessing: pools, managers and their helper processes
import multiprocessing
for method in ("fork", "spawn", "forkserver"):
    process = multiprocessing.get_context(method).Process(target=print)
    must_fail(method, process.start)

# %% process-pool: the executor whose workers are processes
import concurrent.futures
def ask():
    with concurrent.futures.ProcessPoolExecutor(1) as pool:
        return pool.submit(len, "x").result(5)
must_fail("pool", ask)

# %% memory-program: a program that lies in memory only
must_refuse("memfd_create", 319, b"x\0", 0)
must_fail("library", os.memfd_create, "x")

# %% script: a script of our own with an interpreter line
with open("/tmp/run", "w") as file:
    file.write("#!" + sys.executable + "\n")
os.chmod("/tmp/run", 0o777)
must_fail("script", os.execv, "/tmp/run", ["x"])

# %% own-library: a shared library of our own, from the only folder that we may write
import shutil
shutil.copy(next(iter(__import__("glob").glob(LIBRARY + "/lib-dynload/*.so"))), "/tmp/own.so")
must_fail("load", ctypes.CDLL, "/tmp/own.so")

# %% preload: the environment of a program to come
os.environ["LD_PRELOAD"] = "/tmp/x.so"
os.environ["PYTHONSTARTUP"] = "/tmp/x.py"
must_fail("exec", os.execve, sys.executable, ["x"], dict(os.environ))

# %% threads: as many as there can be, each of them asleep
stop, made = threading.Event(), []
try:
    while len(made) < 1000:
        thread = threading.Thread(target=stop.wait, daemon=True)
        thread.start()
        made.append(thread)
    pwn(len(made))
except (RuntimeError, MemoryError) as error:
    print(len(made), error)
stop.set()

# %% threads-with-files: threads by the bare call, to have more descriptors than one process may
must_refuse("CLONE_FILES left out", 56, 0x3D0B00, 0, 0, 0, 0)
held = []
try:
    while len(held) < 4096:
        held.append(os.open("/dev/null", os.O_RDONLY))
    pwn(len(held))
except OSError as error:
    print(len(held), name_of(error))
for number in held:
    os.close(number)

# %% thread-that-outlives-its-cell: goes on while nobody runs a cell
def spin():
    while True:
        sum(range(1000))
threading.Thread(target=spin, daemon=True).start()

# %% first-thread-ends: the thread that the host knows ends, another goes on [wall 0.3]
started = threading.Event()
def linger():
    started.set()
    while True:
        time.sleep(0.01)
threading.Thread(target=linger).start()
started.wait()
call(60, 0)

# %% exit-handlers: code that runs when the interpreter ends
import atexit
atexit.register(lambda: print(MARK, "at exit"))
raise SystemExit(0)

# %% daemon: the double fork of every text book
import runpy
for _ in range(2):
    if must_fail("fork", os.fork) == 0:
        os._exit(0)
must_fail("setsid", os.setsid)
must_fail("setpgid", os.setpgid, 0, 0)
