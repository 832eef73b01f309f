"""A seeded synthetic shop: readable item text, latent tastes, a long tail, repeat purchases, and descriptions that can be wrong.

Each shopper prefers a few product kinds, a style and two brands; the next purchase often follows from the last one (shampoo, then
conditioner). Text names kind, style and brand, so a model that reads can rank items that hardly anybody has bought yet.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from grasp_jax.data.attributes import AttributeTable
from grasp_jax.data.log import InteractionLog, build_log

_KINDS = {
    "Hair Care": "Shampoo, Conditioner, Hair Mask, Hair Oil, Hair Spray, Styling Gel, Dry Shampoo, Scalp Serum",
    "Skin Care": "Day Cream, Night Cream, Eye Cream, Cleanser, Toner, Face Mask, Sun Lotion, Face Serum",
    "Make-up": "Lipstick, Mascara, Eyeliner, Foundation, Blush, Concealer, Eyeshadow Palette, Primer",
    "Bath and Body": "Hand Cream, Body Lotion, Bath Salt, Shower Gel, Body Scrub, Soap Bar, Foot Balm, Body Mist",
    "Fragrance": "Eau de Parfum, Eau de Toilette, Cologne, Perfume Oil, Room Spray, Scented Candle, Solid Perfume, Sachet",
    "Tools": "Hair Brush, Make-up Brush, Curling Iron, Tweezers, Nail File, Facial Roller, Sponge Set, Mirror",
    "Nails": "Nail Polish, Top Coat, Base Coat, Cuticle Oil, Nail Stickers, Polish Remover, Gel Lamp, Nail Kit",
    "Shaving": "Razor, Shaving Foam, After Shave, Beard Oil, Beard Comb, Trimmer, Shaving Brush, Alum Block",
}
CATEGORIES = {category: tuple(kinds.split(", ")) for category, kinds in _KINDS.items()}
STYLES = tuple(
    (
        "Lavender, Rose, Coconut, Charcoal, Aloe, Vanilla, Citrus, Cedar, Mint, Honey, Argan, "
        "Jasmine, Oat, Sea Salt, Green Tea, Cherry, Sandalwood, Peach, Bamboo, Ginger"
    ).split(", ")
)
BRAND_HEADS = ("Lum", "Vel", "Nor", "Ari", "Sol", "Mira", "Cal", "Ter", "Ondi", "Bri")
BRAND_TAILS = ("ora", "vane", "della", "wick", "essa", "mont")
FINISHES = tuple(
    "Gentle Intense Organic Travel Family Professional Classic Light Rich Daily".split()
)
MIN_LENGTH, MAX_LENGTH = 3, 200
REMEMBERED = 20  # purchases back that a shopper avoids buying again by chance
CANDIDATES = 16  # items a shopper looks at before choosing one


@dataclasses.dataclass(frozen=True)
class ShopSpec:
    """What shop to make.

    Attributes:
      num_users, num_items: N and V.
      mean_length: mean interactions per user, above 3.
      repeat_rate: share of purchases that repeat an earlier one.
      corrupted_share: share of users whose description is another user's.
      seed: decides everything; interactions do not depend on `corrupted_share`.
      name: dataset name.
    """

    num_users: int = 3000
    num_items: int = 1500
    mean_length: float = 9.0
    repeat_rate: float = 0.1
    corrupted_share: float = 0.0
    seed: int = 0
    name: str = "synthetic-shop"


@dataclasses.dataclass(frozen=True)
class Shop:
    """The shop: interactions, item text, user descriptions of training purchases, and [N] bool which of them are another user's."""

    log: InteractionLog
    items: AttributeTable
    user_texts: list[str]
    corrupted: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Catalogue:
    """[V] int attributes of the items, which stand kind by kind: kind k owns rows `offsets[k]:offsets[k + 1]`."""

    kind: np.ndarray
    style: np.ndarray
    brand: np.ndarray
    offsets: np.ndarray


def make_shop(
    spec: ShopSpec, training_ends: Callable[[InteractionLog], np.ndarray] | None = None
) -> Shop:
    """Makes the shop; the same for the same spec.

    Args:
      spec: what shop to make.
      training_ends: function of a log that returns [N] the end of each shopper's training purchases among all interactions; users are
        described from the purchases before it. None: from all purchases except the last two.
    """
    rng = np.random.default_rng([spec.seed, 1])
    catalogue = _make_catalogue(spec, rng)
    items = _describe_items(catalogue, np.random.default_rng([spec.seed, 2]))
    histories, lengths = _shop(spec, catalogue, rng)
    bought = np.arange(histories.shape[1]) < lengths[:, None]
    users = np.repeat(np.arange(1, spec.num_users + 1), lengths)
    # A purchase every one to thirty days after 1 January 2024.
    days = np.cumsum(rng.integers(1, 31, histories.shape), axis=1)
    log = build_log(
        spec.name, users, histories[bought] + 1, 1_704_067_200 + 86_400 * days[bought], items.ids
    )
    log = dataclasses.replace(log, time_unit="s")
    texts = _describe_users(
        log, items, catalogue, log.offsets[1:] - 2 if training_ends is None else training_ends(log)
    )
    corrupted = np.zeros(spec.num_users, bool)
    chosen = np.random.default_rng([spec.seed, 3]).permutation(spec.num_users)[
        : round(spec.corrupted_share * spec.num_users)
    ]
    if len(chosen) > 1:
        corrupted[chosen] = True
        # Each user gets the text of the next one, so no user keeps their own.
        swapped = [texts[user] for user in np.roll(chosen, 1)]
        for user, text in zip(chosen, swapped, strict=True):
            texts[user] = text
    return Shop(log, items, texts, corrupted)


