"""Memory of tensors on a CPU."""

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Let the C library keep what tensors free for the next ones, for the whole process.

    glibc gives large pieces back to the system after each use and gets new pages for the next tensor, which takes as
    long as the arithmetic of a small network. Other C libraries, and what the environment says, are left alone: any
    variable `MALLOC_...` switches this off.
    """
    if sys.platform == "linux" and not any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        set_option = getattr(ctypes.CDLL(None), "mallopt", None)
        if set_option is not None:
            set_option(_M_MMAP_MAX, 0)
            set_option(_M_TRIM_THRESHOLD, 2**31 - 1)
