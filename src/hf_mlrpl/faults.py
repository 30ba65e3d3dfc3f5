"""Errors that say which file is to blame."""

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MOST_UNPACKED = 4  # times the size of a zip file; tensors are random bits, which no archive makes smaller
_SMALL = 1 << 24  # bytes that any zip file may unpack to

# What code raises that was given content of another kind than it expects; a user cannot know what it means.
UNEXPECTED = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError, RecursionError, TypeError),
    *(NotImplementedError, StopIteration, zipfile.BadZipFile),
)


@contextmanager
def blamed_on(where: object, advice: str = "", *errors: type[Exception]) -> Iterator[None]:
    """Inside the block, errors of code that was given something unexpected become a `ValueError` about `where`.

    Args:
        where: the file that was read, or what else is to blame.
        advice: the way out.
        errors: further ones that are meant, such as those of another library.
    """
    meant: tuple[type[Exception], ...] = (*UNEXPECTED, *errors)
    try:
        yield
    except meant as error:
        if isinstance(error, ValueError) and str(where).partition(": ")[0] in str(error):
            raise  # it says so already
        raise ValueError(f"{where} cannot be used: {reason_of(error)}. {advice}".rstrip()) from error


def reason_of(error: Exception) -> str:
    """The kind of an error and what it says, in one short line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if type(error).__name__.startswith("StrictDataclass") and lines else "".join(lines[:1])
    kind = "" if text and type(error) in (ValueError, OSError) else f"{type(error).__name__}: "
    return f"{kind}{text}"[:300].rstrip(" .:")


def check_zip(file: Path) -> None:
    """Raise `ValueError` for a zip file that is damaged, or that would unpack to far more than its own size."""
    if not zipfile.is_zipfile(file):
        return
    try:
        with zipfile.ZipFile(file) as archive:
            unpacked = math.fsum(entry.file_size for entry in archive.infolist())
    except (ValueError, OSError, *UNEXPECTED) as error:
        raise ValueError(f"{file} is a damaged zip file: {reason_of(error)}. Copy or download it again.") from error
    size = file.stat().st_size
    if unpacked > max(MOST_UNPACKED * size, _SMALL):
        raise ValueError(
            f"{file} has {size / 2**20:,.0f} MiB and would unpack to {unpacked / 2**20:,.0f} MiB. Files with weights "
            "are not like this, so it is not read."
        )
