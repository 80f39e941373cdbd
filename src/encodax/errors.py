"""The one error that reaches a user: a line that names the thing, the limit and the way out."""


class EncodaxError(ValueError):
    """Something the caller can mend: a bad file, a bad argument, a text that is too long.

    The message is one line for people. The command line prints it and exits with code 2.
    """
