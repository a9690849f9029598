import os
import re
import subprocess
import sys
from itertools import count

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from sb3_latent.envs import DMC_IDS, DmcSettings, dmc, dmc_env, gl_backend, make_dmc_env

pytest.importorskip("dm_control", reason="the extra dmc is not installed")

# Typed anew from the papers: action repeat and camera.
RECIPE = {
    "finger-spin": (2, 0),
    "cartpole-swingup": (8, 0),
    "reacher-easy": (4, 0),
    "cheetah-run": (4, 0),
    "walker-walk": (2, 0),
    "ball_in_cup-catch": (4, 0),
    "acrobot-swingup": (2, 0),
    "cartpole-swingup_sparse": (2, 0),
    "finger-turn_easy": (2, 0),
    "finger-turn_hard": (2, 0),
    "hopper-hop": (2, 0),
    "quadruped-run": (2, 2),
    "quadruped-walk": (2, 2),
    "reach-duplo": (2, "front_close"),
    "reacher-hard": (2, 0),
    "walker-run": (2, 0),
}

# Lee et al. 2020: the runs of alexlee-gk/slac, data/slac.
SLAC_REPEATS = {
    "finger-spin": 1,
    "cartpole-swingup": 4,
    "reacher-easy": 4,
    "cheetah-run": 4,
    "walker-walk": 2,
    "ball_in_cup-catch": 4,
}


@pytest.fixture
def gl():
    """For tests that render."""
    try:
        gl_backend.choose_gl_backend()
    except RuntimeError as error:
        pytest.skip(str(error))


class Oracle:
    """The same task through dm_control alone."""

    def __init__(self, task, seed, fast=False, **render_kwargs):
        from dm_control import manipulation, suite

        self.repeat, camera = RECIPE[task]
        self.render_kwargs = {"height": 84, "width": 84, "camera_id": camera} | render_kwargs
        if task == "reach-duplo":
            self.env = manipulation.load("reach_duplo_features", seed=seed)
        else:
            self.env = suite.load(*task.split("-"), task_kwargs={"random": seed})
        if fast:
            self.env.physics.model.vis.quality.offsamples = 0
            self.render_kwargs["render_flag_overrides"] = {"shadow": False, "reflection": False}
        self.time_step = self.env.reset()
        self.frames = []

    def step(self, action):
        spec = self.env.action_spec()
        reward = 0
        for _ in range(self.repeat):
            self.time_step = self.env.step(spec.minimum + (action.astype(float) + 1) / 2 * (spec.maximum - spec.minimum))
            reward += self.time_step.reward
            if self.time_step.last():
                break
        return reward

    @property
    def state(self):
        observation = self.time_step.observation
        return np.concatenate([np.ravel(observation[name]) for name in sorted(observation)]).astype(np.float32)

    def stacked(self):
        """Draw, and stack with the two frames drawn before."""
        frame = self.env.physics.render(**self.render_kwargs).transpose(2, 0, 1)
        self.frames = [*self.frames, frame] if self.frames else [frame] * 3
        return np.concatenate(self.frames[-3:])


def actions(env, n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (n, *env.action_space.shape)).astype(np.float32)


def finished(env, action):
    """Steps, return and last step's results of an episode of one action."""
    total = 0.0
    for n_steps in count(1):
        observation, reward, terminated, truncated, info = env.step(action)
        total += reward
        if terminated or truncated:
            return n_steps, total, terminated, truncated, observation, info


@pytest.mark.parametrize("task", ["cheetah-run", "ball_in_cup-catch", "quadruped-walk", "reach-duplo"])
def test_pixels_states_and_rewards_are_those_of_dm_control(gl, task):
    env, oracle = dmc_env(task), Oracle(task, seed=3)
    assert env.observation_space == spaces.Box(0, 255, (9, 84, 84), np.uint8)
    assert env.action_space == spaces.Box(-1, 1, oracle.env.action_spec().shape, np.float32)
    observation, info = env.reset(seed=3)
    np.testing.assert_array_equal(observation, oracle.stacked())
    np.testing.assert_array_equal(info["state"], oracle.state)
    for action in actions(env, 3):
        observation, reward, terminated, truncated, info = env.step(action)
        assert reward == pytest.approx(oracle.step(action), rel=1e-12)
        np.testing.assert_array_equal(observation, oracle.stacked())
        assert observation.dtype == np.uint8 and observation.flags.c_contiguous
        # The bounds of quadruped and arm are not +-1, and rescaling rounds.
        np.testing.assert_allclose(info["state"], oracle.state, rtol=1e-6, atol=1e-6)
        assert info["state"].dtype == np.float32
        assert (type(reward), terminated, truncated) == (float, False, False)
    env.close()


