"""Dreams of planted models whose errors are known, of real ones against slow loops, and their pictures."""

import io
import sys
from dataclasses import replace
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from algorithms import NoiseImageEnv
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from PIL import Image
from sb3_contrib import TQC, RecurrentPPO
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn
from windows_by_hand import BOX, Scripted, channels_first, vector

from sb3_latent import HistoryWrapper, SequenceReplayBuffer, SLACPolicy, SLACTQCPolicy, get_latent_model, latent_kwargs
from sb3_latent.dreams import Dreams, Episode, dream, open_loop_errors, play_episode
from sb3_latent.dynamics import Trajectory
from sb3_latent.figures import learning_curve
from sb3_latent.videos import dream_sheet, dream_video, error_curves, gif, write_video
from sb3_latent.windows import WindowSpec

LENGTH = 3
TINY = {
    "slac": {"dynamics_kwargs": {"z1_dim": 3, "z2_dim": 4, "hidden": (8,)}},
    "rssm": {"dynamics_kwargs": {"h_dim": 5, "z_dim": 3, "hidden": 8}},
}


class Scaled(NoiseImageEnv):
    """Actions whose bounds are not -1 and 1."""

    def __init__(self, discrete=False):
        super().__init__(discrete)
        if not discrete:
            self.action_space = spaces.Box(np.array([-2, 0], np.float32), np.array([1, 8], np.float32))


def tiny_model(kind="history", preset="slac", **settings):
    """:param kind: what the actor of SAC reads, or an algorithm and its actions."""
    kwargs = {
        **latent_kwargs(preset, trunk="mlp", trunk_kwargs={"net_arch": (6,)}, hidden=8, **TINY[preset]),
        "net_arch": [8],
        **settings,
    }
    env = HistoryWrapper(Scaled(discrete="choice" in kind), length=LENGTH)
    common = {"policy_kwargs": kwargs, "seed": 0, "device": "cpu"}
    if kind in ("history", "latent", "TQC"):
        if kind != "TQC":
            kwargs["actor_reads"] = kind
        cls, policy = (TQC, SLACTQCPolicy) if kind == "TQC" else (SAC, SLACPolicy)
        return cls(policy, env, replay_buffer_class=SequenceReplayBuffer, buffer_size=20, batch_size=4, **common)
    if "squashed" in kind:
        common["use_sde"] = kwargs["squash_output"] = True
    cls = {"PPO": PPO, "DQN": DQN, "RecurrentPPO": RecurrentPPO}[kind.split()[0]]
    policy = "MultiInputLstmPolicy" if cls is RecurrentPPO else "MultiInputPolicy"
    return cls(policy, env, **common, **({"n_steps": 8, "batch_size": 4} if cls is not DQN else {"buffer_size": 20}))


def noise(n_steps=20, action_dim=2, shape=(1, 12, 12), seed=0):
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (n_steps + 1, *shape), dtype=np.uint8)
    actions = rng.uniform(-1, 1, (n_steps, action_dim)).astype(np.float32)
    return Episode(frames, actions, rng.normal(size=n_steps).astype(np.float32))


# --- episodes


@pytest.mark.parametrize("is_vectorised", [False, True])
@pytest.mark.parametrize(
    "frames, actions", [("image", BOX), ("channels last", BOX), ("double", BOX), ("image", spaces.Discrete(3))]
)
def test_an_episode_is_what_the_environment_wrote_down(frames, actions, is_vectorised):
    scripted = [Scripted(number, frames, actions, max_steps=9) for number in range(2)]
    env = DummyVecEnv([lambda one=one: one for one in scripted]) if is_vectorised else scripted[0]
    env = HistoryWrapper(env, length=LENGTH, start="zeros")
    ends = set()
    for _ in range(6):
        episode = play_episode(env, max_steps=6)
        written = next(one for one in reversed(scripted[0].episodes) if one.rewards)
        ends.add(written.end)
        np.testing.assert_array_equal(episode.frames, np.stack([channels_first(frame) for frame in written.frames]))
        np.testing.assert_array_equal(episode.actions, np.stack([vector(action, actions) for action in written.actions]))
        np.testing.assert_array_equal(episode.rewards, np.float32(written.rewards))
        assert len(episode.actions) <= 6 and (written.end is not None or len(episode.actions) == 6)
    assert len(ends) > 1


