"""Errors that a command prints without a traceback."""


class UserError(RuntimeError):
    """An error whose message says what is wrong, where, and what to do."""


class UsageError(UserError):
    """Arguments of a command that do not go together."""
