"""Encoder files: safetensors with the architecture in the metadata. Reading one never executes code."""

import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch as th
from torch import nn

from sb3_latent.files import atomic_path

FORMAT = "sb3_latent.encoder.v1"


def write_weights(path: str | Path, tensors: Mapping[str, th.Tensor], architecture: Mapping[str, Any]) -> None:
    """
    Write an encoder file, whole or not at all.

    :param path: where to.
    :param tensors: weights by name.
    :param architecture: plain data, see ``LatentExtractor.architecture``.
    """
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    # One entry, for safetensors writes several in random order and the same weights would make different files.
    metadata = {FORMAT: json.dumps({"architecture": architecture, "checksum": _checksum(copies)}, default=plain)}
    with atomic_path(path) as temporary:
        temporary.write_bytes(safetensors.torch.save(copies, metadata))


def read_weights(path: str | Path) -> tuple[dict[str, th.Tensor], dict[str, Any]]:
    """
    :param path: an encoder file.
    :return: weights by name, and the architecture they belong to.
    :raises FileNotFoundError: if there is no file.
    :raises ValueError: if it is corrupt or no encoder file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no encoder file {path}; write one with save_encoder or pretrain_encoder.")
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}); write it again with save_encoder.") from error
    if FORMAT not in metadata:
        raise ValueError(f"{path} is no sb3_latent encoder: {FORMAT!r} is not in its metadata; write one with save_encoder.")
    architecture, checksum = _described(path, metadata[FORMAT])
    if checksum != _checksum(tensors):
        raise ValueError(f"{path} is damaged: its weights do not have their checksum; write it again with save_encoder.")
    return tensors, architecture


def differences(here: Any, there: Any, where: str = "") -> list[str]:
    """
    Compare what a caller asks for with what a file holds, for messages.

    :param here: plain data.
    :param there: the same from a JSON file.
    :param where: name of the data; empty at the top.
    :return: a line for each value that differs; empty if none does.
    """
    if not (isinstance(here, dict) and isinstance(there, dict)):
        here = json.loads(json.dumps(here, default=plain))
        return [] if here == there else [f"{where} is {here!r} here and {there!r} in the file"]
    lines = []
    for key in dict.fromkeys([*here, *there]):
        name = f"{where}.{key}" if where else key
        lines += differences(here.get(key, "absent"), there.get(key, "absent"), name)
    return lines


def plain(value: object) -> object:
    """
    :param value: what JSON does not know.
    :return: numbers of numpy as Python's, paths as text; a schedule by a name that another process gives it as well.
    """
    if isinstance(value, np.generic):
        return value.item()
    return str(value) if isinstance(value, Path) else getattr(value, "__qualname__", type(value).__qualname__)


def restore(path: str | Path, encoders: nn.Module, tasks: nn.Module) -> None:
    """
    Put an encoder file into an encoder, and its decoders into tasks that are the same; warns where decoders are left out.

    :param path: an encoder file.
    :param encoders: take the weights of the file.
    :param tasks: likewise, all of them or none.
    :raises FileNotFoundError: if there is no file.
    :raises ValueError: if it is corrupt, no encoder file, or of another architecture; says what differs.
    """
    tensors, there = read_weights(path)
    different = differences(encoders.architecture, there["encoders"])
    if different:
        raise ValueError(f"{path} does not fit this encoder: {'; '.join(different)}.")
    encoders.load_state_dict(_under("encoders.", tensors))
    different = differences(tasks.architecture, there["tasks"])
    if not different:
        tasks.load_state_dict(_under("tasks.", tensors))
    elif any(True for _ in tasks.parameters()):
        warnings.warn(f"decoders of {path} were left out, for the tasks differ: {'; '.join(different)}.", stacklevel=2)


def _under(prefix: str, tensors: Mapping[str, th.Tensor]) -> dict[str, th.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _described(path: str | Path, text: str) -> tuple[dict[str, Any], str]:
    """Architecture and checksum; a file may claim the format and hold anything."""
    try:
        match json.loads(text):
            case {"architecture": {"encoders": dict(), "tasks": dict()} as architecture, "checksum": str(checksum)}:
                return architecture, checksum
    except (ValueError, RecursionError):
        pass
    raise ValueError(f"{path} is damaged: its metadata is no architecture; write it again with save_encoder.")


def _checksum(tensors: Mapping[str, th.Tensor]) -> str:
    """safetensors itself notices a damaged header only."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(th.uint8).numpy().data)
    return digest.hexdigest()
