"""What a model takes of this machine's memory, and how many cells that leaves: one cell holds one token."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rlm_local.engine.llama.gguf import ModelShape
from rlm_local.errors import ConfigError, EngineUnavailable

# Prefixes that can be told apart: as many as llama.cpp takes. Each costs a row of logits (0.6 MiB at 151,936 tokens).
SEQUENCES = 256
STATES = 32  # of sequences that cannot share: as many as run together then
# What llama.cpp and Python take besides weights, cells and states.
BUFFERS_BYTES = 512 << 20


@dataclass(frozen=True, slots=True)
class Footprint:
    """What an engine holds at most once all its cells are in use."""

    weights_bytes: int
    cell_bytes: int  # one token, all layers
    cells: int
    states_bytes: int  # of layers with recurrent state, all sequences; 0 for most models
    buffers_bytes: int = BUFFERS_BYTES
    shelf: int = 0  # tokens of prefixes that no cell holds any more

    @property
    def cells_bytes(self) -> int:
        return self.cells * self.cell_bytes

    @property
    def shelf_bytes(self) -> int:
        return self.shelf * self.cell_bytes

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.cells_bytes + self.shelf_bytes + self.states_bytes + self.buffers_bytes


def footprint(shape: ModelShape, cells: int, *, shelf: int = 0) -> Footprint:
    """Return what an engine takes that keeps `cells` tokens, and so many others on a shelf."""
    states_bytes = shape.state_bytes * STATES
    return Footprint(shape.weights_bytes, shape.kv_bytes_per_token, cells, states_bytes, shelf=shelf)


def shelf_for(shape: ModelShape, cells: int, available_bytes: int) -> int:
    """Return how many tokens to keep on a shelf beside `cells`: as many again, but half of what is left stays free.

    None for a model with states, whose prefixes are not kept.
    """
    needed = footprint(shape, cells)
    left = max(0, available_bytes - needed.total_bytes)
    if shape.state_bytes or not shape.kv_bytes_per_token:
        return 0
    return min(cells, left // 2 // shape.kv_bytes_per_token)


def cells_for(
    shape: ModelShape, model: str, *, window_tokens: int, available_bytes: int, kv_tokens: int | None = None
) -> int:
    """Return how many cells to keep: `kv_tokens`, or two windows, or what memory allows but at least one window.

    Two, so that a root's prompt outlives its sub-calls. Raises ConfigError, with the numbers, when the window
    or the cells cannot be had.
    """
    if not 1 <= window_tokens <= shape.context_tokens:
        raise ConfigError(f"window_tokens is {window_tokens}, but {model} takes 1..{shape.context_tokens}")
    if kv_tokens is not None and kv_tokens < window_tokens:
        raise ConfigError(
            f"kv_tokens is {kv_tokens}, but one request may have {window_tokens} tokens, which all take a cell",
            hint="keep at least one window of cells, or ask for a smaller window",
        )
    least = footprint(shape, window_tokens)
    wanted = least if kv_tokens is None else footprint(shape, kv_tokens)
    if wanted.total_bytes > available_bytes:
        raise ConfigError(_too_large(wanted, model, available_bytes), hint=_repair(shape, least, available_bytes))
    if kv_tokens is not None:
        return kv_tokens
    if not shape.kv_bytes_per_token:
        return 2 * window_tokens
    spare = (available_bytes - least.total_bytes) // (2 * shape.kv_bytes_per_token)  # half of what is left stays free
    return window_tokens + min(window_tokens, spare)


def available_bytes(root: Path = Path("/")) -> int:
    """Return the memory that can be had without swapping: by the kernel, and by every control group around us.

    Page cache counts as memory that can be had, as in the kernel's own MemAvailable: else weights that were
    just pulled would seem to fill a container.
    root: of the file systems that are looked at.
    """
    return min([_kernel_says(root), *_groups_leave(root)])


def gib(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB"


def _too_large(wanted: Footprint, model: str, available: int) -> str:
    kib = wanted.cell_bytes / 1024
    return (
        f"{model} with {wanted.cells:,} cells needs {gib(wanted.total_bytes)} of memory "
        f"({gib(wanted.weights_bytes)} of weights, {gib(wanted.cells_bytes)} of cells at {kib:.1f} KiB, "
        f"{gib(wanted.states_bytes + wanted.buffers_bytes)} of buffers), but {gib(available)} are available"
    )


def _repair(shape: ModelShape, least: Footprint, available: int) -> str:
    room = available - (least.total_bytes - least.cells_bytes)
    fits = room // shape.kv_bytes_per_token if shape.kv_bytes_per_token and room > 0 else 0
    if fits >= least.cells:
        return f"at most {fits:,} cells fit; lower --kv-tokens"
    return f"at most {fits:,} cells fit; ask for a smaller --window" if fits else "take a smaller model"


def _kernel_says(root: Path) -> int:
    path = root / "proc/meminfo"
    for line in path.read_text().splitlines():
        name, _, amount = line.partition(":")
        if name == "MemAvailable":
            return int(amount.split()[0]) * 1024
    raise EngineUnavailable(f"{path} does not say how much memory is available")


def _groups_leave(root: Path) -> list[int]:
    """Return what each control group that holds this process, and has a limit, leaves of it."""
    left = []
    for folder, version in _memory_groups(root):
        limit, usage, cache = (
            ("memory.max", "memory.current", ("inactive_file", "active_file"))
            if version == 2
            else ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file"))
        )
        most, used = _number(folder / limit), _number(folder / usage)
        if most is not None and used is not None:
            left.append(max(0, most - used + sum(_stat(folder / "memory.stat", cache))))
    return left


def _memory_groups(root: Path) -> list[tuple[Path, int]]:
    """Return the folders of this process's control groups that count memory, inner ones first, with their version."""
    try:
        mounts = (root / "proc/self/mountinfo").read_text().splitlines()
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []  # a kernel without control groups
    own_by_version = {}
    for line in groups:
        number, controllers, own = line.split(":", 2)
        if number == "0" and not controllers:
            own_by_version[2] = own
        elif "memory" in controllers.split(","):
            own_by_version[1] = own
    folders = []
    for line in mounts:
        before, _, after = line.partition(" - ")
        mounted_root, mount_point = before.split()[3:5]
        kind, _, options = after.split()[:3]
        version = {"cgroup2": 2, "cgroup": 1 if "memory" in options.split(",") else 0}.get(kind, 0)
        if version in own_by_version:
            top = root / mount_point.lstrip("/")
            folder = top / _below(own_by_version[version], mounted_root)
            folders += [(place, version) for place in (folder, *folder.parents) if place.is_relative_to(top)]
    return folders


def _below(own: str, mounted_root: str) -> PurePosixPath:
    """Return a group's path below the mount; the top where a container sees only its own group."""
    path = PurePosixPath(own)
    return path.relative_to(mounted_root) if path.is_relative_to(mounted_root) else PurePosixPath()


def _number(path: Path) -> int | None:
    """Return the number in a group's file; None for "max", or where there is no such file, as in a root group."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _stat(path: Path, names: tuple[str, ...]) -> list[int]:
    try:
        rows = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return []
    return [int(row[1]) for row in rows if row[0] in names]