class Follower:
    """Remembers what it is asked, and counts its calls as a recurrent policy would."""

    def __init__(self):
        self.asked = []

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        self.asked.append((observation, state, episode_start.tolist(), deterministic))
        return np.full((len(observation["mask"]), 2), len(self.asked) / 10, np.float32), (state or 0) + 1


def test_a_policy_acts_deterministically_and_keeps_its_memory():
    scripted, follower = Scripted(max_steps=12), Follower()
    scripted.rng = np.random.default_rng(3)
    episode = play_episode(HistoryWrapper(scripted, length=LENGTH), follower, max_steps=4)
    n_steps = len(episode.rewards)
    np.testing.assert_allclose(scripted.episodes[0].actions, [[k / 10] * 2 for k in range(1, n_steps + 1)], rtol=1e-6)
    assert n_steps > 2
    assert [asked[1:] for asked in follower.asked] == [(k or None, [k == 0], True) for k in range(n_steps)]
    np.testing.assert_array_equal(follower.asked[2][0]["frames"][0], episode.frames[:3])


def test_a_seed_repeats_an_episode_and_leaves_the_random_states_alone():
    env = HistoryWrapper(TimeLimit(NoiseImageEnv(discrete=False), 4), length=LENGTH)
    before = np.random.get_state()[1].copy(), th.get_rng_state()
    one, other, again = (play_episode(env, seed=seed) for seed in (5, 6, 5))
    for name in ("frames", "actions", "rewards"):
        np.testing.assert_array_equal(getattr(one, name), getattr(again, name))
        assert not np.array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])
    assert th.equal(th.get_rng_state(), before[1])


def test_where_a_policy_acts_no_action_space_is_seeded():
    """It may be the very object that the training environment draws from."""
    env = HistoryWrapper(Scripted(actions=spaces.Box(-1, 1, (2,), np.float32)), length=LENGTH)
    env.action_space.seed(1)
    expected = env.action_space.sample()
    env.action_space.seed(1)
    play_episode(env, Follower(), seed=0)
    np.testing.assert_array_equal(env.action_space.sample(), expected)


# --- planted models


class Ring(gym.Env):
    """One bright pixel of 16, which actions above 1/3 move forth and those below -1/3 back; the reward is where it gets."""

    def __init__(self):
        self.observation_space = spaces.Box(0, 255, (1, 4, 4), np.uint8)
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.position, self.n_steps = int(self.np_random.integers(16)), 0
        return self.frame(), {}

    def step(self, action):
        self.position = (self.position + int(action[0] > 1 / 3) - int(action[0] < -1 / 3)) % 16
        self.n_steps += 1
        return self.frame(), float(self.position), False, self.n_steps == 37, {}

    def frame(self):
        frame = np.zeros(16, np.uint8)
        frame[self.position] = 255
        return frame.reshape(1, 4, 4)


class PlantedModel(nn.Module):
    """Knows the ring, except that ``still`` believes that nothing moves, and is off by ``bias`` in each pixel."""

    def __init__(self, still=False, bias=0.0):
        super().__init__()
        spec = WindowSpec(LENGTH, (1, 4, 4), 1, 255.0)
        self.encoders = SimpleNamespace(spec=spec, scaled=lambda frames: frames.float() / 255)
        self.tasks = SimpleNamespace(learns=lambda label: label == "reward")
        self.still, self.bias = still, bias

    def encode(self, frames):
        return frames.float().flatten(-3) / 255

    def observe(self, features, actions, mask=None, noisy=True):
        assert not noisy and actions.shape[:2] == (len(features), features.shape[1] - 1)
        return Trajectory(features, None, None)

    def imagine(self, state, actions, noisy=True):
        assert not noisy
        states = []
        for action in actions.unbind(1):
            moves = 0 * action if self.still else (action > 1 / 3).long() - (action < -1 / 3).long()
            state = th.stack([row.roll(int(move), 0) for row, move in zip(state, moves, strict=True)])
            states.append(state)
        return th.stack(states, 1)

    def decode(self, states):
        return states.reshape(*states.shape[:-1], 1, 4, 4) + self.bias

    def reward(self, states, actions, next_states):
        return next_states.argmax(-1).float() + self.bias


