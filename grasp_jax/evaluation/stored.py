"""Evaluation negatives on disk: drawn once, and verified by a checksum when read."""

import contextlib
import pathlib
from typing import Any, NamedTuple, NoReturn

import numpy as np

from grasp_jax.core.errors import UserError
from grasp_jax.core.files import (
    first_damaged,
    read_array,
    read_sealed,
    replacing,
    sha256,
    write_array,
    write_sealed,
)
from grasp_jax.core.log import logger
from grasp_jax.provenance import difference

LOW_RATED = "low_rated"  # field of the description: "excluded" if users have items that they rated below config.data.min_rating


class StoredNegatives(NamedTuple):
    """A file of negatives [n, C] with a sealed description.

    Attributes:
      path: `.npy`; the description has the ending `.json`.
      made_from: the data and the config fields on which the draw depends, as `provenance` describes them.
    """

    path: pathlib.Path
    made_from: dict[str, Any]

    @property
    def description(self) -> pathlib.Path:
        """Describes the file: what it was made from, and its checksum."""
        return self.path.with_suffix(".json")

    def read(self, ranked: bool = True) -> np.ndarray | None:
        """The stored negatives; None if they must be drawn, because there are none or because the files are damaged, which is logged.

        Args:
          ranked: whether targets will be ranked among them; otherwise it does not matter that an earlier version drew them.

        Raises:
          UserError: they belong to other data or another draw; or they are `ranked`, and an earlier version drew items that users had rated
            low.
        """
        if not self.path.exists() and not self.description.exists():
            return None
        try:
            described = read_sealed(self.description, "they are drawn again from the same seed")
            if damage := first_damaged(self.path.parent, described["files"]):
                raise UserError(f"{damage}; they are drawn again from the same seed")
            found = difference(described["made_from"], self.made_from)
            stored = read_array(self.path, "they are drawn again from the same seed")
        except UserError as error:
            logger.warning(f"evaluation negatives: {error}")
            return None
        if found and not self._drawn_by_earlier_version(described):
            raise UserError(
                f"{self.path}: these evaluation negatives are of another run: {found}; use another --workdir"
            )
        if found and ranked:
            self._refuse()
        return stored

    def check(self) -> None:
        """Checks, by the description alone, that targets may be ranked among the stored negatives; damage is left to `read`.

        Raises:
          UserError: an earlier version drew items that users had rated low.
        """
        try:
            described = read_sealed(self.description, "")
        except UserError:
            return
        found = difference(described["made_from"], self.made_from)
        if found and self._drawn_by_earlier_version(described):
            self._refuse()

    def _drawn_by_earlier_version(self, described: dict[str, Any]) -> bool:
        """Whether the draw differs from that of this version only in that items which were rated low are among the negatives."""
        return not difference(_by_this_version(described["made_from"]), self.made_from)

    def _refuse(self) -> NoReturn:
        raise UserError(
            f"{self.path}: an earlier version drew these evaluation negatives, and some are items that their users have rated below "
            f"config.data.min_rating; use another --workdir, or move {self.path.parent} away and run --mode=evaluate: then they are "
            "drawn again, and the models are tested again"
        )

    def write(self, drawn: np.ndarray) -> None:
        """Stores negatives. If they were drawn again, they must match the first draw.

        Raises:
          UserError: they do not match, for example because another version of NumPy draws other numbers; the files stay as they are.
        """
        with replacing(self.path) as partial:
            write_array(partial, drawn)
            checksum = sha256(partial)
            if self._drawn_before() not in (None, checksum):
                raise UserError(
                    f"{self.path}: evaluation negatives drawn again differ from those drawn before; use another --workdir"
                )
        write_sealed(
            self.description, {"made_from": self.made_from, "files": {self.path.name: checksum}}
        )

    def _drawn_before(self) -> str | None:
        """The checksum of an earlier draw by its description; if only the other file can be read, by that one; None if neither can."""
        with contextlib.suppress(UserError):
            return str(read_sealed(self.description, "")["files"][self.path.name])
        with contextlib.suppress(UserError):
            read_array(self.path, "")
            return sha256(self.path)
        return None

    def checksum(self) -> str:
        """The checksum of the stored file."""
        return sha256(self.path)


def _by_this_version(made_from: dict[str, Any]) -> dict[str, Any]:
    """What negatives of an earlier version would be made from if they left out items that were rated low."""
    return made_from | {"config": {LOW_RATED: "excluded"} | made_from["config"]}
