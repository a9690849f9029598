"""Encoder files: safetensors with the architecture in the metadata. Reading one never executes code."""

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
    metadata = {"format": FORMAT, "architecture": json.dumps(architecture)}
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        safetensors.torch.save_file(copies, temporary, metadata)


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
    differences = list(_differences(json.loads(json.dumps(architecture)), found))
    if differences:
        raise ValueError(f"{path} does not fit this encoder: {'; '.join(differences)}.")
    return tensors


def _read(path: str | Path) -> tuple[dict[str, th.Tensor], dict[str, Any]]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"no encoder file {path}; write one with save_encoder or pretrain_encoder.")
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}); write it again with save_encoder.") from error
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} is no sb3_latent encoder (format {metadata.get('format')!r}, expected {FORMAT!r}).")
    architecture: dict[str, Any] = json.loads(metadata["architecture"])
    return tensors, architecture


def _differences(here: Any, there: Any, where: str = "") -> list[str]:
    if not (isinstance(here, dict) and isinstance(there, dict)):
        return [] if here == there else [f"{where} is {here!r} here and {there!r} in the file"]
    lines = []
    for key in dict.fromkeys([*here, *there]):
        name = f"{where}.{key}" if where else key
        lines += _differences(here.get(key, "absent"), there.get(key, "absent"), name)
    return lines
