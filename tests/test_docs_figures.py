"""README and docs/: figures in tables, sentences and the picture are those of the records."""

import json
import pathlib
import re
from typing import Any

import numpy as np

from benchmarks import facts, picture, readme_tables
from benchmarks.seven_days import WAYS
from benchmarks.study_labels import DEFAULT
from benchmarks.study_late_fusion import rows_of
from benchmarks.study_records import path_of, read
from benchmarks.study_trials import (
    OURS,
    RANDOM_START,
    all_parts,
    best_setting,
    main_metric,
    merged,
    tried,
)
from grasp_jax.report.runs import FinishedRun
from grasp_jax.report.table_data import trials, values

ROOT = pathlib.Path(__file__).parent.parent
DOCS = ROOT / "docs"


def test_committed_results_are_those_of_the_records() -> None:
    """docs/results.md would show figures that no record has."""
    text = readme_tables.PAGE.read_text(encoding="utf-8")
    assert text == readme_tables.results_page(), "run python -m benchmarks.readme_tables"


def test_picture_is_drawn_from_its_record() -> None:
    """The README would show recommendations that no run gave, or text that is too small to read."""
    record = json.loads(picture.RECORD.read_text())
    for figure, draw in (
        (picture.FIGURE, picture.draw),
        (picture.OF_A_PHONE, picture.draw_narrow),
    ):
        drawn = figure.read_text(encoding="utf-8")
        assert drawn == draw(record), "run python -m benchmarks.picture"
        assert all(float(size) >= 12 for size in re.findall(r"font-size: ([\d.]+)px", drawn))
        assert figure.name in (ROOT / "README.md").read_text(encoding="utf-8")
    assert picture.NARROW <= 360, "a phone would make the letters smaller than the picture says"
    assert any(item["bought_next"] for item in record["recommended"])


def readme_figures() -> dict[str, Any]:
    """What README.md says of the records by hand, computed again."""
    found = merged(read("ahead")[0])

    def ndcg(name: str, protocol: str = "full_unseen", loss: str = "cross-entropy") -> float:
        run = found[(name, loss)]
        return float(values(run, *trials(run)[0], protocol, "all", "NDCG@10").mean())

    base, decayed = ndcg("sasrec_ce"), ndcg("sasrec_ce, weight decay 1")
    wrong = {run.name: run for run in read("wrong")[0]}

    half, every = (unseen(wrong[f"wrong-{share}-full"], "grasp_plus") for share in (0.5, 1.0))
    trusted = [unseen(wrong[f"wrong-{share}-validated"], "grasp_plus") for share in (0.5, 1.0)]
    ours, towers = ndcg("grasp_plus"), leads_of_towers()
    return {
        f"falls from {ours:.2f} to {half:.2f}; with all swapped, to {{:.2f}}": every,
        f"it has {trusted[0]:.2f} and {{:.2f}}, about": trusted[1],
        "about what three ID towers without text have ({:.2f})": ndcg("three_id_towers"),
        "SASRec has an NDCG@10 of {:.2f} without seen items": base,
        "and {:.2f} with the loss of the GRASP paper": ndcg("plain", loss="BCE"),
        "is {:.0f} % ahead of SASRec when seen": 100 * (ndcg("llminit") / base - 1),
        "without text are {:.0f} % ahead": 100 * (ndcg("three_id_towers") / base - 1),
        f"is {domain_lead('industrial'):.0f} % and {{:.0f}} % ahead of SASRec on two": domain_lead(
            "office"
        ),
        f"(three ID towers: {towers[0]:.0f} % and {{:.0f}} %": towers[1],
        "20 epochs, it is {:.0f} % ahead": domain_lead("toys"),
        "left out, with our match {:.0f} %": 100 * (ndcg("idtext_and_match") / base - 1),
        "the lead over SASRec is {:.0f} %": 100
        * (ndcg(DEFAULT, "full") / ndcg("sasrec_ce", "full") - 1),
        f"with weight decay SASRec has {decayed:.2f}, so the lead is {{:.0f}} %": 100
        * (ndcg(DEFAULT) / decayed - 1),
    }


def test_figures_of_the_readme_are_those_of_the_records() -> None:
    """A figure in a sentence of the README would be another than the record's."""
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    for sentence, value in readme_figures().items():
        assert sentence.format(value) in text, sentence.format(value)
    assert " ".join(facts.facts()[0].split()) in text, "run python -m benchmarks.studies"


