"""The kernel: interfaces that lead out of a jail, namespaces and mounts among them."""

# %% mount: put something over what is there
must_refuse("mount", 165, b"none\0", b"/tmp\0", b"tmpfs\0", 0, 0)

# %% remount: make a read-only mount writable
must_refuse("remount", 165, b"none\0", b"/python\0", 0, 0x20 | 0x1000, 0)

# %% unmount: take away what covers the host's folders
must_refuse("umount", 166, b"/python/lib\0", 2)

# %% pivot-root: change the root for another
must_refuse("pivot_root", 155, b"/tmp\0", b"/tmp\0")

# %% chroot: a root of our own, to climb out of
must_refuse("chroot", 161, b"/tmp\0")

# %% unshare: a user namespace, in which we are root
must_refuse("unshare", 272, 0x10000000)

# %% setns: enter a namespace by a descriptor
must_refuse("setns", 308, CHANNEL, 0)

# %% new-mount-api: the calls that came later, which deny-lists forget
must_refuse("fsopen", 430, b"tmpfs\0", 0)

# %% move-mount: move a mount by its descriptors
must_refuse("move_mount", 429, -100, b"/tmp\0", -100, b"/dev\0", 0)

# %% mount-setattr: change a mount's flags by the newest call
must_refuse("mount_setattr", 442, -100, b"/\0", 0, bytes(32), 32)

# %% newest-mount-calls: statmount, listmount, open_tree_attr and what else has no name here
for number in range(457, 480):
    must_refuse(number, number, 0, 0, 0, 0, 0, 0)

# %% host-name: names that the whole machine would see
must_refuse("sethostname", 170, b"owned", 5)
must_refuse("setdomainname", 171, b"owned", 5)

# %% capabilities: ask for them, and for another identity
for number, arguments in ((126, (bytes(8), bytes(24))), (105, (0,)), (106, (0,)), (117, (0, 0, 0)), (116, (1, bytes(4)))):
    must_refuse(number, number, *arguments)

# %% process-options: dumpable, name, parent's death, speculation, memory, securebits
for option in (1, 3, 4, 7, 8, 15, 22, 23, 24, 28, 35, 36, 38, 39, 40, 47, 52, 53, 55, 59, 62, 67, 0x59616D61, 0x53564D41):
    must_refuse(option, 157, option, 0, 0, 0, 0)

# %% processor-state: segment registers, CPUID faulting, 32-bit code pages, wider registers
for option in (0x1001, 0x1002, 0x1011, 0x1012, 0x1021, 0x1023, 0x2001, 0x2003, 0x4001, 0x5001):
    must_refuse(hex(option), 158, option, 0)

# %% local-descriptors: a segment table of our own
must_refuse("modify_ldt", 154, 1, bytes(16), 16)

# %% ports: input and output of the hardware
must_refuse("iopl", 172, 3)

# %% port-permission: the same, port by port
must_refuse("ioperm", 173, 0, 1024, 1)

# %% bpf: programs in the kernel
must_refuse("bpf", 321, 5, bytes(128), 128)

# %% perf: counters, and the addresses that they sample
must_refuse("perf_event_open", 298, bytes(128), 0, -1, -1, 0)

# %% userfault: stop the kernel in the middle of a copy
must_refuse("userfaultfd", 323, 1)

# %% keys: the keyring of the session
must_refuse("keyctl", 250, 0, -3, 0)

# %% add-key: a key that another jail may find
must_refuse("add_key", 248, b"user\0", b"x\0", b"y", 1, -3)

# %% modules: code for the kernel
must_refuse("init_module", 175, bytes(16), 16, b"\0")

# %% other-kernel: load one and start it
must_refuse("kexec_load", 246, 0, 0, 0, 0)

# %% reboot: or put the machine down
must_refuse("reboot", 169, 0xFEE1DEAD, 672274793, 0x1234567, 0)

# %% swap: pages on a disk of our choice
must_refuse("swapon", 167, b"/tmp/x\0", 0)

# %% kernel-log: read what it says of others
must_refuse("syslog", 103, 3, bytes(4096), 4096)

# %% accounting: have the kernel write a file
must_refuse("acct", 163, b"/tmp/x\0")

# %% quota: limits of the host's disks
must_refuse("quotactl", 179, 0, b"/\0", 0, 0)

# %% other-memory: read and write the memory of another process
must_refuse("process_vm_readv", 310, target["peer_pid"], bytes(16), 1, bytes(16), 1, 0)

