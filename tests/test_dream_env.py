"""Dreams as an environment: SB3's contract, and that every number in them is the latent model's own."""

import contextlib
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium.wrappers import TimeLimit
from stable_baselines3 import A2C, PPO, SAC
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize
from windows_by_hand import BOX, Scripted

from sb3_latent import (
    HistoryWrapper,
    LatentSACPolicy,
    PixelPendulumEnv,
    SequenceReplayBuffer,
    SLACPolicy,
    VecHistoryWrapper,
    get_latent_model,
    latent_kwargs,
)
from sb3_latent.dream_env import DreamVecEnv, VecLatentStateWrapper

SMALL = {
    "slac": {"z1_dim": 3, "z2_dim": 5, "hidden": (8,)},
    "rssm": {"h_dim": 5, "z_dim": 3, "hidden": 8},
    "rssm_discrete": {"h_dim": 5, "n_groups": 2, "n_classes": 3, "hidden": 8},
    "slac_vae": {"z_dim": 6, "hidden": (8,)},
}
LENGTH = 4


def learnt(dynamics="slac", n_steps=60, coefs=None, env=None, trunk=None, **kwargs):
    """SAC that has acted at random and not trained; nothing here depends on what a model has learnt."""
    settings = {"dynamics_kwargs": SMALL[dynamics], "hidden": 8, "trunk": trunk, "loss_kwargs": {}}
    policy_kwargs = latent_kwargs(dynamics, coefs={"continuation": 1.0} if coefs is None else coefs, **settings)
    model = SAC(
        SLACPolicy,
        HistoryWrapper(env or Scripted(3, "vector"), LENGTH),
        replay_buffer_class=SequenceReplayBuffer,
        policy_kwargs={**policy_kwargs, "net_arch": [8]},
        learning_starts=1000,
        buffer_size=100,
        seed=0,
    )
    return model.learn(n_steps)


def plant_continuation(model, bias):
    last = get_latent_model(model).tasks.continuation[-1]
    with th.no_grad():
        last.weight.zero_()
        last.bias.fill_(bias)


@pytest.fixture
def model():
    return learnt()


@pytest.fixture
def endless(model):
    plant_continuation(model, 1e4)
    return model


def play(env, n_steps, rng=None):
    """What happens, as one flat list of arrays; actions from a generator of numpy's."""
    rng = rng or np.random.default_rng(0)
    happened = [env.reset()]
    for _ in range(n_steps):
        actions = rng.uniform(env.action_space.low, env.action_space.high, (env.num_envs, *env.action_space.shape))
        observations, rewards, dones, infos = env.step(actions.astype(np.float32))
        last = [info["terminal_observation"] for info in infos if info]
        happened += [observations, rewards, dones, *last]
    return happened


def assert_same(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


@contextlib.contextmanager
def stream(seed):
    """Torch's global random numbers are those of the dreams of a seed."""
    with th.random.fork_rng(), th.no_grad():
        th.manual_seed(int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]))
        yield


def posterior(model, n_rows):
    np.random.seed(int(th.randint(2**32, ())))
    windows, latent = model.replay_buffer.sample(n_rows).observations, get_latent_model(model)
    return latent.observe(latent.encode(windows["frames"]), windows["actions"], windows["mask"].bool()).states[:, -1]


@pytest.mark.parametrize("dynamics", SMALL)
def test_a_dream_is_what_the_model_samples_with_the_same_random_numbers(dynamics):
    model = learnt(dynamics)
    latent, env = get_latent_model(model), DreamVecEnv(model, horizon=3, n_envs=5)
    env.seed(7)
    actions = np.random.default_rng(0).uniform(BOX.low, BOX.high, (8, 5, 2)).astype(np.float32)
    n_ended = 0
    with stream(7):
        states, ages = posterior(model, 5), np.zeros(5)
        np.testing.assert_array_equal(env.reset(), states)
        for action in actions:
            # BOX is [-2, 1] x [0, 8].
            scaled = th.as_tensor([[2 * (a + 2) / 3 - 1, 2 * b / 8 - 1] for a, b in action.tolist()], dtype=th.float32)
            following = latent.imagine(states, scaled[:, None])[:, 0]
            rewards, goes_on = latent.reward(states, scaled, following), latent.continuation(following)
            terminated = th.rand(5) >= goes_on
            observations, got_rewards, dones, infos = env.step(action)
            np.testing.assert_allclose(got_rewards, rewards, rtol=1e-5, atol=1e-6)
            ages += 1
            np.testing.assert_array_equal(dones, terminated.numpy() | (ages == 3))
            for i in range(5):
                assert ("terminal_observation" in infos[i]) == dones[i]
                if dones[i]:
                    np.testing.assert_allclose(infos[i]["terminal_observation"], following[i], rtol=1e-5, atol=1e-6)
                    assert infos[i]["TimeLimit.truncated"] == (not terminated[i])
            n_ended += dones.sum()
            ages[dones] = 0
            states = following.clone()
            if dones.any():
                states[th.as_tensor(dones)] = posterior(model, dones.sum())
            np.testing.assert_allclose(observations, states, rtol=1e-5, atol=1e-6)
            # Rounding does not add up.
            states = th.as_tensor(observations)
    assert 5 < n_ended < 40


