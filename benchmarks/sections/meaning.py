"""What the tables of a benchmark mean, in one to four sentences that are computed from the record."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.project import shares_of_limit
from benchmarks.sections import kernel_meaning
from benchmarks.sections.words import AS_FAST, OURS, PACKED, between, joined, percent
from grasp_jax.core.words import all_of

Record = dict[str, Any]
SHORT = 3e-6  # seconds: on a GPU, an operation that is shorter mostly waits for its start


def step(record: Record) -> str:
    """Programs that pad against programs that pack."""
    ours, *others = record["steps"]
    rivals = [row for row in others if not row["name"].startswith(OURS)]
    padded, packed = (
        [
            row["seconds_per_step"] / ours["seconds_per_step"]
            for row in rivals
            if row["name"].startswith(PACKED) == packs
        ]
        for packs in (False, True)
    )
    if not rivals:
        return "No other program was measured in this run."
    said = ""
    if padded:
        said = f"Programs that pad every history take {between(padded, '.0f')} times as long as this package. "
    if not packed:
        return f"{said}None of these rivals packs its rows, so the table does not say how much of the gain comes from packing."
    said += f"Programs that pack their rows, as this package does, take {between(packed, '.2f')} times as long."
    if not padded or max(packed) > AS_FAST or min(packed) * AS_FAST < 1:
        return said
    return f"{said} So packing and factorising give nearly the whole gain, and JAX and PyTorch are about equally fast."


_REMEDIES = {
    "project": ". So only fewer or cheaper products make such a step faster: narrower text vectors, a smaller hidden layer, or bfloat16.",
    "other": ". But it is not the largest stage, so narrower text vectors hardly help; fewer layers, a smaller D or shorter histories do.",
}


def profile(record: Record) -> str:
    """The stage that takes most of a step of each model, and what a faster step needs."""
    models = record["models"]
    largest: dict[str, list[str]] = {}
    for model in models:
        shares = _shares_of_stages(model)
        stage = max(shares, key=lambda name: shares[name])
        largest.setdefault(stage, []).append(f"{percent(shares[stage])} of {model['model']}")
    said = f"The largest stages of a step are {joined([f'{stage} ({all_of(of)})' for stage, of in largest.items()])}."
    limits = [share for share in shares_of_limit(record) if share is not None]
    if limits and min(limits) > 0.9:
        said += " The stage project, which maps text vectors to the width of the hidden layer, already multiplies as fast as the device can"
        said += _REMEDIES["project" if "project" in largest else "other"]
    elif limits:
        said += f" The stage project reaches {between([100 * share for share in limits], '.0f')} % of the device's limit."
    if record["machine"]["backend"] == "gpu":
        said += _short_operations(models)
    return said


def _short_operations(models: Sequence[Record]) -> str:
    """Which models consist of operations that are too short for a GPU; empty if none does."""
    means = {
        model["model"]: model["seconds_per_step"] / model["operations_per_step"] for model in models
    }
    short = {name: 1e6 * mean for name, mean in means.items() if mean < SHORT}
    if not short:
        return ""
    return (
        f" An operation of {all_of(list(short))} takes {between(list(short.values()), '.1f')} microseconds on average, hardly longer than "
        "its start. So the number of operations limits such a step, and not arithmetic: larger batches, or several models at once, use "
        "this device better."
    )


def train(record: Record) -> str:
    """Seconds of an epoch against the rivals', at the same quality."""
    ours, *others = record["rows"]
    rivals = [row for row in others if not row["implementation"].startswith(OURS)]
    if not rivals:
        return (
            f"All {ours['epochs']} epochs with validation and compilation take {ours['seconds']:.0f} s on this device. No other program "
            "was measured on it."
        )
    shared = min(row["epochs"] for row in record["rows"])
    alike = [100 * row["valid_ndcg"][shared - 1] for row in record["rows"]]
    times = [row["ratio"] for row in rivals]  # to our model of the same loss
    said = (
        f"An epoch takes {between(times, '.0f')} times as long with the other programs. After {shared} epochs the validation NDCG@10 of "
        f"all programs lies within {max(alike) - min(alike):.1f} points."
    )
    if all(row["stopped"] for row in rivals):
        return said
    return (
        f"{said} So they learn equally well so far, and the difference is one of speed. The test figures cannot be compared, because the "
        "rivals were stopped early."
    )


def evaluation(record: Record) -> str:
    """The cost of a validation after each epoch, and of the full ranking."""
    shares = [100 * row["share_of_epoch"] for row in record["sampled"]]
    said = f"A test of all users among 100 negatives takes {between(shares, '.0f')} % of the time of an epoch."
    if full := record["full"]:
        factorised, plain = (
            full[name]["extrapolated_seconds"] for name in ("factorised", "as_written")
        )
        said += (
            f" Ranking the whole catalogue with GRASP takes {factorised / 60:.0f} minutes in the factorised form, and would take "
            f"{plain / 3600:.0f} hours candidate by candidate. So only the factorised form makes such a test practicable."
        )
    return said


def retrieval(record: Record) -> str:
    """Exact search against indexes, if both were measured on as many rows."""
    rows = {row["way"]: row for row in record["ways"] if row["queries"] == row["rows"]}
    exact, others = rows["exact"], [row for way, row in rows.items() if way != "exact"]
    if not others:
        return (
            f"Exact search finds the neighbours of {exact['rows']:,} rows in {exact['search_seconds']:.1f} s on this device, so it needs "
            "no index at this size."
        )
    whole = exact["build_seconds"] + exact["search_seconds"]
    times = {row["way"]: (row["build_seconds"] + row["search_seconds"]) / whole for row in others}
    told = all_of([f"{way} takes {time:.1f} times as long" for way, time in times.items()])
    said = f"With the building of the index, {told} as exact search."
    if min(times.values()) * AS_FAST < 1:
        return said
    return f"{said} So exact search is the default at this size: it is as fast, misses no neighbour and needs no other package."


