"""Parts of the service that need no model: the queue, diversity, flags and the deployment."""

import asyncio
import io
import json
import pathlib
import threading
import time
import types
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from prometheus_client import generate_latest

from grasp_jax.config import Config
from grasp_jax.core.errors import EndpointError
from grasp_jax.data.dataset import data_settings
from grasp_jax.serving.answers import Answer, ItemChoice, People, answer
from grasp_jax.serving.catalogue import Catalogue
from grasp_jax.serving.http import fixed_programs, server, title_search
from grasp_jax.serving.http import service as http_service
from grasp_jax.serving.http.cli import parser, run, settings_of
from grasp_jax.serving.http.diversity import diversified
from grasp_jax.serving.http.fixed_programs import Shapes
from grasp_jax.serving.http.id_mapping import requested_people
from grasp_jax.serving.http.metrics import JsonLines, Metrics
from grasp_jax.serving.http.query_queue import QueryQueue
from grasp_jax.serving.http.requests import NewItems, Recommend, Refused, read
from grasp_jax.serving.http.server import GRACE
from grasp_jax.serving.http.service import Served, Service
from grasp_jax.serving.http.settings import TOKEN, Limits, Settings, read_token
from grasp_jax.serving.http.snapshot import ServingSnapshot
from grasp_jax.serving.http.source import KnownUser, read_with_names_of
from grasp_jax.serving.http.title_search import search_titles
from tests.refusal import assert_names, refusal

SECRET = "a-token-of-a-test-0123456789"
SECONDS = 60.0  # to wait for an answer that comes at once, unless the machine is busy


def test_maximal_marginal_relevance_by_hand() -> None:
    """A wrong sign or scale would pick other items."""
    unit = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    pool = Answer(np.array([0, 1, 2]), np.array([3.0, 2.9, 1.0], np.float32))
    # after item 0: item 1 is worth .5 * .95 - .5 * 1 < 0; item 2 is worth .5 * 0 - .5 * 0 = 0
    assert diversified(pool, unit.__getitem__, 2, 0.5).items.tolist() == [0, 2]
    assert diversified(pool, unit.__getitem__, 2, 0.1).items.tolist() == [0, 1]
    assert diversified(pool, unit.__getitem__, 3, 0.5).scores.tolist() == [
        3.0,
        1.0,
        np.float32(2.9),
    ]


def numbers_queue(
    capacity: int,
    group: Callable[[int], Hashable],
    answers: Callable[[Sequence[int]], list[int]],
    size: Callable[[int], int] = lambda waiting: 8,
) -> Any:
    """A function that puts numbers into a queue as queries, and the queue."""

    class Number(NamedTuple):
        number: int

        def group(self) -> Hashable:
            return group(self.number)

        def batch_size(self, waiting: int) -> int:
            return size(waiting)

        def answers(self, batch: Sequence["Number"]) -> list[int]:
            return answers([own.number for own in batch])

    queue: Any = QueryQueue(Limits(queue=capacity, people=1), Metrics())
    return lambda numbers, seconds=SECONDS: queue.submit(list(map(Number, numbers)), seconds), queue


