"""Learnt worlds as environments: dreams that SB3's algorithms train in, and the real world in the dreamer's eyes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

from sb3_latent.buffers import SequenceReplayBuffer
from sb3_latent.checks import whole_number
from sb3_latent.dynamics import LatentModel
from sb3_latent.evaluation import evaluating
from sb3_latent.models import get_latent_model
from sb3_latent.policies import LatentModelPolicy
from sb3_latent.policies.window_reader import batch_of
from sb3_latent.saliency import newest_pictures
from sb3_latent.windows import ACTIONS, FRAMES, MASK, window_spec

Floats = npt.NDArray[np.float32]


class DreamVecEnv(VecEnv):
    """
    Episodes in the states of a latent model: SB3's algorithms train in what :class:`~sb3_latent.SLACPolicy` has learnt::

        model = SAC(SLACPolicy, HistoryWrapper(env), replay_buffer_class=SequenceReplayBuffer, ...).learn(...)
        agent = PPO("MlpPolicy", VecMonitor(DreamVecEnv(model, horizon=15))).learn(...)
        evaluate_policy(agent, VecLatentStateWrapper(HistoryWrapper(env), model))

    An episode starts from a sample of the posterior at the end of a window of the replay buffer, each window as likely as any
    other (Dreamer, Hafner et al. 2020, arXiv:1912.01603, section 3, starts from the states of its batches). A step is a sample
    of the prior, its reward the predicted mean, in the units that the model has learnt (those of VecNormalize, if the
    environment has one). The episode ends with one minus the predicted probability that it goes on, which is never where the
    model does not learn that (``coefs={"continuation": 1}`` does), and is cut off after ``horizon`` steps, with
    ``TimeLimit.truncated``, so that algorithms bootstrap. Dreams compute in evaluation mode, without gradients, all at once,
    and on the device of the model. They follow it while it goes on learning; they leave its weights and flags as they are.

    All environments draw from one stream of random numbers, which neither moves the global ones of torch and numpy nor is
    moved by them; on accelerators other than CUDA the noise of states is of the device's global stream. ``seed`` follows SB3:
    it takes effect at the next ``reset``. Without one the stream is another each time.

    Observations are states, (state_dim,), float32; actions those of the real environment, cut off at its bounds. What is read
    or set by ``get_attr`` and ``set_attr`` belongs to all environments, ``env_method`` is called once for all.
    ``render`` shows decoded frames, where frames are images.

    :param model: SAC or TQC with ``SLACPolicy`` or ``SLACTQCPolicy``, and something in its replay buffer.
    :param horizon: steps after which an episode is cut off; 15 in Dreamer, appendix A.
    :param n_envs: episodes side by side.
    :param seed: of the stream.
    :raises TypeError: if the model has no such policy.
    :raises ValueError: if a number is out of its range, the replay buffer is empty or of another class, or the model does not
        learn rewards.
    """

    def __init__(self, model: OffPolicyAlgorithm, horizon: int, n_envs: int = 16, seed: int | None = None) -> None:
        self.horizon, n_envs = whole_number("horizon", horizon), whole_number("n_envs", n_envs)
        seed = None if seed is None else whole_number("seed", seed, 0)
        self._policy, self._buffer = _learnt(model)
        self._model = get_latent_model(model)
        self._stream = _beginning(seed, self._policy.device)
        self._states: th.Tensor | None = None
        self._ages = np.zeros(n_envs, np.int64)
        self._actions: Floats = np.zeros(0, np.float32)
        self.render_mode = "rgb_array" if self._model.encoders.spec.is_image else None
        super().__init__(n_envs, _state_space(self._model), model.action_space)

    def reset(self) -> Floats:
        """:return: (n_envs, state_dim), posterior states."""
        if self._seeds[0] is not None:
            self._stream = _beginning(self._seeds[0], self._policy.device)
        self._reset_seeds()
        self._reset_options()
        self._ages[:] = 0
        with self._dreaming():
            self._states = self._starts(self.num_envs)
        return _array(self._states)

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """
        :param actions: (n_envs, *action_shape), in the units of the action space.
        """
        scaled = self._policy.scale_action(np.asarray(actions, np.float32))
        self._actions = np.clip(scaled, -1, 1).reshape(self.num_envs, -1)

    def step_wait(self) -> VecEnvStepReturn:
        """
        :return: (n_envs, state_dim), those of new episodes where one is over; rewards; dones; infos.
        :raises RuntimeError: before the first ``reset``.
        """
        before, actions = self._begun(), th.as_tensor(self._actions, device=self._policy.device)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        with self._dreaming():
            states = self._model.imagine(before, actions.unsqueeze(1))[:, 0]
            rewards = self._model.reward(before, actions, states)
            goes_on = self._model.continuation(states)
            terminated = (th.rand_like(goes_on) >= goes_on).cpu().numpy()
            self._ages += 1
            dones = terminated | (self._ages >= self.horizon)
            ended = np.flatnonzero(dones)
            if len(ended):
                last = _array(states)
                for env in ended.tolist():
                    infos[env] = {"TimeLimit.truncated": not terminated[env], "terminal_observation": last[env]}
                states[th.as_tensor(ended, device=states.device)] = self._starts(len(ended))
                self._ages[ended] = 0
        self._states = states
        return _array(states), _array(rewards), dones, infos

    def get_images(self) -> list[npt.NDArray[np.uint8] | None]:
        """
        :return: (height, width, 3) for each environment, its decoded state; None where frames are vectors.
        :raises RuntimeError: before the first ``reset``.
        """
        if self.render_mode is None:
            return [None] * self.num_envs
        with self._dreaming():
            pictures = newest_pictures(self._model.decode(self._begun()))
        return [np.broadcast_to(picture, (*picture.shape[:2], 3)) for picture in pictures]

    def close(self) -> None:
        """There is nothing to close."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """
        :param attr_name: of this object.
        :param indices: of environments; None for all.
        :return: its value, once for each of them.
        """
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """
        :param attr_name: of this object.
        :param value: for all environments.
        :param indices: all of them, or None.
        :raises ValueError: if they are not all.
        """
        self._check_all(indices)
        setattr(self, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """
        :param method_name: of this object.
        :param method_args: its arguments.
        :param indices: all environments, or None.
        :param method_kwargs: its arguments.
        :return: what one call for all environments returns, once for each of them.
        :raises ValueError: if they are not all.
        """
        self._check_all(indices)
        return [getattr(self, method_name)(*method_args, **method_kwargs)] * self.num_envs

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """
        :param wrapper_class: any.
        :param indices: of environments; None for all.
        :return: False for each: there is nothing inside to wrap.
        """
        return [False for _ in self._get_indices(indices)]

    @contextmanager
    def _dreaming(self) -> Iterator[None]:
        """No gradients, evaluation mode, and the stream of these dreams in the place of the global ones."""
        generators = _generators(self._policy.device)
        with evaluating(self._policy), th.no_grad():
            for generator, state in zip(generators, self._stream, strict=True):
                generator.set_state(state)
            yield
            self._stream = [generator.get_state() for generator in generators]

    def _starts(self, n_rows: int) -> th.Tensor:
        # The buffer draws from numpy's global stream.
        np.random.seed(int(th.randint(2**32, ())))
        batch, _ = batch_of(self._buffer.sample(n_rows).observations)
        # The last frame may be that of a terminal state.
        frames, actions, mask = batch.frames[:, :-1], batch.actions[:, :-1], batch.mask[:, :-1]
        return self._model.observe(self._model.encode(frames), actions, mask).states[:, -1]

    def _begun(self) -> th.Tensor:
        if self._states is None:
            raise RuntimeError("no dream has begun; call reset() first.")
        return self._states

    def _check_all(self, indices: VecEnvIndices) -> None:
        chosen = list(self._get_indices(indices))
        if sorted(chosen) != list(range(self.num_envs)):
            raise ValueError(f"indices={chosen}: dreams are one object and share all that they have; pass indices=None.")


class VecLatentStateWrapper(VecEnvWrapper):
    """
    The real environment as :class:`DreamVecEnv` shows its dreams: an observation is the state that a latent model has at the
    end of the window, (state_dim,), float32. ``infos[i]["terminal_observation"]`` is one, too.

    Two things are other than in dreams: states are the likeliest ones, so that a window has one state, where dreams go on from
    sample to sample; and each is made anew from the last T frames, where a dream remembers all that it has dreamt.

    :param env: environment of windows, vectorised or not; one that is not gets SB3's ``Monitor``.
    :param model: an SB3 model with a latent model, e.g. of ``SLACPolicy``.
    :raises TypeError: if it has none.
    :raises ValueError: if the environment observes no windows, or others than the model.
    """

    def __init__(self, env: GymEnv, model: BaseAlgorithm) -> None:
        self._policy, self._model = model.policy, get_latent_model(model)
        ours, theirs = window_spec(env.observation_space), self._model.encoders.spec
        if ours != theirs:
            raise ValueError(f"the environment observes {ours} and the model {theirs}; wrap it as the model's was.")
        super().__init__(BaseAlgorithm._wrap_env(env), _state_space(self._model))

    def reset(self) -> Floats:
        """:return: (n_envs, state_dim)."""
        return self._seen(self.venv.reset())

    def step_wait(self) -> VecEnvStepReturn:
        """:return: states, rewards, dones, infos."""
        windows, rewards, dones, infos = self.venv.step_wait()
        shown = [info for info in infos if info.get("terminal_observation") is not None]
        if shown:
            last = [info["terminal_observation"] for info in shown]
            states = self._seen({name: np.stack([window[name] for window in last]) for name in (FRAMES, ACTIONS, MASK)})
            for info, state in zip(shown, states, strict=True):
                info["terminal_observation"] = state
        return self._seen(windows), rewards, dones, infos

    def _seen(self, windows: Any) -> Floats:
        with evaluating(self._policy), th.no_grad():
            return _array(self._model.encoders.means(obs_as_tensor(windows, self._policy.device)))


def _learnt(model: OffPolicyAlgorithm) -> tuple[LatentModelPolicy, SequenceReplayBuffer]:
    """What dreams are made of."""
    policy, buffer = model.policy, getattr(model, "replay_buffer", None)
    if not isinstance(policy, LatentModelPolicy):
        raise TypeError(
            f"dreams need the model of SLACPolicy or SLACTQCPolicy, which knows rewards, not {type(policy).__name__}."
        )
    if not policy.features_extractor.tasks.learns("reward"):
        raise ValueError("coefs['reward'] is 0, so that the model learns no rewards to dream of; leave it at 1.")
    if not isinstance(buffer, SequenceReplayBuffer):
        raise ValueError(f"dreams start from a SequenceReplayBuffer, and the model's is a {type(buffer).__name__}.")
    if buffer.size() == 0:
        raise ValueError(
            "the replay buffer is empty and dreams start from it; model.learn(...) or model.load_replay_buffer(path)."
        )
    return policy, buffer


def _state_space(model: LatentModel) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, (model.state_dim,), np.float32)


def _array(tensor: th.Tensor) -> Floats:
    """A copy."""
    return np.array(tensor.cpu().numpy(), np.float32)


def _generators(device: th.device) -> list[th.Generator]:
    """Torch's global ones, as far as a model on the device draws from them."""
    return [th.default_generator, *([th.cuda.default_generators[device.index]] if device.type == "cuda" else [])]


def _beginning(seed: int | None, device: th.device) -> list[th.Tensor]:
    """Of a stream; from a hash, for an algorithm of the same seed has torch's own stream of that number."""
    number = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
    return [th.Generator(generator.device).manual_seed(number).get_state() for generator in _generators(device)]
