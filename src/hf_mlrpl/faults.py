"""Errors that say which file is to blame, and what to do."""

import errno
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


@contextmanager
def writing(what: object, advice: str = "", *errors: type[Exception]) -> Iterator[None]:
    """Inside the block, what the system refuses becomes an `OSError` that says what was to be written: an error of a
    full disk names no file.

    Args:
        what: the file or the folder.
        advice: what else to do.
        errors: further ones that are meant, such as those of another library.
    """
    meant: tuple[type[Exception], ...] = (OSError, *errors)
    try:
        yield
    except meant as error:
        if isinstance(error, OSError) and error.errno is None:
            raise  # a message of ours
        way_out = advice_of(error) if isinstance(error, OSError) else "Is the disk full?"
        raise OSError(f"{what} could not be written: {reason_of(error)}. {way_out} {advice}".rstrip()) from error


_ADVICE = {
    "Make room on that disk, or choose another place.": (errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    "Choose another place, or change its permissions.": (errno.EACCES, errno.EPERM, errno.EROFS),
    "Check the path.": (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP),
    "Raise the limit of open files, such as `ulimit -n 4096`.": (errno.EMFILE, errno.ENFILE),
}


def advice_of(error: Exception) -> str:
    """What to do where the system refuses something; nothing for other errors."""
    number = getattr(error, "errno", None)
    return next((advice for advice, numbers in _ADVICE.items() if number in numbers), "")


def reason_of(error: Exception) -> str:
    """The kind of an error and what it says, in one short line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if type(error).__name__.startswith("StrictDataclass") and lines else "".join(lines[:1])
    says_kind = type(error) in (ValueError, OSError) or getattr(error, "errno", None) is not None
    kind = "" if text and says_kind else f"{type(error).__name__}: "
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
