"""Time: run on when the time is up, by every way not to hear it."""

# %% loop: never ends [wall 0.2]
while True:
    pass

# %% sleep: does nothing for ever [wall 0.2]
time.sleep(1e9)

# %% deaf-loop: catches each interrupt [wall 0.2]
while True:
    try:
        time.sleep(1e9)
    except BaseException:
        pass

# %% deaf-signal: ignores the signal that asks it to end [wall 0.2]
signal.signal(signal.SIGINT, signal.SIG_IGN)
time.sleep(1e9)

# %% blocked-signal: blocks it in every thread [wall 0.2]
signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
time.sleep(1e9)

# %% eaten-signal: takes the signal before Python sees it [wall 0.2]
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
while True:
    signal.sigwait({signal.SIGINT})

# %% own-handler: answers it with a handler of its own [wall 0.2]
signal.signal(signal.SIGINT, lambda number, frame: None)
while True:
    signal.pause()

# %% nested-handler: starts over inside of the handler [wall 0.2]
def again(number, frame):
    while True:
        time.sleep(1)
signal.signal(signal.SIGINT, again)
while True:
    time.sleep(1)

# %% long-c-call: one call in C that looks for no signal [wall 0.2]
sum(range(10**13))

# %% slow-pattern: a regular expression that backtracks for ages [wall 0.2]
import re
re.match("(a+)+$", "a" * 64 + "b")

# %% held-lock: sleeps with the interpreter's lock held, so no thread of ours can run [wall 0.2]
ctypes.PyDLL(None).pause()

# %% lost-lock: waits for a lock that nobody will ever give back [wall 0.2]
lock = threading.Lock()
lock.acquire()
lock.acquire()

# %% destructor: refuses to end when it is taken down [wall 0.2]
class Stay:
    def __del__(self):
        while True:
            time.sleep(1)
stay = Stay()
del stay

# %% finally: begins anew in each finally [wall 0.2]
def stay():
    try:
        while True:
            time.sleep(1)
    finally:
        stay()
stay()

# %% generator: is taken up again each time that it is closed [wall 0.2]
def numbers():
    while True:
        try:
            while True:
                time.sleep(1)
                yield 1
        except BaseException:
            pass
for number in numbers():
    pass

# %% trace-function: swallows the interrupt one level up [wall 0.2]
def tracer(frame, event, argument):
    return tracer
sys.settrace(tracer)
while True:
    try:
        time.sleep(1)
    except KeyboardInterrupt:
        sys.settrace(tracer)

# %% poll-for-ever: waits in the kernel, restarted after each signal [wall 0.2]
signal.siginterrupt(signal.SIGINT, False)
libc.sigaction(2, bytes(152), 0)
while True:
    libc.poll(0, 0, 1000)

# %% alarm-storm: a thousand timers a second of our own against the one of the host [wall 0.3]
signal.signal(signal.SIGALRM, lambda number, frame: None)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
while True:
    time.sleep(1)

# %% clock: set the clock back, so that time is never up
for number, arguments in ((305, (0, bytes(208))), (38, (0, bytes(32), 0)), (227, (0, bytes(16)))):
    must_refuse(number, number, *arguments)

# %% fake-time: the worker's own idea of time
time.time = time.monotonic = time.perf_counter = lambda: 0.0
threading.Event.wait = lambda *arguments: True
print("our clock stands still")

# %% priority: run before everything else
must_fail("nice", os.nice, -20)
must_fail("setpriority", os.setpriority, os.PRIO_PROCESS, 0, -20)
for policy in (os.SCHED_FIFO, os.SCHED_RR):
    must_fail("realtime", os.sched_setscheduler, 0, policy, os.sched_param(1))
must_refuse("sched_setattr", 314, 0, bytes(48), 0)
must_refuse("ioprio_set", 251, 1, 0, 0x2000)

# %% processors: leave the one processor that we were given
allowed = os.sched_getaffinity(0)
must_fail("affinity", os.sched_setaffinity, 0, range(1024))
pwn(allowed) if len(allowed) > 1 else print("one")
must_refuse("cgroup", 83, b"/sys/fs/cgroup/x\0", 0o777)

# %% waiting-for-a-sub-call: hold the clock by asking without end [wall 0.3]
def ask():
    while True:
        llm_query("more")
threading.Thread(target=ask, daemon=True).start()
while True:
    time.sleep(1)