@pytest.fixture(scope="module")
def sac():
    env = HistoryWrapper(Ring(), length=LENGTH)
    kwargs = latent_kwargs("slac", trunk="mlp", trunk_kwargs={"net_arch": (6,)}, hidden=8, **TINY["slac"])
    return SAC(SLACPolicy, env, replay_buffer_class=SequenceReplayBuffer, buffer_size=20, policy_kwargs=kwargs, seed=0)


@pytest.fixture
def planted(sac, monkeypatch):
    """Errors of a planted model over three episodes, and these."""

    def errors_of(planted_model, n_prefix, horizon):
        monkeypatch.setattr("sb3_latent.dreams.get_latent_model", lambda model: planted_model)
        env = HistoryWrapper(Ring(), length=LENGTH)
        episodes = [play_episode(env, seed=seed) for seed in range(3)]
        return open_loop_errors([dream(sac, episode, n_prefix, horizon) for episode in episodes]), episodes

    return errors_of


def repeated_by_hand(episodes, n_prefix, horizon):
    """Errors of whoever draws the last frame seen and names the last reward, by positions alone."""
    frames, rewards = [], []
    for episode in episodes:
        at = [int(frame.argmax()) for frame in episode.frames]
        for start in range(0, len(at) - n_prefix - horizon + 1, n_prefix + horizon):
            last = start + n_prefix - 1
            frames.append([2 / 16 * (at[last + k] != at[last]) for k in range(1, horizon + 1)])
            rewards.append([(at[last + k] - at[last]) ** 2 for k in range(1, horizon + 1)])
    return np.mean(frames, 0), np.mean(rewards, 0)


@pytest.mark.parametrize("n_prefix, horizon", [(2, 1), (2, 7), (5, 14), (8, 30)])
def test_who_knows_the_world_errs_never_and_who_ignores_actions_as_the_last_frame_does(planted, n_prefix, horizon):
    errors, episodes = planted(PlantedModel(), n_prefix, horizon)
    frames, rewards = repeated_by_hand(episodes, n_prefix, horizon)
    assert frames.max() > 0 and list(errors.frames) == list(errors.rewards) == ["dream", "posterior", "repeat"]
    for ours, repeated in ((errors.frames, frames), (errors.rewards, rewards)):
        assert ours["dream"].shape == (horizon,)
        assert not ours["dream"].any() and not ours["posterior"].any()
        np.testing.assert_allclose(ours["repeat"], repeated, rtol=1e-6)
    still, _ = planted(PlantedModel(still=True), n_prefix, horizon)
    for ours, repeated in ((still.frames, frames), (still.rewards, rewards)):
        np.testing.assert_allclose(ours["dream"], repeated, rtol=1e-6)
        assert not ours["posterior"].any()


def test_a_bias_is_an_error_in_every_step_and_not_cut_off(planted):
    errors, _ = planted(PlantedModel(bias=0.5), 4, 6)
    for ours in errors:
        np.testing.assert_allclose(ours["dream"], 0.25)
        np.testing.assert_allclose(ours["posterior"], 0.25)


def test_episodes_weigh_by_their_stretches():
    def one(n_rows, offset):
        truth = np.zeros((n_rows, 5, 3), np.float32)
        return Dreams(2, truth, truth, truth + offset, np.zeros((n_rows, 4, 1)), truth[:, 1:, 0], None, None)

    errors = open_loop_errors([one(3, 1), one(1, 3)])
    np.testing.assert_allclose(errors.frames["dream"], [(3 * 1 + 9) / 4] * 3)
    assert errors.rewards == {}


