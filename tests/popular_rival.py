"""The simplest rival of the train benchmark: a process that scores items by their training interactions and breaks ties by row."""

import numpy as np

from benchmarks.rivals.protocol import Course, Data, ranks_of, task, write_report


def ranks(data: Data, split: str) -> np.ndarray:
    """[n] ranks of the targets of "valid" or "test"."""
    counts = np.bincount(data.items, minlength=data.num_items)
    scores = counts - np.arange(data.num_items) / data.num_items
    return ranks_of(scores[getattr(data, split).candidates])


if __name__ == "__main__":
    _, settings, data, out, _ = task()
    course = Course(settings)
    while not course.ends:
        course.after_epoch(0.5, ranks(data, "valid"))
    write_report(out, course.report(course.seconds(), ranks(data, "test"), ("numpy",)))
