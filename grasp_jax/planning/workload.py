"""The sizes of a training step, from which `planning.step` counts, and the layout of devices that compute it."""

from typing import NamedTuple

FLOAT = 4  # bytes of a float32 or int32: of all numbers except those of the frozen tables


class Network(NamedTuple):
    """Computes vectors from the frozen rows of items: one matrix, or two with a hidden layer between them.

    Attributes:
      inputs: numbers of the rows of an item that it reads.
      hidden: H; 0: there is no hidden layer.
      outputs: D.
      folded: width between two matrices that a step multiplies by each other, so that rows are multiplied by one; 0: there is one matrix.
      experts: K matrices, whose results gates mix; each has a centre, which is subtracted from the rows, and two numbers of its gate. 0: no
        experts.
    """

    inputs: int
    hidden: int
    outputs: int
    folded: int = 0
    experts: int = 0

    @property
    def first(self) -> int:
        """Width of the product with the frozen rows."""
        return self.experts * (self.outputs + 2) or self.hidden or self.outputs

    @property
    def parameters(self) -> int:
        """Numbers of its matrices and biases."""
        if self.experts:
            return self.inputs * (self.first + self.experts)
        if between := self.folded or self.hidden:
            return (self.inputs + 1) * between + (between + 1) * self.outputs
        return (self.inputs + 1) * self.outputs


class ItemVectors(NamedTuple):
    """How a step computes the vectors of items.

    Attributes:
      trained: numbers of the trained ID vector of an item; 0 without one.
      networks: networks that read frozen rows.
      numbers: numbers that a step computes from the frozen rows of an item, independently of the user; devices exchange them if item
        tables are split.
      row_bytes: bytes of the frozen rows of an item, which may be split over devices.
      copied_bytes: bytes of further frozen rows of an item, which every device has.
      joined: numbers of the rows that a step makes from those of the tables before networks read them: rows of different tables joined, in
        float32, or with dropout.
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

    @property
    def mixed(self) -> int:
        """Numbers of all experts and their gates."""
        return sum(network.first for network in self.networks if network.experts)


class Contrast(NamedTuple):
    """The loss of RLMRec, which contrasts representations with texts.

    Attributes:
      network: computes vectors of the width D from texts, or of the width E from representations.
      generative: whether it reads representations.
      all_users: whether a user's text is contrasted with those of all users.
    """

    network: Network
    generative: bool = False
    all_users: bool = False


class Further(NamedTuple):
    """What some methods compute in addition to the others.

    Attributes:
      views: vectors of D numbers of an item, each of which goes through the same backbone after a cross-attention to the other.
      similar: users with whose newest states the state of each user of a batch is compared.
      contrast: the loss of RLMRec.
    """

    views: int = 1
    similar: int = 0
    contrast: Contrast | None = None


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
      further: what only some methods compute.
      tested: users of the test.
      user_block, item_block: users, and items, that are ranked at a time.
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
    further: Further = Further()
    tested: int = 0
    user_block: int = 128
    item_block: int = 4096

    @property
    def places(self) -> int:
        """R * L."""
        return self.rows * self.length

    @property
    def vector_width(self) -> int:
        """Numbers of an item's vector and of a state: D for each tower, and the match."""
        return self.backbones * self.features + self.vectors.match

    @property
    def backbones(self) -> int:
        """Passes through a backbone: one for each tower or view."""
        return self.vectors.towers * self.further.views

    @property
    def parameters(self) -> int:
        """Number of parameters of one model: ID vectors, networks, and backbones, whose blocks have four D x D matrices and an MLP with
        two. A cross-attention has four D x D matrices and one bias.
        """
        encoder = self.items * self.vectors.trained
        encoder += sum(network.parameters for network in self.vectors.networks)
        block = 6 * self.features**2 + 10 * self.features
        backbone = self.layers * block + (self.length + 2) * self.features
        contrast = self.further.contrast
        crossings = self.further.views if self.further.views > 1 else 0
        further = crossings * (4 * self.features**2 + self.features)
        further += 0 if contrast is None else contrast.network.parameters
        return encoder + self.vectors.towers * backbone + further


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
