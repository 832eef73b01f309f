"""The logger `grasp_jax`, which shows progress and warnings.

From Python, `logging` decides as for any library: warnings go to the standard error and progress
is not shown, unless the program configures the logger or calls `show_progress`. The command line
shows everything, on the standard output.
"""

import logging

logger = logging.getLogger("grasp_jax")


class _LineHandler(logging.Handler):
    """Prints each message as it is, to what `sys.stdout` is at that moment, for it may be replaced."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints a message; an error of the stream is raised, because a full disk must end a run in one line."""
        print(record.getMessage(), flush=True)


class _ToRoot(logging.Handler):
    """Passes messages to the root logger, as if they had been propagated."""

    def emit(self, record: logging.LogRecord) -> None:
        """Passes a message to the root logger."""
        logging.getLogger().handle(record)


def print_messages() -> None:
    """Prints all messages from INFO on to the standard output, and nowhere else."""
    for handler in logger.handlers[:]:
        if isinstance(handler, _LineHandler):
            logger.removeHandler(handler)
    logger.addHandler(_LineHandler())
    logger.setLevel(logging.INFO)
    logger.propagate = False


def show_progress() -> None:
    """Shows progress on the standard output of a notebook or a script, unless the program has configured the logger.

    It does where it gave the logger `grasp_jax` a handler or a level, or lets the root logger show
    INFO.
    """
    root = logging.getLogger()
    root_shows = bool(root.handlers) and root.isEnabledFor(logging.INFO)
    if logger.handlers or logger.level != logging.NOTSET or root_shows:
        return
    print_messages()
    if root.handlers:  # they still get warnings; progress is shown by this package
        logger.handlers[-1].addFilter(lambda record: record.levelno < logging.WARNING)
        logger.addHandler(_ToRoot(logging.WARNING))
