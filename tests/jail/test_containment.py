"""What a hostile cell may not do. One attack a test, against the real policy; afterwards the next cell still runs."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from rlm_local.jail.policy import JAILED_ID, TMP_BYTES
from rlm_local.jail.session import JailSession
from rlm_local.types import CellResult, CellStatus

pytestmark = pytest.mark.jail
Run = Callable[..., Awaitable[CellResult]]


@pytest.fixture
def canary() -> str:
    """A word that is nowhere but where a test puts it."""
    return secrets.token_hex(16)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A listener on the host's loopback, which nobody may reach."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        yield server


@pytest.fixture(autouse=True)
async def the_next_cell_still_runs(run: Run) -> object:
    yield
    assert (await run("1 + 1")).stdout == "2\n"


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return dict(line.split(":\t", 1) for line in lines)


async def refused(run: Run, code: str) -> str:
    """Run code that must raise OSError, and return the name of its error."""
    result = await run(
        f"""
        import errno
        try:
            {code}
            print('WENT THROUGH')
        except OSError as error:
            print(errno.errorcode[error.errno])
        """
    )
    assert result.status is CellStatus.OK, result.error
    return result.stdout.strip()


async def test_no_connection_reaches_the_hosts_loopback(run: Run, listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    assert await refused(run, f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)") == "EACCES"
    with pytest.raises(BlockingIOError):
        listener.accept()


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK", "AF_PACKET", "AF_ALG", "AF_VSOCK"])
async def test_no_socket_of_any_family_can_be_made(run: Run, family: str) -> None:
    assert await refused(run, f"import socket; socket.socket(socket.{family}, socket.SOCK_DGRAM)") == "EACCES"


async def test_an_abstract_socket_of_the_host_is_out_of_reach(run: Run, canary: str) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0" + canary)
        server.listen()
        code = f"import socket; a, b = socket.socketpair(); a.connect('\\0{canary}')"
        assert await refused(run, code) == "EACCES"


async def test_a_file_of_the_host_is_not_there(run: Run, canary: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(canary)
    secret.chmod(0o644)
    result = await run(f"open({str(secret)!r}).read()")
    assert "FileNotFoundError" in result.error
    assert canary not in result.stdout + result.error


async def test_the_file_system_holds_the_interpreter_and_nothing_of_the_host(run: Run) -> None:
    result = await run("import os\nFINAL([sorted(os.listdir('/')), sorted(os.listdir('/dev')), os.listdir('/tmp')])")
    assert result.final is not None
    assert result.final.value == [["dev", "lib", "lib64", "python", "tmp"], ["null", "urandom"], []]


async def test_what_is_installed_beside_the_interpreter_cannot_be_read(run: Run) -> None:
    result = await run(
        """
        import os, sysconfig
        found = []
        for name in ('site-packages', 'dist-packages'):
            folder = sysconfig.get_path('stdlib') + '/' + name
            found += os.listdir(folder) if os.path.isdir(folder) else []
        FINAL(found)
        """
    )
    assert result.final is not None
    assert result.final.value == []


async def test_the_hosts_environment_is_not_passed_on(run: Run, canary: str) -> None:
    os.environ["RLM_TEST_SECRET"] = canary
    try:
        result = await run("import os\nprint(sorted(os.environ), open('/proc/self/environ').read())")
    finally:
        del os.environ["RLM_TEST_SECRET"]
    assert "FileNotFoundError" in result.error
    names = await run("sorted(os.environ)")
    assert names.stdout == "['HOME', 'LD_LIBRARY_PATH', 'MALLOC_ARENA_MAX', 'PYTHONHASHSEED', 'PYTHONUTF8']\n"


@pytest.mark.parametrize("path", ["/x", "/python/x", "/dev/x", "/lib/x", "/lib/libc.so.6"])
async def test_nothing_but_tmp_can_be_written(run: Run, path: str) -> None:
    assert await refused(run, f"open({path!r}, 'wb')") in ("EROFS", "EACCES")


async def test_tmp_is_bounded(run: Run) -> None:
    result = await run(
        f"""
        import os
        written = 0
        try:
            for n in range(8):
                with open(f'/tmp/{{n}}', 'wb') as f:
                    for _ in range(32):
                        written += f.write(bytes(1 << 20)); f.flush()
        except OSError as error:
            print(written <= {TMP_BYTES}, error.strerror)
        for name in os.listdir('/tmp'): os.unlink('/tmp/' + name)
        """
    )
    assert result.stdout == "True No space left on device\n", result.error


async def test_no_process_can_be_made(run: Run) -> None:
    assert await refused(run, "import os; os.fork()") == "EPERM"
    assert await refused(run, "import subprocess; subprocess.run(['/python/bin/python3.11', '-V'])") == "EPERM"
    assert await refused(run, "import os; os.posix_spawn('/python/bin/python3', ['x'], {})") == "EPERM"


async def test_no_program_can_be_executed(run: Run) -> None:
    assert await refused(run, "import os, glob; os.execv(glob.glob('/python/bin/*')[0], ['python', '-V'])") == "EPERM"


async def test_memory_cannot_be_made_executable(run: Run) -> None:
    assert await refused(run, "import mmap; mmap.mmap(-1, 4096, prot=7)") == "EPERM"
    result = await run(
        """
        import ctypes, mmap
        page = mmap.mmap(-1, 4096)
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        ctypes.CDLL(None).mprotect(ctypes.c_void_p(address), 4096, 5)
        """
    )
    assert result.stdout == "-1\n"


@pytest.mark.parametrize(
    ("call", "number"),
    [("setrlimit", 160), ("seccomp", 317), ("memfd_create", 319), ("flock", 73), ("clone3", 435), ("prctl", 157),
     ("chroot by another name", 424), ("unknown", 999), ("fork by x32", 0x40000039)],
)  # fmt: skip
async def test_a_raw_call_outside_the_list_fails(run: Run, call: str, number: int) -> None:
    result = await run(f"import ctypes\nctypes.CDLL(None, use_errno=True).syscall({number}, 0, 0, 0, 0, 0)")
    assert result.stdout == "-1\n" or result.status is CellStatus.KILLED, call


@pytest.mark.parametrize(
    ("call", "number"),
    [("ptrace", 101), ("mount", 165), ("unshare", 272), ("setns", 308), ("bpf", 321), ("io_uring_setup", 425),
     ("keyctl", 250), ("userfaultfd", 323), ("open_by_handle_at", 304), ("perf_event_open", 298), ("kexec_load", 246)],
)  # fmt: skip
async def test_a_call_that_only_an_attack_makes_kills(run: Run, call: str, number: int) -> None:
    result = await run(f"import ctypes\nctypes.CDLL(None).syscall({number}, 0, 0, 0, 0, 0)")
    assert result.status is CellStatus.KILLED, call


async def test_limits_can_be_read_and_not_raised(run: Run) -> None:
    result = await run("import resource\nresource.getrlimit(resource.RLIMIT_CORE)")
    assert result.stdout == "(0, 0)\n"
    raised = await run("resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))")
    assert "not allowed to raise maximum limit" in raised.error


async def test_a_cell_has_one_processor_and_cannot_take_another(run: Run) -> None:
    assert (await run("import os\nlen(os.sched_getaffinity(0))")).stdout == "1\n"
    assert await refused(run, "os.sched_setaffinity(0, range(1024))") == "EPERM"


async def test_threads_are_bounded(run: Run) -> None:
    result = await run(
        """
        import threading
        stop = threading.Event()
        threads = []
        try:
            for _ in range(10_000):
                threads.append(threading.Thread(target=stop.wait)); threads[-1].start()
        except (RuntimeError, MemoryError):
            print(len(threads) < 100)
        finally:
            stop.set()
            for thread in threads[:-1]: thread.join()
        """
    )
    assert result.stdout == "True\n", result.error


async def test_the_worker_holds_the_channel_and_no_other_descriptor(run: Run) -> None:
    result = await run(
        """
        import os, stat
        held = []
        for fd in range(64):
            try: held.append(stat.S_IFMT(os.fstat(fd).st_mode))
            except OSError: pass
        held == [stat.S_IFCHR] * 3 + [stat.S_IFSOCK]
        """
    )
    assert result.stdout == "True\n"


async def test_the_standard_streams_lead_nowhere(run: Run, capfd: pytest.CaptureFixture[str], canary: str) -> None:
    await run(f"import os\nfor fd in (1, 2): os.write(fd, b'{canary}')")
    assert canary not in "".join(capfd.readouterr())


async def test_the_worker_is_nobody_with_no_right(run: Run, session: JailSession) -> None:
    assert (await run("import os\nos.getuid(), os.getgid(), os.getgroups()")).stdout.startswith(
        f"({JAILED_ID}, {JAILED_ID},"
    )
    fields = status_of(session.jail.worker_pid)
    assert {fields[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert fields["NoNewPrivs"] == "1"
    assert int(fields["Seccomp_filters"]) == 2
    if os.geteuid() == 0:
        assert int(fields["Uid"].split()[0]) >= 1_900_000_000


async def test_the_process_cannot_see_or_signal_another(run: Run) -> None:
    assert (await run("import os\nos.getpid()")).stdout == "1\n"
    assert await refused(run, "os.kill(-1, 9)") == "EPERM"


async def test_no_lock_on_a_shared_file_can_be_taken(run: Run) -> None:
    assert await refused(run, "import fcntl, os; fcntl.flock(open(os.__file__), fcntl.LOCK_EX)") == "EPERM"
    assert await refused(run, "fcntl.lockf(open('/tmp/x', 'w'), fcntl.LOCK_EX)") == "EPERM"


async def test_a_terminal_cannot_be_typed_into(run: Run) -> None:
    for request in (0x5412, 0x5412 | 1 << 32):  # TIOCSTI, and with a bit that a 64-bit comparison would see
        result = await run(f"import ctypes\nctypes.CDLL(None).syscall(16, 0, ctypes.c_ulong({request}), b'x')")
        assert result.stdout == "-1\n"


async def test_a_pickle_in_an_answer_stays_data(run: Run, tmp_path: Path) -> None:
    mark = tmp_path / "pwned"
    result = await run(
        f"""
        class Bad:
            def __reduce__(self): return (open, ({str(mark)!r}, 'w'))
            def __str__(self): return "cos\\nsystem\\n(S'touch {mark}'\\ntR."
        FINAL(Bad())
        """
    )
    assert result.final is not None
    assert isinstance(result.final.value, str)
    assert not mark.exists()