def test_starts_are_posterior_states_of_windows_from_which_an_action_was_taken():
    model = learnt(n_steps=1)
    latent, windows = get_latent_model(model), model.replay_buffer.sample(1).observations
    assert windows["mask"].tolist() == [[0] * (LENGTH - 1) + [1]]
    with th.no_grad():
        belief = latent.observe(latent.encode(windows["frames"]), windows["actions"], windows["mask"].bool()).posteriors
    expected = latent.encoders.dynamics.family.distribution(belief[0, -1]).base_dist
    z1 = DreamVecEnv(model, horizon=5, n_envs=4000, seed=0).reset()[:, :3]
    np.testing.assert_allclose(z1.mean(0), expected.mean, atol=5 * float(expected.stddev.max()) / 4000**0.5)
    np.testing.assert_allclose(z1.std(0), expected.stddev, rtol=0.06)


def test_spaces_and_types(endless):
    env = DreamVecEnv(endless, horizon=2, n_envs=3)
    assert env.observation_space == gym.spaces.Box(-np.inf, np.inf, (8,), np.float32)
    assert (env.action_space, env.num_envs) == (endless.action_space, 3)
    observations = env.reset()
    assert (observations.shape, observations.dtype) == ((3, 8), np.float32)
    observations, rewards, dones, infos = env.step(np.zeros((3, 2), np.float32))
    assert (observations.shape, observations.dtype) == ((3, 8), np.float32)
    assert (rewards.shape, rewards.dtype) == ((3,), np.float32)
    assert (dones.shape, dones.dtype) == ((3,), np.bool_)
    assert infos == [{}, {}, {}]
    env.close()


def test_actions_beyond_the_bounds_are_cut_off(endless):
    a, b = (DreamVecEnv(endless, horizon=5, n_envs=2, seed=1) for _ in range(2))
    assert_same([a.reset()], [b.reset()])
    assert_same(a.step(np.tile(BOX.high, (2, 1)))[:3], b.step(np.tile(BOX.high + 50, (2, 1)))[:3])


def test_the_horizon_cuts_off_and_is_no_end(endless):
    env = DreamVecEnv(endless, horizon=3, n_envs=4, seed=0)
    env.reset()
    for step in range(1, 8):
        observations, _, dones, infos = env.step(np.zeros((4, 2)))
        assert dones.all() == dones.any() == (step % 3 == 0)
        if dones.any():
            assert [info["TimeLimit.truncated"] for info in infos] == [True] * 4
            assert not np.isclose(observations, [info["terminal_observation"] for info in infos]).all(1).any()
    env.reset()
    assert not any(env.step(np.zeros((4, 2)))[2].any() for _ in range(2))


@pytest.mark.parametrize("horizon", [1, 5])
def test_a_world_that_never_goes_on_ends_every_episode(model, horizon):
    plant_continuation(model, -1e4)
    env = DreamVecEnv(model, horizon=horizon, n_envs=4)
    env.reset()
    for _ in range(3):
        _, _, dones, infos = env.step(np.zeros((4, 2)))
        assert dones.all() and [info["TimeLimit.truncated"] for info in infos] == [False] * 4


def test_episodes_end_as_often_as_the_model_says(model):
    plant_continuation(model, np.log(0.8 / 0.2))
    env = DreamVecEnv(model, horizon=1000, n_envs=2000, seed=0)
    env.reset()
    ended = np.mean([env.step(np.zeros((2000, 2)))[2] for _ in range(4)])
    assert abs(ended - 0.2) < 5 * np.sqrt(0.2 * 0.8 / 8000)


