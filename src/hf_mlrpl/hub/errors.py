"""Answers of the Hub in words that name the way out."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

TransportError: type[Exception] = HfHubHTTPError.__mro__[1]  # of the HTTP client, whose package depends on the version
Result = TypeVar("Result")
ATTEMPTS = 3
_LOG_IN = "log in with `hf auth login`, or set the environment variable HF_TOKEN"
_AGAIN = "Run the same command again; what has arrived is not sent twice."


@contextmanager
def explained(name: str, *, writing: bool = False) -> Iterator[None]:
    """Inside the block, errors of the client become an `OSError` or `ValueError` about the repository `name`."""
    try:
        yield
    except HFValidationError as error:
        raise ValueError(f"{name!r} is no name of a repository on the Hub, such as user/my-tagger.") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        if writing:
            raise ConnectionError("The Hub cannot be reached: HF_HUB_OFFLINE is set.") from error
        raise ConnectionError(
            f"The Hub cannot be reached, and {name} is not complete in the cache {constants.HF_HUB_CACHE}. Download "
            "it once while you are online, or name a folder."
        ) from error
    except HfHubHTTPError as error:
        raise _translated(error, name, writing) from error
    except TransportError as error:
        reason = str(error) or type(error).__name__
        raise ConnectionError(f"The connection to the Hub broke ({reason}). {_AGAIN}") from error


def retried(request: Callable[[], Result]) -> Result:
    """Result of `request`; where the server or the connection fails, it is tried again after longer and longer waits.

    The client does so for some requests, but not for commits, nor for files that are read.
    """
    for attempt in range(ATTEMPTS - 1):
        try:
            return request()
        except TransportError as error:
            if isinstance(error, HfHubHTTPError) and error.response.status_code < 500:
                raise
            time.sleep(2**attempt)
    return request()


def _translated(error: HfHubHTTPError, name: str, writing: bool) -> OSError:
    status = error.response.status_code
    if isinstance(error, RevisionNotFoundError):
        return FileNotFoundError(f"{name} has no such revision. Its page on the Hub lists branches, tags and commits.")
    if isinstance(error, GatedRepoError):
        return PermissionError(
            f"{name} is gated: ask for access at {constants.ENDPOINT}/{name}, and {_LOG_IN} of an account that has it."
        )
    if status == 401 and writing:
        return PermissionError(f"Nobody is logged in to the Hub, or the token is wrong: {_LOG_IN}.")
    if isinstance(error, RepositoryNotFoundError) or status == 401:
        return FileNotFoundError(f"{name} is not on the Hub, or is private: check the name, and {_LOG_IN}.")
    if status == 403:
        return PermissionError(f"This account may not write to {name}: use a token with the role `write`. {error}")
    return OSError(f"The Hub answered {status} for {name}: {str(error).splitlines()[0]} {_AGAIN}")
