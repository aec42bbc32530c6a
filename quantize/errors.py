"""Every exception that Stretch raises on purpose.

::

    StretchError
     +-- CacheTypeError        a cache type or a pair of them cannot be used here
     |    +-- BreaksModelError  this model would be of no use with it; it has to be asked for explicitly
     +-- StateError            a saved state of a sequence is damaged or of an unknown layout
     +-- ModelFileError        a model file is unreadable, malicious or not for this engine
     +-- ModelNotFoundError    no model goes by that name
     +-- OutOfMemoryError      an allocation would not fit, found out before it was made
     +-- EngineError           llama.cpp or its process failed
     |    +-- EngineDiedError  the process is gone
     +-- ContextFullError      the conversation does not fit in the context
     +-- HubError              the model hub said no, or could not be reached
     |    +-- HubUnavailableError  the same may work later
     +-- StoreError            the conversations' database or the settings file
     +-- UsageError            a command was given something it does not understand

The message says what happened in one sentence; ``hint`` says what to do next. Both are
plain text: whoever shows them must not interpret markup or escape sequences in them.
"""

from __future__ import annotations


class StretchError(Exception):
    """The root of the tree."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()


class CacheTypeError(StretchError):
    """A cache type or a pair of them cannot be used here."""


class BreaksModelError(CacheTypeError):
    """This model would be of no use with such a cache. It can be had all the same, if that is said."""


class StateError(StretchError):
    """A saved state of a sequence is damaged or of an unknown layout."""


class ModelFileError(StretchError):
    """A model file is unreadable, malicious or not for this engine."""


class ModelNotFoundError(StretchError):
    """No model goes by that name."""


class OutOfMemoryError(StretchError):
    """An allocation would not fit, found out before it was made."""


class EngineError(StretchError):
    """llama.cpp or its process failed."""


class EngineDiedError(EngineError):
    """The engine's process is gone."""


class ContextFullError(StretchError):
    """The conversation does not fit in the context."""


class HubError(StretchError):
    """The model hub said no, or could not be reached."""


class HubUnavailableError(HubError):
    """The hub is busy or out of reach: the same may work later."""

    def __init__(self, message: str, hint: str = "", retry_after: float = 0.0) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after
        """Seconds after which the hub wants to be asked again, 0 if it did not say."""


class StoreError(StretchError):
    """The database of conversations or the settings file."""


class UsageError(StretchError):
    """A command was given something that it does not understand."""


def reported(kind: str, message: str, hint: str) -> StretchError:
    """The error that another process reports by its name; an ``EngineError`` if none is called so."""
    found = globals().get(kind)
    if isinstance(found, type) and issubclass(found, StretchError):
        return found(message, hint)
    return EngineError(message, hint)
