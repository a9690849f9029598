"""An encoder before the agent that reads it: the first half of PPOfixed and PPOadapt (seed document 000, section 4)."""

import copy
import hashlib
import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch as th
from filelock import FileLock
from gymnasium import spaces
from sb3_contrib import MaskablePPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import unwrap_wrapper
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, VecNormalize, unwrap_vec_wrapper

from sb3_latent.checkpoint import load_encoder
from sb3_latent.checks import whole_number
from sb3_latent.extractor import LatentExtractor
from sb3_latent.files import atomic_path
from sb3_latent.frames import collect_frames
from sb3_latent.hook import coefficient
from sb3_latent.images import ArraySpec
from sb3_latent.models import get_extractor, get_hooked_extractors
from sb3_latent.presets import ENCODER_SETTINGS, extractor_settings
from sb3_latent.pretrain import pretrain_encoder
from sb3_latent.registry import defaults_of, unknown
from sb3_latent.saved_agents import NO_REPLAY_BUFFER
from sb3_latent.weights import differences, plain

_OF_TASKS = ("tasks", "coefs", "beta")
_FRAMES = ".frames.npy"
_UNFINISHED = (_FRAMES, f"{_FRAMES}.partial", f"{_FRAMES}.partial.json", ".checkpoint.pt")
"""What ``collect_frames`` and ``pretrain_encoder`` go on from; of no use without the arguments."""


