"""The exceptions whose messages are written for users."""

LONGEST = 900  # characters of a message


class UserError(Exception):
    """Bad input. The message is one line that names the file, key or row, the value, what was expected and how to correct it.

    `grasp_jax.main` prints it without a traceback and exits with status 2. Parts of the message may come from a file or a library, so line
    breaks become blanks and other characters that do not print become escapes: the message stays in one line and cannot move the cursor. If
    a message is too long, its middle is left out, because the remedy is at the end.
    """

    def __init__(self, message: str) -> None:
        lines = " ".join(message.splitlines())
        if len(lines) > LONGEST:
            lines = f"{lines[: LONGEST // 2]} ... {lines[-LONGEST // 2 :]}"
        super().__init__(lines if lines.isprintable() else "".join(map(_printable, lines)))


def _printable(character: str) -> str:
    return (
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
    )


class TrainingDiverged(UserError):
    """A loss or a parameter is no longer finite; the message names the step, the saved batch and the last good checkpoint.

    Attributes:
      without_files: the message without the batch and the checkpoint, for a training whose folder is deleted.
    """

    def __init__(self, message: str, without_files: str = "") -> None:
        super().__init__(message)
        self.without_files = without_files or message


class DataChanged(UserError):
    """The data are not those from which a workdir was made.

    Attributes:
      change: which workdir, and what has changed; the message without its remedy.
    """

    def __init__(self, message: str, change: str) -> None:
        super().__init__(message)
        self.change = change


class EndpointError(UserError):
    """A server that computes texts or vectors for this package cannot be reached, or does not answer as it should.

    Attributes:
      where: its address. Unlike the message, it contains no text from the server.
    """

    def __init__(self, message: str, where: str = "") -> None:
        super().__init__(message)
        self.where = where
