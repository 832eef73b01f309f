"""Small random data for several test files."""

import functools
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from grasp_jax.core.log import logger, print_messages
from grasp_jax.data.log import InteractionLog, build_log
from tests.command_line import CACHE, QUICK
from tests.compiled import compiled_folder
from tests.memory_disk import quick_folder
from tests.step_setting import Setting, make_setting

pytest.register_assert_rewrite("tests.running_service")  # before a test imports it

# Compiling is most of the time that small programs take, here and in processes that tests start.
if QUICK not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICK}".strip()

# A shell starts what it leaves in the background deaf to Ctrl-C, and so would be the programs whose answer to it is tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# And what one process has compiled, no other compiles again, nor does the next session.
COMPILED = os.environ.setdefault(CACHE, str(compiled_folder()))
jax.config.update("jax_compilation_cache_dir", COMPILED)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

# Files of this process, and of those that it starts; unless a user has chosen a place for them. Programs that tests kill leave theirs.
TEMPORARY = ""  # of this session; its workers inherit TMPDIR
if "TMPDIR" not in os.environ and (folder := quick_folder()):
    TEMPORARY = tempfile.mkdtemp(prefix="grasp_jax-tests-", dir=folder)
    os.environ["TMPDIR"] = tempfile.tempdir = TEMPORARY

# Examples are drawn alike in every session, and however slowly a busy machine draws them.
settings.register_profile(
    "alike", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("alike")

print_messages()  # as the command line does: what tests read is what its users see

NUM_USERS, NUM_ITEMS, WIDTH = 17, 41, 12
LONG = (
    "test_processes",
    "test_golden",
    "test_contract",
    "test_export",
    "test_step",
    "test_mesh",
    "test_main",
    "test_catalogue_step",
    "test_workdir",
    "test_front_door",
    "test_faults",
    "test_transfers",
    "test_docs",
    "test_kernel_layer",
    "test_towers",
    "test_plan_compiled",
    "test_step_scores",
    "test_ray",
    "test_earlier_version",
    "test_fusion_weights",
    "test_new_items",
    "test_service_limits",
    "test_describe",
    "test_page_code",
    "test_kernel_choice",
    "test_service_large",
    "test_bert4rec",
    "test_benchmark_profile",
    "test_benchmark_evaluation",
    "test_service",
    "test_benchmark_growth",
    "test_baselines",
    "test_bare_machine",
    "test_audit",
    "test_benchmark_train",
    "test_resume",
    "test_cold_items",
    "test_start_from",
    "test_benchmarks",
    "test_extending",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take ten seconds or more come first: begun last, one core would wait for the other."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


def pytest_sessionfinish(exitstatus: int) -> None:
    """The memory is free again, unless a failed test's files are worth a look."""
    if TEMPORARY and exitstatus == pytest.ExitCode.OK:
        shutil.rmtree(TEMPORARY, ignore_errors=True)


@pytest.fixture(autouse=True)
def messages_as_before() -> Iterator[None]:
    """A test that starts a service in this process would leave the next one without what it reads."""
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


@pytest.fixture(scope="session")
def small_log() -> InteractionLog:
    """17 users with 1 to 13 interactions each; items repeat within a history, and some items of the catalogue occur nowhere."""
    rng = np.random.default_rng(0)
    lengths = np.concatenate([[1, 2, 3], rng.integers(4, 14, NUM_USERS - 3)])
    users = np.repeat(np.arange(NUM_USERS), lengths)
    return build_log(
        "small", users, rng.integers(0, NUM_ITEMS - 3, len(users)), catalogue=np.arange(NUM_ITEMS)
    )


@pytest.fixture(scope="session")
def unit_tables() -> dict[str, jax.Array]:
    """Random knowledge tables of the small log's size, rows of length one."""
    rng = np.random.default_rng(1)
    tables = {}
    for name, rows in {
        "items": NUM_ITEMS,
        "items_similar": NUM_ITEMS,
        "users": NUM_USERS,
        "users_similar": NUM_USERS,
    }.items():
        table = rng.standard_normal((rows, WIDTH))
        tables[name] = jnp.asarray(
            table / np.linalg.norm(table, axis=1, keepdims=True), jnp.float32
        )
    return tables


@pytest.fixture(scope="session")
def setting(
    small_log: InteractionLog, unit_tables: dict[str, jax.Array]
) -> Callable[[str], Setting]:
    """Maker of a `Setting` for a name of `MODELS`; each is made once."""
    return functools.cache(functools.partial(make_setting, small_log, unit_tables))
