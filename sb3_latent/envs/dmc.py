"""DeepMind Control tasks as gymnasium environments, from pixels, from states or from both."""

from importlib.util import find_spec
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import (
    AddRenderObservation,
    FlattenObservation,
    FrameStackObservation,
    RescaleAction,
    TransformAction,
    TransformObservation,
)
from numpy.typing import NDArray
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from sb3_latent.checks import whole_number
from sb3_latent.envs.dmc_settings import MANIPULATION_TASKS, DmcSettings
from sb3_latent.envs.gl_backend import choose_gl_backend
from sb3_latent.registry import unknown

# shimmy's wrapper of dm_control imports gymnasium's MuJoCo renderer, which imports imageio.
_EXTRA = ("dm_control", "shimmy", "imageio")

Env = gym.Env[Any, Any]
Step = tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]


class ActionRepeat(gym.Wrapper[Any, Any, Any, Any]):
    """
    Apply every action several times and sum the rewards; the end of an episode cuts the repeats short.

    :param env: environment to wrap
    :param n_repeats: steps of ``env`` per action
    """

    def __init__(self, env: Env, n_repeats: int) -> None:
        super().__init__(env)
        self.n_repeats = n_repeats

    def step(self, action: Any) -> Step:
        """
        :param action: of the wrapped environment
        :return: last observation, sum of the rewards, last flags and last info
        """
        total = 0.0
        for _ in range(self.n_repeats):
            observation, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return observation, total, terminated, truncated, info


class StateInInfo(gym.Wrapper[Any, Any, Any, Any]):
    """
    Repeat the observation as ``info["state"]``, so that wrappers which replace it leave it there.

    :param env: environment to wrap
    """

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """
        :param seed: of the episode and all that follow
        :param options: of the wrapped environment
        :return: observation and info
        """
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, info | {"state": observation}

    def step(self, action: Any) -> Step:
        """
        :param action: of the wrapped environment
        :return: what it returns, with the observation in info too
        """
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated, truncated, info | {"state": observation}


class ChooseBackend(gym.Wrapper[Any, Any, Any, Any]):
    """
    Look for a rendering backend when the first frame is asked for, so that training on states needs none.

    :param env: environment to wrap
    """

    def render(self) -> Any:
        """
        :return: current frame, uint8 (height, width, 3)
        :raises RuntimeError: nothing can render here
        """
        choose_gl_backend()
        return self.env.render()


def dmc_env(task: str, **settings: Any) -> Env:
    """
    One DeepMind Control task as a gymnasium environment; the entry point of the registered ids.

    Actions: float32 in [-1, 1], rescaled to the bounds of dm_control. Reward: the sum over the repeats of the action. An
    episode is truncated at dm_control's time limit (1000 simulator steps in the suite, 250 in manipulation) and terminated
    only where dm_control's discount is 0 (in none of the registered tasks).

    Observations by ``obs_type``:

    - ``"pixels"``: uint8 (3 * frame_stack, size, size), oldest frame first; an episode starts with its first frame repeated,
      as in SAC+AE. One rendering per action, none for the steps within a repeat.
    - ``"states"``: float32 vector, the task's observations flattened one after the other in the alphabetical order of their
      names (dmc2gym keeps dm_control's order).
    - ``"both"``: dictionary of ``"pixels"`` as above and ``"state"``, that vector without a stack.

    ``info["state"]`` holds that vector on ``reset`` and ``step``, whatever the observation.

    ``fast_render=True`` draws without shadows, reflections and multisampling. **The pixels differ** from those of the
    benchmark, by 0.6 to 25 of 255 levels on average, so that scores do not compare; in software (Mesa's llvmpipe on two
    cores, 84x84, ten tasks) a frame takes 1.4 to 3.1 ms instead of 8 to 41 ms.

    Pixels need a rendering backend, as does ``render()`` whatever the observation: see
    :func:`~sb3_latent.envs.gl_backend.choose_gl_backend`.

    :param task: see :class:`~sb3_latent.envs.dmc_settings.DmcSettings`
    :param settings: its other fields
    :return: environment
    :raises ImportError: the extra ``dmc`` is not installed
    :raises RuntimeError: pixels are asked for and nothing can render here
    :raises ValueError: an argument is out of range or the task unknown
    """
    s = DmcSettings(task=task, **settings)
    _prepare(s)
    from shimmy import DmControlCompatibilityV0  # type: ignore[import-untyped]  # no stubs

    loaded = _load(s)
    step_seconds = loaded.control_timestep() * s.n_repeats
    env: Env = DmControlCompatibilityV0(loaded, render_mode="rgb_array", render_kwargs=_render_kwargs(s))
    env = RescaleAction(ChooseBackend(env), np.float64(-1), np.float64(1))
    env = TransformAction(env, _as_float64, spaces.Box(-1, 1, env.action_space.shape, np.float32))
    env = FlattenObservation(ActionRepeat(env, s.n_repeats))
    # Not DtypeObservation: it warns that infinite bounds lose precision.
    state_space = spaces.Box(-np.inf, np.inf, env.observation_space.shape, np.float32)
    env = StateInInfo(TransformObservation(env, _as_float32, state_space))
    if s.obs_type != "states":
        env = _add_pixels(env, s)
    env.metadata = {"render_modes": ["rgb_array"], "render_fps": round(1 / step_seconds)}
    return env