def test_dreams_of_several_lengths_have_no_error_together():
    truth = np.zeros((1, 5, 3), np.float32)
    one = Dreams(2, truth, truth, truth, truth[:, 1:, :1], truth[:, 1:, 0], None, None)
    with pytest.raises(ValueError, match=r"dreams of \(n_prefix, horizon\) \[\(2, 3\), \(3, 2\)\] have no error together"):
        open_loop_errors([one, replace(one, n_prefix=3)])
    with pytest.raises(ValueError, match="have no error together; pass some"):
        open_loop_errors([])


# --- real models


def slow_dream(model, frames, actions, n_prefix):
    """One stretch, step by step: decoded posterior, decoded dream, and both predictions of rewards."""
    latent_model = get_latent_model(model)
    dynamics = latent_model.encoders.dynamics
    features = [latent_model.encode(th.as_tensor(frame)[None]) for frame in frames]
    seen = [dynamics.begin(features[0], 1, False).state]
    dreamt = [seen[0]]
    for t, action in enumerate(th.as_tensor(actions)[:, None]):
        seen.append(dynamics.move(seen[-1], action, features[t + 1], False).state)
        dreamt.append(dynamics.move(dreamt[-1], action, features[t + 1] if t + 1 < n_prefix else None, False).state)
    outputs = [th.cat([latent_model.decode(state) for state in states]) for states in (seen, dreamt)]
    for states in (seen, dreamt):
        triples = zip(states, th.as_tensor(actions)[:, None], states[1:], strict=False)
        outputs.append(th.cat([latent_model.reward(*triple) for triple in triples]))
    return [output.numpy() for output in outputs]


