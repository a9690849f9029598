"""Carry an encoder from one model to another, whatever their algorithms and action spaces."""

from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BaseModel

from sb3_latent.hooked import HookedExtractor
from sb3_latent.models import get_hooked_extractors
from sb3_latent.weights import write_weights


def save_encoder(model: BaseAlgorithm | BaseModel | HookedExtractor[Any], path: str | Path) -> Path:
    """
    Write the encoder of a model, and its decoders, to a safetensors file with the architecture in its metadata.

    :param model: an SB3 model, a policy or an extractor.
    :param path: the file, written whole or not at all; by convention ``*.safetensors``.
    :return: the path.
    :raises TypeError: if the model has no extractor of ours.
    """
    extractor = get_hooked_extractors(model)[0]
    parts = {"encoders": extractor.encoders, "tasks": extractor.tasks}
    tensors = {f"{part}.{name}": tensor for part, module in parts.items() for name, tensor in module.state_dict().items()}
    write_weights(path, tensors, extractor.architecture)
    return Path(path)


def load_encoder(model: BaseAlgorithm | BaseModel | HookedExtractor[Any], path: str | Path) -> None:
    """
    Put the weights of an encoder file into every extractor of a model, those of target networks included. Decoders are
    taken over where they fit. Reading executes no code.

    :param model: an SB3 model, a policy or an extractor.
    :param path: a file from :func:`save_encoder` or ``pretrain_encoder``.
    :raises FileNotFoundError: if there is no file.
    :raises ValueError: if the file is corrupt, foreign or of another architecture; says what differs.
    :raises TypeError: if the model has no extractor of ours.
    """
    for extractor in get_hooked_extractors(model):
        extractor.load_weights(path)
