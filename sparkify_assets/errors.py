"""Errors that are meant for people.

Belongs here: the exception types whose messages say what was wrong, where, and what to do, and
which errors may pass by themselves.
Does not belong here: errors that only a programmer could act on; those stay built-in exceptions.
"""

import re

# Control characters, and those that turn the direction of what follows.
_UNSHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


class SparkifyError(Exception):
    """Base of every error that a user can act on; its message is shown without a traceback."""


class SettingError(SparkifyError):
    """A setting (environment variable, run config, command-line option) cannot be used."""


class SourceError(SparkifyError):
    """The event log is missing, unreadable, truncated or not an event log.

    What others chose (names of files, what a server says) cannot break the message's line or
    write to a terminal what is not shown.
    """

    def __init__(self, message: str) -> None:
        super().__init__(_UNSHOWN.sub(lambda found: repr(found[0])[1:-1], message))


class UnreachableError(SourceError):
    """The event log's server does not answer, or broke off; it may do better later."""


class CapacityError(SparkifyError):
    """The machine has too little memory or disk for what was asked."""


class LakeError(SparkifyError):
    """The lake's folder cannot be read or written."""


class ConflictError(LakeError):
    """Somebody else has changed the table meanwhile; made again, the change may be committed."""


class NotEnoughDataError(SparkifyError):
    """The log holds too little (users, churned users, days) for what was asked."""


class SparkDiedError(SparkifyError):
    """Spark's process is gone, as where memory ran out; another one may do better."""


# May pass by themselves: what was tried can be tried again, after some time.
TEMPORARY = (UnreachableError, ConflictError, SparkDiedError, ConnectionError, TimeoutError)
