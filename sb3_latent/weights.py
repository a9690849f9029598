"""Encoder files: safetensors with the architecture in the metadata. Reading one never executes code."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch as th

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
    metadata = {FORMAT: json.dumps({"architecture": architecture, "checksum": _checksum(copies)})}
    with atomic_path(path) as temporary:
        temporary.write_bytes(safetensors.torch.save(copies, metadata))


def read_architecture(path: str | Path) -> dict[str, Any]:
    """
    :param path: an encoder file.
    :return: its architecture.
    :raises FileNotFoundError: if there is no file.
    :raises ValueError: if it is corrupt or no encoder file.
    """
    return _read(path)[1]


def read_weights(path: str | Path, architecture: Mapping[str, Any]) -> dict[str, th.Tensor]:
    """
    :param path: an encoder file.
    :param architecture: what the weights must fit.
    :return: weights by name.
    :raises FileNotFoundError: if there is no file.
    :raises ValueError: if it is corrupt, no encoder file, or of another architecture; says what differs.
    """
    tensors, found = _read(path)
    different = differences(json.loads(json.dumps(architecture)), found)
    if different:
        raise ValueError(f"{path} does not fit this encoder: {'; '.join(different)}.")
    return tensors


def differences(here: Any, there: Any, where: str = "") -> list[str]:
    """
    Compare what a caller asks for with what a file holds, for messages.

    :param here: plain data as JSON knows it.
    :param there: the same from a file.
    :param where: name of the data; empty at the top.
    :return: a line for each value that differs; empty if none does.
    """
    if not (isinstance(here, dict) and isinstance(there, dict)):
        return [] if here == there else [f"{where} is {here!r} here and {there!r} in the file"]
    lines = []
    for key in dict.fromkeys([*here, *there]):
        name = f"{where}.{key}" if where else key
        lines += differences(here.get(key, "absent"), there.get(key, "absent"), name)
    return lines


def under(prefix: str, tensors: Mapping[str, th.Tensor]) -> dict[str, th.Tensor]:
    """
    :param prefix: of the names wanted.
    :param tensors: weights by name.
    :return: those under the prefix, by the rest of their names.
    """
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _read(path: str | Path) -> tuple[dict[str, th.Tensor], dict[str, Any]]:
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


def _described(path: str | Path, text: str) -> tuple[dict[str, Any], str]:
    """Architecture and checksum; a file may claim the format and hold anything."""
    try:
        match json.loads(text):
            case {"architecture": dict(architecture), "checksum": str(checksum)}:
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
