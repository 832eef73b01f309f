"""Checks a config against the known methods, backbones and text encoders, and against the rules of each method."""

import difflib

from grasp_jax.config import Config, names
from grasp_jax.config.checks import shown
from grasp_jax.config.fields import flatten
from grasp_jax.core.errors import UserError
from grasp_jax.kernels.sasrec_layer import WIDTHS
from grasp_jax.knowledge.encoders import ENCODERS
from grasp_jax.models.backbones import BACKBONES
from grasp_jax.models.backbones.sasrec import SASRec, has_kernel
from grasp_jax.models.methods import METHODS


def check_config(config: Config) -> None:
    """Makes sure that there are such methods, backbones and encoders, and that each method's rules hold.

    Raises:
      UserError: naming the field, of `by_method` where it stands there.
    """
    for field, given, known, other, others in (
        ("method", config.model.method, tuple(METHODS), "backbone", BACKBONES),
        ("backbone", config.model.backbone, tuple(BACKBONES), "method", METHODS),
    ):
        for name in names(given):
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]}? " if near else ""
                hint = f"that is a {other}, for config.model.{other}; " if name in others else hint
                expected = (
                    f"expected one of {', '.join(known)}, or of your own: import what registers it (on the command line the file of "
                    "--config=FILE must do so, and several names are joined by commas)"
                )
                raise UserError(f"config.model.{field}: {shown(name)}; {hint}{expected}")
        if len(set(names(given))) != len(names(given)):
            raise UserError(f"config.model.{field}: {given!r} has one name twice; leave one out")
    encoder = config.knowledge.encoder
    if encoder not in ENCODERS:
        raise UserError(
            f"config.knowledge.encoder: {shown(encoder)}; expected one of {', '.join(ENCODERS)}"
        )
    for method in config.by_method:
        if method not in METHODS:
            raise UserError(
                f"config.by_method.{method}: no such method; expected one of {', '.join(METHODS)}"
            )
    for method in names(config.model.method):
        try:
            _check_method(config.for_method(method), method)
        except UserError as error:
            field = str(error).removeprefix("config.").partition(":")[0]
            changes = flatten(config.by_method.get(method, {}))
            if field in changes:
                where = f"config.by_method.{method}."
                raise UserError(str(error).replace("config.", where, 1)) from error
            if changes:
                raise UserError(f"{error} (with config.by_method.{method})") from error
            raise


def _check_method(config: Config, method: str) -> None:
    """The rules of a method, and whether there are kernels for what the config makes of the backbones."""
    METHODS[method].check(config)
    model = config.model
    sizes = model.block, model.padded_length, model.features, model.num_heads
    if config.kernels != "backbone" or has_kernel(*sizes):
        return
    widths = ", ".join(map(str, WIDTHS))
    for backbone in names(model.backbone):
        if issubclass(BACKBONES[backbone], SASRec):
            raise UserError(
                f"config.kernels: 'backbone' with model.backbone={backbone!r}, model.block={model.block!r}, "
                f"model.features={model.features} and model.num_heads={model.num_heads}; kernels of this backbone are for "
                f"the block 'sasrec' and features {widths}: expected auto or xla"
            )
