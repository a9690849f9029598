"""One encoder for each array of an observation, side by side."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

import torch as th
from gymnasium import spaces
from torch import nn

from sb3_latent.images import array_specs
from sb3_latent.nn.encoder import Encoder
from sb3_latent.nn.heads import Head
from sb3_latent.nn.repeats import Repeats
from sb3_latent.types import Latent, Observations

Recall: TypeAlias = Callable[[th.Tensor, Callable[[th.Tensor], th.Tensor]], th.Tensor]
"""From (n, *frame_shape) and an encoder of frames to (n, latent_dim)."""
NO_REPEATS: Mapping[str, Repeats] = MappingProxyType({})
NO_RECALL: Mapping[str, Recall] = MappingProxyType({})


class ObservationEncoder(nn.Module):
    """
    Encodes an observation: an :class:`Encoder` a key, one key ``"observation"`` where the space is no Dict. Latents lie
    side by side, key after key, and within a key frame after frame.

    :param space: image, vector or Dict of them, as SB3 hands it to a features extractor.
    :param per_frame: encode each frame of a stack on its own with the one encoder of its key.
    :param n_frames: frames in a stack, with ``per_frame``; None takes one grey frame a channel.
    :param latent_dim: length of the latent of a frame.
    :param trunk: name or dotted path for images, or for the only array; None chooses by its shape. Vectors beside images
        take ``"mlp"``.
    :param trunk_kwargs: further arguments of that trunk.
    :param head: name or dotted path.
    :param head_kwargs: further arguments of the head.
    :raises ValueError: if an array cannot be encoded that way.
    :raises TypeError: if an argument is unknown to the trunk or the head.
    """

    def __init__(
        self,
        space: spaces.Space[Any],
        per_frame: bool,
        n_frames: int | None,
        latent_dim: int,
        trunk: str | None,
        trunk_kwargs: Mapping[str, Any],
        head: str,
        head_kwargs: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.by_key = nn.ModuleDict()
        self.is_dict = isinstance(space, spaces.Dict)
        self.specs = array_specs(space, per_frame, n_frames)
        for name, spec in self.specs.items():
            if "." in name or hasattr(self.by_key, name):
                raise ValueError(f"observation key {name!r} cannot name a torch module; rename it.")
            is_main = spec.is_image or len(self.specs) == 1
            chosen, chosen_kwargs = (trunk, trunk_kwargs) if is_main else (None, {})
            self.by_key[name] = Encoder(spec, latent_dim, chosen, chosen_kwargs, head, head_kwargs)
        self.has_checked_pixels = False

    def __iter__(self) -> Iterator[str]:
        return iter(self.specs)

    def __len__(self) -> int:
        return len(self.specs)

    def __getitem__(self, name: str) -> Encoder:
        encoder = self.by_key[name]
        assert isinstance(encoder, Encoder)
        return encoder

    def encoders(self) -> list[Encoder]:
        """:return: the encoder of each key."""
        return [self[name] for name in self]

    @property
    def widths(self) -> list[int]:
        """:return: length of the latents of each key."""
        return [encoder.spec.n_frames * encoder.latent_dim for encoder in self.encoders()]

    @property
    def features_dim(self) -> int:
        """:return: length of all latents side by side."""
        return sum(self.widths)

    @property
    def architecture(self) -> dict[str, Any]:
        """:return: what two encoders must share for their weights to fit, as plain data."""
        return {encoder.spec.name: encoder.architecture for encoder in self.encoders()}

    def forward(self, observations: Observations, repeats: Mapping[str, Repeats] = NO_REPEATS) -> Latent:
        """
        :param observations: as SB3 preprocesses them: images in [0, 1], (B, *observation shape); a dict for a Dict space.
        :param repeats: for some keys which of their B * n_frames frames are the same; those are encoded once.
        :return: (B, features_dim) each part.
        """
        return self.latent(self.hidden(observations, repeats), repeats)

    def hidden(self, observations: Observations, repeats: Mapping[str, Repeats] = NO_REPEATS) -> dict[str, th.Tensor]:
        """
        The first half of an encoding, which an actor with heads of its own shares.

        :param observations: as for :meth:`forward`.
        :param repeats: as for :meth:`forward`.
        :return: for each key (B * n_frames, trunk's out_dim), or fewer rows where frames are encoded once.
        """
        frames = self.frames(observations)
        self._check_pixels(frames)
        once = {name: repeats[name].once(frames[name]) if name in repeats else frames[name] for name in self}
        return {name: self[name].trunk(once[name]) for name in self}

    def latent(self, hidden: Mapping[str, th.Tensor], repeats: Mapping[str, Repeats] = NO_REPEATS) -> Latent:
        """
        The second half of an encoding.

        :param hidden: from :meth:`hidden`.
        :param repeats: as there.
        :return: (B, features_dim) each part.
        """
        latents: list[Latent] = []
        for name in self:
            latent: Latent = self[name].head(hidden[name])
            latents.append(latent.map(repeats[name].everywhere) if name in repeats else latent)
        mean = joined([latent.mean for latent in latents], self.widths)
        log_vars = [latent.log_var for latent in latents if latent.log_var is not None]
        return Latent(mean, joined(log_vars, self.widths) if log_vars else None)

    def means(self, observations: Observations, recalled: Mapping[str, Recall] = NO_RECALL) -> th.Tensor:
        """
        What acting needs, without the rest.

        :param observations: as for :meth:`forward`.
        :param recalled: for some keys what hands its frames to their encoder, those that it does not remember.
        :return: (B, features_dim), the mean of :meth:`forward`.
        """
        frames = self.frames(observations)
        self._check_pixels(frames)
        encode = {name: self[name].mean_of for name in self}
        parts = [recalled[n](frames[n], encode[n]) if n in recalled else encode[n](frames[n]) for n in self]
        return joined(parts, self.widths)

    def frames(self, observations: Observations) -> dict[str, th.Tensor]:
        """
        :param observations: (B, *observation shape), a dict for a Dict space.
        :return: for each key (B * n_frames, *frame_shape).
        """
        arrays = observations if isinstance(observations, dict) else {"observation": observations}
        return {name: spec.fold(arrays[name]) for name, spec in self.specs.items()}

    def observations(self, frames: Mapping[str, th.Tensor]) -> Observations:
        """
        The inverse of :meth:`frames`.

        :param frames: for some keys (B * n_frames, *frame_shape).
        :return: (B, *observation shape); a dict of these keys for a Dict space.
        """
        arrays = {name: self.specs[name].unfold(part) for name, part in frames.items()}
        return arrays if self.is_dict else arrays["observation"]

    def split(self, latent: Latent) -> dict[str, Latent]:
        """
        :param latent: (B, features_dim) each part.
        :return: for each key (B * n_frames, latent_dim).
        """
        means = self._separated(latent.mean)
        if latent.log_var is None:
            return {name: Latent(mean, None) for name, mean in means.items()}
        log_vars = self._separated(latent.log_var)
        return {name: Latent(means[name], log_vars[name]) for name in means}

    def _separated(self, features: th.Tensor) -> dict[str, th.Tensor]:
        columns = th.split(features, self.widths, 1)
        pairs = zip(self.encoders(), columns, strict=True)
        return {encoder.spec.name: part.reshape(-1, encoder.latent_dim) for encoder, part in pairs}

    def _check_pixels(self, frames: Mapping[str, th.Tensor]) -> None:
        """On the first batch that is not black, and then no more: reading values waits for the device."""
        if not self.has_checked_pixels and not th.compiler.is_compiling():
            for name, spec in self.specs.items():
                spec.check_pixels(frames[name])
            images = [frames[name] for name, spec in self.specs.items() if spec.is_image]
            self.has_checked_pixels = all(bool(image.any()) for image in images)


class ObservationHeads(nn.Module):
    """
    Heads of the same kind as an encoder's, with weights of their own, on top of its trunks: what the actor of SAC+AE reads.

    :param encoders: gives the kinds and shapes; never kept.
    """

    def __init__(self, encoders: ObservationEncoder) -> None:
        super().__init__()
        self.by_key = nn.ModuleDict({encoder.spec.name: encoder.make_head() for encoder in encoders.encoders()})
        self.widths = encoders.widths

    def forward(self, hidden: Mapping[str, th.Tensor]) -> th.Tensor:
        """
        :param hidden: from :meth:`ObservationEncoder.hidden`.
        :return: (B, features_dim), the mean of each head.
        """
        heads = {name: head for name, head in self.by_key.items() if isinstance(head, Head)}
        return joined([head.mean_of(hidden[name]) for name, head in heads.items()], self.widths)


def joined(parts: Sequence[th.Tensor], widths: Sequence[int]) -> th.Tensor:
    """
    :param parts: for each key (B * n_frames, latent_dim).
    :param widths: n_frames * latent_dim of each.
    :return: (B, sum of the widths).
    """
    return th.cat([part.reshape(-1, width) for part, width in zip(parts, widths, strict=True)], 1)
