"""Errors that a command prints without a traceback."""


class UserError(RuntimeError):
    """Error whose message names the problem, its place and the fix."""


class UsageError(UserError):
    """Error for invalid or conflicting arguments of a command."""