def domain_ndcg(domain: str) -> dict[str, float]:
    """NDCG@10 without seen items in percent of each row of another domain, of the longest training."""
    rows = rows_of("domains", f"domain-{domain}")
    longest = max(run.config["train"]["max_epochs"] for run in rows.values())
    return {
        row.split(", ")[0]: main_metric(run).mean()
        for row, run in rows.items()
        if run.config["train"]["max_epochs"] == longest
    }


def leads_of_towers() -> list[float]:
    """How far three ID towers without text are ahead of SASRec on the two shops, percent."""
    shops = map(domain_ndcg, ("industrial", "office"))
    return [100 * (shop["three_id_towers"] / shop["sasrec_ce"] - 1) for shop in shops]


def domain_lead(domain: str, other: str = "sasrec_ce") -> float:
    """How far `grasp_plus` is ahead on data of another domain, percent: with IDs that start at random, of which there are most runs, or
    else with the former defaults.
    """
    ndcg = domain_ndcg(domain)
    return 100 * (ndcg.get(RANDOM_START, ndcg[OURS]) / ndcg[other] - 1)


def short_sentence() -> str:
    """What docs/studies.md says by hand of histories of four interactions."""
    leads: list[float] = []
    for name in ("short-industrial", "short-office"):
        ndcg = {
            row.split(", ")[0]: main_metric(run).mean()
            for row, run in rows_of("short", name).items()
        }
        leads += [100 * (ndcg[DEFAULT] / ndcg[other] - 1) for other in ("sasrec_ce", "llminit")]
    return (
        "`grasp_plus` is {:.0f} % ahead of SASRec and {:.0f} % ahead of LLMInit on Industrial and Scientific, and {:.0f} % and {:.0f} % "
        "on Office Products"
    ).format(*leads)


def percent(value: float, other: float) -> str:
    """How far a value is above another."""
    return f"{100 * (value / other - 1):.0f} %"


def unseen(run: FinishedRun, method: str) -> float:
    """NDCG@10 without seen items in percent, the mean over seeds."""
    return float(values(run, method, "sasrec", "full_unseen", "all", "NDCG@10").mean())


