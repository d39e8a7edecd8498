"""The one exception whose message is meant for the user."""


class UserError(Exception):
    """Something the user can mend: one line that says what is wrong, where, and what to do.

    Entry points print it without a traceback and exit with status 1.
    """