def test_a_batch_that_fails_fails_alone() -> None:
    """One bad question would end the thread, and with it the service."""

    def answer(numbers: Any) -> list[int]:
        if 0 in numbers:
            raise ZeroDivisionError
        return [10 // n for n in numbers]

    submit, queue = numbers_queue(16, lambda n: n == 0, answer)
    with pytest.raises(ZeroDivisionError):
        submit([0]).result(SECONDS)
    assert submit([1, 2, 5]).result(SECONDS) == [10, 5, 2]
    with pytest.raises(Refused):
        submit([1] * 17)
    queue.stop()
    with pytest.raises(Refused):
        submit([1])


def test_a_missing_answer_fails_its_batch_alone() -> None:
    """A program that loses a row would end the thread, and every later request would wait until its deadline."""
    submit, queue = numbers_queue(16, lambda n: n == 0, lambda numbers: [n for n in numbers if n])
    with pytest.raises(ValueError, match="shorter"):
        submit([0]).result(SECONDS)
    assert submit([1, 2]).result(SECONDS) == [1, 2]
    queue.stop()


def test_a_size_that_fails_does_not_end_the_thread() -> None:
    """Every later request would wait until its deadline, while the service says that it is ready."""
    sizes = iter([0.5, 8])
    submit, queue = numbers_queue(16, lambda n: 0, list, lambda _: range(next(sizes)).stop)
    with pytest.raises(TypeError):
        submit([1]).result(SECONDS)
    assert submit([2]).result(SECONDS) == [2]
    queue.stop()


def test_a_batch_leaves_the_rest_to_the_next_one() -> None:
    """Seventeen people would pay for thirty-two, later ones wait behind a group of others, or the oldest wait for ever."""
    release, sizes = threading.Event(), list[int]()

    def answer(numbers: Sequence[int]) -> list[int]:
        release.wait(SECONDS)
        sizes.append(len(numbers))
        return [*numbers]

    shapes = Shapes((1, 8, 16, 32, 64), (50,), 1024, 10, 8)
    submit, queue = numbers_queue(99, lambda n: n % 2, answer, shapes.batch_size)
    first = submit([1])
    while queue.waiting:  # until the first one is being answered
        time.sleep(0.001)
    late = submit([1], 0)
    others = [submit([n]) for n in (*range(0, 34, 2), 3, *range(34, 50, 2))]
    release.set()
    assert first.result(SECONDS) == [1] and [own.result(SECONDS) for own in others] == [
        [n] for n in (*range(0, 34, 2), 3, *range(34, 50, 2))
    ]
    assert sizes == [1, 25, 1] and late.cancelled()
    queue.stop()


@pytest.mark.parametrize("sizes", [fixed_programs.SMALL_SIZES, fixed_programs.LARGE_SIZES, (4,)])
def test_parts_hold_everybody_once(sizes: tuple[int, ...]) -> None:
    """Somebody would be left out or answered twice, or a batch hold more people than its program."""
    shapes = Shapes(sizes, (50,), 1024, 10, 8)
    for people in range(150):
        parts = list(shapes.batches(range(people)))
        assert [n for part, _ in parts for n in part] == list(range(people))
        assert all(len(part) <= size and size in sizes for part, size in parts)


def test_a_batch_is_not_mostly_filling() -> None:
    """Nine people would wait for the program of sixty-four, or thirty-three of a large catalogue for one of twice their size."""

    def sizes_of(sizes: tuple[int, ...], *counts: int) -> list[int]:
        return [Shapes(sizes, (50,), 1024, 10, 8).batch_size(people) for people in counts]

    small, large = fixed_programs.SMALL_SIZES, fixed_programs.LARGE_SIZES
    assert sizes_of(small, 1, 3, 4, 9, 31, 33, 64, 65) == [1, 1, 8, 8, 8, 64, 64, 64]
    assert sizes_of(large, 3, 4, 9, 12, 17, 24, 33, 47, 48) == [1, 8, 8, 16, 16, 32, 32, 32, 64]
    assert sizes_of((4,), 1, 5) == [4, 4]


def test_the_deployment_asks_for_what_the_service_has() -> None:
    """A pod would never be ready, run as root, start without a token, or be killed while it answers."""
    root = pathlib.Path(__file__).parent.parent / "launch" / "serve"
    deployment, service = yaml.safe_load_all((root / "kubernetes.yaml").read_text())
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "readinessProbe", "livenessProbe")} == {
        "startupProbe": "/ready", "readinessProbe": "/ready", "livenessProbe": "/health",
    }  # fmt: skip
    (token,) = container["env"]
    assert token["name"] == TOKEN and token["valueFrom"]["secretKeyRef"] == {
        "name": "grasp-serve",
        "key": "token",
    }
    given = parser().parse_args(container["args"])
    assert (
        given.host == "0.0.0.0"
        and given.port == container["ports"][0]["containerPort"]
        and not given.insecure
    )
    assert given.models == container["volumeMounts"][0]["mountPath"]
    assert (
        pod["terminationGracePeriodSeconds"] >= GRACE + 5 and pod["securityContext"]["runAsNonRoot"]
    )
    assert service["spec"]["ports"][0]["targetPort"] == container["ports"][0]["name"]
    lines = (root / "Dockerfile").read_text().splitlines()
    starts = [
        line.split(" ", 1) for line in lines if line.startswith(("ENTRYPOINT", "CMD", "USER"))
    ]
    instructions = {
        kind: json.loads(rest) if rest.startswith("[") else rest for kind, rest in starts
    }
    assert instructions["ENTRYPOINT"] == ["grasp-serve"] and instructions["USER"] == "10001"
    assert parser().parse_args(instructions["CMD"]).host == "0.0.0.0"


