"""What payloads share. Runs as the first cell of their jail, where `target` tells them where the canaries are."""
import ctypes
import errno
import json
import mmap
import os
import signal
import socket
import stat
import struct
import sys
import threading
import time

MARK = "PW" + "N"  # never as one word in a line that a traceback may quote
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = libc.mmap.restype = ctypes.c_long
LIBRARY = os.path.dirname(os.__file__)
FILES = sorted(LIBRARY + "/" + name for name in os.listdir(LIBRARY) if name.endswith(".py"))  # that every jail has
SECOND = struct.pack("qq", 1, 0)  # struct timespec


def pwn(what):
    """Tell the oracle that something worked which may not."""
    print(MARK, what)


def name_of(error):
    return errno.errorcode.get(error.errno, str(error)) if error.errno else type(error).__name__


def must_fail(what, action, *arguments, **named):
    """Do what has to raise OSError; whatever it returns instead is a breach."""
    try:
        value = action(*arguments, **named)
    except OSError as error:
        print(what, "->", name_of(error))
        return None
    pwn(what)
    return value


def call(number, *arguments):
    """Make a system call by its number. Returns its result, or the name of its error."""
    words = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result = libc.syscall(ctypes.c_long(number), *words)
    return errno.errorcode[ctypes.get_errno()] if result == -1 else result


def must_refuse(what, number, *arguments):
    """Make a system call that has to fail."""
    result = call(number, *arguments)
    if isinstance(result, str):
        print(what, "->", result)
    else:
        pwn(f"{what} returned {result}")


def show(path):
    """Print what can be read below a path: the oracle looks for canaries in it."""
    try:
        if os.path.isdir(path):
            print(path, os.listdir(path)[:200])
        else:
            with open(path, "rb", buffering=0) as file:
                print(path, file.read(1 << 15))
    except OSError as error:
        print(path, "->", name_of(error))


def is_socket(number):
    try:
        return stat.S_ISSOCK(os.fstat(number).st_mode)
    except OSError:
        return False


CHANNEL = next(filter(is_socket, range(3, 1 << 16)))  # the one way out


def frame(members):
    """Return a frame as the worker sends it; bytes go in as they are."""
    payload = members if isinstance(members, bytes) else json.dumps(members).encode()
    return struct.pack(">I", len(payload)) + payload


def send_raw(data):
    view = memoryview(data)
    while view:
        view = view[os.write(CHANNEL, view):]


def map_file(path, flags=mmap.MAP_SHARED, protection=mmap.PROT_READ):
    """Map a page of a file; returns its address, or the name of the error."""
    number = os.open(path, os.O_RDONLY)
    try:
        return call(9, 0, 4096, protection, flags, number, 0)
    finally:
        os.close(number)


def peer_frames():
    """Yield the bytes of everything that the host sends us from now on."""
    while data := os.read(CHANNEL, 1 << 16):
        yield data
