"""Stops a training whose losses or parameters are not finite, and stores the batch of that step."""

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.core.errors import TrainingDiverged
from grasp_jax.core.files import write_arrays
from grasp_jax.models.batch import WholeCatalogue
from grasp_jax.models.device_data import gather_batch
from grasp_jax.models.registration import OF_PACKAGE
from grasp_jax.training.checkpoint import Checkpoints
from grasp_jax.training.epochs import make_epoch
from grasp_jax.training.job import TrainingJob
from grasp_jax.training.replicas import Replica
from grasp_jax.training.targets import draw_targets


def check_finite(
    job: TrainingJob,
    trained: list[Replica],
    losses: np.ndarray,
    finite: np.ndarray,
    first_step: int,
    last: Checkpoints,
) -> None:
    """Checks the losses of a dispatch, and the parameters after it.

    Args:
      job: the training.
      trained: the M' replicas that the dispatch trained.
      losses: [S, M'] losses of its steps.
      finite: [M'] bool, whether all parameters are finite after the last step.
      first_step: number of the first step, counted over all epochs.
      last: the checkpoints; the message names the newest one.

    Raises:
      TrainingDiverged: a loss or a parameter is not finite.
    """
    bad = ~np.isfinite(losses)
    # Parameters that are not finite come from the update of the last step; no loss has been computed from them yet.
    bad[-1] |= ~finite
    if not bad.any():
        return
    s, m = np.argwhere(bad)[0]
    step, replica, newest = first_step + int(s), trained[m], last.newest()
    loss = losses[s, m]
    reason = f"loss {loss}" if not np.isfinite(loss) else "a parameter that is not finite"
    good = "none yet" if newest is None else last.folder / str(newest)
    what = (
        f"{job.name}, seed {replica.seed}, dropout {replica.dropout}, "
        f"learning rate {replica.learning_rate}: {reason} at step {step}"
    )
    files = f"{_store_batch(job, replica, step)}; last good checkpoint: {good}"
    raise TrainingDiverged(f"{what}; {files}; {_remedy(job)}", f"{what}; {_remedy(job)}")


def _remedy(job: TrainingJob) -> str:
    """What to do; code from outside the package is the likelier cause."""
    own = [name for name in (job.method, job.backbone) if name not in OF_PACKAGE]
    if own:
        names = " and ".join(map(repr, own))
        return f"look in your own {names} for a division by zero, or a root or logarithm of 0, or lower config.train.learning_rate"
    return "lower config.train.learning_rate or look for bad values in the embeddings"


def _store_batch(job: TrainingJob, replica: Replica, step: int) -> str:
    """Writes the batch of a step to a file that the user can inspect, and returns a sentence with its path. An error of the disk must not
    hide the divergence, so it is not raised but becomes the sentence.
    """
    if jax.process_count() > 1:
        return "one process alone would have stored its batch"
    data = job.data
    epoch, step_of_epoch = divmod(step, job.steps_per_epoch)
    slots = jnp.asarray(make_epoch(data, [replica], epoch).slots[0, step_of_epoch])
    batch, targets = draw_targets(
        jax.random.key(replica.seed),
        jnp.int32(step),
        data.device,
        gather_batch(data.device, slots),
        data.shape,
    )
    path = job.folder / f"diverged_step{step}.npz"
    negatives = targets.negatives
    drawn = np.zeros(0, np.int32)  # none by a loss over all items
    if not isinstance(negatives, WholeCatalogue):
        drawn = np.asarray(negatives.items)
    arrays = {
        "items": batch.items,
        "users": batch.segments,
        "positions": batch.positions,
        "masked": batch.masked,
        "places": targets.places.places(batch.items.size),
        "exist": targets.places.exist(batch.items.size),
        "negatives": drawn,
    }
    try:
        write_arrays(path, **{name: np.asarray(array) for name, array in arrays.items()})
    except OSError as error:
        return f"its batch could not be stored ({error.strerror or error})"
    return f"its batch is in {path}"
