"""What can go wrong on our side of the border, and whose move is next.

    RlmError
    ├── ConfigError          the user asked for something that cannot be; exit code 2
    ├── DocumentError        a document cannot be read; exit code 2
    ├── StoreError           weights are missing, differ from their hash, or cannot be written
    ├── EngineError
    │   ├── EngineUnavailable    the engine process or server is not there; retryable
    │   └── EngineRefused        the engine answered that it will not do this request
    │       └── WindowExceeded       because prompt and reply do not fit the model's window
    ├── JailError
    │   ├── JailUnavailable      no jail can be started on this machine
    │   │   └── WrongNsjail          because RLM_LOCAL_NSJAIL names no file; exit code 2
    │   └── WorkerLost           the jailed process died or broke the protocol
    ├── TraceError           a trace cannot be written or read
    │   ├── NoTrace              because it is none: a folder, an empty file, another file; exit code 2
    │   └── RunDiffers           a run does not go as its trace tells
    └── FanOutHeld           a run waits for the user's word before it asks so many sub-calls; exit code 4

What the *model* got wrong (a syntax error, an unknown name, an endless loop) is never one of these: it is
data, and goes back to the model as an observation.
"""

from __future__ import annotations


class RlmError(Exception):
    """Root of every error that rlm-local raises on purpose.

    hint: one line on how to mend it, printed apart from the message; may be empty.
    exit_code: what `rlm-local` exits with when this error reaches the user.
    """

    exit_code = 1
    retryable = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(RlmError):
    """A setting, flag or model card cannot be used as given."""

    exit_code = 2


class DocumentError(RlmError):
    """A document is missing, unreadable, empty or not text."""

    exit_code = 2


class StoreError(RlmError):
    """The model store cannot give or take these weights."""


class EngineError(RlmError):
    """The engine could not do its part."""


class EngineUnavailable(EngineError):
    """No engine answers; the same request may succeed after a restart."""

    retryable = True


class EngineRefused(EngineError):
    """The engine understood the request and will not serve it, however often it is asked."""


class WindowExceeded(EngineRefused):
    """Prompt and reply together are longer than the model's window; the message has both numbers."""


class JailError(RlmError):
    """The jail could not do its part."""


class JailUnavailable(JailError):
    """This machine cannot start the jail; the message says what is missing."""


class WrongNsjail(JailUnavailable):
    """RLM_LOCAL_NSJAIL names no file: a mistake of who set it, and no fault of the machine."""

    exit_code = ConfigError.exit_code


class WorkerLost(JailError):
    """The jailed process died, or sent what the protocol does not allow."""


class TraceError(RlmError):
    """A trace file cannot be written, or is not one that this build reads."""


class NoTrace(TraceError):
    """What is named is no trace at all: a mistake of who named it, where a damaged one is a failure."""

    exit_code = ConfigError.exit_code


class FanOutHeld(RlmError):
    """A cell asks more sub-calls than the user lets it without a word. None of these was paid; the run can go on."""

    exit_code = 4


class RunDiffers(TraceError):
    """A run that is to go on from its trace would go otherwise, so it cannot."""