def test_episodes_go_on_where_the_model_does_not_learn_when_they_end():
    model = learnt(coefs={"continuation": 0.0})
    plant_continuation(model, -1e4)
    env = DreamVecEnv(model, horizon=50)
    env.reset()
    assert not any(env.step(np.zeros((16, 2)))[2].any() for _ in range(20))


def test_same_seed_same_bits_whatever_the_global_random_numbers_do(model):
    env = DreamVecEnv(model, horizon=4, n_envs=3, seed=5)
    first = play(env, 12)
    th.manual_seed(99)
    np.random.seed(99)
    assert_same(first, play(DreamVecEnv(model, horizon=4, n_envs=3, seed=5), 12))
    assert env.seed(5) == [5, 6, 7]
    assert_same(first, play(env, 12))
    assert not np.array_equal(first[0], env.reset())
    env.seed(6)
    assert not np.array_equal(first[0], env.reset())


def test_without_a_seed_dreams_differ(model):
    th.manual_seed(0)
    a = DreamVecEnv(model, horizon=4).reset()
    th.manual_seed(0)
    assert not np.array_equal(a, DreamVecEnv(model, horizon=4).reset())


def test_an_algorithm_of_the_same_seed_has_other_random_numbers(model):
    env = DreamVecEnv(model, horizon=4, n_envs=3)
    with stream(0):
        hashed = th.rand(4)
    th.manual_seed(0)
    assert not np.isin(hashed.numpy(), th.rand(10_000).numpy()).any()
    a, b = (PPO("MlpPolicy", env, n_steps=8, batch_size=8, n_epochs=1, seed=0).learn(24) for _ in range(2))
    assert_same([p.detach() for p in a.policy.parameters()], [p.detach() for p in b.policy.parameters()])


def test_nothing_else_is_touched(model):
    policy = model.policy
    policy.set_training_mode(True)
    policy.features_extractor.encoders.dynamics.eval()
    seen = []
    handle = policy.features_extractor.encoders.trunk.register_forward_hook(
        lambda module, *_: seen.append((module.training, th.is_grad_enabled()))
    )
    before = (
        th.get_rng_state(),
        np.random.get_state()[1].copy(),
        [value.clone() for value in (*policy.parameters(), *policy.buffers())],
        {name: module.training for name, module in policy.named_modules()},
    )
    play(DreamVecEnv(model, horizon=3, n_envs=2, seed=0), 9)
    VecLatentStateWrapper(HistoryWrapper(Scripted(1, "vector"), LENGTH), model).reset()
    handle.remove()
    assert set(seen) == {(False, False)}
    assert th.equal(th.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])
    assert all(map(th.equal, (*policy.parameters(), *policy.buffers()), before[2]))
    assert {name: module.training for name, module in policy.named_modules()} == before[3]
    assert all(parameter.grad is None for parameter in policy.parameters())
    assert th.is_grad_enabled()


def test_observations_belong_to_whoever_gets_them(endless):
    a, b = (DreamVecEnv(endless, horizon=2, n_envs=2, seed=1) for _ in range(2))
    a.reset()[:] = 0
    b.reset()
    for _ in range(4):
        ours, theirs = a.step(np.zeros((2, 2))), b.step(np.zeros((2, 2)))
        assert_same(ours[:3], theirs[:3])
        ours[0][:] = 0


def test_dreams_follow_the_model(endless):
    env = DreamVecEnv(endless, horizon=5, seed=0)
    before = play(env, 1)[2]
    with th.no_grad():
        get_latent_model(endless).tasks.reward[-1].bias[0] += 10
    env.seed(0)
    np.testing.assert_allclose(play(env, 1)[2], before + 10, rtol=1e-5)


def test_attributes_are_shared(model):
    env = DreamVecEnv(model, horizon=3, n_envs=4)
    assert env.get_attr("horizon") == [3] * 4
    assert env.get_attr("horizon", [1, 2]) == [3, 3]
    assert not env.has_attr("action_masks")
    env.set_attr("horizon", 9)
    assert env.horizon == 9
    assert [states.shape for states in env.env_method("reset")] == [(4, 8)] * 4
    assert env.env_is_wrapped(Monitor) == [False] * 4
    assert env.env_is_wrapped(Monitor, 2) == [False]
    with pytest.raises(ValueError, match=r"indices=\[1\].*indices=None"):
        env.set_attr("horizon", 9, 1)
    with pytest.raises(ValueError, match=r"indices=\[0, 1\].*indices=None"):
        env.env_method("reset", indices=[0, 1])