def test_flags_and_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service would be open to strangers by mistake, or a flag be taken for something else."""
    monkeypatch.delenv(TOKEN, raising=False)

    def refused(*flags: str) -> str:
        return refusal(lambda: settings_of(parser().parse_args(["model", *flags])))

    assert_names(refused("--host=0.0.0.0"), (TOKEN, "--insecure"))
    assert_names(refused("--host="), ("--host", "empty"))
    assert_names(refused("--port=70000"), ("--port: 70000", "65535"))
    assert_names(refused("--port=http"), ("--port", "http"))
    assert_names(refused("--batch-sizes=1,x"), ("--batch-sizes: '1,x'",))
    assert_names(refused(f"--batch-sizes={'9' * 5000}"), ("--batch-sizes: '999", "1 to 4096"))
    assert_names(refused("--queue=0"), ("--queue: 0", "above 0"))
    assert_names(refused("--body-bytes=0"), ("--body-bytes: 0", "above 0"))
    assert_names(refused("--queue=100"), ("--people=256 with --queue=100", "raise --queue"))
    assert_names(refused("--data=nowhere"), ("--data: 'nowhere'", "expected a folder"))
    assert_names(refused("--seconds=nan"), ("--seconds: nan",))
    assert_names(refused("--models=nowhere-at-all"), ("--models: 'nowhere-at-all'",))
    assert_names(refused("--colour=red"), ("--colour=red", "--help"))
    assert settings_of(parser().parse_args(["model", "--host=0.0.0.0", "--insecure"])).token is None
    for host in ("127.0.0.1", "::1", "localhost", "127.5.5.5"):
        assert settings_of(parser().parse_args(["model", f"--host={host}"])).token is None
    message = refusal(read_token, {TOKEN: "short"})
    assert_names(message, (TOKEN, "5 characters", "at least 16"))
    assert "short" not in message
    assert_names(refusal(read_token, {TOKEN: "with blanks in between"}), ("blanks",))
    monkeypatch.setenv(TOKEN, SECRET)
    assert settings_of(parser().parse_args(["model", "--host=0.0.0.0"])).token == SECRET


def test_users_are_read_by_the_names_of_the_models_own_data(tmp_path: pathlib.Path) -> None:
    """--data would be refused wherever columns are not called user and item, and no flag of the service could mend it."""
    columns = {"user": "customer", "item": "sku"}
    config = data_settings({"columns": columns, "interactions_file": "orders.csv", "ties": "file"})
    (tmp_path / "orders.csv").write_text("customer,sku\nann,7\nlee,9\n")
    assert read_with_names_of(config, str(tmp_path)).user_ids.tolist() == ["ann", "lee"]
    (tmp_path / "orders.csv").rename(tmp_path / "interactions.csv")
    assert read_with_names_of(config, str(tmp_path)).item_ids.tolist() == [7, 9], (
        "a file of the usual name"
    )
    (tmp_path / "interactions.csv").write_text("user,sku\nann,7\n")
    said = refusal(read_with_names_of, config, str(tmp_path))
    assert_names(said, ("--data", "no column 'customer'", "with which the model was trained"))


def test_users_are_read_with_the_models_rule_for_bad_rows(tmp_path: pathlib.Path) -> None:
    """A service of a model that leaves rows out would stop at one; or who starts another be told of a setting that it does not have."""
    (tmp_path / "interactions.csv").write_text("user,item\nann,7\n,9\nlee,9\n")
    skips = data_settings({"bad_rows": "skip"})
    assert read_with_names_of(skips, str(tmp_path)).user_ids.tolist() == ["ann", "lee"]
    said = refusal(read_with_names_of, data_settings({}), str(tmp_path))
    assert_names(said, ("--data", "row 2 has no value in column 'user'", "drop the row"))
    assert "config.data.bad_rows" not in said


def test_data_of_a_workdir_are_read_by_its_names_and_with_texts(tmp_path: pathlib.Path) -> None:
    """A run with other names than the usual ones could not be served on newer data, or would be refused for a table that it never read."""
    columns = {"user": "customer", "item": "sku"}
    config = data_settings(
        {"columns": columns, "items_file": "products.csv", "items_id_column": "sku"}
    )
    (tmp_path / "interactions.csv").write_text("customer,sku\nann,7\nlee,9\n")
    (tmp_path / "products.csv").write_text("sku,title\n7,Soap\n9,Oil\n")
    found = read_with_names_of(config, str(tmp_path))
    assert found.user_ids.tolist() == ["ann", "lee"] and found.titles == ["Soap", "Oil"]
    assert read_with_names_of(config, str(tmp_path), texts=False).titles == ["7", "9"]
    assert read_with_names_of(config, str(tmp_path / "interactions.csv")).titles == [
        "Soap",
        "Oil",
    ], "a file"
    (tmp_path / "items.csv").write_text("number,name\n1,not of this run\n")
    without = data_settings({"path": "earlier", "columns": columns})
    for data in (tmp_path, tmp_path / "interactions.csv"):
        assert read_with_names_of(without, str(data)).titles == ["7", "9"], (
            "the run has no items table"
        )
    (tmp_path / "items.csv").write_text("item,title\n7,Soap\n9,Oil\n")
    of_frames = data_settings({"columns": columns})
    assert read_with_names_of(of_frames, str(tmp_path)).titles == ["Soap", "Oil"], (
        "frames have no file names"
    )


def test_paths_may_begin_with_the_home_folder(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--models=~/models would be refused, and --data=~/shop pass the check and then not be found."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "shop").mkdir()
    given = ["~/model", "--models=~/shop", "--data=~/shop", "--compare=~/other"]
    assert settings_of(parser().parse_args(given)).models == tmp_path / "shop"
    served: list[Any] = []
    monkeypatch.setattr(server, "serve", lambda *arguments: served.extend(arguments) or 0)
    with pytest.raises(SystemExit):
        run(given)
    assert [served[0], served[1], served[4]] == [
        tmp_path / "model",
        str(tmp_path / "shop"),
        tmp_path / "other",
    ]


@pytest.mark.parametrize("place", ["index", "warm-up"])
def test_a_stop_while_a_model_is_loaded_is_no_fault(place: str, tmp_path: pathlib.Path) -> None:
    """A pod that is stopped while it starts would end with status 2, as if its flags were wrong."""
    service = Service(Settings(), tmp_path)
    served, begun, stopped = Served(quiet_snapshot(), None), threading.Event(), threading.Event()

    def take(*_: object) -> Served | None:
        begun.set()
        assert stopped.wait(SECONDS)
        return served if place == "warm-up" else None

    service._build = take  # type: ignore[method-assign]
    whole = service.stop
    service.stop = lambda: (whole(), stopped.set())  # type: ignore[method-assign,func-returns-value,assignment,return-value]
    made, outcome = server._build_server([(service, None)])  # type: ignore[list-item]

    async def start_and_stop() -> None:
        app: Any = made.config.app
        async with app.router.lifespan_context(app):
            await asyncio.to_thread(begun.wait, SECONDS)

    asyncio.run(start_and_stop())
    assert outcome.status == 0 and not made.should_exit


def quiet_snapshot() -> Any:
    """What `Service` reads of a snapshot that it begins to serve."""
    catalogue = types.SimpleNamespace(rows={}, folded_titles=[])
    artifact = types.SimpleNamespace(method="plain", backbone="sasrec", trained_on_all=False)
    return types.SimpleNamespace(
        artifact=artifact,
        available_on_device=1,
        vectors=1,
        trust={},
        catalogue=catalogue,
        by_popularity=[],
        number=1,
        index=None,
    )


@pytest.mark.parametrize("error", [EndpointError("http://inner said SECRET", "http://inner"), None])
def test_added_items_that_the_next_model_cannot_take(
    error: Exception | None, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reload would fail until the next start with a fault of ours, or tell a caller what an inner server said."""
    lines = io.StringIO()
    service = Service(Settings(), tmp_path, log=JsonLines(lines))
    catalogue = Catalogue(np.array([1]), np.array(["Soap"]), np.array([1]), {})
    encoder = types.SimpleNamespace(
        encoder=types.SimpleNamespace(reads_text=True), item_columns=("title",)
    )
    artifact = types.SimpleNamespace(
        method="id_text_sum",
        encoder=encoder,
        catalogue=catalogue,
        config=Config(),
        model=types.SimpleNamespace(backbone=None),
        params={},
    )
    snapshot = types.SimpleNamespace(catalogue=catalogue, artifact=artifact)
    service._added = {"B00Z": {"item": "B00Z", "title": "Oil"}}
    monkeypatch.setattr(http_service, "open_model", lambda *_: None)
    service._build = lambda *_: Served(snapshot, None)  # type: ignore[method-assign,arg-type,assignment]
    if error is not None:
        monkeypatch.setattr(http_service, "with_new_items", raising(error))
    served, left = service._replacement(tmp_path, snapshot)  # type: ignore[arg-type]
    assert served.snapshot is snapshot and "1 items that had been added" in left
    assert "inner" not in left and "SECRET" not in lines.getvalue()
    if error is None:
        assert_names(left, ("'B00Z'", "expected a whole number"))
    else:
        assert "does not answer as it should" in left and "http://inner" in lines.getvalue()
    service.stop()


