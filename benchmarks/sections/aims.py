"""What a GPU should reach, as predicted by counting bytes, operations and kernels, and what a run has measured."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from benchmarks.implementations import MANY
from benchmarks.project import shares_of_limit
from benchmarks.record import short_commit
from benchmarks.sections.words import OURS, PACKED
from grasp_jax.report.table_data import MISSING
from grasp_jax.report.tables import ReportTable

Record = dict[str, Any]
STEPS = {"Beauty": "step-gpu-256", "Industry": "step-industry-gpu-256"}
PROFILE, PROFILE_INDUSTRY, RETRIEVAL = "profile-gpu", "profile-industry-gpu", "retrieval-gpu"
YES, NO, OPEN = "yes", "no", "not measured"
NEEDED = (*STEPS.values(), PROFILE, PROFILE_INDUSTRY, RETRIEVAL)


class Aim(NamedTuple):
    """One row.

    Attributes:
      what: is measured.
      record: that has it.
      predicted: in words.
      measure: of the record; None if it lacks the form.
      unit: a format of the measured value.
      reached: whether a value is as good as predicted, or better.
    """

    what: str
    record: str
    predicted: str
    measure: Callable[[Record], float | None]
    unit: str
    reached: Callable[[float], bool]


def fastest(record: Record) -> float:
    """Milliseconds of a step of our fastest form of one model."""
    ours = [row for row in record["steps"] if row["name"].startswith(OURS)]
    return 1e3 * min(row["seconds_per_step"] for row in ours if MANY not in row["name"])


def change(form: str) -> Callable[[Record], float | None]:
    """Microseconds that a form takes more than the default in the same run; below 0, it is faster."""

    def measured(record: Record) -> float | None:
        seconds = _seconds(record, form)
        return None if seconds is None else 1e6 * (seconds - record["steps"][0]["seconds_per_step"])

    return measured


def many_over_one(record: Record) -> float | None:
    """A step of several models together, over one of a single model."""
    seconds = _seconds(record, MANY)
    return None if seconds is None else seconds / record["steps"][0]["seconds_per_step"]


def packed_pytorch_over_ours(record: Record) -> float | None:
    """A step of the fastest program in PyTorch that packs, over our fastest."""
    packed = [row for row in record["steps"] if row["name"].startswith(PACKED)]
    best = min((1e3 * row["seconds_per_step"] for row in packed), default=None)
    return None if best is None else best / fastest(record)


def without_text(record: Record) -> float | None:
    """Milliseconds of the faster form of SASRec without text."""
    found = [row for row in record["models"] if row["model"].startswith("plain-sasrec")]
    return min((1e3 * row["seconds_per_step"] for row in found), default=None)


def project_share(record: Record) -> float | None:
    """Percent of the device's limit that the products with text vectors reach."""
    shares = [own for own in shares_of_limit(record) if own is not None]
    return 100 * max(shares) if shares else None


def largest_search(record: Record) -> float | None:
    """Seconds of the search of all rows of the large table."""
    found = [row for row in record["ways"] if row["way"] == "exact" and row["rows"] > 1_000_000]
    return found[0]["extrapolated_seconds"] if found else None


def _at_most(most: float) -> Callable[[float], bool]:
    return lambda found: found <= most


def _of_shape(shape: str, step: float, bfloat16: float) -> list[Aim]:
    """Aims of a step; milliseconds, and microseconds less than the default."""
    record = STEPS[shape]
    less = {  # form -> what it does, prediction in words, most that it may take more than the default
        "bfloat16": ("products in bfloat16", f"{-bfloat16:.0f} us", -bfloat16),
        "kernels=backbone": ("fused layers, `kernels=backbone`", "-220 us", -220.0),
        "concurrent graphs": ("independent kernels side by side", "-60 to -150 us", -60.0),
    }
    return [
        Aim(
            f"{shape}: a step, our fastest form",
            record,
            f"{step:g} ms",
            fastest,
            "{:.3f} ms",
            _at_most(step),
        ),
        *(
            Aim(
                f"{shape}: {what}",
                record,
                predicted,
                change(form),
                "{:+.0f} us",
                _at_most(most),
            )
            for form, (what, predicted, most) in less.items()
        ),
        Aim(
            f"{shape}: {MANY}, over one",
            record,
            "below 2",
            many_over_one,
            "{:.1f}",
            lambda found: found < 2,
        ),
        Aim(
            f"{shape}: the fastest packed PyTorch, over our fastest form",
            record,
            "2 or more",
            packed_pytorch_over_ours,
            "{:.1f}",
            lambda found: found >= 2,
        ),
    ]


AIMS = (
    *_of_shape("Beauty", 0.15, 50),
    *_of_shape("Industry", 0.5, 700),
    Aim(
        "Beauty: a step of SASRec without text",
        PROFILE,
        "below 0.1 ms",
        without_text,
        "{:.3f} ms",
        lambda found: found < 0.1,
    ),
    Aim(
        "Industry: products with text vectors, share of the limit",
        PROFILE_INDUSTRY,
        "60 %",
        project_share,
        "{:.0f} %",
        lambda found: found >= 60,
    ),
    Aim(
        "neighbours of 1,205,282 texts",
        RETRIEVAL,
        "below 60 s",
        largest_search,
        "{:.0f} s",
        lambda found: found < 60,
    ),
)


def aims(records: Mapping[str, Record]) -> ReportTable | None:
    """The table, with a dash for what these records lack; None without records.

    Args:
      records: by the names in `NEEDED`.
    """
    if not records:
        return None
    body = [[aim.what, aim.predicted, *_measured(aim, records)] for aim in AIMS]
    machines = (own["machine"] for own in records.values())
    where = dict.fromkeys(
        f"{own['device']} (commit {short_commit(own['commit'])})" for own in machines
    )
    answers = [row[-1] for row in body]
    note = (
        f"Of {len(AIMS)} aims, {answers.count(YES)} are reached, {answers.count(NO)} are not, and {answers.count(OPEN)} are not measured; "
        "`launch/gpu_benchmarks.sh` measures all of them. Aims are computed from the number of bytes, operations and kernels. A form is "
        f"compared with the default in the same run. Measured on {', '.join(where)}."
    )
    return ReportTable("aims", "Aims on a GPU", ["what", "aim", "measured", "reached"], body, note)


def _measured(aim: Aim, records: Mapping[str, Record]) -> list[str]:
    """The value, and whether it is as good as predicted."""
    value = aim.measure(records[aim.record]) if aim.record in records else None
    if value is None:
        return [MISSING, OPEN]
    return [aim.unit.format(value), YES if aim.reached(value) else NO]


def _seconds(record: Record, form: str) -> float | None:
    rows = (row for row in record["steps"] if row["name"] == f"{OURS} ({form})")
    return next((row["seconds_per_step"] for row in rows), None)
