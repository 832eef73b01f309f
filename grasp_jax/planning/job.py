"""`--mode=plan`: time and dollars of the whole job, stage by stage: from rates that were measured, from data sheets, and from assumptions.

Every stage says where its seconds are from. A stage that nobody has measured is not counted, and its line says so.
"""

from collections.abc import Iterator

from grasp_jax.planning import rates
from grasp_jax.planning.stages import CORES, DEVICES, HOST, Job, Stage, measured, source
from grasp_jax.planning.step import step_seconds, total_seconds
from grasp_jax.planning.text_stages import text_stages
from grasp_jax.planning.workload import FLOAT, Workload

ONE_EPOCH = "an epoch"
SCORE_PASSES = 4  # of a block of scores through a device's memory: written, masked, compared twice


def stages(job: Job) -> Iterator[Stage]:
    """The stages of a job, in order."""
    config, work = job.config, job.work
    yield measured("read", work.interactions, "interactions", rates.READ, what="string ids")
    yield measured("split and pack", work.interactions, "interactions", rates.PACK, CORES)
    if work.width:
        yield from text_stages(job)
    yield _compilation()
    yield from _training(job)
    if config.data.split != "none":
        yield _prepared_test(job)
        yield _among_negatives("test among negatives", job, job.tested)
        full = min(config.eval.full_users or job.tested, job.tested)
        if config.eval.full:
            yield _ranked("test, full ranking", job, (full, 1), _by_bounds(work))
    yield _ranked("answers for all users", job, (work.users, 1), _exactly(job))
    numbers = (
        ""
        if work.vector_width == work.features
        else f"by one tower, without a match; here a state has {work.vector_width} numbers and takes longer"
    )
    yield measured("represent all users", work.users, "users", rates.REPRESENT, what=numbers)


def _compilation() -> Stage:
    """The stage that XLA needs for the programs of a training; it depends on the method and not on the size of the data."""
    found = (rates.COMPILE, rates.COMPILE_GPU)
    took = " and ".join(f"{rate.seconds:.0f} s on {rate.on} ({rate.record})" for rate in found)
    how = (
        f"not counted; SASRec without text took {took}, and models with text take longer, up to minutes; a later run with the same shapes "
        "reads most programs from config.compilation_cache"
    )
    return Stage("compilation", "once", None, HOST, how)


def _training(job: Job) -> Iterator[Stage]:
    """The stages of training: epochs, and validation after each."""
    train = job.config.train
    steps = epoch_steps(job)
    seconds, how = steps * _step(job), "steps as estimated above"
    yield _on_devices(job, ONE_EPOCH, f"{steps:,} steps", seconds, how)
    epochs = train.max_epochs
    how = f"{epochs:,} epochs; early stopping may need fewer"
    if train.new_since:
        how += "; with train.new_since an epoch has fewer steps, so this is too high"
    yield _on_devices(job, "all epochs", f"{epochs * steps:,} steps", epochs * seconds, how)
    if job.work.further.similar:
        how = "before each epoch; assumed: a third of an epoch over all users, because there is no backward pass"
        seconds = epochs * _whole_epoch(job) * _step(job) / 3
        yield _on_devices(
            job, "states of all users", f"{epochs:,} x {job.work.users:,} users", seconds, how
        )
    if job.config.data.split == "none":
        return
    yield _validated("validation", job, epochs)
    if times := job.validations_of_parts:
        stage = _validated("choice of parts", job, times)
        how = (
            "each part is left out once, and the match also gets two lower weights; more if validation lowers one, and twice as many if "
            f"the last epoch is not the best; {stage.how}"
        )
        yield stage._replace(how=how)


def _validated(name: str, job: Job, times: int) -> Stage:
    """So many validations by the protocol of the config."""
    users = job.work.evaluated
    if job.config.eval.select == "sampled100":
        return _among_negatives(name, job, users, times)
    return _ranked(name, job, (users, times), _by_bounds(job.work))