def raising(error: Exception) -> Any:
    def raises(*_: object) -> None:
        raise error

    return raises


@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_numbers_of_a_new_item_are_finite(value: str) -> None:
    """An item would get the text "inf"."""
    body = f'{{"items": [{{"item": "a", "title": "b", "price": {value}}}]}}'.encode()
    assert_names(refusal(read, NewItems, body, Limits()), ("items", "expected text, a number"))


def test_who_has_only_unknown_items_is_not_offered_what_they_rated_low() -> None:
    """docs/serving.md promises that items that a user has rated low are left out."""
    catalogue = Catalogue(
        np.array(["a", "b", "c"]), np.array(["A", "B", "C"]), np.array([3, 2, 1]), {}
    )
    nobody = np.empty(0, np.int32)
    known = KnownUser(nobody, np.array([0], np.int32), None)
    users: Any = types.SimpleNamespace(find=lambda name: known, example="u")
    people = People(np.array(["u"]), np.zeros(1, bool), None, nobody, [known.disliked])
    for wanted, of_model, left_out in (
        (True, False, True),
        (False, True, False),
        (None, True, True),
        (None, False, False),  # as `grasp-jax init` writes it for shops where people buy again
    ):
        config = Config().with_fields({"recommend.exclude_seen": of_model})
        artifact: Any = types.SimpleNamespace(catalogue=catalogue, config=config)
        snapshot: Any = types.SimpleNamespace(catalogue=catalogue, artifact=artifact)
        request = Recommend(users=["u"], exclude_seen=wanted)
        (whose,) = requested_people(request, snapshot, users)
        assert whose.person.excluded.tolist() == [0] * left_out
        (found,) = answer(artifact, people, ItemChoice(exclude_seen=wanted))
        assert found.items.tolist() == [0, 1, 2][left_out:]


