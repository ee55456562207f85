"""Stage 2 of two: the filter that the worker puts on itself before the first byte of model code.

nsjail's filter must let the interpreter be executed; this one takes away what only that needed: new programs,
new processes, code in writable memory, descriptors over sockets, and every further filter or limit. It is a
classic BPF program built here, because the jail holds nothing but the standard library.

From here on the process leaves no core either: a core that is piped to a program ignores RLIMIT_CORE, and would
put the documents on the host's disk.
"""

from __future__ import annotations

import ctypes
import errno
import struct

_LOAD, _JUMP_EQUAL, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _REFUSE, _KILL_PROCESS = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000
_X86_64 = 0xC000003E
_NUMBER, _ARCH = 0, 4  # offsets in struct seccomp_data

_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC = 1, 1
_PROT_WRITE, _PROT_EXEC, _MAP_ANONYMOUS = 0x2, 0x4, 0x20
# What pthread_create asks for, bit by bit. A thread with files of its own would have RLIMIT_NOFILE once more.
_CLONE_FLAGS_OF_A_THREAD = 0x3D0F00

_CALL = {
    "mmap": 9, "mprotect": 10, "sendmsg": 46, "recvmsg": 47, "clone": 56, "fork": 57, "vfork": 58,
    "execve": 59, "kill": 62, "flock": 73, "prctl": 157, "arch_prctl": 158,
    "setrlimit": 160, "set_tid_address": 218, "recvmmsg": 299, "prlimit64": 302,
    "sendmmsg": 307, "seccomp": 317, "memfd_create": 319, "execveat": 322, "pidfd_open": 434,
}  # fmt: skip
_REFUSED = (
    "execve", "execveat", "fork", "vfork", "memfd_create", "flock", "prctl", "arch_prctl", "seccomp",
    "setrlimit", "set_tid_address",
    "sendmsg", "recvmsg", "recvmmsg", "sendmmsg", "pidfd_open", "kill",
)  # fmt: skip


def argument_offset(index: int, *, high: bool = False) -> int:
    """Return where argument `index` of a call lies in seccomp_data; `high` for its upper 32 bits."""
    return 16 + 8 * index + (4 if high else 0)


def program() -> bytes:
    """Return the filter as struct sock_filter[], jumps resolved."""
    lines: list[tuple[int, int, str, str]] = []  # code, operand, label when true, label when false; "" falls through
    label_at: dict[str, int] = {}

    def emit(code: int, operand: int, true: str = "", false: str = "") -> None:
        lines.append((code, operand, true, false))

    def label(name: str) -> None:
        label_at[name] = len(lines)

    emit(_LOAD, _ARCH)
    emit(_JUMP_EQUAL, _X86_64, "", "kill")
    emit(_LOAD, _NUMBER)
    for name in _REFUSED:
        emit(_JUMP_EQUAL, _CALL[name], "refuse")
    for name in ("clone", "mprotect", "mmap", "prlimit64"):
        emit(_JUMP_EQUAL, _CALL[name], name)
    emit(_RETURN, _ALLOW)

    label("clone")  # threads yes, processes no
    emit(_LOAD, argument_offset(0))
    emit(_JUMP_EQUAL, _CLONE_FLAGS_OF_A_THREAD, "allow", "refuse")
    label("mprotect")
    emit(_LOAD, argument_offset(2))
    emit(_JUMP_ANY_BIT, _PROT_EXEC, "refuse", "allow")
    label("mmap")  # a library from a read-only bind may be mapped executable, fresh memory may not
    emit(_LOAD, argument_offset(2))
    emit(_JUMP_ANY_BIT, _PROT_EXEC, "", "allow")
    emit(_JUMP_ANY_BIT, _PROT_WRITE, "refuse", "")  # a private copy of a library is fresh memory once it is written
    emit(_LOAD, argument_offset(3))
    emit(_JUMP_ANY_BIT, _MAP_ANONYMOUS, "refuse", "allow")
    label("prlimit64")  # reading only: the pointer to a new limit must be null in both halves
    emit(_LOAD, argument_offset(2))
    emit(_JUMP_EQUAL, 0, "", "refuse")
    emit(_LOAD, argument_offset(2, high=True))
    emit(_JUMP_EQUAL, 0, "allow", "refuse")

    label("allow")
    emit(_RETURN, _ALLOW)
    label("refuse")
    emit(_RETURN, _REFUSE)
    label("kill")
    emit(_RETURN, _KILL_PROCESS)

    def skip(target: str, here: int) -> int:
        return label_at[target] - here - 1 if target else 0

    return b"".join(
        struct.pack("=HBBI", code, skip(true, here), skip(false, here), operand)
        for here, (code, operand, true, false) in enumerate(lines)
    )


class Filter:
    """The program where the kernel can read it."""

    def __init__(self) -> None:
        code = program()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._code = ctypes.create_string_buffer(code, len(code))
        header = struct.pack("@HxxxxxxP", len(code) // 8, ctypes.addressof(self._code))  # struct sock_fprog
        self._header = ctypes.create_string_buffer(header, len(header))

    def install(self) -> None:
        """Put the filter on every thread of this process, for good, and forbid cores. Raises OSError when refused."""
        call = self._libc.syscall
        for option, value in ((_PR_SET_DUMPABLE, 0), (_PR_SET_NO_NEW_PRIVS, 1)):
            if self._libc.prctl(option, value, 0, 0, 0):
                raise OSError(ctypes.get_errno(), f"prctl({option}, {value})")
        if call(_CALL["seccomp"], _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC, self._header):
            raise OSError(ctypes.get_errno(), "seccomp(SECCOMP_SET_MODE_FILTER)")