def _make_catalogue(spec: ShopSpec, rng: np.random.Generator) -> _Catalogue:
    num_kinds = sum(map(len, CATEGORIES.values()))
    share = rng.dirichlet(np.full(num_kinds, 3.0))
    kind = np.sort(
        np.concatenate(
            [np.arange(num_kinds), rng.choice(num_kinds, spec.num_items - num_kinds, p=share)]
        )
    )
    offsets = np.searchsorted(kind, np.arange(num_kinds + 1))
    style = rng.integers(len(STYLES), size=spec.num_items)
    brand = rng.integers(len(BRAND_HEADS) * len(BRAND_TAILS), size=spec.num_items)
    return _Catalogue(kind, style, brand, offsets)


def shop_lengths(num_users: int, mean_length: float, rng: np.random.Generator) -> np.ndarray:
    """[N] interactions of each shopper: log-normal above the least, about `mean_length` on average."""
    extra = rng.lognormal(0.0, 1.0, num_users)
    lengths: np.ndarray = np.minimum(
        MIN_LENGTH + np.floor((mean_length - MIN_LENGTH + 0.5) * extra / np.exp(0.5)), MAX_LENGTH
    )
    return lengths.astype(int)


def _shop(
    spec: ShopSpec, catalogue: _Catalogue, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """[N, longest] item rows in order of purchase and [N] lengths; vectorised over users, one purchase at a time."""
    num_users, num_kinds = spec.num_users, len(catalogue.offsets) - 1
    lengths = shop_lengths(num_users, spec.mean_length, rng)
    liked_kinds = rng.integers(num_kinds, size=(num_users, 3))
    liked_style = rng.integers(len(STYLES), size=(num_users, 1))
    liked_brands = rng.integers(len(BRAND_HEADS) * len(BRAND_TAILS), size=(num_users, 2))
    histories = np.zeros((num_users, lengths.max()), np.int32)
    every = np.arange(num_users)
    kind = liked_kinds[:, 0]
    for t in range(histories.shape[1]):
        # What kind: what goes with the last purchase (the next kind of its category), a liked kind, or anything.
        chance = rng.random(num_users)
        complement = kind // 8 * 8 + (kind + 1) % 8
        liked = liked_kinds[every, rng.choice(3, num_users, p=(0.6, 0.3, 0.1))]
        kind = np.where(
            chance < 0.4,
            complement,
            np.where(chance < 0.95, liked, rng.integers(num_kinds, size=num_users)),
        )
        # Which item: some candidates, popular ones more often (the density of n u^3 falls like rank^-2/3), then style and brand choose.
        first, count = catalogue.offsets[kind], np.diff(catalogue.offsets)[kind]
        rank = np.floor(count[:, None] * rng.random((num_users, CANDIDATES)) ** 3).astype(int)
        candidates = first[:, None] + rank
        appeal = 3.5 * (catalogue.style[candidates] == liked_style) + rng.gumbel(
            size=candidates.shape
        )
        appeal += 3.0 * (catalogue.brand[candidates][:, :, None] == liked_brands[:, None, :]).any(
            axis=2
        )
        lately = histories[:, None, max(0, t - REMEMBERED) : t]
        # so that only `repeat_rate` makes purchases repeat
        appeal -= 100.0 * (candidates[:, :, None] == lately).any(axis=2)
        item = candidates[every, appeal.argmax(axis=1)]
        again = (rng.random(num_users) < spec.repeat_rate) & (t > 0)
        earlier = histories[every, (rng.random(num_users) * max(t, 1)).astype(int)]
        histories[:, t] = np.where(again, earlier, item)
        kind = catalogue.kind[histories[:, t]]
    return histories, lengths


def _describe_items(catalogue: _Catalogue, rng: np.random.Generator) -> AttributeTable:
    kinds = [(category, kind) for category, names in CATEGORIES.items() for kind in names]
    brands = [head + tail for head in BRAND_HEADS for tail in BRAND_TAILS]
    finishes, sizes = (
        rng.integers(len(FINISHES), size=len(catalogue.kind)),
        rng.integers(1, 21, size=len(catalogue.kind)),
    )
    titles, attributes = [], []
    for kind, style, brand, finish, size in zip(
        catalogue.kind, catalogue.style, catalogue.brand, finishes, sizes, strict=True
    ):
        titles.append(
            f"{brands[brand]} {FINISHES[finish]} {STYLES[style]} {kinds[kind][1]} {25 * size} ml"
        )
        attributes.append([brands[brand], *kinds[kind]])
    prices = np.round(rng.lognormal(2.3, 0.6, len(titles)), 2).tolist()
    return AttributeTable(
        np.arange(1, len(titles) + 1), {"title": titles, "attributes": attributes, "price": prices}
    )


def _describe_users(
    log: InteractionLog, items: AttributeTable, catalogue: _Catalogue, ends: np.ndarray
) -> list[str]:
    """What a language model might say of each shopper, from the training part of the history alone, up to `ends` [N]."""
    kinds = [kind for names in CATEGORIES.values() for kind in names]
    brands = [head + tail for head in BRAND_HEADS for tail in BRAND_TAILS]
    titles = items.columns["title"]
    texts = []
    for start, end in zip(log.offsets[:-1], ends, strict=True):
        bought = log.items[start:end]
        if not len(bought):
            texts.append("Nothing is known of this shopper yet.")
            continue
        kind, style, brand = (
            names[np.bincount(column[bought]).argmax()]
            for names, column in (
                (kinds, catalogue.kind),
                (STYLES, catalogue.style),
                (brands, catalogue.brand),
            )
        )
        listed = ", ".join(titles[item] for item in bought[-8:])
        texts.append(
            f"This shopper mostly buys {kind}, likes {style} and trusts {brand}. Bought lately: {listed}."
        )
    return texts
