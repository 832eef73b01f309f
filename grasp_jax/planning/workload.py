"""The sizes of a training step, from which `planning.step` counts, and the layout of devices that compute it."""

from typing import NamedTuple

FLOAT = 4  # bytes of a float32 or int32: of all numbers except those of the frozen tables


class Network(NamedTuple):
    """Computes vectors from the frozen rows of items: one matrix, or two with a hidden layer between them.

    Attributes:
      inputs: numbers of the rows of an item that it reads.
      hidden: H; 0: there is no hidden layer.
      outputs: D.
    """

    inputs: int
    hidden: int
    outputs: int

    @property
    def first(self) -> int:
        """Width of the product with the frozen rows."""
        return self.hidden or self.outputs

    @property
    def parameters(self) -> int:
        """Numbers of its matrices and biases."""
        return (self.inputs + 1) * self.first + (self.hidden + 1) * self.outputs * (self.hidden > 0)


class ItemVectors(NamedTuple):
    """How a step computes the vectors of items.

    Attributes:
      trained: numbers of the trained ID vector of an item; 0 without one.
      networks: networks that read frozen rows.
      numbers: numbers that a step computes from the frozen rows of an item, independently of the user; devices exchange them if item
        tables are split.
      row_bytes: bytes of the frozen rows of an item, which may be split over devices.
      copied_bytes: bytes of further frozen rows of an item, which every device has.
      joined: numbers of the rows of different tables that are joined before networks read them.
      towers: number of towers of D numbers, each with a separate backbone.
      match: numbers of the text after the towers, which is not trained.
      losses: numbers of an item's vector that each of the losses over a whole catalogue multiplies.
    """

    trained: int
    networks: tuple[Network, ...]
    numbers: int
    row_bytes: int = 0
    copied_bytes: int = 0
    joined: int = 0
    towers: int = 1
    match: int = 0
    losses: tuple[int, ...] = ()

    @property
    def hidden(self) -> int:
        """Numbers of all hidden layers."""
        return sum(network.hidden for network in self.networks)


class Workload(NamedTuple):
    """The sizes of a step with self-attention backbones.

    Attributes:
      users, items, interactions: N, V and the length of the log.
      evaluated, candidates: users of the validation set, and items that are ranked for each of them.
      width, features, hidden, layers: E of the texts (0: none is read), D, H and the number of blocks of a backbone.
      table_bytes: bytes of one number of a frozen table.
      batch: B users a step, on all devices together.
      rows, length: R packed rows of L places.
      pairs, negatives: P targets, and G negatives of each; several devices compute negatives at every place.
      vectors: how item vectors are computed.
      models: M, models trained together.
      catalogue: whether each target is scored against all items (the loss is "ce"); then no negatives are drawn, and G is 0.
      gated: whether item vectors depend on the user.
      kernels: number of kernels that a step launches on a device; 0 if launches are not counted.
    """

    users: int
    items: int
    interactions: int
    evaluated: int
    candidates: int
    width: int
    features: int
    hidden: int
    layers: int
    table_bytes: int
    batch: int
    rows: int
    length: int
    pairs: int
    negatives: int
    vectors: ItemVectors
    models: int = 1
    catalogue: bool = False
    gated: bool = False
    kernels: int = 0

    @property
    def places(self) -> int:
        """R * L."""
        return self.rows * self.length

    @property
    def vector_width(self) -> int:
        """Numbers of an item's vector and of a state: D for each tower, and the match."""
        return self.vectors.towers * self.features + self.vectors.match

    @property
    def parameters(self) -> int:
        """Number of parameters of one model: ID vectors, networks, and backbones, whose blocks have four D x D matrices and an MLP with
        two.
        """
        encoder = self.items * self.vectors.trained
        encoder += sum(network.parameters for network in self.vectors.networks)
        block = 6 * self.features**2 + 10 * self.features
        backbone = self.layers * block + (self.length + 2) * self.features
        return encoder + self.vectors.towers * backbone


class Layout(NamedTuple):
    """`config.mesh` and `config.tables.users`."""

    data: int
    table: int
    users: str = "device"

    @property
    def devices(self) -> int:
        """Number of devices."""
        return self.data * self.table

    def negatives(self, work: Workload) -> int:
        """Number of negatives whose rows a step reads."""
        return work.negatives * (work.pairs if self.devices == 1 else work.places)