def test_wrappers_of_sb3(endless):
    env = VecNormalize(VecMonitor(DreamVecEnv(endless, horizon=3, n_envs=2, seed=0)), clip_obs=2.0)
    plain = DreamVecEnv(endless, horizon=3, n_envs=2, seed=0)
    assert np.abs(env.reset()).max() <= 2
    plain.reset()
    returns = np.zeros(2)
    for _ in range(3):
        _, _, dones, infos = env.step(np.zeros((2, 2)))
        returns += plain.step(np.zeros((2, 2)))[1]
    assert dones.all()
    np.testing.assert_allclose([info["episode"]["r"] for info in infos], returns, rtol=1e-5)
    assert [info["episode"]["l"] for info in infos] == [3, 3]
    assert all(np.abs(info["terminal_observation"]).max() <= 2 for info in infos)


def test_render_shows_the_decoded_states():
    model = learnt(env=TimeLimit(PixelPendulumEnv(n_frames=1), 9), n_steps=20, trunk="nature")
    env = DreamVecEnv(model, horizon=3, n_envs=4, seed=0)
    states = env.reset()
    assert env.render_mode == "rgb_array" and env.metadata["render_modes"] == ["human", "rgb_array"]
    with th.no_grad():
        frames = get_latent_model(model).decode(th.as_tensor(states)).clamp(0, 1).numpy()
    picture = env.render()
    assert (picture.shape, picture.dtype) == ((64, 64, 3), np.uint8)
    for i, (y, x) in enumerate([(0, 0), (0, 32), (32, 0), (32, 32)]):
        for channel in range(3):
            np.testing.assert_allclose(picture[y : y + 32, x : x + 32, channel], 255 * frames[i, 0], atol=0.51)


def test_vectors_are_not_rendered(model):
    env = DreamVecEnv(model, horizon=3)
    assert env.render_mode is None and env.get_images() == [None] * 16
    with pytest.warns(UserWarning, match="render_mode"):
        assert env.render() is None


class OneDream(gym.Env):
    """gymnasium's interface to one dream, for SB3's checker."""

    def __init__(self, model):
        self.dream = DreamVecEnv(model, horizon=5, n_envs=1)
        self.observation_space, self.action_space = self.dream.observation_space, self.dream.action_space

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.dream.seed(seed)
        return self.dream.reset()[0], {}

    def step(self, action):
        observations, rewards, dones, infos = self.dream.step(action[None])
        truncated = infos[0].get("TimeLimit.truncated", False)
        shown = infos[0]["terminal_observation"] if dones[0] else observations[0]
        return shown, float(rewards[0]), bool(dones[0]) and not truncated, truncated, {}


def test_check_env():
    model = learnt(env=Scripted(3, "vector", gym.spaces.Box(-1, 1, (2,))))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(OneDream(model), warn=True)


@pytest.mark.parametrize(
    "algorithm, arguments",
    [
        (PPO, {"n_steps": 8, "batch_size": 16, "n_epochs": 1}),
        (A2C, {}),
        (SAC, {"learning_starts": 8, "batch_size": 4, "buffer_size": 100}),
    ],
)
def test_stock_algorithms_train_in_dreams_and_are_evaluated_outside(model, algorithm, arguments):
    dream = VecMonitor(DreamVecEnv(model, horizon=4, n_envs=4))
    agent = algorithm("MlpPolicy", dream, policy_kwargs={"net_arch": [8]}, seed=0, **arguments).learn(64)
    assert len(agent.ep_info_buffer) > 0 and max(info["l"] for info in agent.ep_info_buffer) <= 4
    scripted = Scripted(5, "vector")
    returns, lengths = evaluate_policy(
        agent, VecLatentStateWrapper(HistoryWrapper(scripted, LENGTH), model), 3, return_episode_rewards=True
    )
    assert lengths == [len(episode.rewards) for episode in scripted.episodes[:3]]
    np.testing.assert_allclose(returns, [sum(episode.rewards) for episode in scripted.episodes[:3]], atol=1e-5)


