"""The one error family of vpipe: every fault a user can meet carries a reason code and an exit code.

The library raises these and never prints or exits; the command line turns them into rows and exit codes.
"""

from __future__ import annotations

from dataclasses import dataclass, field


def plain_text(text: str) -> str:
    """Text as valid UTF-8: bytes of a file name that are not are written as `\\xff`."""
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a character, as JSON can write it: no byte of a file name
        data = text.encode("utf-8", "backslashreplace")
    return data.decode("utf-8", "backslashreplace")


def one_line(text: str) -> str:
    """Text that cannot break a line or steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in plain_text(text))


class VpipeError(Exception):
    """A fault with a reason code (snake_case, stable) and a message that names the file and the way out."""

    exit_code = 1

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type[VpipeError], tuple[str, str]]:
        # Exceptions with two arguments do not survive pickling (worker processes) without this.
        return (type(self), (self.code, self.message))


class InputError(VpipeError):
    """One input cannot be processed; the rest of the batch goes on."""


class UsageError(VpipeError):
    """A bad flag, model, device or value, found before any input is touched."""

    exit_code = 2


class EnvironmentFault(VpipeError):
    """The machine stands in the way: disk full, folder not writable, library missing."""


LOSSES = ("ends_early", "corrupt_frames")  # warnings that say that pictures are lost or damaged


@dataclass(frozen=True)
class Warning_:
    """Something a user should know about a result that is still a result.

    `numbers` are extra JSON fields, for example {"decoded": 60, "declared": 120}.
    """

    code: str
    message: str
    numbers: dict[str, int | float | str] = field(default_factory=dict)

    def to_json(self) -> dict[str, int | float | str]:
        return {"code": self.code, "message": self.message, **self.numbers}