def test_a_whole_episode_is_that_of_dm_control():
    env, oracle = dmc_env("cartpole-swingup", obs_type="states", action_repeat=3), Oracle("cartpole-swingup", seed=1)
    oracle.repeat = 3
    np.testing.assert_array_equal(env.reset(seed=1)[0], oracle.state)
    for action in actions(env, 334):  # 333 actions of 3 steps and one of 1
        observation, reward, terminated, truncated, info = env.step(action)
        assert reward == oracle.step(action)
        np.testing.assert_array_equal(observation, oracle.state)
        np.testing.assert_array_equal(info["state"], observation)
        assert (terminated, truncated) == (False, oracle.time_step.last())
    assert truncated


@pytest.mark.parametrize("task, n_actions", [("cartpole-swingup", 125), ("reacher-easy", 250), ("finger-spin", 500)])
def test_episodes_end_at_the_time_limit(task, n_actions):
    vec_env = make_dmc_env(task, obs_type="states")
    vec_env.reset()
    for _ in range(n_actions):
        _, _, dones, (info,) = vec_env.step(np.zeros((1, *vec_env.action_space.shape)))
    assert dones == [True] and info["TimeLimit.truncated"] and info["episode"]["l"] == n_actions
    np.testing.assert_array_equal(info["terminal_observation"], info["state"])
    np.testing.assert_array_equal(vec_env.reset_infos[0]["state"], vec_env.buf_obs[None][0])


def test_discount_zero_terminates_and_cuts_the_repeats_short():
    env = dmc_env("reacher-easy", obs_type="states")
    env.reset(seed=0)
    task = env.unwrapped.task
    steps = iter([None] * 5 + [0.0])
    task.get_termination = lambda physics: next(steps)
    task.get_reward = lambda physics: 1.0
    n_steps, total, terminated, truncated, _, _ = finished(env, env.action_space.sample())
    assert (n_steps, total, terminated, truncated) == (2, 6.0, True, False)


def test_every_action_is_rendered_once(gl, monkeypatch):
    from dm_control.mujoco.engine import Physics

    rendered = []
    render = Physics.render
    monkeypatch.setattr(Physics, "render", lambda *args, **kwargs: rendered.append(1) or render(*args, **kwargs))
    env = dmc_env("cheetah-run", size=16)
    rendered.clear()
    env.reset(seed=0)
    for action in actions(env, 5):
        env.step(action)
    assert len(rendered) == 6


def test_states_and_pixels_together(gl):
    both, pixels = (dmc_env("finger-spin", obs_type=kind, size=36, frame_stack=2) for kind in ("both", "pixels"))
    space = both.observation_space
    assert space["pixels"] == pixels.observation_space == spaces.Box(0, 255, (6, 36, 36), np.uint8)
    assert space["state"] == dmc_env("finger-spin", obs_type="states").observation_space
    results = [(both.reset(seed=5), pixels.reset(seed=5))]
    for action in actions(both, 2):
        # Flags and rewards aside.
        results.append(tuple((step[0], step[-1]) for step in (both.step(action), pixels.step(action))))
    for (observation, info), (frames, other_info) in results:
        assert observation in space
        np.testing.assert_array_equal(observation["pixels"], frames)
        np.testing.assert_array_equal(observation["state"], info["state"])
        np.testing.assert_array_equal(observation["state"], other_info["state"])
    assert not np.array_equal(results[0][0][0]["state"], results[1][0][0]["state"])


def test_environment_i_gets_seed_plus_i(gl):
    vec_env = make_dmc_env("cheetah-run", n_envs=2, seed=7, fast_render=True, size=36)
    assert type(vec_env) is DummyVecEnv
    observations = vec_env.reset()
    assert not np.array_equal(*observations)
    for i, observation in enumerate(observations):
        (alone,) = make_dmc_env("cheetah-run", seed=7 + i, fast_render=True, size=36).reset()
        np.testing.assert_array_equal(observation, alone)
        vec_space, fresh_space = vec_env.envs[i].action_space, spaces.Box(-1, 1, (6,), np.float32, seed=7 + i)
        np.testing.assert_array_equal(vec_space.sample(), fresh_space.sample())


def test_child_processes_see_the_same_frames(gl):
    in_child, here = (make_dmc_env("cheetah-run", seed=2, size=36, vec_env_cls=cls) for cls in (SubprocVecEnv, None))
    np.testing.assert_array_equal(in_child.reset(), here.reset())
    action = actions(here, 1)
    for of_child, of_here in zip(in_child.step(action)[:3], here.step(action)[:3], strict=True):
        np.testing.assert_array_equal(of_child, of_here)
    in_child.close()