@pytest.mark.parametrize("preset", TINY)
@pytest.mark.parametrize("n_prefix, horizon", [(2, 5), (6, 3), (9, 12)])
def test_a_dream_is_the_slow_loop_whatever_the_length_of_windows(preset, n_prefix, horizon):
    model, episode = tiny_model(preset=preset), noise(n_steps=23)
    dreams = dream(model, episode, n_prefix, horizon)
    length, n_rows = n_prefix + horizon, 24 // (n_prefix + horizon)
    assert dreams.frames.shape == dreams.posterior.shape == dreams.dreamt.shape == (n_rows, length, 1, 12, 12)
    assert dreams.n_prefix == n_prefix and len({dreams.frames.dtype, dreams.dreamt.dtype, np.dtype(np.float32)}) == 1
    for row in range(n_rows):
        frames = episode.frames[row * length : (row + 1) * length]
        between = slice(row * length, (row + 1) * length - 1)
        np.testing.assert_allclose(dreams.frames[row], frames / 255, rtol=1e-6)
        np.testing.assert_array_equal(dreams.actions[row], episode.actions[between])
        np.testing.assert_array_equal(dreams.rewards[row], episode.rewards[between])
        with th.no_grad():
            expected = slow_dream(model, frames, episode.actions[between], n_prefix)
        for name, values in zip(("posterior", "dreamt", "posterior_rewards", "dreamt_rewards"), expected, strict=True):
            np.testing.assert_allclose(getattr(dreams, name)[row], values, rtol=1e-4, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(dreams.dreamt[:, :n_prefix], dreams.posterior[:, :n_prefix])


def test_a_dream_knows_nothing_of_what_follows_the_prefix():
    model, episode = tiny_model(), noise(n_steps=11)
    other = replace(episode, frames=np.concatenate([episode.frames[:4], 255 - episode.frames[4:]]))
    one, changed = dream(model, episode, 4, 8), dream(model, other, 4, 8)
    np.testing.assert_array_equal(one.dreamt, changed.dreamt)
    np.testing.assert_array_equal(one.dreamt_rewards, changed.dreamt_rewards)
    assert not np.allclose(one.posterior, changed.posterior)


def test_dreaming_leaves_the_model_and_the_random_states_as_they_were():
    model, episode = tiny_model("history"), noise()
    model.policy.set_training_mode(True)
    for module in list(model.policy.actor.modules())[::2]:
        module.training = False
    parameters = list(model.policy.parameters())
    for parameter in parameters:
        parameter.grad = th.ones_like(parameter)
    weights = [parameter.detach().clone() for parameter in parameters]
    flags = [module.training for module in model.policy.modules()]
    states = np.random.get_state()[1].copy(), th.get_rng_state()
    one, again = (dream(model, episode, 4, 5, by_policy=by_policy) for by_policy in (True, True))
    dream(model, episode, 4, 5)
    np.testing.assert_array_equal(one.dreamt, again.dreamt)
    assert flags == [module.training for module in model.policy.modules()]
    assert all(map(th.equal, weights, parameters))
    assert all((parameter.grad == 1).all() for parameter in parameters)
    np.testing.assert_array_equal(np.random.get_state()[1], states[0])
    assert th.equal(th.get_rng_state(), states[1])


def test_rewards_are_told_only_by_models_that_learn_them():
    assert dream(tiny_model("PPO box"), noise(), 4, 5).dreamt_rewards is None
    model = tiny_model()
    assert dream(model, noise(), 4, 5).dreamt_rewards is not None
    model.policy.features_extractor.tasks.weigh({"recon": 1.0, "kl": 1.0, "reward": 0.0, "continuation": 0.0})
    assert dream(model, noise(), 4, 5).posterior_rewards is None


# --- under the policy


def acting(model, window, state):
    """What SB3's predict does where the extractor that actor and model share gave this state."""
    reader = model.policy.actor.features_extractor if hasattr(model.policy, "actor") else model.policy.features_extractor
    hook = reader.register_forward_hook(lambda *_: state) if state is not None else None
    action, _ = model.predict(window, deterministic=True)
    if hook is not None:
        hook.remove()
    return np.stack([vector(one, model.action_space) for one in action])


@pytest.mark.parametrize("kind", ["history", "TQC", "latent", "PPO box", "PPO squashed", "PPO choice"])
def test_the_policy_acts_in_its_dream_as_it_does_awake(kind):
    n_prefix, horizon = 5, 4
    model = tiny_model(kind, "rssm" if kind == "PPO choice" else "slac")
    episode = noise(n_steps=17, action_dim=3 if "choice" in kind else 2)
    if "choice" in kind:
        episode = replace(episode, actions=np.eye(3, dtype=np.float32)[episode.actions.argmax(1)])
    if kind == "PPO box":
        # Far beyond the bounds in one number, inside of them in the other.
        with th.no_grad():
            model.policy.action_net.bias.copy_(th.tensor([40.0, 3.0]))
    dreams = dream(model, episode, n_prefix, horizon, by_policy=True)
    latent_model, reads_history = get_latent_model(model), kind in ("history", "TQC")
    starts = (0, n_prefix + horizon)
    frames = np.stack([episode.frames[start : start + n_prefix] for start in starts]).astype(np.float32)
    actions = np.stack([episode.actions[start : start + n_prefix - 1] for start in starts])
    with th.no_grad():
        features = latent_model.encode(th.as_tensor(frames))
        state = latent_model.observe(features, th.as_tensor(actions), noisy=False).states[:, -1]
        states = [state]
        for step in range(horizon):
            window = {
                "frames": frames[:, -LENGTH:],
                "actions": actions[:, 1 - LENGTH :],
                "mask": np.ones((2, LENGTH), np.uint8),
            }
            action = acting(model, window, None if reads_history else state)
            actions = np.concatenate([actions, action[:, None]], 1)
            state = latent_model.imagine(state, th.as_tensor(action)[:, None], noisy=False)[:, 0]
            states.append(state)
            decoded = latent_model.decode(state).numpy()
            np.testing.assert_allclose(dreams.dreamt[:, n_prefix + step], decoded, rtol=1e-3, atol=1e-5)
            frames = np.concatenate([frames, np.clip(255 * decoded, 0, 255)[:, None]], 1)
    np.testing.assert_allclose(dreams.actions, actions, rtol=1e-4, atol=1e-5)
    assert not np.allclose(dreams.actions, dream(model, episode, n_prefix, horizon).actions)
    if kind == "PPO box":
        np.testing.assert_array_equal(dreams.actions[:, n_prefix - 1 :, 0], 1)
    if dreams.dreamt_rewards is not None:
        real = dream(model, episode, n_prefix, horizon)
        np.testing.assert_array_equal(dreams.posterior_rewards, real.posterior_rewards)
        with th.no_grad():
            expected = latent_model.reward(
                th.stack(states[:-1], 1), th.as_tensor(actions[:, n_prefix - 1 :]), th.stack(states[1:], 1)
            )
        np.testing.assert_allclose(dreams.dreamt_rewards[:, n_prefix - 1 :], expected.numpy(), rtol=1e-3, atol=1e-5)


def test_the_first_action_of_a_dream_is_that_of_the_last_window_seen():
    for kind in ("history", "latent"):
        model, episode = tiny_model(kind), noise(n_steps=LENGTH + 4)
        dreams = dream(model, episode, LENGTH, 5, by_policy=True)
        window = {
            "frames": episode.frames[:LENGTH],
            "actions": episode.actions[: LENGTH - 1],
            "mask": np.ones(LENGTH, np.uint8),
        }
        action, _ = model.predict(window, deterministic=True)
        np.testing.assert_allclose(dreams.actions[0, LENGTH - 1], vector(action, model.action_space), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "kind, settings", [("DQN choice", {}), ("RecurrentPPO choice", {}), ("PPO box", {"share_features_extractor": False})]
)
def test_policies_that_cannot_act_in_a_dream_say_so(kind, settings):
    model = tiny_model(kind, **settings)
    episode = noise(action_dim=3 if "choice" in kind else 2)
    assert dream(model, episode, 4, 5).dreamt.shape == (2, 9, 1, 12, 12)
    with pytest.raises(TypeError, match=r"Policy cannot act in a dream as it is; .* Pass by_policy=False"):
        dream(model, episode, 4, 5, by_policy=True)


def test_a_prefix_must_fill_the_windows_of_a_policy_that_reads_them():
    with pytest.raises(ValueError, match="n_prefix=2 is shorter than the windows of 3 frames"):
        dream(tiny_model("history"), noise(), 2, 5, by_policy=True)
    assert dream(tiny_model("latent"), noise(), 2, 5, by_policy=True).dreamt.shape[0] == 3


def test_bad_input_is_named(sac):
    with pytest.raises(ValueError, match="an episode of 21 frames has no stretch of n_prefix=8 and horizon=14"):
        dream(sac, noise(), 8, 14)
    for name, value, least in (("n_prefix", 1, 2), ("horizon", 0, 1)):
        with pytest.raises(ValueError, match=f"{name}={value} must be an integer of at least {least}"):
            dream(sac, noise(), **{name: value})
    with pytest.raises(TypeError, match="no latent model"):
        dream(
            PPO("CnnPolicy", NoiseImageEnv(), policy_kwargs=latent_kwargs("cnn", trunk="mlp"), n_steps=8, batch_size=4),
            noise(),
        )
    with pytest.raises(ValueError, match="HistoryWrapper"):
        play_episode(NoiseImageEnv())
    with pytest.raises(ValueError, match="max_steps=0"):
        play_episode(HistoryWrapper(Ring()), max_steps=0)


# --- pictures


def coloured(n_prefix=3, horizon=5, shape=(3, 8, 6), n_rows=2):
    rng = np.random.default_rng(1)
    truth, dreamt = (rng.uniform(0, 1, (n_rows, n_prefix + horizon, *shape)).astype(np.float32) for _ in range(2))
    dreamt[..., 0, 0] = -0.5
    dreamt[..., 0, 1] = 1.5
    rewards = np.zeros((n_rows, n_prefix + horizon - 1), np.float32)
    return Dreams(n_prefix, truth, truth, dreamt, rewards[..., None], rewards, None, None)


def bytes_of(image):
    return np.rint(255 * np.clip(image, 0, 1).astype(np.float64)).transpose(1, 2, 0)


@pytest.mark.parametrize("horizon, steps", [(1, [1]), (5, [1, 2, 3, 4, 5]), (22, [1, 4, 7, 10, 13, 16, 19, 22])])
def test_the_sheet_holds_truth_dream_and_difference(horizon, steps, tmp_path, monkeypatch):
    sheets = []
    monkeypatch.setattr("sb3_latent.videos.contact_sheet", lambda rows, path: sheets.append((rows, path)))
    dreams = coloured(horizon=horizon)
    dream_sheet(dreams, tmp_path / "sheet.png", row=1)
    ((rows, path),) = sheets
    title = f"truth, {', '.join(map(str, steps))} steps after the last frame seen"
    assert list(rows) == [title, "dream", "|truth - dream|"] and path == tmp_path / "sheet.png"
    for column, step in enumerate(steps):
        truth, dreamt = dreams.frames[1, 2 + step], np.clip(dreams.dreamt[1, 2 + step], 0, 1)
        for images, expected in zip(rows.values(), (truth, dreamt, np.abs(truth - dreamt)), strict=True):
            assert len(images) == len(steps)
            np.testing.assert_allclose(images[column], bytes_of(expected), atol=1)


def test_the_sheet_is_written_and_draws_the_newest_frame_of_a_stack(tmp_path):
    dreams = coloured(shape=(4, 8, 6))
    sheet = dream_sheet(dreams, tmp_path / "sheet.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "sheet.png")), sheet)
    newest = replace(dreams, frames=dreams.frames[:, :, 3:], dreamt=dreams.dreamt[:, :, 3:])
    np.testing.assert_array_equal(dream_sheet(newest), sheet)
    with pytest.raises(ValueError, match="n_channels=3 must be 1"):
        dream_video(dreams, n_channels=3)


@pytest.mark.parametrize("shape, factor", [((3, 8, 6), 16), ((1, 60, 64), 2), ((3, 200, 210), 2)])
def test_a_video_stacks_the_rows_between_bars_that_tell_dream_from_sight(shape, factor):
    dreams = coloured(shape=shape)
    video = dream_video(dreams, row=1)
    _, height, width = shape
    assert video.shape == (8, 3 * factor * height + 8, factor * width, 3) and video.dtype == np.uint8
    for t in range(8):
        truth, dreamt = dreams.frames[1, t], np.clip(dreams.dreamt[1, t], 0, 1)
        top = 0
        for expected in (truth, dreamt, np.abs(truth - dreamt)):
            tile = video[t, top : top + factor * height]
            large = np.kron(bytes_of(expected), np.ones((factor, factor, 1)))
            np.testing.assert_allclose(tile, np.broadcast_to(large, tile.shape), atol=1)
            top += factor * height
            bar = video[t, top : top + 4]
            assert (bar == ([255, 255, 255] if t < 3 else [0xD5, 0x5E, 0x00])).all()
            top += len(bar)
        assert top == video.shape[1]


def test_a_gif_plays_every_picture_at_its_pace(tmp_path):
    video = np.arange(6, dtype=np.uint8).repeat(20 * 30 * 3).reshape(6, 20, 30, 3) * 50
    write_video(video, tmp_path / "new" / "a.gif", fps=20)
    assert (tmp_path / "new" / "a.gif").read_bytes() == gif(video, 20) == gif(video, 20)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.gif"]
    image = Image.open(io.BytesIO(gif(video, 20)))
    assert image.n_frames == 6 and image.info["loop"] == 0
    for t in range(6):
        image.seek(t)
        assert image.info["duration"] == 50
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), video[t])


