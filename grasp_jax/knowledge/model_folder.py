"""A folder that holds a language model: whether it can be used, and what makes it another model."""

import hashlib
import pathlib

from grasp_jax.errors import UserError

FIELD = "config.knowledge.local.model"
WEIGHTS = (".safetensors", ".bin", ".onnx")
SAMPLES, SAMPLE_BYTES = 64, 65_536  # of a file of weights, which may have gigabytes


def model_folder(name: str) -> pathlib.Path:
    """The folder that `config.local.model` names.

    Raises:
      UserError: it is no folder, or lacks its configuration or safetensors weights.
    """
    if not name:
        raise UserError(f"{FIELD} is empty; give the folder of an instruction-tuned model, such as Qwen2.5-7B-Instruct")
    folder = pathlib.Path(name).expanduser()
    if not folder.is_dir():
        raise UserError(f"{FIELD}: {name!r} is not a folder; expected one with a model's config.json, tokenizer and safetensors")
    if not (folder / "config.json").is_file():
        raise UserError(f"{FIELD}: {name!r} has no config.json; expected the folder of a transformers model")
    if not any(folder.glob("*.safetensors")):
        raise UserError(f"{FIELD}: {name!r} has no *.safetensors; other weights may hold code and are not loaded, so convert them")
    return folder.resolve()


def fingerprint(folder: pathlib.Path) -> str:
    """A hash of what decides the answers: configuration and tokenizer whole, of the weights sizes and samples.

    Raises:
      UserError: a file is not readable.
    """
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".jinja", ".model", ".txt", *WEIGHTS)):
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
            raise UserError(f"{path}: not readable ({error.strerror}); it is part of the model") from error
    return digest.hexdigest()[:16]