def test_fast_render_changes_the_pixels_and_nothing_else(gl):
    plain, fast = dmc_env("walker-walk", frame_stack=1), dmc_env("walker-walk", frame_stack=1, fast_render=True)
    oracle = Oracle("walker-walk", seed=0, fast=True)
    (frame, info), (fast_frame, fast_info) = plain.reset(seed=0), fast.reset(seed=0)
    np.testing.assert_array_equal(fast_frame, oracle.stacked()[:3])
    np.testing.assert_array_equal(fast_info["state"], info["state"])
    assert 1 < np.abs(frame.astype(float) - fast_frame).mean() < 30


def test_fast_render_outlives_the_compilation_of_an_arms_episode(gl):
    env = dmc_env("reach-duplo", obs_type="states", fast_render=True)
    env.reset(seed=0)
    assert env.unwrapped.physics.model.vis.quality.offsamples == 0


def test_the_ids_are_the_recipe():
    ids = {f"sb3_latent/dmc-{task}-{kind}-v0" for task in RECIPE for kind in ("pixels", "states")}
    assert set(DMC_IDS) == ids | {f"sb3_latent/dmc-{task}-slac-v0" for task in SLAC_REPEATS}
    for env_id in ids:
        spec = gym.spec(env_id)
        settings = DmcSettings(**spec.kwargs)
        assert re.fullmatch(rf"sb3_latent/dmc-{settings.task}-{settings.obs_type}-v0", env_id)
        assert (settings.n_repeats, settings.camera) == RECIPE[settings.task]
        assert (settings.size, settings.frame_stack, settings.fast_render) == (84, 3, False)
        assert spec.entry_point == "sb3_latent.envs.dmc:dmc_env"
    assert DmcSettings(task="humanoid-walk").n_repeats == 2
    assert DmcSettings(task="cheetah-run", action_repeat=1).n_repeats == 1
    assert DmcSettings(task="quadruped-run", camera_id=0).camera == 0


@pytest.mark.parametrize(("task", "n_repeats"), SLAC_REPEATS.items())
def test_the_ids_of_slac_are_its_recipe(task, n_repeats):
    spec = gym.spec(f"sb3_latent/dmc-{task}-slac-v0")
    settings = DmcSettings(**spec.kwargs)
    assert (settings.task, settings.n_repeats, settings.camera) == (task, n_repeats, 0)
    assert (settings.size, settings.frame_stack, settings.obs_type, settings.fast_render) == (64, 1, "pixels", False)
    assert spec.entry_point == "sb3_latent.envs.dmc:dmc_env"


def test_slac_sees_single_frames_of_64_pixels(gl):
    env = gym.make("sb3_latent/dmc-cartpole-swingup-slac-v0")
    observation, _ = env.reset(seed=0)
    assert env.observation_space == spaces.Box(0, 255, (3, 64, 64), np.uint8) and observation.any()
    env.close()


@pytest.mark.parametrize("task", RECIPE)
def test_every_task_runs_from_states(task):
    env = gym.make(f"sb3_latent/dmc-{task}-states-v0", disable_env_checker=True)
    same = make_dmc_env(task, seed=4, obs_type="states")
    observation, _ = env.reset(seed=4)
    np.testing.assert_array_equal(same.reset()[0], observation)
    action = actions(env, 1)
    np.testing.assert_array_equal(same.step(action)[0][0], env.step(action[0])[0])
    assert env.action_space == spaces.Box(-1, 1, env.action_space.shape, np.float32)


def test_an_id_is_what_make_dmc_env_makes(gl):
    env, vec_env = gym.make("sb3_latent/dmc-acrobot-swingup-pixels-v0"), make_dmc_env("acrobot-swingup", seed=9)
    np.testing.assert_array_equal(env.reset(seed=9)[0], vec_env.reset()[0])
    action = actions(env, 1)
    observation, reward, *_ = env.step(action[0])
    observations, rewards, *_ = vec_env.step(action)
    np.testing.assert_array_equal(observation, observations[0])
    assert np.float32(reward) == rewards[0]
    assert env.metadata == {"render_modes": ["rgb_array"], "render_fps": 50}  # 2 steps of 0.01 s
    np.testing.assert_array_equal(env.render().transpose(2, 0, 1), observation[6:])