def test_the_real_environment_in_the_states_of_the_model(model):
    def windows():
        return VecHistoryWrapper(DummyVecEnv([lambda i=i: Scripted(i, "vector", max_steps=7) for i in range(3)]), LENGTH)

    def means(arrays):
        tensors = {name: th.as_tensor(values) for name, values in arrays.items()}
        latent = get_latent_model(model)
        with th.no_grad():
            features = latent.encode(tensors["frames"])
            return latent.observe(features, tensors["actions"], tensors["mask"].bool(), noisy=False).states[:, -1]

    seen, plain = VecLatentStateWrapper(windows(), model), windows()
    assert seen.observation_space == DreamVecEnv(model, horizon=3).observation_space
    assert seen.action_space == plain.action_space
    np.testing.assert_allclose(seen.reset(), means(plain.reset()), rtol=1e-5, atol=1e-6)
    n_ended = 0
    for _ in range(20):
        actions = np.stack([plain.action_space.sample() for _ in range(3)])
        states, rewards, dones, infos = seen.step(actions)
        expected, *others, expected_infos = plain.step(actions)
        assert_same([rewards, dones], others)
        assert (states.shape, states.dtype) == ((3, 8), np.float32)
        np.testing.assert_allclose(states, means(expected), rtol=1e-5, atol=1e-6)
        for i in np.flatnonzero(dones):
            last = {name: values[None] for name, values in expected_infos[i]["terminal_observation"].items()}
            np.testing.assert_allclose(infos[i]["terminal_observation"], means(last)[0], rtol=1e-5, atol=1e-6)
            assert infos[i]["TimeLimit.truncated"] == expected_infos[i]["TimeLimit.truncated"]
        n_ended += dones.sum()
    assert n_ended > 5


def test_any_model_with_a_latent_model_can_look_out():
    env = make_vec_env(lambda: HistoryWrapper(Scripted(1, "vector"), LENGTH), 2)
    kwargs = latent_kwargs("slac", gradient_mode="joint", dynamics_kwargs=SMALL["slac"])
    model = PPO("MultiInputPolicy", env, policy_kwargs=kwargs)
    with th.no_grad():
        windows = {name: th.as_tensor(values) for name, values in env.reset().items()}
        expected = model.policy.features_extractor(windows)
    with pytest.raises(TypeError, match="SLACPolicy"):
        DreamVecEnv(model, horizon=3)
    wrapped = VecLatentStateWrapper(make_vec_env(lambda: HistoryWrapper(Scripted(1, "vector"), LENGTH), 2), model)
    np.testing.assert_allclose(wrapped.reset(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"horizon": 0}, "horizon=0 must be an integer of at least 1"),
        ({"horizon": 2.5}, "horizon=2.5 must be an integer"),
        ({"horizon": 3, "n_envs": 0}, "n_envs=0 must be an integer of at least 1"),
        ({"horizon": 3, "seed": -1}, "seed=-1 must be an integer of at least 0"),
    ],
)
def test_bad_numbers(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        DreamVecEnv(model, **arguments)


def test_what_cannot_be_dreamt_of(model):
    env = HistoryWrapper(Scripted(3, "vector"), LENGTH)
    fresh = SAC(SLACPolicy, env, replay_buffer_class=SequenceReplayBuffer, policy_kwargs=latent_kwargs("slac"), buffer_size=9)
    with pytest.raises(ValueError, match=r"replay buffer is empty.*model.learn\(...\) or model.load_replay_buffer"):
        DreamVecEnv(fresh, horizon=3)
    with pytest.raises(ValueError, match=r"coefs\['reward'\] is 0"):
        DreamVecEnv(learnt(coefs={"reward": 0.0}), horizon=3)
    stock = SAC("MlpPolicy", Scripted(3, "vector"), buffer_size=9)
    with pytest.raises(TypeError, match=r"need the model of SLACPolicy or SLACTQCPolicy.*not SACPolicy"):
        DreamVecEnv(stock, horizon=3)
    model.replay_buffer = stock.replay_buffer
    with pytest.raises(ValueError, match="start from a SequenceReplayBuffer, and the model's is a ReplayBuffer"):
        DreamVecEnv(model, horizon=3)


def test_dreams_begin_with_reset(model):
    with pytest.raises(RuntimeError, match=r"call reset\(\) first"):
        DreamVecEnv(model, horizon=3).step(np.zeros((16, 2)))


def test_the_wrong_world_outside(model):
    with pytest.raises(ValueError, match="holds no windows"):
        VecLatentStateWrapper(Scripted(3, "vector"), model)
    with pytest.raises(ValueError, match=r"length=2.*length=4"):
        VecLatentStateWrapper(HistoryWrapper(Scripted(3, "vector"), 2), model)
    stock = SAC(LatentSACPolicy, PixelPendulumEnv(), buffer_size=9, policy_kwargs=latent_kwargs("sac_cnn"))
    with pytest.raises(TypeError, match="no latent model"):
        VecLatentStateWrapper(HistoryWrapper(Scripted(3, "vector"), 2), stock)
