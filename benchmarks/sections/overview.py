"""The first screen of docs/performance.md: six comparisons with other software, each with a sentence that says what to conclude, and the
details that stand further down.
"""

import dataclasses
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.limits import Limits
from benchmarks.project import least_seconds
from benchmarks.sections.words import AS_FAST, OURS, PACKED, percent
from grasp_jax.core.words import all_of
from grasp_jax.report.tables import ReportTable

Record = dict[str, Any]
WIDTH = 140  # of a line of Markdown
HEADER = ["what", "grasp_jax", "best rival", "ratio", "share of the limit", "machine"]
NOTE = (
    "A ratio above 1 means that grasp_jax is faster. The best rival is the fastest other program in the same run on the same machine.\n"
    "RecTools, faiss and scann are other software; we wrote the other rivals for these comparisons. A step is one update of the model\n"
    "with one batch. The share of the limit is the part of our time that the necessary matrix products would take at the highest rate\n"
    "of the machine, measured in the same run or by the same version. Of a step, only products with text vectors count. A dash means\n"
    "that the share was not counted."
)
PADDED = (
    " Those programs pad all histories to one length. None that packs histories, or sorts them by length, was measured for this row; it "
    "would be closer to ours."
)
WITHOUT_INDEX = ("faiss flat",)  # other searches that build no index
PROFILES = {"step-cpu-256": "profile-cpu", "step-gpu-256": "profile-gpu"}  # of the same step
NAMED = {"paper_beauty": "the GRASP paper's Beauty data"}  # data by the name in a record
AIM = 2.0  # times as fast as the best program that packs


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One row, and what it means.

    Attributes:
      what: what was measured.
      ours, rival: figures with their units; `rival` names the other program.
      ratio: how many times as fast grasp_jax is.
      share: of the limit, or None.
      machine: where both ran.
      sentence: what to conclude, in a few words.
      details: why, and what the figures leave out.
    """

    what: str
    ours: str
    rival: str
    ratio: float
    machine: str
    sentence: str
    details: str
    share: float | None = None


def training(record: Record) -> Comparison | None:
    """An epoch of SASRec, against the fastest other implementation."""
    ours = record["rows"][0]
    rivals = [row for row in record["rows"] if not row["implementation"].startswith(OURS)]
    if not rivals:
        return None
    best = min(rivals, key=lambda row: row["epoch_seconds"])
    ratio = best["epoch_seconds"] / ours["epoch_seconds"]
    shared = min(row["epochs"] for row in record["rows"])
    alike = ", ".join(
        f"{100 * row['valid_ndcg'][shared - 1]:.1f} ({row['implementation']})"
        for row in record["rows"]
    )
    others = "".join(
        f" {row['implementation']} needs {row['epoch_seconds']:.0f} s."
        for row in rivals
        if row is not best
    )
    return Comparison(
        f"one epoch of SASRec without text, {_people(record['sizes'])}",
        f"{ours['epoch_seconds']:.1f} s",
        f"{best['epoch_seconds']:.0f} s ({best['implementation']})",
        ratio,
        machine(record),
        f"Training without text is {_times(ratio)} as fast as with the fastest other program."
        + (PADDED if ratio > 1 else ""),
        f"The rivals compute {record['sizes']['max_length']} positions for each history, but most histories in this data are far shorter."
        f"{others} The rivals were stopped after {shared} epochs. Validation NDCG@10 is then {alike}. With this package, all "
        f"{ours['epochs']} epochs with validation take {ours['seconds'] / 60:.0f} minutes.",
    )


def _people(sizes: Record) -> str:
    """How many users of which data."""
    return f"{sizes['users']:,} users of {NAMED.get(sizes['data'], sizes['data'])}"


def step(record: Record) -> Comparison | None:
    """A training step of GRASP, against the fastest rival; if that packs its rows as ours does, the slowest that pads is named too."""
    ours, *others = record["steps"]
    rivals = [row for row in others if not row["name"].startswith(OURS)]
    if not rivals:
        return None
    best = min(rivals, key=lambda row: row["seconds_per_step"])
    on_gpu = record["machine"]["backend"] == "gpu"
    where = "On a GPU" if on_gpu else "On a CPU"
    ratio = best["seconds_per_step"] / ours["seconds_per_step"]
    cpu = (
        "So GRASP can be trained with all texts on a CPU. The gain comes from two changes that do not change the result: no padding, and "
        "text vectors that are projected once for each distinct item of a batch."
    )
    gpu = (
        "The gain is smaller than on a CPU, because padding costs less on a GPU. A program that packs, as on a CPU, has not been measured "
        "on a GPU yet; it would be closer to ours. How much of our step is the start of its many short operations was not measured."
    )
    return Comparison(
        f"one training step of GRASP, {record['sizes']['batch_size']} users, on a {'GPU' if on_gpu else 'CPU'}",
        f"{1e3 * ours['seconds_per_step']:.3g} ms",
        f"{1e3 * best['seconds_per_step']:,.3g} ms ({_short(best['name'])})"
        if on_gpu
        else f"{1e3 * best['seconds_per_step']:,.0f} ms ({_short(best['name'])})",
        ratio,
        machine(record),
        f"{where}, a PyTorch program with our packing and factorising takes {ratio:.2f} times our time."
        + (
            " So the gain over other programs comes from packing (several histories in a row, without padding) and factorising (each "
            "distinct text of a batch is projected once), not from JAX."
            if ratio < AS_FAST
            else ""
        )
        if best["name"].startswith(PACKED)
        else f"{where}, a step is {_times(ratio)} as fast as that of the fastest program that pads histories.",
        _beside_packed(ours, rivals) if best["name"].startswith(PACKED) else gpu if on_gpu else cpu,
        record["project"]["seconds"] / ours["seconds_per_step"] if "project" in record else None,
    )


def _beside_packed(ours: Record, rivals: list[Record]) -> str:
    """The details if the best rival packs its rows; they also name the slowest rival that pads them."""
    said = "This rival is our own PyTorch program, with the same packed rows, the same factorised projection and fused Adam."
    padded = [row for row in rivals if not row["name"].startswith(PACKED)]
    if padded:
        slowest = max(padded, key=lambda row: row["seconds_per_step"])
        times = slowest["seconds_per_step"] / ours["seconds_per_step"]
        said += (
            f" The slowest program that pads, {slowest['name']}, needs {times:.0f} times our time."
        )
    return said


def why_not_twice(found: Comparison, profile: Record) -> str:
    """Why a step is not twice as fast as the best program that packs, from a profile of our step; "" if it is, or could be."""
    own = next((model for model in profile["models"] if model["model"] == "grasp-sasrec"), None)
    if PACKED not in found.rival or found.ratio >= AIM or own is None:
        return ""
    share = _needed(own, profile) / own["seconds_per_step"]
    if found.ratio / share >= AIM:
        return ""
    other = machine(profile) != found.machine
    rough = " This is a rough estimate: that profile is of another machine." if other else ""
    return (
        f" We aimed at {AIM:g} times the rival's speed, and do not reach that: {percent(share)} of our step are float32 products with text "
        f"vectors at the highest rate of the processor (`{PROFILES['step-cpu-256']}.json`, {machine(profile)}), and both programs must "
        f"compute them. A step of nothing else would be only {_figure(found.ratio / share)} times as fast as the rival's.{rough}"
    )


def versions(records: Mapping[str, Record]) -> list[str]:
    """A line of Markdown with the versions of JAX that were measured on each kind of device; empty without records."""
    found: dict[str, dict[str, None]] = {}
    for name in COMPARISONS:
        if name in records:
            about = records[name]["machine"]
            found.setdefault(about["backend"].upper(), {})[about["versions"]["jax"]] = None
    if not found:
        return []
    told = ", ".join(f"on a {device} with jax {all_of(list(own))}" for device, own in found.items())
    return [f"Measured {told}.\n"]


def serving(record: Record) -> Comparison:
    """Requests a second, against a service that answers one request at a time."""
    smallest = min(own["items"] for own in record["services"])
    ours, rival = (own for own in record["services"] if own["items"] == smallest)
    ratio = ours["largest_per_second"] / rival["largest_per_second"]
    halves = [f"{own['at_half']['p50_ms']:.1f} ms" for own in (ours, rival)]
    return Comparison(
        f"largest number of requests per second, {ours['items']:,} items",
        f"{ours['largest_per_second']:,.0f}",
        f"{rival['largest_per_second']:,.0f} ({rival['service']})",
        ratio,
        machine(record),
        f"Our service answers {_times(ratio)} as many requests as a plain service"
        + (", because it answers waiting requests together." if ratio > 1 else "."),
        "Single requests wait a little for others. With each service at half of its own largest load, the median answer takes "
        f"{halves[0]} from ours and {halves[1]} from the rival.",
    )


def retrieval(record: Record) -> Comparison | None:
    """Neighbours of all rows, against the fastest other exact or approximate search that searched all of them."""
    rows = [row for row in record["ways"] if row["queries"] == row["rows"]]
    ours = next(row for row in rows if row["way"] == "exact")
    others = [row for row in rows if row["way"] not in ("exact", "clusters")]
    if not others:
        return None
    best = min(others, key=_seconds_of_all)
    ratio = _seconds_of_all(best) / _seconds_of_all(ours)
    return Comparison(
        f"{record['sizes']['neighbours']} nearest neighbours of {ours['rows']:,} texts, building of an index included",
        f"{_seconds_of_all(ours):.0f} s",
        f"{_seconds_of_all(best):.0f} s ({best['way']})",
        ratio,
        machine(record),
        f"Our exact search is {_times(ratio)} as fast as the best other search, {best['way']}."
        + _with_index(ours, others),
        "Exact search is the default; for larger tables use `knowledge.retrieval=clusters`. Exact search computes each product once for "
        "both of its rows, so its share of the limit may be above 100 %.",
        ours["share_of_limit"],
    )


def _with_index(ours: Record, others: list[Record]) -> str:
    """What the fastest search with an index takes, and whether one is needed; empty if none was measured."""
    indexed = [row for row in others if row["way"] not in WITHOUT_INDEX]
    if not indexed:
        return ""
    best = min(indexed, key=_seconds_of_all)
    times = _seconds_of_all(best) / _seconds_of_all(ours)
    so = " So at this size you need no index." if times > 1 else ""
    return f" The fastest search with an index, {best['way']}, takes {times:.1f} times as long, the building of the index included.{so}"


def describing(record: Record) -> Comparison:
    """Answers a second of a language model's endpoint, against a client that does not check its answers."""
    run = record["runs"]["well_behaved"]
    bare = sorted(record["bare_client_rounds"])[len(record["bare_client_rounds"]) // 2]
    ratio = run["answers_per_second"] / bare
    return Comparison(
        "descriptions per second from a language model's endpoint",
        f"{run['answers_per_second']:.0f}",
        f"{bare:.0f} (bare asyncio client)",
        ratio,
        machine(record),
        f"Asking a language model safely, with every answer checked and stored, costs {100 * (1 - ratio):.0f} % of the speed.",
        "The rival checks and stores nothing. With our client, a run that is killed never pays twice for an answer that it has written.",
    )


COMPARISONS: Mapping[str, Callable[[Record], Comparison | None]] = {
    "train-cpu": training,
    "step-cpu-256": step,
    "step-gpu-256": step,
    "serving-cpu": serving,
    "retrieval-cpu": retrieval,
    "describe-cpu": describing,
}


def overview(records: Mapping[str, Record]) -> tuple[ReportTable, list[str], list[str]]:
    """The table, and for each row a Markdown line with its sentence, and one with the details and the path of the record.

    Args:
      records: by the names of `COMPARISONS` and `PROFILES`; a comparison without a record or without a rival is left out.
    """
    found = {
        name: own
        for name, compare in COMPARISONS.items()
        if name in records and (own := compare(records[name])) is not None
    }
    for name, profile in PROFILES.items():
        if name in found and profile in records and found[name].share is None:
            share = share_of_profile(records[name], records[profile])
            found[name] = dataclasses.replace(found[name], share=share)
    on_cpu, profile = next(iter(PROFILES.items()))
    if on_cpu in found and profile in records:
        said = found[on_cpu].details + why_not_twice(found[on_cpu], records[profile])
        found[on_cpu] = dataclasses.replace(found[on_cpu], details=said)
    body = [
        [
            own.what,
            own.ours,
            own.rival,
            _figure(own.ratio),
            "-" if own.share is None else f"{own.share:.0%}",
            own.machine,
        ]
        for own in found.values()
    ]
    sentences = [_item(own.sentence) for own in found.values()]
    details = [
        _item(
            f"**{own.what[0].upper()}{own.what[1:]}.** {own.details} (`benchmarks/results/{name}.json`)"
        )
        for name, own in found.items()
    ]
    return ReportTable("overview", "Against other software", HEADER, body, NOTE), sentences, details


def _item(text: str) -> str:
    """Of a Markdown list."""
    return textwrap.fill(
        f"* {text}",
        WIDTH,
        subsequent_indent="  ",
        break_on_hyphens=False,
        break_long_words=False,
    )


def share_of_profile(record: Record, profile: Record) -> float | None:
    """What the profile of a step says that its products need, over the step's time; None if it is of another machine or version."""
    about, other = record["machine"], profile["machine"]
    alike = all(about[key] == other[key] for key in ("cpu", "device", "commit"))
    own = next((model for model in profile["models"] if model["model"] == "grasp-sasrec"), None)
    if not alike or own is None:
        return None
    share: float = _needed(own, profile) / record["steps"][0]["seconds_per_step"]
    return share


def _needed(own: Record, profile: Record) -> float:
    """Seconds that the products with text vectors of a profiled model need at the device's limit."""
    dtype = profile["sizes"].get("table_dtype", "float32")
    return least_seconds(own["project"], Limits(**profile["limits"]), dtype)


def machine(record: Record) -> str:
    """Cores and processor, or the GPU."""
    about = record["machine"]
    if about["backend"] == "gpu":
        return str(about["device"])
    return f"{about['cores']} cores, {' '.join(about['cpu'].replace('(R)', '').replace('Processor', '').split())}"


def _figure(ratio: float) -> str:
    """ "26", "5.9" or "0.98"."""
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2g}"


def _times(ratio: float) -> str:
    """ "26 times", "5.9 times" or "0.98 times"."""
    return f"{_figure(ratio)} times"


def _seconds_of_all(row: Record) -> float:
    seconds: float = row["build_seconds"] + row["search_seconds"]
    return seconds


def _short(name: str) -> str:
    """The name without its part in brackets, which only tells apart the programs that pack."""
    return name if name.startswith(PACKED) else name.split(" (")[0]