def studies_sentences() -> list[str]:
    """What docs/studies.md says of the records by hand, with the figures computed again."""
    runs = {run.name: run for name in ("shops", "splits", "wrong") for run in read(name)[0]}
    found = merged(read("ahead")[0])
    of_rows = {trial: unseen(run, trials(run)[0][0]) for trial, run in found.items()}
    ours, sasrec, llminit = (
        of_rows[name, "cross-entropy"] for name in (DEFAULT, "sasrec_ce", "llminit")
    )
    matched, towers_of_text = (
        of_rows[name, "cross-entropy"] for name in ("idtext_and_match", "three_idtext_towers")
    )
    three_towers = of_rows["three_id_towers", "cross-entropy"]
    in_full, of_sasrec = (
        values(
            found[name, "cross-entropy"],
            *trials(found[name, "cross-entropy"])[0],
            "full",
            "all",
            "NDCG@10",
        ).mean()
        for name in (DEFAULT, "sasrec_ce")
    )
    every_wrong = runs["wrong-1.0-idtext"]
    every_wrong_full = values(every_wrong, OURS, "sasrec", "full", "all", "NDCG@10").mean()
    one_tower = found["id_and_validated_match", "cross-entropy"]
    on_tail = values(
        one_tower, "grasp_plus", "sasrec", "full_unseen", "tail_item", "NDCG@10"
    ).mean()
    gsasrec = of_rows["gsasrec", "gBCE"]
    as_public = of_rows["sasrec_ce, 200 epochs", "cross-entropy"]
    decayed = of_rows["sasrec_ce, weight decay 1", "cross-entropy"]
    bce = {name: of_rows[name, "BCE"] for name in ("plain", "llminit")}

    def lead(run: str, other: str) -> str:
        return f"{100 * (unseen(runs[run], 'grasp_plus') / unseen(runs[run], other) - 1):.0f} %"

    def three(run: str) -> tuple[str, float, float]:
        """The sentence of a split with grasp_plus, LLMInit and SASRec, and how far the first is ahead of the others."""
        own, llminit, sasrec = (
            unseen(runs[name], method)
            for name, method in (
                (run, "grasp_plus"),
                (f"{run}-llminit", "llminit"),
                (run, "sasrec_ce"),
            )
        )
        said = f"`grasp_plus` has {own:.2f} without seen items, LLMInit {llminit:.2f} and SASRec {sasrec:.2f}"
        return said, 100 * (own / llminit - 1), 100 * (own / sasrec - 1)

    by_default, half_wrong = (
        unseen(runs[f"wrong-0.5-{name}"], "grasp_plus") for name in ("full", "validated")
    )
    shops = "shop-skin-long", "shop-hair-long"
    skin, hair = (lead(run, "sasrec_ce") for run in shops)
    of_llminit, of_llm_esr = (
        " and ".join(lead(run, other) for run in shops) for other in ("llminit", "llm_esr")
    )
    short = " and ".join(lead(run, "sasrec_ce") for run in ("shop-skin", "shop-hair"))
    industrial, office, toys = (
        tuple(f"{domain_lead(domain, other):.0f} %" for other in ("sasrec_ce", "llminit"))
        for domain in ("industrial", "office", "toys")
    )
    films = domain_ndcg("movies")
    movies = [percent(films[OURS], films[other]) for other in ("sasrec_ce", "llminit")]
    two = [domain_ndcg(domain) for domain in ("industrial", "office")]
    towers = leads_of_towers()
    matches = [f"{shop[name]:.2f}" for name in (OURS, RANDOM_START, DEFAULT) for shop in two]
    (ties, *of_ties), (time, *of_time) = three("split-ties"), three("split-time")
    return [
        f"{100 * (ours / sasrec - 1):.0f} % ahead of SASRec without text and {100 * (ours / llminit - 1):.0f} % ahead of LLMInit",
        f"ours has {as_public:.2f} (one seed), and `grasp_plus` is {100 * (ours / as_public - 1):.0f} % ahead of it",
        f"Ours has {decayed:.2f} with weight decay (three seeds), where the lead is {100 * (ours / decayed - 1):.0f} %, and "
        f"{as_public:.2f} after 200 epochs (one seed), where it is {100 * (ours / as_public - 1):.0f} %",
        f"add the match ({unseen(one_tower, 'grasp_plus'):.2f})",
        f"One ID tower with the match has {on_tail:.2f} there",
        f"`grasp_plus` stays {100 * (by_default / sasrec - 1):.0f} % ahead of SASRec with the default trust, and "
        f"{100 * (half_wrong / sasrec - 1):.0f} % ahead with learned trust",
        f"yes, trained for longer: {skin} (Skin Care) and {hair} (Hair Care)",
        f"With 20 epochs, as on all of the data, it would be {short} over SASRec",
        f"over SASRec {industrial[0]} (Industrial and Scientific) and {office[0]} (Office Products), over LLMInit {industrial[1]} and "
        f"{office[1]}; less where texts are six words (Toys and Games: {toys[0]} and {toys[1]})",
        f"{industrial[0]} ahead of SASRec on Industrial and Scientific and {office[0]} on Office Products, {industrial[1]} and {office[1]} "
        f"ahead of LLMInit",
        f"without text are only {towers[0]:.0f} % and {towers[1]:.0f} % ahead of SASRec",
        f"has {matches[0]} and {matches[1]} on the two shops (100 epochs, one run each), the match that validation chose there "
        f"{matches[2]} and {matches[3]}",
        f"IDs that start from text make no difference either: {matches[4]} and {matches[5]} (one run each)",
        f"`grasp_plus` has an NDCG@10 of {ours:.2f}. It is {percent(ours, sasrec)} ahead of SASRec with IDs alone and the same loss "
        f"({sasrec:.2f}), and {percent(ours, llminit)} ahead of LLMInit with cross-entropy ({llminit:.2f})",
        f"{percent(ours, matched)} ahead of LLMInit with our match, the strongest simple rival",
        f"Three ID towers without text have {three_towers:.2f}, and `grasp_plus` is {percent(ours, three_towers)} ahead of them",
        f"which are three LLMInit, have {towers_of_text:.2f} (one seed): `grasp_plus` is {percent(ours, towers_of_text)} ahead. LLMInit "
        f"with the match has {matched:.2f}: {percent(ours, matched)} ahead",
        f"`grasp_plus` is {percent(in_full, of_sasrec)} ahead of SASRec ({in_full:.2f} against {of_sasrec:.2f})",
        f"has {unseen(every_wrong, OURS):.2f} with all texts wrong, {percent(unseen(every_wrong, OURS), sasrec)} more than SASRec, and "
        f"{every_wrong_full:.2f} by `full`",
        f"than LLMInit. The text tower and the company tower add the last {percent(ours, matched)}",
        f"{toys[0]} ahead of SASRec and {toys[1]} ahead of LLMInit, with 20 epochs",
        f"{movies[0]} ahead of SASRec and {movies[1]} ahead of LLMInit, but both intervals contain 0",
        f"With today's defaults it has {films[DEFAULT]:.2f}, with IDs that start at random {films[RANDOM_START]:.2f}, and SASRec "
        f"{films['sasrec_ce']:.2f} (one run each)",
        "yes: over SASRec {1:.0f} % and {3:.0f} %, over LLMInit {0:.0f} % and {2:.0f} %".format(
            *of_time, *of_ties
        ),
        f"it is {skin} ahead of SASRec on Skin Care and {hair} on Hair Care, {of_llminit} ahead of LLMInit, "
        f"and {of_llm_esr} ahead of LLM-ESR",
        ties
        + ". So `grasp_plus` is {:.0f} % ahead of LLMInit and {:.0f} % ahead of SASRec".format(
            *of_ties
        ),
        time + ", so `grasp_plus` is {:.0f} % and {:.0f} % ahead".format(*of_time),
        f"SASRec {sasrec:.2f} instead of {bce['plain']:.2f}, LLMInit {llminit:.2f} instead of {bce['llminit']:.2f}",
        f"without cross-entropy: {gsasrec:.2f}, {100 * (gsasrec / bce['plain'] - 1):.0f} % more than SASRec with BCE, and "
        f"{100 * (1 - gsasrec / sasrec):.0f} % less than SASRec with cross-entropy",
    ]


