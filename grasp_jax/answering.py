"""The methods of `Recommender` that use a trained model, after `fit` or `load`.

It checks what was given, chooses between vectors that are placed already and new ones, and returns frames; `serving` computes the answers,
as for the command line.
"""

import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from grasp_jax.core.errors import UserError
from grasp_jax.core.failed_writes import refusing_failed_writes
from grasp_jax.core.frames import Frame, as_frame
from grasp_jax.core.log import logger
from grasp_jax.core.paths import check_folder
from grasp_jax.core.words import first_of
from grasp_jax.data.attributes import attributes_of
from grasp_jax.data.columns import match
from grasp_jax.data.dataset import Dataset
from grasp_jax.data.frames import refuse_index, table_of_frame
from grasp_jax.evaluation.audience import states_of
from grasp_jax.serving import histories as people
from grasp_jax.serving.answers import (
    IdLists,
    Ids,
    ItemChoice,
    People,
    Unknown,
    answer,
    known_rows,
    low_rated_of,
    rows_of_histories,
    rows_of_users,
)
from grasp_jax.serving.artifact import Artifact
from grasp_jax.serving.histories import OnDevice
from grasp_jax.serving.new_item_columns import ITEM, ignored_columns
from grasp_jax.serving.new_items import add_items
from grasp_jax.serving.programs import QUERIES
from grasp_jax.serving.represent import Representations, Represented, represent, representations_of
from grasp_jax.serving.users import users_of_data
from grasp_jax.serving.vectors import item_vectors, nearest_items

if TYPE_CHECKING:  # the modules of training are imported only when something is trained
    from grasp_jax.fitting import Fitted


