"""All errors that the project raises on purpose.

::

    AdaPoolError                    what: why; remedy
    ├── UsageError                  (ValueError)         a flag or value that can't be meant; exit 2
    │   ├── MissingFileError        (FileNotFoundError)  an input that is not there
    │   ├── OutputExistsError       (FileExistsError)    an output that would be overwritten
    │   ├── UnknownModelError       (LookupError)        a model name that is not known
    │   └── ConfigError                                  a configuration with unknown or bad keys
    ├── UnreadableFileError         (ValueError)         a file that is not what it should be
    ├── UnwritableFileError         (OSError)            a result that could not be written
    │   └── FullDiskError                                a disk or quota that is full
    ├── ModelFileError              (ValueError)         weights that cannot be loaded
    └── MissingExtraError           (ImportError)        an optional dependency that is absent

Every error is also the builtin that a Python user expects, so ``except ValueError`` keeps working.
The operators in :mod:`adapool_sr.ops` raise plain ``ValueError`` and ``TypeError``.
"""

from __future__ import annotations

__all__ = [
    "AdaPoolError",
    "ConfigError",
    "FullDiskError",
    "MissingExtraError",
    "MissingFileError",
    "ModelFileError",
    "OutputExistsError",
    "UnknownModelError",
    "UnreadableFileError",
    "UnwritableFileError",
    "UsageError",
]


class AdaPoolError(Exception):
    """Base of all errors of this package; says what failed, why, and what helps.

    Args:
        what: the file, flag or name at fault.
        why: what is wrong with it: what came and what is allowed.
        remedy: what to do instead; may be empty.
    """

    exit_status = 1

    def __init__(self, what: str, why: str, remedy: str = "") -> None:
        super().__init__(what, why, remedy)
        self.what = what
        self.why = why
        self.remedy = remedy

    def __str__(self) -> str:
        text = f"{self.what}: {self.why}"
        return f"{text}; {self.remedy}" if self.remedy else text


class UsageError(AdaPoolError, ValueError):
    """A flag, argument or combination of them that cannot be meant."""

    exit_status = 2


class MissingFileError(UsageError, FileNotFoundError):
    """An input file or folder that does not exist."""


class OutputExistsError(UsageError, FileExistsError):
    """An output that already exists and was not allowed to be replaced."""


class UnknownModelError(UsageError, LookupError):
    """A model name that no weights file carries."""


class ConfigError(UsageError):
    """A configuration that names an unknown key or an impossible value."""


class UnreadableFileError(AdaPoolError, ValueError):
    """A file that is damaged, empty or of another kind than needed."""


class UnwritableFileError(AdaPoolError, OSError):
    """A result that could not be written."""


class FullDiskError(UnwritableFileError):
    """A result for which the disk, or the user's share of it, has no room."""


class ModelFileError(AdaPoolError, ValueError):
    """A weights file or checkpoint that is damaged, foreign or does not fit its network."""


class MissingExtraError(AdaPoolError, ImportError):
    """A command needs an optional dependency that is not installed.

    Args:
        what: the command or function that needs it.
        extra: the extra that brings it, as in ``pip install 'adapool-sr[extra]'``.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            what, f"needs the extra '{extra}'", f"run: pip install 'adapool-sr[{extra}]'"
        )