def test_what_studies_says_of_films_is_in_the_record() -> None:
    """A lead would be called chance, or a part left out, although the record says otherwise."""
    stored = json.loads(path_of("domains").read_text())["runs"]
    films, toys = (
        next(run for run in stored if run["name"] == name)
        for name in ("domain-movies-long", "domain-toys")
    )
    pairs = [
        pair
        for pair in films["results"]["comparisons"]
        if (pair["protocol"], pair["second"]) == ("full_unseen", "grasp_plus")
        and pair["first"] in ("sasrec_ce", "llminit")
    ]
    assert len(pairs) == 2 and all(pair["low"] <= 0 <= pair["high"] for pair in pairs)
    assert [run["parts"][0]["left_out"] for run in (films, toys)] == [["match"], ["match"]]
    sasrec, ours = (
        100 * max(own["valid_ndcg@10"] for own in films["epochs"] if own["method"] == method)
        for method in ("sasrec_ce", "grasp_plus")
    )
    without = 100 * films["parts"][0]["valid_ndcg@10"][1]
    text = " ".join((DOCS / "studies.md").read_text(encoding="utf-8").split())
    assert (
        f"({sasrec:.2f} against {ours:.2f}), and behind it without the match ({without:.2f})"
        in text
    )


def weight_decay_sentences() -> list[str]:
    """What docs/studies.md says by hand of weight decay, and of an ID tower that starts from text."""
    runs = read("ahead")[0]
    parts = {name: own for (name, by), own in all_parts(runs).items() if by == "cross-entropy"}
    found = merged(runs)
    test = {
        name: unseen(run, trials(run)[0][0])
        for (name, by), run in found.items()
        if by == "cross-entropy"
    }

    def valid(name: str) -> float:
        """Best validation NDCG@10 in percent, the mean over seeds, with the setting that was chosen."""
        return 100 * float(np.mean(tried(parts[name])[best_setting(parts[name])]))

    sasrec, decayed = "sasrec_ce", "sasrec_ce, weight decay 1"
    little, much = (valid(f"llminit, weight decay {decay}") for decay in ("0.1", "1"))
    (dropout, rate), scores = best_setting(parts[decayed]), tried(parts[decayed])
    (other,) = (100 * np.mean(own) for setting, own in scores.items() if setting != (dropout, rate))
    (alone,) = (100 * own for own in tried(parts[sasrec])[dropout, rate])
    tails = [
        values(
            found[name, "cross-entropy"], sasrec, "sasrec", "full_unseen", "tail_item", "NDCG@10"
        )
        for name in (decayed, sasrec)
    ]
    return [
        f"a weight decay of 1 with dropout {dropout:g} ({valid(decayed):.2f} instead of {valid(sasrec):.2f}; without the decay this "
        f"dropout has {alone:.2f}, and with dropout 0.5 the decay has {other:.2f})",
        f"it has {test[decayed]:.2f} instead of {test[sasrec]:.2f} (three seeds",
        f"on tail items {tails[0].mean():.2f} instead of {tails[1].mean():.2f}",
        f"gains nothing by 0.1 ({little:.2f} and {valid('llminit'):.2f} in validation) and loses by 1 ({much:.2f})",
        f"loses by 1 ({valid(f'decay1-{RANDOM_START}'):.2f}, one seed, instead of {valid(RANDOM_START):.2f}, the mean of five, with",
        f"({valid('id_text_sum, weight decay 1'):.2f} instead of {valid('id_text_sum'):.2f}, "
        f"{valid('llm_esr, weight decay 1'):.2f} instead of {valid('llm_esr'):.2f}, one seed each)",
        f"({test['id_text_sum, weight decay 1']:.2f} instead of {test['id_text_sum']:.2f}, "
        f"{test['llm_esr, weight decay 1']:.2f} instead of {test['llm_esr']:.2f})",
        f"gains a little: {test[DEFAULT]:.2f} instead of {test[RANDOM_START]:.2f}, and {valid(DEFAULT):.2f} instead of "
        f"{valid(RANDOM_START):.2f} in validation",
        f"the lead is {100 * (test[DEFAULT] / test[decayed] - 1):.0f} % instead of {100 * (test[DEFAULT] / test[sasrec] - 1):.0f} %",
    ]