def epoch_steps(job: Job) -> int:
    """Steps of an epoch as configured."""
    return min(_whole_epoch(job), job.config.train.epoch_steps or _whole_epoch(job))


def _whole_epoch(job: Job) -> int:
    """Steps that read every user."""
    return -(-job.trained // job.work.batch)


def _step(job: Job) -> float:
    return _seconds(job, job.work)


def _seconds(job: Job, work: Workload) -> float:
    return total_seconds(step_seconds(work, job.layout, job.device))


def measured_steps() -> str:
    """The ratio of measured steps to such estimates, as a sentence."""
    ratios = ((rates.STEP_GRASP, "grasp"), (rates.STEP_PLAIN, "plain"))
    found = [f"{name} took {rate.seconds / rate.planned:.1f} times" for rate, name in ratios]
    return f"On one H200, at E=4096 and B=128, {' and '.join(found)} its estimate ({rates.STEP_GRASP.record})"


def _among_negatives(name: str, job: Job, users: int, times: int = 1) -> Stage:
    """The stage that ranks targets among stored negatives."""
    rate = rates.VALIDATION_GATED if job.work.gated else rates.VALIDATION
    # of an epoch with a negative for each target, which is what was measured
    step = job.work._replace(catalogue=False, negatives=job.work.negatives or 1)
    of_all = rate.seconds * _whole_epoch(job) * _seconds(job, step)
    work_text = f"{times:,} x {users:,} users" if times > 1 else f"{users:,} users"
    how = f"{rate.seconds:.2f} of an epoch with sampled negatives for all users, {source(rate, 0)}; assumed to be the same here"
    more, note = _more_negatives(job)
    seconds = more * of_all * times * users / max(job.trained, 1)
    return _on_devices(job, name, work_text, seconds, how + note)


def _prepared_test(job: Job) -> Stage:
    """The stage that draws the stored negatives of the test."""
    stage = measured("test, preparation", job.tested, "users", rates.EVALUATION_SET, CORES)
    more, note = _more_negatives(job)
    return stage._replace(seconds=more * (stage.seconds or 0.0), how=stage.how + note)


def _more_negatives(job: Job) -> tuple[float, str]:
    """How many times as long a stage takes as with the negatives that were measured, and the words for it; never less than 1."""
    more = max(1.0, job.config.eval.num_negatives / rates.NEGATIVES)
    note = f"; {more:,.4g} times that, in proportion to eval.num_negatives" if more > 1 else ""
    return more, note


def _by_bounds(work: Workload) -> float:
    """Operations of a pair in the full ranking: two logits and three products of D numbers decide nearly all (`evaluation.bounds`)."""
    return 2 * 2 * work.width + 3 * 2 * work.features if work.gated else 2 * work.vector_width


def _exactly(job: Job) -> float:
    """Operations of a pair where every score is computed, as for answers."""
    work = job.work
    if not work.gated or not job.config.model.mlp:
        return _by_bounds(work)
    return 2 * 2 * work.width + 3 * 2 * work.hidden + 2 * work.hidden * work.features


def _ranked(name: str, job: Job, users_and_times: tuple[int, int], flops: float) -> Stage:
    """Full ranking: `users_and_times` says for how many users and how often, `flops` the operations of a user-item pair."""
    work, device, (users, times) = job.work, job.device, users_and_times
    of_pair = max(flops / device.flops, SCORE_PASSES * FLOAT / device.bandwidth)
    seconds = float(users) * times * work.items * of_pair / job.layout.devices
    often = f"{times:,} x " if times > 1 else ""
    how = "by data sheet, the longer of arithmetic and memory; not measured, expect a few times as much"
    work_text = f"{often}{users:,} users x {work.items:,} items"
    return _on_devices(job, name, work_text, seconds, how)


def _on_devices(job: Job, name: str, work: str, seconds: float, how: str) -> Stage:
    """A stage of all devices of the layout."""
    return Stage(name, work, seconds, DEVICES, how, devices=job.layout.devices)