def make_dmc_env(
    task: str,
    n_envs: int = 1,
    seed: int | None = 0,
    *,
    vec_env_cls: type[DummyVecEnv | SubprocVecEnv] | None = None,
    **settings: Any,
) -> VecEnv:
    """
    Several copies of :func:`dmc_env` as Stable-Baselines3 trains on them, each in a ``Monitor``::

        env = make_dmc_env("cheetah-run", n_envs=2, seed=0, obs_type="both")

    :param task: see :class:`~sb3_latent.envs.dmc_settings.DmcSettings`
    :param n_envs: number of environments
    :param seed: environment ``i`` and its action space get ``seed + i``; the same seed gives the same frames to the bit.
        None leaves them to chance
    :param vec_env_cls: ``DummyVecEnv`` (None means that too) or ``SubprocVecEnv``, one process per environment
    :param settings: the other fields of ``DmcSettings``
    :return: vectorised environment
    :raises ImportError: the extra ``dmc`` is not installed
    :raises RuntimeError: pixels are asked for and nothing can render here
    :raises ValueError: an argument is out of range or the task unknown
    """
    # Here as well as in `dmc_env`: an error in a child process does not reach the caller, a choice made here reaches it.
    _prepare(DmcSettings(task=task, **settings))
    whole_number("n_envs", n_envs)
    return make_vec_env(dmc_env, n_envs, seed, env_kwargs={"task": task, **settings}, vec_env_cls=vec_env_cls)


def _prepare(s: DmcSettings) -> None:
    """Raise what is wrong with the machine or the task, and settle the rendering before dm_control is imported."""
    missing = [module for module in _EXTRA if find_spec(module) is None]
    if missing:
        raise ImportError(f"DeepMind Control needs {', '.join(missing)}: pip install sb3_latent[dmc]")
    if s.obs_type != "states":
        choose_gl_backend()
    from dm_control import suite  # type: ignore[import-untyped]  # no stubs

    known = [f"{domain}-{task}" for domain, task in suite.ALL_TASKS] + [*MANIPULATION_TASKS]
    if s.task not in known:
        raise ValueError(unknown("DeepMind Control task", s.task, known))


def _load(s: DmcSettings) -> Any:
    """The task as dm_control's own environment."""
    from dm_control import manipulation, suite

    if s.task in MANIPULATION_TASKS:
        env = manipulation.load(MANIPULATION_TASKS[s.task])
        # Every episode compiles the model anew.
        quality = env.task.root_entity.mjcf_model.visual.quality
    else:
        env = suite.load(*s.task.split("-"))
        quality = env.physics.model.vis.quality
    if s.fast_render:
        quality.offsamples = 0
    return env


def _render_kwargs(s: DmcSettings) -> dict[str, Any]:
    """What dm_control's ``render`` gets."""
    overrides = {"shadow": False, "reflection": False} if s.fast_render else {}
    return {"height": s.size, "width": s.size, "camera_id": s.camera, "render_flag_overrides": overrides}


def _add_pixels(env: Env, s: DmcSettings) -> Env:
    """Observe stacks of rendered frames, alone or beside the state."""
    state_space = env.observation_space
    env = AddRenderObservation(env, render_only=s.obs_type == "pixels", render_key="pixels", obs_key="state")
    env = FrameStackObservation(env, s.frame_stack, padding_type="reset")
    pixel_space = spaces.Box(0, 255, (3 * s.frame_stack, s.size, s.size), np.uint8)
    if s.obs_type == "pixels":
        return TransformObservation(env, _channels_first, pixel_space)
    return TransformObservation(env, _pixels_and_state, spaces.Dict({"pixels": pixel_space, "state": state_space}))


# Functions with names, not lambdas: gymnasium compares them when it builds an environment anew from its spec.
def _as_float64(action: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(action, np.float64)


def _as_float32(state: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(state, np.float32)


def _channels_first(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(frames, height, width, 3) to (3 * frames, height, width)."""
    return frames.transpose(0, 3, 1, 2).reshape(-1, *frames.shape[1:3])


def _pixels_and_state(stacks: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Channels first for the frames, the last of the stacked states."""
    return {"pixels": _channels_first(stacks["pixels"]), "state": stacks["state"][-1]}