def match_sentences() -> list[str]:
    """What docs/studies.md says by hand of the recorded search of the match."""
    records = (path_of(name) for name in ("match", "match-two-towers"))
    runs = [run for record in records for run in json.loads(record.read_text())["runs"]]
    three, one, two = (
        next(run for run in runs if run["towers"] == towers)
        for towers in ([1, 1, 1], [1, 0, 0], [1, 0, 1])
    )

    def test(
        run: dict[str, Any], of: str, group: str = "all", protocol: str = "full_unseen"
    ) -> float:
        rows = [row for row in run[f"test_{of}"] if row["protocol"] == protocol]
        own = [row["NDCG@10"] for row in rows if row["group"] == group]
        assert len(own) == 2
        return 100 * sum(own) / len(own)

    searched = [one for one in three["searched"] if one["weight"]]
    ranked = sorted(searched, key=lambda own: -sum(own["valid_ndcg@10"]))
    names = ("weight", "rare", "decay")
    first, own = (
        next(k for k, tried in enumerate(ranked) if all(tried[n] == three[of][n] for n in names))
        for of in ("chosen", "config")
    )
    assert (first, own) == (0, 1)
    valid = [50 * sum(ranked[place]["valid_ndcg@10"]) for place in (first, own)]
    assert f"{valid[0]:.2f}" == f"{valid[1]:.2f}"
    tails = [test(run, of, "tail_item") for of in ("chosen", "config") for run in (three, one)]
    return [
        f"the second of {len(searched)} in validation, {valid[0]:.2f} like the first",
        f"the first has {test(three, 'chosen'):.2f} and ours {test(three, 'config'):.2f} (two runs each)",
        f"in tail items ({tails[0]:.2f} against {tails[2]:.2f})",
        f"has {test(one, 'chosen'):.2f} instead of {test(one, 'config'):.2f} with the setting of the search",
        f"on tail items the two are then alike ({tails[1]:.2f} and {tails[0]:.2f})",
        f"Two towers have {test(two, 'chosen'):.2f} instead of {test(two, 'config'):.2f}, and on tail items "
        f"{test(two, 'chosen', 'tail_item'):.2f} instead of {test(two, 'config', 'tail_item'):.2f}",
        f"they have {test(two, 'chosen'):.2f} (`full`: {test(two, 'chosen', protocol='full'):.2f}), and three towers in runs with "
        f"the same two seeds {test(three, 'chosen'):.2f} ({test(three, 'chosen', protocol='full'):.2f})",
        f"{100 * (1 - test(two, 'chosen') / test(three, 'chosen')):.0f} % with matches that validation chose "
        f"({test(two, 'chosen'):.2f} instead of {test(three, 'chosen'):.2f}, two seeds)",
    ]


