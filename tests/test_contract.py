"""Every method on every backbone through the public interface: it trains, answers, is saved and loaded, and then answers the same."""

import pathlib

import numpy as np
import pytest

import grasp_jax as gj
from grasp_jax.models.backbones import BACKBONES
from grasp_jax.models.methods import METHODS
from tests import trained
from tests.trained import SMALL, small_shop

SEEN_ELSEWHERE = (
    # Which input an ablation leaves out, and its gates: test_methods.py. A step with these gates: test_catalogue_step.py.
    "grasp_wo_attention",
    "grasp_wo_similar",
    "grasp_wo_global",
    "grasp_softmax",
    # The losses of plain are others': test_front_door.py trains sasrec_ce, and test_losses.py has the formula of gsasrec's.
    "sasrec_ce",
    "gsasrec",
    # From training to ranks: test_golden.py. Both losses: test_rlmrec.py.
    "rlmrec_con",
    "rlmrec_gen",
    # By test_baselines.py, against their formulas; the class of each is that of id_text_concat or unisrec_id.
    "id_text_sum",
    "unisrec",
)
# Each other method on one backbone, and each backbone with a method that reads texts: those of `trained`, and one more on SASRec. The
# rest are on GRU4Rec, which compiles in half of the time.
ELSEWHERE = {method: backbone for backbone, method in trained.METHODS.items()}
ON = ELSEWHERE | {"id_text_concat": "sasrec"}
QUICK = [(method, ON.get(method, "gru4rec")) for method in METHODS if method not in SEEN_ELSEWHERE]
EVERY = [(method, backbone) for method in METHODS for backbone in BACKBONES]
SLOW = [pytest.param(*pair, marks=pytest.mark.slow) for pair in EVERY if pair not in QUICK]


@pytest.fixture(scope="module")
def shop() -> gj.Dataset:
    return small_shop()


@pytest.fixture(scope="module")
def banks(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """One knowledge bank for all of them."""
    return tmp_path_factory.mktemp("banks") / "bank"


@pytest.mark.parametrize(("method", "backbone"), [*QUICK, *SLOW])
def test_method_on_backbone(
    method: str,
    backbone: str,
    shop: gj.Dataset,
    banks: pathlib.Path,
    tmp_path: pathlib.Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """A method could train and not be asked, or answer otherwise after it was saved."""
    model = gj.Recommender(method=method, backbone=backbone, knowledge__path=str(banks), **SMALL)
    if (method, backbone) in ELSEWHERE.items():  # trained already, or for others too
        model = gj.Recommender.load(trained.trained(tmp_path_factory, backbone), shop)
    else:
        model.fit(shop)
    known = model.recommend(users=shop.user_ids[:3], k=4)
    assert known.columns.tolist() == ["user", "rank", "item", "score"]
    assert (
        known["rank"].tolist() == [1, 2, 3, 4] * 3
        and known["user"].tolist() == np.repeat(shop.user_ids[:3], 4).tolist()
    )
    seen = [shop.log.items[shop.log.offsets[row] : shop.log.offsets[row + 1]] for row in range(3)]
    histories = [shop.item_ids[own].tolist() for own in seen]
    for history, (_, own) in zip(histories, known.groupby("user", sort=False), strict=True):
        assert (
            not set(history) & set(own["item"])
            and np.isfinite(own["score"]).all()
            and (np.diff(own["score"]) <= 0).all()
        )

    strangers = model.recommend(histories=[*histories, histories[0][:2]], k=4)
    assert strangers["user"].tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4
    if (
        not model.artifact.gated
    ):  # the same people; with gates their text is written from the whole history now
        np.testing.assert_array_equal(strangers["item"][:12], known["item"])
        np.testing.assert_allclose(strangers["score"][:12], known["score"], rtol=1e-4, atol=1e-5)

    model.save(tmp_path / "model")
    again = gj.Recommender.load(tmp_path / "model").recommend(
        histories=[*histories, histories[0][:2]], k=4
    )
    np.testing.assert_array_equal(again["item"], strangers["item"])
    np.testing.assert_allclose(again["score"], strangers["score"], rtol=1e-5, atol=1e-6)
    vectors = np.stack(model.item_vectors()["vector"])
    assert vectors.shape[0] == shop.log.num_items and np.isfinite(vectors).all()
    states = np.stack(model.user_vectors(histories=histories)["vector"])
    assert states.shape == (3, vectors.shape[1])
    if not model.artifact.gated:  # then a score is their product
        places = [shop.item_ids.tolist().index(item) for item in known["item"][:4]]
        np.testing.assert_allclose(
            vectors[places] @ states[0], known["score"][:4], rtol=1e-3, atol=1e-4
        )
