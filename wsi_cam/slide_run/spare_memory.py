"""Memory that was used and is free again, given back to the system between the stages of a slide.

glibc keeps what large arrays leave behind in its heap, a little used page above holding all below it: the
peak of one stage would lie under that of the next.
"""

from __future__ import annotations

import ctypes
import sys


def give_back_spare_memory() -> None:
    """Takes milliseconds; does nothing where the system's allocator is another one."""
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
