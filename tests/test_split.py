"""Leave-one-out, head and tail groups, and the statistics of the paper's Table 1."""

import pathlib
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import beauty, fashion
from grasp_jax.config import ColumnsConfig, Config
from grasp_jax.data.groups import head_tail_groups, paper_counts, statistics
from grasp_jax.data.log import InteractionLog, build_log
from grasp_jax.data.split import Histories, Split, leave_one_out
from tests.logs import read_interactions, read_log
from tests.refusal import refusal

DATA = pathlib.Path(__file__).parents[2] / "shared" / "data"
PAPER_BEAUTY = DATA / "paper_beauty" / "inter.txt"
QUICK = settings(max_examples=80, deadline=None, derandomize=True)


def log_of(histories: list[list[int]], num_items: int = 10) -> InteractionLog:
    users = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    return build_log(
        "hand",
        users,
        np.concatenate([np.array(history, int) for history in histories]),
        catalogue=np.arange(num_items),
    )


def windows(log: InteractionLog, histories: Histories) -> list[list[int]]:
    return [
        log.items[start:end].tolist()
        for start, end in zip(histories.start, histories.end, strict=True)
    ]


def test_split_by_hand() -> None:
    """Would break every number: the last item is the test target, the one before it the validation target, the rest is training."""
    log = log_of([[5, 6, 7, 8, 9], [1, 2, 3], [4, 5], [6]])
    split = leave_one_out(log, max_length=10)
    assert windows(log, split.train) == [[5, 6, 7], [1], [4, 5], [6]]
    assert windows(log, split.valid)[:2] == [[5, 6, 7], [1]] and split.valid.target.tolist() == [
        8,
        2,
        -1,
        -1,
    ]
    assert windows(log, split.test)[:2] == [
        [5, 6, 7, 8],
        [1, 2],
    ] and split.test.target.tolist() == [9, 3, -1, -1]
    assert split.train.target.tolist() == [-1] * 4 and split.train.lengths.tolist() == [3, 1, 2, 1]


def test_short_users_are_trained_on_and_not_evaluated() -> None:
    """Would break the protocol: users with one or two interactions give training data and no score."""
    split = leave_one_out(log_of([[1, 2, 3], [4, 5], [6]]), max_length=10)
    assert split.valid.evaluated.tolist() == [0] and split.test.evaluated.tolist() == [0]
    assert split.train_lengths.tolist() == [1, 2, 1] and split.item_counts.tolist() == [
        0,
        1,
        0,
        0,
        1,
        1,
        1,
        0,
        0,
        0,
    ]


def test_include_short_users_reproduces_llm_esr() -> None:
    """Would break the comparison with LLM-ESR: users with two interactions are scored on the item they were trained on."""
    log = log_of([[1, 2, 3], [4, 5], [6]])
    split = leave_one_out(log, max_length=10, include_short_users=True)
    assert windows(log, split.train) == [[1], [4, 5], [6]], "what is trained on stays as it was"
    for part in (split.valid, split.test):
        assert part.evaluated.tolist() == [0, 1], (
            "a user with one interaction has no history to be scored on"
        )
        assert windows(log, part)[1] == [4] and part.target[1] == 5


def test_windows_keep_the_newest_items() -> None:
    """Would break long histories: max_length items are seen, and training has one more, whose last is only a target."""
    log = log_of([[0, 1, 2, 3, 4, 5, 6, 7], [1, 2, 3]])
    split = leave_one_out(log, max_length=3)
    assert windows(log, split.train)[0] == [2, 3, 4, 5]
    assert windows(log, split.valid)[0] == [3, 4, 5] and windows(log, split.test)[0] == [4, 5, 6]
    assert [
        part[1]
        for part in (windows(log, split.train), windows(log, split.valid), windows(log, split.test))
    ] == [[1], [1], [1, 2]]
    assert (split.valid.target[0], split.test.target[0]) == (6, 7), (
        "targets do not move with the window"
    )


def test_counts_are_of_the_uncut_training_part() -> None:
    """Would break tail groups: frequency counts all training interactions, however short the windows, and nothing else."""
    log = log_of([[0, 0, 1, 2, 3, 4], [4, 4], [0, 5, 6]])
    for max_length in (1, 2, 100):
        split = leave_one_out(log, max_length)
        assert split.item_counts.tolist() == [3, 1, 1, 0, 2, 0, 0, 0, 0, 0]
        assert split.train_lengths.tolist() == [4, 2, 1]