def seven_sentences() -> list[str]:
    """What docs/studies.md says by hand of daily training on Amazon Beauty."""
    stored = json.loads(path_of("seven").read_text())["runs"]
    runs = {run["settings"].get("daily_replay"): run for run in stored}
    means, days = runs[3]["means"], runs[3]["days"]
    first, on, nothing = (100 * means[way]["NDCG@10"] for way in WAYS)

    def loss(run: dict[str, Any]) -> str:
        of_nothing, less = run["means"][WAYS[2]]["NDCG@10"], run["differences"][WAYS[1]]
        return (
            f"{-100 * less['mean'] / of_nothing:.1f} % (± {196 * less['error'] / of_nothing:.1f})"
        )

    def share(run: dict[str, Any]) -> str:
        spent = [run["means"][way]["processor_seconds"] for way in WAYS[1:]]
        return f"{100 * spent[0] / spent[1]:.0f} %"

    changes = []
    for day in range(1, 7):
        own = {row["way"]: row["NDCG@10"] for row in days if row["day"] == day}
        changes.append(f"{100 * (own['continued'] / own['from nothing'] - 1):+.1f}")
    assert 0.3 < 1 - first / nothing < 0.36
    three, five = (f"in {share(runs[replay])} of" for replay in (3, 5))
    return [
        f"{loss(runs[3])} less NDCG@10 than training from nothing in every step, {three} its",
        f"loses {loss(runs[3])} of the NDCG@10 of training from nothing, {on:.2f} against {nothing:.2f}, {three} its",
        f"instead of three, it loses {loss(runs[5])} {five} the processor",
        f"loses a third ({first:.2f})",
        f"chosen setting are {', '.join(changes[:-1])} and {changes[-1]} %",
    ]


def defaults_sentences() -> list[str]:
    """What docs/studies.md says of the settings that `init` writes."""
    runs = {run.name: run for run in read("defaults")[0]}

    def ours(name: str) -> float:
        return unseen(runs[f"defaults-{name}"], "grasp_plus")

    def lead(name: str) -> float:
        return 100 * (ours(name) / unseen(runs[f"defaults-{name}"], "sasrec_ce") - 1)

    toys = unseen(runs["best-toys"], "grasp_plus")
    (before,) = (run for run in read("domains")[0] if run.name == "domain-toys")
    return [
        f"`grasp_plus` is {lead('industrial'):.0f} % ahead of SASRec on Industrial and Scientific, {lead('office'):.0f} % on Office "
        f"Products and {lead('movies'):.0f} % on MovieLens",
        f"`grasp_plus` had {ours('movies-earlier'):.2f}, {-lead('movies-earlier'):.0f} % less than SASRec",
        f"the test NDCG@10 is {ours('movies'):.2f}",
        f"({ours('industrial'):.2f} instead of {ours('industrial-earlier'):.2f})",
        f"{toys:.2f} instead of {unseen(before, 'grasp_plus'):.2f}, {100 * (toys / unseen(before, 'sasrec_ce') - 1):.0f} % ahead of SASRec "
        f"instead of {domain_lead('toys'):.0f} %",
    ]


def choosing_sentences() -> list[str]:
    """What docs/choosing.md says by hand of the study `ahead`."""
    found = merged(read("ahead")[0])

    def ndcg(name: str, group: str = "all") -> float:
        run = found[name, "cross-entropy"]
        return float(values(run, *trials(run)[0], "full_unseen", group, "NDCG@10").mean())

    ours, matched = ndcg(DEFAULT), ndcg("idtext_and_match")
    tails = [
        ndcg(name, "tail_item") for name in ("id_and_match", "id_and_validated_match", DEFAULT)
    ]
    return [
        f"it is {percent(ours, ndcg('sasrec_ce'))} ahead of SASRec, and {percent(ours, matched)} ahead of LLMInit with the match",
        f"one ID tower with a match set by hand is best ({tails[0]:.2f}); with matches that validation chose, it is about as good as "
        f"`grasp_plus` ({tails[1]:.2f} and {tails[2]:.2f})",
    ]


def test_figures_of_choosing_are_those_of_the_records() -> None:
    """The advice would rest on figures that no record has."""
    text = " ".join((DOCS / "choosing.md").read_text(encoding="utf-8").split())
    for sentence in choosing_sentences():
        assert sentence in text, sentence


def test_figures_of_the_studies_are_those_of_the_records() -> None:
    """A figure in a sentence of docs/studies.md would be another than the record's, above all in the table at its beginning."""
    text = " ".join((DOCS / "studies.md").read_text(encoding="utf-8").split())
    for sentence in (
        studies_sentences()
        + match_sentences()
        + weight_decay_sentences()
        + [short_sentence()]
        + seven_sentences()
        + defaults_sentences()
    ):
        assert sentence in text, sentence