class EncoderPretrainCallback(BaseCallback):
    """
    Records frames of the model's own environment, trains the model's encoder on them alone and puts it into the model, all
    before the first step of training: what ``collect_frames``, ``pretrain_encoder`` and ``latent_kwargs(pretrained=...)`` do
    in a script, for YAML. The defaults are section 4.1 and Table 1 of seed document 000, but for its player.

    It comes once for a model: not again where it has taken a step or an update, after ``load`` as well. Trunk, head and size
    are those of the model's own encoder; a model with several encoders gets the weights into each.

    Afterwards the environment starts over, seeded as the model is, and every random stream is where it was, so that what
    follows is the run of a model that was given the encoder file by ``load_encoder``. (With ``pretrained=path`` and
    ``ortho_init=True`` the weights behind the encoder are others, for SB3 draws them after the encoder's.) The recorded
    episodes reach neither ``rollout/ep_rew_mean`` nor ``monitor.csv``, unless a ``SubprocVecEnv`` writes it: its monitors
    are out of reach. ``VecNormalize`` does not learn from them.

    :param n_frames: recorded frames, single ones where the encoder reads a stack frame by frame.
    :param n_epochs: passes over them.
    :param preset: gives tasks and coefficients. Under TRPO one without ``kappa``, e.g. ``"vae"``.
    :param player: a saved SB3 model of the same algorithm plays, its actions sampled, as in the paper; None plays at random.
    :param path: the encoder, a ``.safetensors`` file. Beside it stand the ``.json`` and ``.png`` of ``pretrain_encoder``, an
        ``.arguments.json`` that says what it was made with, and until the end the frames; an interrupted run goes on from
        them. Made with the same arguments, it is loaded instead of made, by all runs of a study; they wait for the one that
        is making it (``.lock``). None keeps nothing.
    :param batch_size: frames in a gradient step.
    :param learning_rate: of Adam.
    :param seed: of the play and of the pretraining; the model's own does not count, so that runs with other seeds share the
        file.
    :param progress_bar: show one for the frames and one for the epochs.
    :param verbose: 1 prints where the encoder came from.
    :param settings: ``tasks``, ``coefs`` or ``beta`` instead of the preset's.
    :raises ValueError: if a value is wrong.
    :raises TypeError: if a setting is unknown or a value of the wrong kind.
    :raises FileNotFoundError: if there is no such player.
    """

    def __init__(
        self,
        n_frames: int = 25_000,
        n_epochs: int = 100,
        preset: str = "ppo_vae",
        player: str | None = None,
        path: str | Path | None = None,
        batch_size: int = 128,
        learning_rate: float = 1e-4,
        seed: int = 0,
        progress_bar: bool = True,
        verbose: int = 0,
        **settings: Any,
    ) -> None:
        super().__init__(verbose)
        for name in settings:
            if name not in _OF_TASKS:
                raise TypeError(unknown("setting of EncoderPretrainCallback:", name, _OF_TASKS))
        extractor_settings(preset, **settings)
        if player is not None and not Path(player).is_file():
            raise FileNotFoundError(
                f"no player {player}; give the .zip file of a saved model, or leave it out for random play."
            )
        if path is not None and Path(path).suffix != ".safetensors":
            raise ValueError(f"path={str(path)!r} must end in '.safetensors'; the files beside it are named after it.")
        if not coefficient("learning_rate", learning_rate, 1.0):
            raise ValueError(f"learning_rate={learning_rate} must be positive.")
        self.n_frames = whole_number("n_frames", n_frames)
        self.preset = preset
        self.player = player
        self.path = None if path is None else Path(path)
        self.seed = whole_number("seed", seed, 0)
        self.schedule: dict[str, Any] = {
            "n_epochs": whole_number("n_epochs", n_epochs),
            "batch_size": whole_number("batch_size", batch_size),
            "learning_rate": learning_rate,
            "seed": self.seed,
        }
        self.progress_bar = progress_bar
        self.settings = settings

    def _init_callback(self) -> None:
        """
        :raises TypeError: if the model has no encoder of images, or masks its actions.
        :raises ValueError: if the encoder is given already.
        """
        if not isinstance(get_hooked_extractors(self.model)[0], LatentExtractor):
            raise TypeError(
                "EncoderPretrainCallback is not for models of windows; ModelPretrainCallback trains those of SLAC."
            )
        if not is_image_space(self.model.observation_space):
            raise TypeError(
                f"EncoderPretrainCallback records images with values 0 to 255, and {self.model.observation_space} is none; "
                "use pretrain_encoder and pretrained=... instead."
            )
        if isinstance(self.model, MaskablePPO):
            raise TypeError(
                "EncoderPretrainCallback does not ask which actions are allowed, as MaskablePPO does; leave it out."
            )
        pretrained = self.model.policy.features_extractor_kwargs.get("pretrained")
        if pretrained is not None and self._is_due:
            raise ValueError(
                f"pretrained={str(pretrained)!r} already gives an encoder; leave it or EncoderPretrainCallback out."
            )

    @property
    def _is_due(self) -> bool:
        return self.model.num_timesteps == self.model._n_updates == 0

    def _on_step(self) -> bool:
        return True

    def _on_training_start(self) -> None:
        """
        :raises ValueError: if the tasks do not fit the encoder, or the file was made with other arguments; says which.
        """
        if not self._is_due:
            return
        started = time.time_ns()
        with TemporaryDirectory() as folder, _random_streams_kept(self.model):
            path = self.path or Path(folder) / "encoder.safetensors"
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{path}.lock"):
                self._make(path)
            load_encoder(self.model, path)
        # SB3 measures its frames per second from here on.
        self.model.start_time += time.time_ns() - started

    def _make(self, path: Path) -> None:
        """Whatever of it is there already is kept; the sidecar comes first, so that all files beside it are known by it."""
        encoder = self._encoder_settings()
        arguments = self._arguments(encoder)
        sidecar = path.with_suffix(".arguments.json")
        if not sidecar.exists():
            if path.exists():
                raise ValueError(
                    f"{path} is not of EncoderPretrainCallback; choose another path, or give it as pretrained=..."
                )
            for end in _UNFINISHED:
                path.with_suffix(end).unlink(missing_ok=True)
            with atomic_path(sidecar) as temporary:
                temporary.write_text(json.dumps(arguments, indent=2, default=plain))
        different = differences(arguments, json.loads(sidecar.read_text()))
        if different:
            raise ValueError(
                f"{path} was made otherwise: {'; '.join(different)}. Choose another path, or delete {sidecar} and it."
            )
        frames, is_made = path.with_suffix(_FRAMES), path.exists()
        if not is_made:
            self._record(frames)
            rest: dict[str, Any] = {"device": self.model.device, "progress_bar": self.progress_bar}
            pretrain_encoder(frames, self.preset, path=path, **self.schedule, **rest, **encoder)
        frames.unlink(missing_ok=True)
        if self.verbose >= 1:
            print(f"Encoder {'loaded from ' + str(path) if is_made else f'pretrained on {self.n_frames} frames'}")

    def _encoder_settings(self) -> dict[str, Any]:
        """What ``pretrain_encoder`` is told beside the preset, tried before the first frame is played."""
        given = {**defaults_of(LatentExtractor), **self.model.policy.features_extractor_kwargs}
        encoder = {name: given[name] for name in ENCODER_SETTINGS}
        encoder |= {"n_frames": 1 if encoder["per_frame"] else None, **self.settings}
        frame = spaces.Box(0, 255, self._spec.frame_shape, np.uint8)
        if not LatentExtractor(frame, **extractor_settings(self.preset, **encoder)).tasks.active:
            raise ValueError(f"preset {self.preset!r} has no task that trains an encoder; use 'ppo_vae', 'vae' or 'ae'.")
        return encoder

    @property
    def _spec(self) -> ArraySpec:
        """What the encoder sees of an observation."""
        (spec,) = get_extractor(self.model).encoders.specs.values()
        return spec

    def _arguments(self, encoder: dict[str, Any]) -> dict[str, Any]:
        """All that the encoder depends on, but for the number of environments and the device."""
        player = None if self.player is None else hashlib.sha256(Path(self.player).read_bytes()).hexdigest()
        return {
            "environment": str(self.training_env.env_method("__str__", indices=0)[0]),
            "observation_space": str(self.training_env.observation_space),
            "n_frames": self.n_frames,
            "player": player,
            **self.schedule,
            "settings": extractor_settings(self.preset, **encoder),
        }

    def _record(self, path: Path) -> None:
        model, env = self.model, self.training_env
        arguments: dict[str, Any] = {"n_stack": self._spec.n_frames, "seed": self.seed, "progress_bar": self.progress_bar}
        with _unrecorded(env):
            collect_frames(env, self._load_player(), self.n_frames, path, **arguments)
            env.seed(model.seed)
            if env.has_attr("was_real_done"):
                # The reset of SB3's EpisodicLifeEnv goes on with the next life otherwise.
                env.env_method("set_wrapper_attr", "was_real_done", True)
            model._last_obs = env.reset()  # type: ignore[assignment]  # as SB3 has it
        if model._vec_normalize_env is not None:
            model._last_original_obs = model._vec_normalize_env.get_original_obs()

    def _load_player(self) -> BaseAlgorithm | None:
        if self.player is None:
            return None
        small: dict[str, Any] = NO_REPLAY_BUFFER if isinstance(self.model, OffPolicyAlgorithm) else {}
        return type(self.model).load(self.player, device=self.model.device, **copy.deepcopy(small))