@QUICK
@given(
    st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=9), min_size=1, max_size=12),
    st.integers(1, 6),
    st.booleans(),
)
def test_split_equals_slicing(
    histories: list[list[int]], max_length: int, include_short_users: bool
) -> None:
    """Would break the offsets of some user among others: every window and target is compared with Python's slices."""
    histories = [[1, 2, 3], *histories]
    log = log_of(histories)
    split = leave_one_out(log, max_length, include_short_users)
    counts = np.zeros(10, int)
    for row, history in enumerate(histories):
        train = history[:-2] if len(history) >= 3 else history
        np.add.at(counts, train, 1)
        assert windows(log, split.train)[row] == train[-(max_length + 1) :]
        scored = len(history) >= 3 or (len(history) == 2 and include_short_users)
        assert (row in split.test.evaluated, row in split.valid.evaluated) == (scored, scored)
        if scored:
            before = history[:-2] if len(history) >= 3 else history[:1]
            assert (
                windows(log, split.valid)[row] == before[-max_length:]
                and split.valid.target[row] == history[len(before)]
            )
            assert (
                windows(log, split.test)[row] == history[:-1][-max_length:]
                and split.test.target[row] == history[-1]
            )
    assert split.item_counts.tolist() == counts.tolist()


def test_nobody_to_evaluate_is_refused() -> None:
    """Would break with an empty result table instead of a message where every history is short."""
    assert (
        refusal(leave_one_out, log_of([[1, 2], [3]]), 10)
        == "hand: no user has 3 interactions, so nothing can be evaluated"
    )


def split_with(train_lengths: list[int], item_counts: list[int]) -> Split:
    """A split whose users have these training lengths, and items these training counts (equal sums)."""
    items = np.repeat(np.arange(len(item_counts)), item_counts)
    parts = np.split(items, np.cumsum(train_lengths)[:-1])
    split = leave_one_out(log_of([[*part.tolist(), 0, 0] for part in parts], len(item_counts)), 100)
    assert (
        split.train_lengths.tolist() == train_lengths and split.item_counts.tolist() == item_counts
    )
    return split


def test_groups_by_given_thresholds() -> None:
    """Would break the paper's groups: tail is fewer than the threshold, and the threshold itself is head."""
    groups = head_tail_groups(
        split_with([1, 2, 3, 4], [4, 3, 2, 1]), tail_user_below=3, tail_item_below=2
    )
    assert groups.tail_user.tolist() == [
        True,
        True,
        False,
        False,
    ] and groups.tail_item.tolist() == [False, False, False, True]
    assert (groups.tail_user_below, groups.tail_item_below) == (3, 2)


def test_pareto_by_hand() -> None:
    """Would break groups where no threshold is given: with nine items of ten bought once, those nine are the tail."""
    groups = head_tail_groups(split_with([7, 7], [1] * 9 + [5]))
    assert groups.tail_item_below == 2 and groups.tail_item.tolist() == [True] * 9 + [False]
    assert groups.tail_user.all(), "among equal counts no split exists, and all are tail"
    only_users = head_tail_groups(split_with([7, 7], [1] * 9 + [5]), tail_user_below=4)
    assert only_users.tail_user_below == 4 and only_users.tail_item_below == 2, (
        "one threshold given, the other chosen"
    )


@QUICK
@given(st.lists(st.integers(1, 12), min_size=1, max_size=40))
def test_pareto_puts_four_fifths_into_the_tail(counts: list[int]) -> None:
    """Would break the Pareto rule's promise: at least 80 % are tail."""
    groups = head_tail_groups(split_with([sum(counts)], counts))
    assert np.mean(np.array(counts) < groups.tail_item_below) >= 0.8
    assert groups.tail_item.tolist() == [count < groups.tail_item_below for count in counts]


def test_pareto_threshold_is_the_smallest() -> None:
    """Would break the documented rule: with counts 1 to 10, "below 9" is 80 % already, so 9 is not tail."""
    counts = list(range(1, 11))
    smallest = min(below for below in range(1, 12) if np.mean(np.array(counts) < below) >= 0.8)
    assert (
        smallest == 9 and head_tail_groups(split_with([sum(counts)], counts)).tail_item_below == 9
    )


