"""The interpreter: turn the worker's own Python, its memory and its signals against whoever trusts them."""

# %% every-object: walk all objects of the worker for secrets
import gc
for one in gc.get_objects():
    if isinstance(one, dict) and any(isinstance(name, str) and "canary" in name.lower() for name in list(one)[:200]):
        print(str(one)[:500])
print(len(gc.get_objects()))

# %% every-frame: the frames below ours, their names and values
import inspect
for found in inspect.stack():
    print(found.filename, found.function, [str(value)[:200] for value in found.frame.f_locals.values()][:20])

# %% every-thread: the frames of other threads
for number, found in sys._current_frames().items():
    while found:
        print(number, found.f_code.co_qualname, list(found.f_locals))
        found = found.f_back

# %% process-memory: the arguments and environment above the stack
first = ctypes.c_void_p.in_dll(libc, "environ").value
texts, number = ctypes.cast(first, ctypes.POINTER(ctypes.c_char_p)), 0
while texts[number] is not None:
    print(texts[number])
    number += 1
print(ctypes.string_at(ctypes.cast(first, ctypes.POINTER(ctypes.c_void_p))[0] - 1024, 1024))

# %% stack-to-its-end: read up the stack until it ends; the end kills
environ = ctypes.c_void_p.in_dll(libc, "environ").value
for offset in range(0, 1 << 20, 64):
    print(ctypes.string_at(environ + offset, 64))

# %% heap: read what the allocator has given back
here = id(object()) & ~0xFFF
print(b"".join(ctypes.string_at(here + offset, 4096) for offset in range(0, 1 << 16, 4096)).count(b"\0"))

# %% loaded-libraries: writable data of the C library and the worker's own pages
data = ctypes.string_at(ctypes.c_void_p.in_dll(libc, "stdout").value, 216)
print(data)
ctypes.memset(ctypes.c_void_p.in_dll(libc, "stdout").value, 0x41, 16)

# %% kernel-pointer: have the kernel write where it may not
for address in (0xFFFFFFFF81000000, 0xFFFF888000000000, 0x7FFFFFFFF000, 0):
    must_refuse(hex(address), 0, os.open("/dev/urandom", os.O_RDONLY), address, 64)
    must_refuse(hex(address), 79, address, 64)

# %% crash: jump to nowhere
ctypes.CFUNCTYPE(ctypes.c_int)(0x41414141)()

# %% crash-in-python: byte code that no compiler writes
def broken():
    pass
broken.__code__ = broken.__code__.replace(co_code=b"\x64\xff" * 50, co_consts=())
broken()

# %% abort: end by the C library's own will
libc.abort()

# %% quick-exit: end without a word
os._exit(0)

# %% kill-self: every signal that ends a process, to ourselves
for number in (9, 15, 6, 11, 7, 4, 19):
    call(234, os.getpid(), threading.get_native_id(), number)
    call(200, threading.get_native_id(), number)
must_fail("kill", os.kill, os.getpid(), 9)

# %% stop-self: stand still, so that nobody hears the interrupt [wall 0.3]
for number in (19, 20, 21, 22):
    call(234, os.getpid(), threading.get_native_id(), number)
time.sleep(1e9)

# %% kill-others: processes by number, groups, and all at once
for pid in (-1, 0, 2, target["host_pid"], target["peer_pid"], -target["host_pid"]):
    must_fail(pid, os.kill, pid, 0)
must_refuse("tgkill", 234, target["peer_pid"], target["peer_pid"], 0)
must_refuse("rt_sigqueueinfo", 129, target["peer_pid"], 10, bytes(128))
must_refuse("pidfd_open", 434, target["peer_pid"], 0)
must_refuse("pidfd_send_signal", 424, CHANNEL, 9, 0, 0)

# %% signal-storm: handlers in handlers
depth = 0
def handler(number, frame):
    global depth
    depth += 1
    if depth < 500:
        signal.raise_signal(number)
for number in (10, 12, 14):
    signal.signal(number, handler)
try:
    signal.raise_signal(10)
except RecursionError:
    print("RecursionError")
print(depth)

# %% bad-handler: a handler of the kernel's that points nowhere
for number in range(1, 65):
    call(13, number, struct.pack("QQQQ", 0x41414141, 0x04000000, 0x42424242, 0), 0, 8)
call(234, os.getpid(), threading.get_native_id(), 10)

# %% forged-return: a signal frame of our own (SROP)
call(15)

# %% no-builtins: take away what the worker needs for the next cell
import builtins
for name in ("print", "exec", "eval", "compile", "len", "isinstance", "__import__"):
    try:
        delattr(builtins, name)
    except AttributeError:
        pass

# %% no-modules: modules of the worker, emptied
for name in list(sys.modules):
    if name.startswith(("sandbox", "rlm_local", "traceback", "json", "linecache", "struct")):
        vars(sys.modules[name]).clear()

# %% other-encoder: the worker's frames made by us from now on
wire = sys.modules["rlm_local.jail.wire"]
wire.encode = lambda frame, max_bytes: b"\x00\x00\x00\x02[]"

# %% other-stage: put the worker's lock on again, wider
stage = sys.modules["sandbox.worker.stage2"]
stage._REFUSED = ()
must_fail("install", stage.Filter().install)
must_refuse("strict seccomp", 317, 0, 0, 0)

# %% other-names: what every cell finds, replaced for the cells to come
names = FINAL.__self__
names._kept.clear()
names.variables.clear()

# %% other-class: types of the interpreter with other methods
import _thread
ctypes.pythonapi.PyType_Modified.argtypes = [ctypes.py_object]
methods = gc.get_referents(str.__dict__)[0] if (gc := __import__("gc")) else {}
methods["encode"] = lambda self, *arguments: b"\xff\xff\xff\xff"
ctypes.pythonapi.PyType_Modified(str)

# %% small-integers: one is two from now on
ctypes.memmove(id(1) + 24, id(2) + 24, 4)

# %% audit-hook: watch and stop whatever the worker does
def hook(event, arguments):
    if event in ("compile", "exec", "object.__getattr__"):
        raise MemoryError(event)
sys.addaudithook(hook)

# %% profile-hook: run at each call of the worker
threading.setprofile_all_threads(lambda *arguments: None) if hasattr(threading, "setprofile_all_threads") else None
sys.setprofile(lambda frame, event, argument: (_ for _ in ()).throw(OSError("no")))

# %% endless-import: an importer that answers for every module
class Finder:
    def find_spec(self, name, path=None, target=None):
        raise OSError("not today")
sys.meta_path.insert(0, Finder())
sys.path_hooks.clear()
sys.path_importer_cache.clear()

# %% switched-off-collector: cycles that nobody takes away
import gc
gc.disable()
gc.set_threshold(0)
for _ in range(200_000):
    cycle = []
    cycle.append(cycle)
print("memory is ours alone")

# %% debugger: attach to ourselves and to others
must_fail("trace", lambda: open(f"/proc/{os.getpid()}/mem", "rb"))
must_refuse("ptrace", 101, 16, target["peer_pid"], 0, 0)
