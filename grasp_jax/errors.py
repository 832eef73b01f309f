"""The one exception that a user of the command line is meant to read."""


class UserError(Exception):
    """Bad input: one line naming the file, key or row, the value, what was expected and how to mend it.

    `grasp_jax.main` prints it without a traceback and exits with status 2.
    """


class TrainingDiverged(UserError):
    """A loss or parameter stopped being finite; names the step, the saved batch and the last good checkpoint."""
