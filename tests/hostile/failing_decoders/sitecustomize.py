"""Decoders that crash, hang and eat memory: put this folder on PYTHONPATH, and give slides these names.

Python imports a module of this name as it starts, here in every process of the command. Nothing of the
package is changed: the file being opened as the TIFF reader opens it is what sets the decoder off.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Any


def _decode(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "open" or arguments[1] is not None:  # only os.open has no mode
        return
    name = os.path.basename(os.fsdecode(arguments[0]))
    if name == "aborts.svs":
        os.abort()
    elif name == "hangs.svs":
        # In C and without letting go of the interpreter, as a decoder may: 2**40 steps.
        re.match("(a+)+$", "a" * 40 + "b")
    elif name == "eats_memory.svs":
        raise MemoryError("cannot allocate 64 GiB")


sys.addaudithook(_decode)
