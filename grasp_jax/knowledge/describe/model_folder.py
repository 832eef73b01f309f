"""A folder that holds a language model: whether it can be used, and what makes it another model."""

import hashlib
import json
import pathlib

from grasp_jax.core.errors import UserError
from grasp_jax.core.files import read_text

FIELD = "config.knowledge.local.model"
WEIGHTS = (".safetensors", ".bin", ".onnx")
PICKLED = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
SAMPLES, SAMPLE_BYTES = 64, 65_536  # of a file of weights, which may have gigabytes


def model_folder(name: str) -> pathlib.Path:
    """The folder that `config.local.model` names.

    Raises:
      UserError: it is not a folder, or has no configuration or no safetensors weights.
    """
    if not name:
        raise UserError(
            f"{FIELD} is empty; give the folder of an instruction-tuned model, such as Qwen2.5-7B-Instruct"
        )
    folder = pathlib.Path(name).expanduser()
    if not folder.is_dir():
        raise UserError(
            f"{FIELD}: {name!r} is not a folder; expected one with a model's config.json, tokenizer and safetensors"
        )
    if not (folder / "config.json").is_file():
        raise UserError(
            f"{FIELD}: {name!r} has no config.json; expected the folder of a transformers model"
        )
    if not any(folder.glob("*.safetensors")):
        raise UserError(
            f"{FIELD}: {name!r} has no *.safetensors; other weights may hold code and are not loaded, so convert them"
        )
    return folder.resolve()


def check_sentence_folder(folder: pathlib.Path, where: str) -> None:
    """Checks that every module of a sentence-transformers folder has its weights, if any, in safetensors; pickled ones may hold code.

    Args:
      folder: of the model; one without `modules.json` is a bare transformers model.
      where: the config field, for messages.

    Raises:
      UserError: weights of a module are there only as a pickle, there are no safetensors at all, or `modules.json` is damaged.
    """
    inside = {folder}
    if (folder / "modules.json").is_file():
        expected = (
            f"expected the list of modules of the sentence-transformers model that {where} names"
        )
        try:
            modules = json.loads(read_text(folder / "modules.json", expected))
            inside |= {folder / module["path"] for module in modules}
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise UserError(
                f"{folder / 'modules.json'}: damaged ({type(error).__name__}); {expected}"
            ) from error
    for part in sorted(inside):
        if not part.resolve().is_relative_to(folder.resolve()):
            raise UserError(
                f"{folder / 'modules.json'}: the module {str(part)!r} lies outside the folder; expected one inside"
            )
        pickled = sorted(
            path.name
            for path in part.glob("*")
            if path.suffix in PICKLED and path.name != "training_args.bin"
        )
        if pickled and not any(part.glob("*.safetensors")):
            raise UserError(
                f"{where}: {str(part / pickled[0])!r} may hold code and is not loaded; convert it to model.safetensors"
            )
    if not any(path for part in inside for path in part.glob("*.safetensors")):
        raise UserError(
            f"{where}: {str(folder)!r} has no *.safetensors; other weights may hold code and are not loaded, so convert them"
        )


def fingerprint(folder: pathlib.Path) -> str:
    """A hash of what decides the answers: configuration and tokenizer whole, of the weights sizes and samples.

    Raises:
      UserError: a file is not readable.
    """
    digest = hashlib.sha256()
    for path in sorted(
        path
        for path in folder.rglob("*")
        if path.suffix in (".json", ".jinja", ".model", ".txt", *WEIGHTS)
    ):
        try:
            size = path.stat().st_size
            digest.update(f"{path.relative_to(folder)} {size}\n".encode())
            with path.open("rb") as file:
                if path.suffix not in WEIGHTS:
                    digest.update(file.read())
                    continue
                for k in range(SAMPLES):
                    file.seek(k * max(0, size - SAMPLE_BYTES) // (SAMPLES - 1))
                    digest.update(file.read(SAMPLE_BYTES))
        except OSError as error:
            raise UserError(
                f"{path}: not readable ({error.strerror}); it is part of the model"
            ) from error
    return digest.hexdigest()[:16]
