"""The GPUs of this machine, by NVML, which every NVIDIA driver brings: four calls, so no package for them."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

_LIBRARY = "libnvidia-ml.so.1"
_NAME_BYTES = 96  # NVML_DEVICE_NAME_V2_BUFFER_SIZE


@dataclass(frozen=True, slots=True)
class Gpu:
    name: str
    total_bytes: int
    free_bytes: int


class _Memory(ctypes.Structure):
    """nvmlMemory_t."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def installed_gpus(library: str = _LIBRARY) -> tuple[Gpu, ...]:
    """Return what the driver sees; nothing where there is no driver, or none that answers."""
    try:
        nvml = ctypes.CDLL(library)
    except OSError:
        return ()
    if nvml.nvmlInit_v2():
        return ()
    try:
        count = ctypes.c_uint()
        if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
            return ()
        found = [_gpu(nvml, index) for index in range(count.value)]
        return tuple(gpu for gpu in found if gpu is not None)
    finally:
        nvml.nvmlShutdown()


def _gpu(nvml: ctypes.CDLL, index: int) -> Gpu | None:
    """Return one GPU; None for one that does not tell, as when this user may not see it."""
    device, memory = ctypes.c_void_p(), _Memory()
    name = ctypes.create_string_buffer(_NAME_BYTES)
    failed = (
        nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(device))
        or nvml.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory))
        or nvml.nvmlDeviceGetName(device, name, ctypes.c_uint(_NAME_BYTES))
    )
    return None if failed else Gpu(name.value.decode("utf-8", "replace"), memory.total, memory.free)
