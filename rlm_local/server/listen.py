"""The socket that a server listens on, made before anything is loaded."""

from __future__ import annotations

import errno
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from rlm_local.connection import BACKLOG, listen_private
from rlm_local.errors import ConfigError


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches `host`: a loopback address, or localhost."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Tls:
    """A certificate and its key, which were read once and fit each other."""

    certificate: Path
    key: Path


def read_tls(certificate: Path | None, key: Path | None) -> Tls | None:
    """Return both, or None for neither. Raises ConfigError for one without the other, and what cannot be used."""
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise ConfigError("--tls-cert and --tls-key go together; name both")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        said = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"{certificate} and {key} cannot be used for TLS: {said}") from error
    return Tls(certificate, key)


def listen_tcp(host: str, port: int) -> socket.socket:
    """Return a listening socket. port 0: any that is free. Raises ConfigError, in one sentence, for what cannot be."""
    if not 0 <= port <= 65_535:
        raise ConfigError(f"the port is {port}, but must be 0..65535")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{host!r} is no address of this machine: {error}") from error
    family, kind, _, _, address = found[0]
    listener = socket.socket(family, kind)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            said = f"port {port} of {host} is taken by another program"
            raise ConfigError(said, hint="name another one with --port, or 0 for any that is free") from error
        raise ConfigError(f"{host!r}, port {port} cannot be listened on: {error.strerror}") from error
    return listener


def listen_unix(path: Path) -> socket.socket:
    """Return a listening socket that only this user can open. A socket that nobody answers on is replaced."""
    try:
        if path.is_socket() and not _is_answered(path):
            path.unlink()
        return listen_private(path)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        said = "is there already" if taken else f"cannot be made: {error.strerror or error}"
        raise ConfigError(f"the socket {path} {said}", hint="name another one with --uds") from error


def _is_answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller, suppress(OSError):
        caller.connect(str(path))
        return True
    return False