@pytest.mark.filterwarnings("ignore::UserWarning")  # states have no bounds, and the checker does not like wrappers
@pytest.mark.parametrize("obs_type", ["pixels", "states", "both"])
def test_the_checkers_agree(gl, obs_type):
    env = gym.make("sb3_latent/dmc-reacher-easy-pixels-v0", obs_type=obs_type, fast_render=True, size=36)
    gymnasium_check_env(env)
    sb3_check_env(env)


def test_importing_the_package_imports_no_simulator():
    code = "import sys, sb3_latent.envs; print({'dm_control', 'shimmy', 'mujoco', 'OpenGL'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_pixels_after_states_in_one_process(gl):
    # Without a screen dm_control takes glfw when it is imported, and glfw cannot render there.
    code = (
        "from sb3_latent.envs import dmc_env\n"
        "import os\n"
        "dmc_env('cheetah-run', obs_type='states').reset(seed=0)\n"
        "assert 'MUJOCO_GL' not in os.environ\n"
        "print(dmc_env('cheetah-run').reset(seed=0)[0].mean() > 0)"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    assert subprocess.check_output([sys.executable, "-c", code], text=True, env=environment).strip() == "True"


@pytest.fixture
def probes(monkeypatch):
    """Which backends work, told by the test; the list of those tried so far."""
    tried, working = [], []
    monkeypatch.setenv("MUJOCO_GL", "restored afterwards")
    monkeypatch.delenv("MUJOCO_GL")
    monkeypatch.setattr(gl_backend, "_renders", lambda backend: tried.append(backend) or backend in working)
    monkeypatch.setattr(gl_backend, "_rebind", lambda: None)
    return tried, working


@pytest.mark.parametrize("works, chosen", [(["egl", "osmesa"], "egl"), (["glfw", "osmesa"], "osmesa"), (["glfw"], "glfw")])
def test_the_first_backend_that_works_is_chosen_once(probes, works, chosen):
    tried, working = probes
    working += works
    for _ in range(2):
        gl_backend.choose_gl_backend()
    assert os.environ["MUJOCO_GL"] == chosen
    assert tried == ["egl", "osmesa", "glfw"][: len(tried)] and tried[-1] == chosen


def test_the_users_backend_stays(probes, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    gl_backend.choose_gl_backend()
    assert (os.environ["MUJOCO_GL"], probes[0]) == ("osmesa", [])


def test_without_a_backend_pixels_fail_and_states_work(probes):
    line = r"cannot render here.*libegl1 libegl-mesa0 libgl1-mesa-dri.*libosmesa6"
    for make in (dmc_env, make_dmc_env):
        for obs_type in ("pixels", "both"):
            with pytest.raises(RuntimeError, match=line) as error:
                make("cheetah-run", obs_type=obs_type)
            assert "\n" not in str(error.value)
    probes[0].clear()
    env = dmc_env("cheetah-run", obs_type="states")
    env.reset(seed=0)
    assert probes[0] == []
    with pytest.raises(RuntimeError, match=line):
        env.render()


def test_a_probe_that_fails_is_no_backend():
    assert not gl_backend._renders("no_such_backend")


@pytest.mark.parametrize(
    "settings, line",
    [
        ({"task": "cheetah_run"}, "unknown DeepMind Control task 'cheetah_run'; did you mean 'cheetah-run'?"),
        ({"task": "cheetah"}, "unknown DeepMind Control task 'cheetah'.*'reach-duplo'"),
        ({"task": "cheetah-run-fast"}, "unknown DeepMind Control task 'cheetah-run-fast'"),
        ({"obs_type": "pixel"}, "unknown obs_type 'pixel'; did you mean 'pixels'? Allowed: 'both', 'pixels', 'states'"),
        ({"render_mode": "human"}, "unknown render_mode 'human'.*'rgb_array'"),
        ({"size": 0}, "size=0 must be an integer of at least 1"),
        ({"frame_stack": 1.5}, "frame_stack=1.5 must be"),
        ({"action_repeat": 0}, "action_repeat=0 must be"),
        ({"n_envs": 0}, "n_envs=0 must be"),
    ],
)
def test_bad_settings_fail_here_and_not_in_a_child_process(settings, line):
    with pytest.raises(ValueError, match=line.replace("?", r"\?")) as error:
        make_dmc_env(**{"task": "cheetah-run", "obs_type": "states", "vec_env_cls": SubprocVecEnv} | settings)
    assert "\n" not in str(error.value)


def test_a_missing_extra_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(dmc, "find_spec", lambda name: None if name == "shimmy" else object())
    with pytest.raises(ImportError, match=r"needs shimmy: pip install sb3_latent\[dmc\]"):
        gym.make("sb3_latent/dmc-cheetah-run-states-v0")
