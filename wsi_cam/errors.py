"""What can go wrong, said in one line: the file, the cause, and the next step.

Each error is also one of Python's own kinds, so code that does not know wsi_cam can still catch it.
The command line prints the message of a ``WsiCamError`` without a traceback; anything else is a
defect of ours and keeps its traceback.
"""

from __future__ import annotations


class WsiCamError(Exception):
    """Base of all errors that a user can do something about."""


class SlideError(WsiCamError, OSError):
    """A slide cannot be opened or a region of it cannot be read."""


class SpacingError(WsiCamError, ValueError):
    """The pixel spacing of a slide is missing, implausible or too coarse for the model."""


class TissueError(WsiCamError, ValueError):
    """No patch of the slide can be classified: no tissue, not brightfield, an empty region."""


class ModelError(WsiCamError, ValueError):
    """A model bundle or weight file is missing, damaged, unsafe, or does not fit."""


class SettingsError(WsiCamError, ValueError):
    """An option, a configuration file or a manifest does not say something that can be done."""


class DataError(WsiCamError, ValueError):
    """Labelled pictures cannot be trained on or measured with: unreadable, unlabelled, leaking, too few."""


class OutlineError(SettingsError, DataError):
    """A file of drawn regions cannot be read; a run is given it as a setting, training as data."""


class OutputError(WsiCamError, OSError):
    """A result cannot be written or read back."""


class Interrupted(WsiCamError, RuntimeError):
    """A run was asked to stop and did; what it has is kept, and the same command goes on from there."""


def one_line(error: BaseException) -> str:
    """The message of an error without line breaks, which file names and decoders may bring in."""
    return " ".join(str(error).split()) or type(error).__name__


#: Torch has an error of its own for CUDA only, and CUDA's libraries have words of their own.
_SHORT_OF_MEMORY = ("out of memory", "allocate memory", "alloc_failed")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the machine or of its GPU."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(words in said for words in _SHORT_OF_MEMORY)
