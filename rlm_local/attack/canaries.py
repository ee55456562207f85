"""Canaries: secrets of this run in every place that a jail may not reach, and ears for whoever reaches it anyway."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeAlias

from rlm_local.jail import JailSession
from rlm_local.limits import Limits
from rlm_local.types import Corpus, Document, JsonValue, SubCall

ENVIRONMENT = "RLM_LOCAL_ATTACK_CANARY"
_SHARED_MEMORY = Path("/dev/shm")
_NAME = re.compile(r"rlm-local-attack\.(\d+)\.\w+")
_PEER_S = 60.0


@dataclass(slots=True)
class Canaries:
    """What must not come out, and what has come out already.

    secrets: by the words that say where each lies. heard: what the ears of the lane that runs now were told.
    """

    secrets: dict[str, str]
    target: dict[str, JsonValue]  # where everything lies, for payloads: a hostile cell knows it all
    folder: Path
    drop: Path
    peer: JailSession
    heard: list[str] = field(default_factory=list)

    def found_in(self, texts: Iterable[str]) -> list[str]:
        """Return the places whose secret is in one of the texts."""
        told = list(texts)
        return [place for place, secret in self.secrets.items() if any(secret in text for text in told)]

    def changes(self) -> list[str]:
        """Return what is no longer as it was on the host, and put it back."""
        changed = [f"{path.name} was made in a folder of the host" for path in self.drop.iterdir()]
        for path in self.drop.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        secret = self.folder / "secret"
        if not secret.is_file() or secret.read_text(encoding="ascii") != self.secrets["a file of the host"]:
            changed.append("a file of the host was changed")
            secret.write_text(self.secrets["a file of the host"], encoding="ascii")
        return changed

    async def peer_is_whole(self) -> bool:
        """Whether the other jail, which nobody touched, is as it was."""
        told = await self.peer.execute("FINAL([kept, open('/tmp/peer-secret').read()])", wall_s=_PEER_S, query=_refuse)
        expected = [self.secrets["another jail's variable"], self.secrets["another jail's file"]]
        return told.final is not None and told.final.value == expected


@asynccontextmanager
async def canaries(limits: Limits) -> AsyncIterator[Canaries]:
    """Put out the canaries, another live jail among them; nothing of it is left at the end."""
    sweep()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(_folder()))
        drop = folder / "drop"
        drop.mkdir()
        drop.chmod(0o777)
        hidden = {
            place: f"canary{secrets.token_hex(16)}"
            for place in (
                "the host's environment",
                "a file of the host",
                "the host's shared memory",
                "another jail's document",
                "another jail's variable",
                "another jail's file",
                "what a listener says",
            )
        }
        _write(folder / "secret", hidden["a file of the host"])
        shared = stack.enter_context(_shared_memory(hidden["the host's shared memory"]))
        stack.enter_context(_environment(hidden["the host's environment"]))
        peer = await stack.enter_async_context(await _peer(hidden, limits))
        target: dict[str, JsonValue] = {
            "env": ENVIRONMENT,
            "file": str(folder / "secret"),
            "drop": str(drop),
            "shm": str(shared),
            "host_pid": os.getpid(),
            "memory_pages": os.sysconf("SC_PHYS_PAGES"),
            "peer_pid": peer.jail.worker_pid,
        }
        yield Canaries(hidden, target, folder, drop, peer)


@asynccontextmanager
async def ears(out: Canaries) -> AsyncIterator[Canaries]:
    """Yield the same canaries with listeners of their own, so that whoever is heard is known by its lane."""
    mine = Canaries(out.secrets, dict(out.target), out.folder, out.drop, out.peer)
    name = f"rlm-local-{secrets.token_hex(8)}"
    path = str(out.folder / name)
    async with AsyncExitStack() as stack:
        for key, address in (("tcp", "127.0.0.1"), ("tcp6", "::1")):
            try:
                server = await asyncio.start_server(_greeter(mine, address), address, 0)
            except OSError:  # a machine without IPv6
                mine.target[key] = mine.target["tcp"]
                continue
            stack.callback(server.close)
            mine.target[key] = server.sockets[0].getsockname()[1]
        unix = await asyncio.start_unix_server(_greeter(mine, "an abstract socket"), f"\0{name}")
        stack.callback(unix.close)
        for kind, family, bound in (
            ("udp", socket.AF_INET, ("127.0.0.1", 0)),
            ("an abstract datagram socket", socket.AF_UNIX, f"\0{name}-datagram"),
            ("a socket in a folder", socket.AF_UNIX, path),
        ):
            receiver = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            receiver.bind(bound)
            receiver.setblocking(False)
            if family == socket.AF_INET:
                mine.target["udp"] = receiver.getsockname()[1]
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                partial(_Ear, mine, kind), sock=receiver
            )
            stack.callback(transport.close)
        mine.target |= {"abstract": name, "abstract_datagram": f"{name}-datagram", "unix": path}
        yield mine


Greeter: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def _greeter(heard_by: Canaries, kind: str) -> Greeter:
    greeting = heard_by.secrets["what a listener says"].encode("ascii")

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard_by.heard.append(f"a connection reached {kind}")
        with contextlib.suppress(OSError):
            writer.write(greeting)
            await writer.drain()
        writer.close()

    return greet


class _Ear(asyncio.DatagramProtocol):
    def __init__(self, heard_by: Canaries, kind: str) -> None:
        self._heard_by = heard_by
        self._kind = kind

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._heard_by.heard.append(f"a datagram of {len(data)} bytes reached the socket {self._kind!r}")


async def _peer(hidden: dict[str, str], limits: Limits) -> JailSession:
    word = hidden["another jail's document"]
    text = f"The word of the other jail is {word}.\n"
    corpus = Corpus((Document("peer.txt", text),), text, (0,))
    session = await JailSession.start(corpus, limits, notes={"kept": hidden["another jail's variable"]})
    secret = hidden["another jail's file"]
    code = f"memory = bytearray({secret!r}.encode() * 1000)\nopen('/tmp/peer-secret', 'w').write({secret!r})"
    await session.execute(code, wall_s=_PEER_S, query=_refuse)
    return session


async def _refuse(prompts: object, form: object) -> list[SubCall]:
    raise AssertionError(f"the other jail asks nothing, but asked {prompts!r:.80}")


def sweep() -> None:
    """Remove what an earlier run left that was killed."""
    for parent in (Path(tempfile.gettempdir()), _SHARED_MEMORY):
        for path in parent.glob("rlm-local-attack.*"):
            if (found := _NAME.fullmatch(path.name)) and not Path(f"/proc/{found[1]}").exists():
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


@contextmanager
def _folder() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix=f"rlm-local-attack.{os.getpid()}.") as folder:
        Path(folder).chmod(0o755)  # what keeps a jail from it shall be the jail, and not the mode
        yield folder


@contextmanager
def _shared_memory(secret: str) -> Iterator[Path]:
    path = _SHARED_MEMORY / f"rlm-local-attack.{os.getpid()}.{secrets.token_hex(8)}"
    if not os.access(_SHARED_MEMORY, os.W_OK):
        yield path
        return
    _write(path, secret)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _environment(secret: str) -> Iterator[None]:
    os.environ[ENVIRONMENT] = secret
    try:
        yield
    finally:
        os.environ.pop(ENVIRONMENT, None)


def _write(path: Path, secret: str) -> None:
    path.write_text(secret, encoding="ascii")
    path.chmod(0o644)