@contextmanager
def _random_streams_kept(model: BaseAlgorithm) -> Iterator[None]:
    """Python's, numpy's and torch's, and those that random actions are drawn from."""
    assert model.env is not None
    generators = [space.np_random.bit_generator for space in (model.action_space, model.env.action_space)]
    states = [generator.state for generator in generators]
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with th.random.fork_rng([model.device] if model.device.type == "cuda" else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        for space, state in zip((model.action_space, model.env.action_space), states, strict=True):
            space.np_random.bit_generator.state = state


@contextmanager
def _unrecorded(env: VecEnv) -> Iterator[None]:
    """Monitors of this process write nothing and count nothing, and VecNormalize learns nothing."""
    silent: list[tuple[Any, dict[str, Any]]] = []
    for one in getattr(env.unwrapped, "envs", []):
        lists: dict[str, Any] = {name: [] for name in ("episode_returns", "episode_lengths", "episode_times")}
        silent.append(
            (unwrap_wrapper(one, Monitor), {"results_writer": None, "allow_early_resets": True, "total_steps": 0, **lists})
        )
    silent.append((unwrap_vec_wrapper(env, VecMonitor), {"results_writer": None, "episode_count": 0}))
    silent.append((unwrap_vec_wrapper(env, VecNormalize), {"training": False}))
    states = [(wrapper, state) for wrapper, state in silent if wrapper is not None]
    kept = [(wrapper, {name: getattr(wrapper, name) for name in state}) for wrapper, state in states]
    try:
        for wrapper, state in states:
            vars(wrapper).update(state)
        yield
    finally:
        for wrapper, state in kept:
            vars(wrapper).update(state)