def test_statistics_by_hand() -> None:
    """Would break the comparison with Table 1: every column of a small log, worked out by hand."""
    split = leave_one_out(log_of([[0, 1, 2, 3], [0, 1, 2], [4, 4], [5]], num_items=8), 100)
    assert statistics(split, head_tail_groups(split, 2, 3)) == {
        "dataset": "hand",
        "users": 4,
        "items": 8,
        "interactions": 10,
        "avg_length": 2.5,
        "sparsity": 100 * (1 - 10 / 32),
        "tail_user_below": 2,
        "tail_item_below": 3,
        "evaluated_users": 2,
        "unseen_in_training": 4,  # 2, 3, 6, 7
    }


@pytest.mark.skipif(
    not PAPER_BEAUTY.exists(), reason="the paper's Beauty is not beside the repository"
)
def test_paper_beauty_has_the_papers_numbers() -> None:
    """Would break the comparison with the paper's Table 1, and with LLM-ESR's number of evaluated users."""
    log = read_log(PAPER_BEAUTY, "beauty", {})
    split = leave_one_out(log, 100)
    facts = statistics(split, head_tail_groups(split))
    assert (facts["users"], facts["items"], facts["interactions"]) == (52_204, 57_289, 394_908)
    assert facts["unseen_in_training"] == 5_804 and facts["evaluated_users"] == 52_204 - 460 - 1_246
    assert len(leave_one_out(log, 100, include_short_users=True).test.evaluated) == 52_204 - 460


def test_groups_of_the_paper_count_as_its_code() -> None:
    """Table 3 would be compared with other groups than the paper's: test histories, and distinct users of an item over all splits."""
    items = [0, 1, 2, 0, 0, 0, 3, 1, 2, 4]
    log = build_log("x", np.array([1, 1, 1, 1, 2, 2, 2, 3, 3, 4]), np.array(items))
    split = leave_one_out(log, 2)  # the windows, which are cut, decide nothing
    lengths, users_of_items = paper_counts(split)
    assert lengths.tolist() == [3, 2, 1, 0]
    assert users_of_items.tolist() == [2, 2, 2, 1, 1]  # item 0 four times, by two users
    groups = head_tail_groups(split, 3, 2, "paper")
    assert groups.tail_user.tolist() == [False, True, True, True]
    assert groups.tail_item.tolist() == [False, False, False, True, True]
    pareto = head_tail_groups(split, counted="paper")
    assert (pareto.tail_user_below, pareto.tail_item_below) == (4, 3)
    assert head_tail_groups(split).tail_item.tolist() != groups.tail_item.tolist()


@pytest.mark.parametrize(
    ("name", "config", "users", "items", "ours"),
    [
        ("beauty", beauty, 0.8203, 0.1925, (0.848, 0.358)),
        ("fashion", fashion, 0.5647, 0.2849, (0.855, 0.483)),
    ],
)
def test_groups_have_the_shares_of_the_papers_tables(
    name: str, config: ModuleType, users: float, items: float, ours: tuple[float, float]
) -> None:
    """From overall, tail and head figures follows which share of the test users, all of them, are of the tail.

    Medians over the rows and metrics of Tables 2 and 3: 0.820 and 0.1925 on Beauty, 0.5647 and 0.2847 on Fashion.
    """
    path = DATA / f"paper_{name}" / "inter.txt"
    if not path.exists():
        pytest.skip("the paper's data are not here")
    own = Config.from_dict(config.get_config().to_dict())
    log = read_interactions(path, name, ColumnsConfig().to_dict())[0]
    split = leave_one_out(log, own.data.max_length)
    below = own.data.tail_user_below, own.data.tail_item_below
    last = log.items[log.offsets[1:] - 1]
    groups = head_tail_groups(split, *below, own.eval.groups)
    shares = groups.tail_user.mean(), groups.tail_item[last].mean()
    np.testing.assert_allclose(shares, [users, items], atol=5e-5)
    groups, tested = head_tail_groups(split, *below), split.test.evaluated
    shares = groups.tail_user[tested].mean(), groups.tail_item[split.test.target[tested]].mean()
    np.testing.assert_allclose(shares, ours, atol=5e-4)