# %% other-files: take a descriptor of another process
must_refuse("pidfd_getfd", 438, CHANNEL, 0, 0)
must_refuse("kcmp", 312, os.getpid(), target["peer_pid"], 0, 0, 0)

# %% other-memory-advice: advise and release memory of others
must_refuse("process_madvise", 440, CHANNEL, 0, 0, 21, 0)
must_refuse("process_mrelease", 448, CHANNEL, 0)
must_refuse("migrate_pages", 256, target["peer_pid"], 0, 0, 0)
must_refuse("move_pages", 279, target["peer_pid"], 0, 0, 0, 0, 0)

# %% own-filter: seccomp filters and listeners of our own
for operation, flags in ((0, 0), (1, 0), (1, 8), (2, 0), (3, 0)):
    must_refuse(operation, 317, operation, flags, bytes(16))

# %% landlock: rules of our own, from inside
for number in (444, 445, 446):
    must_refuse(number, number, 0, 0, 0, 0)

# %% secret-memory: pages that the kernel itself cannot see
must_refuse("memfd_secret", 447, 0)

# %% watch-files: what others do to files that we share
must_refuse("inotify_init", 253)
must_refuse("inotify_init1", 294, 0)
must_refuse("fanotify_init", 300, 0, 0)

# %% system-calls-in-a-row: every number once, with arguments that mean nothing; those that kill were tried above
kills = {60, 231, 15, 101, 103, 135, 155, 159, 161, 163, 164, 165, 166, 167, 168, 169, 172, 173, 175, 176, 179, 227, 246,
         248, 249, 250, 272, 298, 303, 304, 305, 308, 310, 311, 313, 320, 321, 323, 425, 426, 427, 428, 429, 430, 431, 432,
         433, 442}
waits = {0, 3, 7, 11, 17, 19, 23, 34, 35, 45, 61, 128, 130, 202, 219, 230, 232, 247, 270, 271, 281, 295, 327, 436}
harmless = set(range(463)) - kills - waits
worked = sorted(number for number in harmless if not isinstance(call(number, -1, -1, -1, -1, -1, -1), str))
print(worked)

# %% devices: nodes for disks and memory
for kind, major, minor in ((stat.S_IFCHR, 1, 1), (stat.S_IFBLK, 8, 0), (stat.S_IFCHR, 10, 229), (stat.S_IFCHR, 5, 0)):
    must_fail("mknod", os.mknod, "/tmp/device", kind | 0o666, os.makedev(major, minor))

# %% device-files: what /dev holds elsewhere
for name in ("mem", "kmem", "port", "kmsg", "sda", "vda", "fuse", "kvm", "tty", "ptmx", "pts", "net/tun", "vhost-vsock",
             "shm", "mqueue", "userfaultfd", "zero", "full", "random", "fd", "stdin", "console", "core", "loop-control"):
    must_fail(name, os.open, "/dev/" + name, os.O_RDONLY)

# %% device-control: control calls of the two devices that are there
for name in ("null", "urandom"):
    number = os.open("/dev/" + name, os.O_RDWR)
    for request in (0x5203, 0x40085203, 0x5204, 0x5206, 0x5207, 0x5412, 0x541C, 0x1260, 0xC0481273, 1 << 32 | 0x5412):
        must_refuse(f"{name} {request:x}", 16, number, request, bytes(128))

# %% terminal: type into the terminal of whoever started us
for number in (0, 1, 2, CHANNEL):
    for request in (0x5412, 0x5412 | 1 << 32, 0x540E, 0x5422, 0x541D, 0x5420):
        must_refuse(f"{request:x}", 16, number, request, b"x")

# %% pseudo-terminal: one of our own
import pty
must_fail("pty", pty.openpty)

# %% system-ipc: message queues, semaphores and shared memory by number
for number, arguments in ((29, (42, 4096, 0o1777)), (64, (42, 1, 0o1777)), (68, (42, 0o1777)), (30, (0, 0, 0)), (71, (0, 0, 0))):
    must_refuse(number, number, *arguments)

# %% posix-ipc: message queues and semaphores by name
must_refuse("mq_open", 240, b"queue\0", 0o102, 0o600, 0)
from multiprocessing import shared_memory
must_fail("shared memory", shared_memory.SharedMemory, "canary", True, 4096)

# %% asynchronous-io: older rings than the new one
must_refuse("io_setup", 206, 8, bytes(8))

# %% numa: policies of memory
for number in (237, 238, 239, 450):
    must_refuse(number, number, 0, 0, 0, 0, 0, 0)