def test_a_gif_of_a_dream_is_close_to_its_video():
    video = dream_video(coloured(shape=(1, 12, 12)))
    image = Image.open(io.BytesIO(gif(video)))
    for t in range(len(video)):
        image.seek(t)
        assert np.abs(np.asarray(image.convert("RGB")).astype(int) - video[t]).mean() < 2


def test_half_a_video_never_stays(tmp_path, monkeypatch):
    path = tmp_path / "a.gif"
    path.write_bytes(b"before")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("pathlib.Path.write_bytes", fail)
    with pytest.raises(OSError, match="disk full"):
        write_video(np.zeros((2, 4, 4, 3), np.uint8), path)
    assert [one.name for one in tmp_path.iterdir()] == ["a.gif"] and path.read_bytes() == b"before"


def test_an_mp4_says_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.setattr("sb3_latent.videos.find_spec", lambda name: None if name == "imageio_ffmpeg" else sys)
    with pytest.raises(
        ImportError, match=r'^a.mp4 needs imageio_ffmpeg: pip install "imageio\[ffmpeg\]"; a .gif needs'
    ) as error:
        write_video(np.zeros((2, 4, 4, 3), np.uint8), tmp_path / "a.mp4")
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_an_mp4_goes_to_imageio_and_then_to_its_place(tmp_path, monkeypatch):
    written = []

    def imwrite(path, video, **settings):
        written.append((path, video, settings))
        path.write_bytes(b"film")

    monkeypatch.setattr("sb3_latent.videos.find_spec", lambda name: sys)
    monkeypatch.setattr("sb3_latent.videos.import_module", {"imageio.v3": SimpleNamespace(imwrite=imwrite)}.get)
    video = np.zeros((2, 4, 4, 3), np.uint8)
    write_video(video, tmp_path / "a.mp4", fps=7)
    ((path, passed, settings),) = written
    assert path.suffix == ".mp4" and path != tmp_path / "a.mp4" and passed is video
    # Anything but 1 or 2 would have the pictures scaled.
    assert settings == {"plugin": "FFMPEG", "fps": 7, "macro_block_size": 2}
    assert (tmp_path / "a.mp4").read_bytes() == b"film" and len(list(tmp_path.iterdir())) == 1


