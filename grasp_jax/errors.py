"""The exceptions whose messages are written for users."""

LONGEST = 900  # characters of a message


class UserError(Exception):
    """Bad input: one line naming the file, key or row, the value, what was expected and how to mend it.

    `grasp_jax.main` prints it without a traceback and exits with status 2. Whatever a file or a library puts into the message, it stays
    in one line and moves no cursor: line breaks become blanks, other characters that do not print become escapes. Of an endless value the
    middle is left out, for the cure stands at the end.
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
    """A loss or parameter stopped being finite; names the step, the saved batch and the last good checkpoint."""
