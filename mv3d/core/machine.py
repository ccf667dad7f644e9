"""This machine and process: memory, and the versions of libraries."""

from __future__ import annotations

import ctypes
import platform
import sys
from importlib import metadata

from mv3d.core.version import __version__

_LIBRARIES = (
    "torch diffusers transformers accelerate safetensors numpy scipy trimesh embreex xatlas scikit-image "
    "fast-simplification manifold3d"
).split()


def library_versions() -> dict[str, str]:
    """Versions of mv3d, Python and the libraries that a result depends on; "missing" where one is not installed."""
    versions = {"mv3d": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "missing"
    return versions


def peak_memory_bytes() -> int:
    """Peak resident memory of this process so far; 0 on Windows."""
    if sys.platform == "win32":
        return 0
    import resource  # noqa: PLC0415 - POSIX only

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


# From malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_PAD_BYTES = 256 * 2**20


def keep_freed_memory() -> bool:
    """From now on let the C library keep freed memory for later allocations; whether it does.

    Large temporary tensors otherwise return to the system and come back page by page, each page a fault: up to half of
    the time of a training step on a CPU. For the life of the process; glibc alone, elsewhere nothing happens.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, _PAD_BYTES))
    return all([mallopt(which, value) == 1 for which, value in settings])


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of this machine or of a device.

    torch has a type for the device alone. For the machine it raises a plain RuntimeError, known by its text only.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("allocate memory" in text or "not enough memory" in text)