def test_an_mp4_holds_the_video(tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    imageio = pytest.importorskip("imageio.v3")
    video = dream_video(coloured(shape=(1, 34, 30)))
    write_video(video, tmp_path / "a.mp4")
    read = imageio.imread(tmp_path / "a.mp4", plugin="FFMPEG")
    assert read.shape == video.shape and [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    assert np.abs(read.astype(int) - video).mean() < 20


def test_videos_of_other_kinds_are_refused(tmp_path):
    video = np.zeros((2, 4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match=r"^a.avi is to be a video, but ends in neither .gif nor .mp4\.$"):
        write_video(video, tmp_path / "a.avi")
    with pytest.raises(ValueError, match="fps=0 must be an integer"):
        write_video(video, tmp_path / "a.gif", fps=0)
    with pytest.raises(ValueError, match=r"frames of shape \(3,\) are no images to draw; use error_curves"):
        dream_sheet(coloured(shape=(3,)))


def test_error_curves_draw_what_there_is(planted, tmp_path, monkeypatch):
    drawn = []

    def spy(curves, **labels):
        drawn.append((curves, labels))
        return learning_curve(curves, **labels)

    monkeypatch.setattr("sb3_latent.videos.learning_curve", spy)
    errors, _ = planted(PlantedModel(still=True), 4, 6)
    picture = error_curves(errors, tmp_path / "errors.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "errors.png")), picture)
    assert [labels["title"] for _, labels in drawn] == ["Open-loop prediction of frames", "Open-loop prediction of rewards"]
    for (curves, labels), expected in zip(drawn, errors, strict=True):
        assert labels["xlabel"] and labels["ylabel"]
        for ((steps, values),), name in zip(curves.values(), expected, strict=True):
            np.testing.assert_array_equal(steps, [1, 2, 3, 4, 5, 6])
            np.testing.assert_array_equal(values, expected[name])
    half = error_curves(errors._replace(rewards={}))
    np.testing.assert_array_equal(half, picture[: len(picture) // 2])
