"""The two kinds of failure that a user sees: a wrong call, and work that failed."""


class UserError(Exception):
    """The call or the input is wrong; the command ends with exit code 2.

    The message is one or two lines: what is wrong, where (file, field, value) and what to do.
    """


class WorkFailed(Exception):
    """The call was right but the work could not be finished; the command ends with exit code 1."""