def test_popular_candidates_are_in_the_order_of_all() -> None:
    """Candidates would be ranked otherwise than the catalogue, or removed items be recommended."""
    rng = np.random.default_rng(0)
    catalogue = Catalogue(np.arange(50), np.array(["t"] * 50), rng.integers(0, 4, 50), {})
    available = rng.random(50) < 0.8
    order = catalogue.by_count[available[catalogue.by_count]]
    snapshot: Any = types.SimpleNamespace(
        catalogue=catalogue, available=available, by_popularity=order
    )
    allowed = rng.integers(0, 50, 30)
    found = ServingSnapshot.most_popular(snapshot, 7, np.array([3, 4]), allowed)
    expected = [row for row in order.tolist() if row in allowed and row not in (3, 4)][:7]
    assert found.items.tolist() == expected
    everybody = ServingSnapshot.most_popular(snapshot, 7, np.empty(0, int), None)
    assert everybody.items.tolist() == order[:7].tolist()


def test_a_search_needs_every_word() -> None:
    """A search would find other items than those whose titles hold every word."""
    titles = ["Green SOAP", "soap, blue", "Grün", "green oil", "Straße"]
    catalogue = Catalogue(np.arange(5), np.array(titles), np.array([1, 5, 1, 1, 1]), {})
    available = np.array([True, True, True, False, True])
    snapshot: Any = types.SimpleNamespace(catalogue=catalogue, available=available)

    def found(words: str) -> list[int]:
        return [own["item"] for own in search_titles(words, 5, snapshot)]

    assert found("soap") == [1, 0] and found("SOAP green") == [0]
    assert found("grün") == [2] and found("STRASSE") == [4]
    assert found("green") == [0], "a removed item"
    assert found("2") == [2] and found("oil") == [], "an id; a removed item"