class Answering:
    """Recommendations and vectors from a trained model, for the users of a dataset or for given histories."""

    def __init__(self) -> None:
        """Starts without a model."""
        self._dataset: Dataset | None = None
        self._fitted: Fitted | None = None
        self._artifact: Artifact | None = None
        self._placed: OnDevice | None = None
        self._item_vectors: np.ndarray | None = None
        self._interrupted: pathlib.Path | None = None  # workdir of a training that was stopped

    @property
    def artifact(self) -> Artifact:
        """The trained model that computes the recommendations.

        Raises:
          UserError: nothing was fitted or loaded yet.
        """
        if self._artifact is None:
            self._artifact = self.trained("recommend").artifact()
        return self._artifact

    def trained(self, call: str) -> "Fitted":
        """The model that this object trained, or opened from a workdir.

        Raises:
          UserError: there is none; the message names the call that needs it.
        """
        if self._fitted is None and self._interrupted is not None:
            raise UserError(
                f"{call}: the training in {self._interrupted} was interrupted; the same call of fit resumes it"
            )
        if self._fitted is None and self._artifact is not None:
            raise UserError(
                f"{call}: a saved model holds no data; load the workdir of its run, or fit a Recommender"
            )
        if self._fitted is None:
            raise UserError(
                f"{call}: nothing is trained yet; call fit(dataset) first, or Recommender.load(folder)"
            )
        return self._fitted

    def recommend(
        self,
        users: Ids | None = None,
        k: int = 10,
        *,
        histories: Sequence[Ids] | None = None,
        candidates: IdLists | None = None,
        exclude: IdLists | None = None,
        exclude_seen: bool | None = None,
        unknown: Unknown = "popular",
    ) -> Frame:
        """Recommends the best items for each user, or for each history.

        Args:
          users: ids of users of the data; None (without `histories`): all users.
          k: largest number of items for each person; a person with fewer items left gets fewer.
          histories: instead of users, a list of item ids for each person, oldest first. The person need not be in the training data.
          candidates: item ids to choose from: one list for everybody, or a list for each person.
          exclude: item ids to leave out: one list for everybody, or a list for each person.
          exclude_seen: leave out the items that the person has had; None: as `config.recommend.exclude_seen` says, which is True unless the
            config changes it.
          unknown: what to do with ids that the model does not know. "popular": ignore unknown items; a person without a known item gets the
            items with the most training interactions. "error": raise UserError.

        Returns:
          A frame with the columns user (for histories the position in the list, from 0), rank (from 1), item and score. Recommendations by
          popularity have no score (NaN).

        Raises:
          UserError: nothing was fitted or loaded, or the value of an argument is not allowed.
        """
        choice = ItemChoice(k, candidates, exclude, exclude_seen, unknown)
        selected = self._people(users, histories, unknown)
        answers = answer(self.artifact, selected, choice)
        counts = [len(own.items) for own in answers]
        ids = self.artifact.catalogue.ids
        joined = np.concatenate([np.empty(0, np.int64), *(own.items for own in answers)]).astype(
            np.int64
        )
        return as_frame(
            {
                "user": np.repeat(selected.names, counts),
                "rank": np.concatenate(
                    [np.empty(0, np.int64), *(np.arange(1, count + 1) for count in counts)]
                ).astype(np.int64),
                "item": ids[joined],
                "score": np.concatenate(
                    [np.empty(0, np.float32), *(own.scores for own in answers)]
                ),
            }
        )

    def similar_items(self, items: Ids, k: int = 10) -> Frame:
        """Finds the nearest items of each item: a frame with the columns item, rank (from 1), similar, and score (the cosine of the two
        vectors of `item_vectors`).

        Raises:
          UserError: an id that the model does not know.
        """
        choice = ItemChoice(k, unknown="error")
        catalogue = self.artifact.catalogue
        rows = known_rows(catalogue, items, "items", "error")
        k = min(choice.k, len(catalogue.ids) - 1)
        if not len(rows):
            return as_frame({"item": [], "rank": [], "similar": [], "score": []})
        nearest, cosines = nearest_items(self._vectors(), rows, k, catalogue.unlisted)
        found = cosines > -np.inf
        return as_frame(
            {
                "item": np.repeat(catalogue.ids[rows], found.sum(axis=1)),
                "rank": np.nonzero(found)[1] + 1,
                "similar": catalogue.ids[nearest[found]],
                "score": cosines[found],
            }
        )

    def item_vectors(self) -> Frame:
        """A frame with the columns item and vector ([D] float32). `serving.vectors.item_vectors` says what the vectors mean in a gated
        model.
        """
        return as_frame({"item": self.artifact.catalogue.ids, "vector": list(self._vectors())})

    def user_vectors(
        self, users: Ids | None = None, *, histories: Sequence[Ids] | None = None
    ) -> Frame:
        """A frame with the columns user and vector (the state [D] after the newest item); arguments as in `recommend`.

        Raises:
          UserError: the model knows no item of a person, so this person has no state.
        """
        selected = self._people(users, histories, "popular")
        if not selected.known.all():
            name = selected.names[np.flatnonzero(~selected.known)[0]]
            raise UserError(
                f"user_vectors: nothing is known of {str(name)!r}; leave out people without a known item"
            )
        if selected.audience is None or not len(selected.rows):
            return as_frame({"user": [], "vector": []})
        states = states_of(selected.audience, selected.rows, self.artifact.config.eval.user_block)
        return as_frame({"user": selected.names, "vector": list(states)})

    def add_items(self, items: object, vectors: np.ndarray | None = None) -> int:
        """Adds items that the model was not trained on, by their texts. Nothing is trained.

        From then on `recommend`, `similar_items`, `item_vectors`, `save` and `export` know these items. `evaluate` still tests the model as
        it was trained. Columns that the model does not read are ignored, and the log names them.

        Args:
          items: a frame as for `Dataset.from_frames`, with the same columns as the items of the data.
          vectors: [n, at least E], only for a model whose text vectors came from files: vectors of these items, made by the same program.
            The column of titles may then be missing.

        Returns:
          The number of items that were added.

        Raises:
          UserError: the model reads no texts of items, the frame cannot be read, an id is known already or occurs twice, or an item has no
            text.
        """
        table, data = table_of_frame(items, "items frame"), self.artifact.config.data
        title = data.title_column
        if vectors is not None and title not in table.columns:
            title = ""
        refuse_index(items, table, (data.items_id_column, title))
        for wanted in filter(None, (data.items_id_column, title)):
            if match(table.columns, wanted) is None:
                raise UserError(
                    f"add_items: no column {wanted!r} among {first_of(list(table.columns))}; the model was trained with this name: "
                    "rename the column that you mean"
                )
        known = attributes_of(table, data.items_id_column, "item", title)
        columns: dict[str, Sequence[object]] = {**known.columns, ITEM: known.ids.tolist()}
        self._artifact = add_items(self.artifact, columns, vectors)
        if ignored := ignored_columns(self.artifact, columns):
            logger.warning(
                "add_items: ignored the columns %s, which this model does not read",
                ", ".join(map(repr, ignored)),
            )
        self._placed = self._item_vectors = None
        return len(known.ids)

    def query_vectors(self, histories: Sequence[Ids]) -> Frame:
        """Computes the text vectors of people that the gates of a gated model compare with items. An exported gated model takes them as
        input.

        Args:
          histories: a list of item ids for each person, oldest first, with at least one known item.

        Returns:
          A frame with the columns user (position in the list, from 0), text_vector and similar_vector ([E] float32 each).

        Raises:
          UserError: the model has no gates, the model knows no item of a person, or no encoder can encode the text of a user.
        """
        rows = rows_of_histories(self.artifact.catalogue, histories, "popular")
        if empty := [n for n, own in enumerate(rows) if not len(own)]:
            raise UserError(
                f"query_vectors: no item of histories[{empty[0]}] is known; leave out people without a known item"
            )
        vectors = people.query_vectors(self.artifact, rows)
        columns = dict(zip(QUERIES, map(list, vectors), strict=True))
        return as_frame({"user": np.arange(len(rows)), **columns})

    def represent(self, folder: str | os.PathLike[str]) -> Represented:
        """Writes the vectors of all users and items as Parquet, for a downstream model. In the folder of an earlier call it writes only
        what has changed.

        Args:
          folder: a new or empty folder, or the folder of an earlier call; `serving.represent` describes its files.

        Returns:
          The numbers of users whose vector was computed, whose vector was kept, and of whom the model knows no item.

        Raises:
          UserError: nothing was fitted, a saved model was loaded without a dataset, the folder contains something else or cannot be
            written, or the disk is full.
        """
        path = check_folder(os.fspath(folder), "represent")
        with refusing_failed_writes(path, "represent"):
            return represent(self.representing(), path)

    def representing(self) -> Representations:
        """The content that `represent` writes, for programs that divide the work among machines (`launch/ray_represent.py`).

        Raises:
          UserError: nothing was fitted, or a saved model was loaded without a dataset.
        """
        artifact, fitted = self.artifact, self._fitted
        dataset = fitted.dataset if fitted is not None else self._dataset
        if dataset is None:
            raise UserError("represent: a saved model holds no users; load it with dataset=")
        block = artifact.config.eval.user_block

        def states(rows: np.ndarray) -> np.ndarray:
            if fitted is not None:
                return states_of(fitted.audience, rows, block)
            selected = self._people(dataset.user_ids[rows], None, "popular")
            found = np.full((len(rows), self._vectors().shape[1]), np.nan, np.float32)
            if selected.audience is not None:
                found[selected.known] = states_of(selected.audience, selected.rows, block)
            return found

        texts_of_bank = fitted is not None
        return representations_of(artifact, dataset.log, states, self._vectors(), texts_of_bank)

    def _people(
        self, users: Ids | None, histories: Sequence[Ids] | None, unknown: Unknown
    ) -> People:
        """The people for whom items are recommended, and what is known about them."""
        if users is not None and histories is not None:
            raise UserError("users and histories are given; expected one of them")
        if histories is not None:
            rows = rows_of_histories(self.artifact.catalogue, histories, unknown)
            return self._people_of_histories(np.arange(len(rows)), rows)
        self.artifact  # noqa: B018 raises first if nothing is trained
        dataset = self._fitted.dataset if self._fitted is not None else self._dataset
        if dataset is None:
            raise UserError(
                "users: a saved model holds no users; give histories=, or load it with dataset="
            )
        names, found = users_of_data(dataset, users, unknown)
        if self._fitted is not None:
            audience = self._fitted.audience
            if len(self.artifact.catalogue.ids) > audience.log.num_items:
                audience = people.with_new_items(audience, self.artifact, self._on_device())
            return People(names, found >= 0, audience, found[found >= 0])
        log = dataset.log
        rows = rows_of_users(self.artifact.catalogue, log, found)
        return self._people_of_histories(
            names, rows, low_rated_of(self.artifact.catalogue, log, found)
        )

    def _people_of_histories(
        self,
        names: np.ndarray,
        histories: list[np.ndarray],
        disliked: list[np.ndarray] | None = None,
    ) -> People:
        """People who are not in the data of the trained model, with the rows of the items that each has had and that each has rated low."""
        known = np.array([len(own) > 0 for own in histories], bool)
        if not known.any():
            return People(names, known, None, np.empty(0, np.int64), disliked)
        own = [history for history in histories if len(history)]
        low = (
            None
            if disliked is None
            else [rows for rows, history in zip(disliked, histories, strict=True) if len(history)]
        )
        audience = people.audience_of_histories(self.artifact, own, self._on_device(), low)
        return People(names, known, audience, np.arange(len(own)), disliked)

    def _vectors(self) -> np.ndarray:
        """[V, D] `item_vectors`, computed once."""
        if self._item_vectors is None:
            placed = self._on_device()
            self._item_vectors = item_vectors(self.artifact, placed.params, placed.features)
        return self._item_vectors

    def _on_device(self) -> OnDevice:
        if self._placed is None:
            self._placed = people.place(self.artifact)
        return self._placed