def neighbours(record: Record) -> str:
    """What clusters save, and what they miss."""
    found = {(row["way"], row["rows"]): row for row in record["ways"]}
    largest = max(rows for way, rows in found if way == "exact" and ("clusters", rows) in found)
    clusters, exact = found["clusters", largest], found["exact", largest]
    of_all = exact["processor_seconds"] * exact["rows"] / exact["queries"]
    share = percent(clusters["processor_seconds"] / of_all)
    return (
        f"For {largest:,} rows, clusters take {share} of the processor seconds that exact search would take, and find "
        f"{100 * clusters['recall']:.1f} % of the true neighbours. So they save most of the work for a large table if there is no GPU."
    )


def memory(record: Record) -> str:
    """Whether anything but the neighbours grows faster than the data."""
    worst = max(line["largest_deviation"] for line in record["lines"].values())
    return (
        f"Memory and time follow a straight line within {percent(worst)}, except the search of neighbours, whose time grows with the "
        "square of the rows. So you can estimate the cost of your data from two smaller samples of it."
    )


def serving(record: Record) -> str:
    """For each catalogue, how many times as many requests as the plain service, and at which delay."""
    told = []
    for items in dict.fromkeys(own["items"] for own in record["services"]):
        services = [own for own in record["services"] if own["items"] == items]
        *ours, rival = services
        times = [
            f"{own['service']} is {own['largest_per_second'] / rival['largest_per_second']:.1f} times"
            for own in ours
        ]
        slow = [f"{own['at_half']['p99_ms']:.0f} ms ({own['service']})" for own in services]
        told.append(
            f"With {items:,} items, the largest rate of {joined(times)} that of {rival['service']}. At half of its own largest rate, one "
            f"answer in a hundred takes longer than {all_of(slow)}."
        )
    return " ".join(told)


def batch(record: Record) -> str:
    """Users a second against the rival's."""
    told = []
    for items in dict.fromkeys(own["items"] for own in record["libraries"]):
        ours, rival = (own for own in record["libraries"] if own["items"] == items)
        times = ours["users_per_second"] / rival["users_per_second"]
        told.append(f"{times:.0f} times as many users per second with {items:,} items")
    return f"This package answers {all_of(told)}."


def bank(record: Record) -> str:
    """What an index costs and what it saves."""
    by_name = {stage["name"]: stage for stage in record["stages"]}
    least = min(record["recall"], key=int)
    index, exact, build = (
        by_name[name]
        for name in (f"index searched, {least} leaves", "searched exactly", "index built and saved")
    )
    times = exact["seconds"] / exact["rows"] / (index["seconds"] / index["rows"])
    minutes, memory = build["seconds"] / 60, build["peak_memory_bytes"] / 2**30
    return (
        f"A search of {least} leaves of the index is {times:.0f} times as fast as a search of all rows, and finds "
        f"{100 * record['recall'][least]:.1f} % of the true neighbours. Building the index takes {minutes:.0f} minutes and {memory:.1f} "
        "GiB, so it pays only if many rows are searched."
    )


def scaling(record: Record) -> str:
    """How good the planner is, and what splitting saves."""
    compiled = [*record["strong"], *record["weak"]]
    off = max(abs(row["planned_memory_bytes"] / row["memory_bytes"] - 1) for row in compiled)
    first, last = record["strong"][0], min(record["strong"], key=lambda row: row["memory_bytes"])
    share = last["memory_bytes"] / first["memory_bytes"]
    more = max(row["flops"] / row["planned_flops"] - 1 for row in compiled)
    missing = (
        f" The program has up to {percent(more)} more operations than planned where item tables are split: the planner of that commit left "
        "out the empty places of an exchange, for which products are computed too; the present one counts them."
        if more > AS_FAST - 1
        else ""
    )
    return (
        f"The planner's memory is within {percent(off)} of that of the compiled program.{missing} With {last['data']} x {last['table']} "
        f"devices and `tables.users={last['users']}`, a device needs {percent(share)} of the memory of a single one. Nothing here was "
        "measured on GPUs."
    )


MEANINGS: Mapping[str, Callable[[Record], str]] = {
    "step": step,
    "step-industry": step,
    "profile": profile,
    "profile-industry": profile,
    "train": train,
    "evaluation": evaluation,
    "retrieval": retrieval,
    "neighbours": neighbours,
    "memory": memory,
    "attention": kernel_meaning.attention,
    "gru": kernel_meaning.gru,
    "kernel-errors": kernel_meaning.errors,
    "longest-kernels": kernel_meaning.longest,
    "serving": serving,
    "serving-batch": batch,
    "bank": bank,
    "scaling": scaling,
}


def meaning(name: str, record: Record) -> str:
    """What a record means.

    Args:
      name: of its file, such as "step-cpu-256" or "profile-industry-gpu".
      record: its content.

    Returns:
      Sentences; empty if no conclusion is written for this benchmark.
    """
    benchmark = name.split("-cpu")[0].split("-gpu")[0]
    return MEANINGS[benchmark](record) if benchmark in MEANINGS else ""


def _shares_of_stages(model: Record) -> dict[str, float]:
    """Of a model's busy time, forward and backward together."""
    shares: dict[str, float] = {}
    for row in model["stages"]:
        shares[row["stage"]] = shares.get(row["stage"], 0.0) + row["share"]
    return shares