def test_searches_keep_no_thread_from_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow searches took the threads in which items are added and removed, and more of them came without end."""
    begun, hold = threading.Barrier(title_search.THREADS + 1), threading.Event()

    def slow(*_: object) -> list[dict[str, Any]]:
        begun.wait(SECONDS)
        hold.wait(SECONDS)
        return []

    monkeypatch.setattr(title_search, "search_titles", slow)
    metrics = Metrics()
    searches = title_search.TitleSearches(Limits().searches, metrics)

    async def search(seconds: float) -> Any:
        return await searches.find("soap", 1, quiet_snapshot(), Limits(seconds=seconds))

    async def too_many() -> None:
        running = [asyncio.create_task(search(SECONDS)) for _ in range(title_search.THREADS)]
        await asyncio.to_thread(begun.wait, SECONDS)
        late = [search(0.05) for _ in range(Limits().searches - title_search.THREADS)]
        refused = [search(0.05) for _ in range(2)]
        found = await asyncio.gather(*late, *refused, return_exceptions=True)
        assert [type(one) for one in found] == [TimeoutError] * len(late) + [Refused] * 2
        assert "32 searches wait already" in str(found[-1])
        # another thread is free, and those that were given up leave their room to others
        assert await asyncio.wait_for(asyncio.to_thread(lambda: 1), SECONDS) == 1
        monkeypatch.setattr(title_search, "search_titles", lambda *_: ["soap"])
        with pytest.raises(Refused, match="expected 1 to 200 characters"):  # not 503
            await searches.find(" ", 1, quiet_snapshot(), Limits())
        hold.set()
        assert await search(SECONDS) == ["soap"] and await asyncio.gather(*running) == [[], []]

    asyncio.run(too_many())
    assert b'overload_total{reason="searches"} 2.0' in generate_latest(metrics.registry)


def test_items_that_come_later_have_rows_behind_the_others() -> None:
    """A new item would be found by the row of another, where what was found of the old ones is kept."""
    old = Catalogue(np.array([7, 5]), np.array(["Red", "Blue"]), np.array([1, 4]), {})
    more = Catalogue(np.array([9]), np.array(["A longer TITLE"]), np.array([0]), {})
    fresh = old.followed_by(more)
    assert old.rows == {"7": 0, "5": 1} and old.folded_titles.to_pylist() == [b"red", b"blue"]
    kept = old.followed_by(more)
    assert {"rows", "folded_titles"} <= vars(kept).keys() and "rows" not in vars(fresh)
    for both in (fresh, kept):
        assert both.rows == {"7": 0, "5": 1, "9": 2}
        assert both.folded_titles.to_pylist() == [b"red", b"blue", b"a longer title"]
        assert both.titles.tolist() == ["Red", "Blue", "A longer TITLE"]
        assert both.by_count.tolist() == [1, 0, 2]
    assert old.rows == {"7": 0, "5": 1}
