"""The identity of a run: runs of earlier versions can be continued."""

import json
import pathlib

from grasp_jax.config import Config, identity
from grasp_jax.provenance import difference

EARLIER = pathlib.Path(__file__).parent / "golden" / "identity.json"  # of the defaults at 6cf0f95

FORMER = {  # defaults then that are others now; whoever repeats the command of such a run has to name them
    "model.plus.id_start": "random",
    "model.plus.match_weight": 5.0,
    "model.plus.match_decay": 0.6,
}


def test_a_run_of_an_earlier_version_goes_on() -> None:
    """A new field, or one that matters since, would refuse every checkpoint there is; `before=` says how runs without it were made."""
    earlier = {"config": json.loads(EARLIER.read_text())}
    assert difference(earlier, {"config": identity(Config().with_fields(FORMER))}) == ""
