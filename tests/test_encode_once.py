"""Training on FrameRolloutBuffer, which encodes each frame once, is training on SB3's own buffer."""

import numpy as np
import pytest
import torch as th
from algorithms import ALGORITHMS, NoiseImageEnv, make_model, tiny
from gradient_steps import assert_equal_gradients, record_steps
from gymnasium import spaces
from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecFrameStack

from sb3_latent import FrameRolloutBuffer, MaskableFrameRolloutBuffer, get_extractor
from sb3_latent.buffers.frame_rollout_buffer import Minibatch
from sb3_latent.callbacks import KLConstraintCallback, LatentMetricsCallback
from sb3_latent.known_batches import ArrivalCheck
from sb3_latent.nn.frozen_memory import FrozenMemory
from sb3_latent.nn.repeats import Repeats
from sb3_latent.optimizer import AuxiliaryOptimizer
from sb3_latent.types import Latent

N_FRAMES = 4
ON_POLICY = ("PPO", "A2C", "MaskablePPO", "TRPO")


class DictImageEnv(NoiseImageEnv):
    """The image and its mean."""

    def __init__(self):
        super().__init__()
        self.observation_space = spaces.Dict(
            {"camera": spaces.Box(0, 255, (1, 12, 12), np.uint8), "mean": spaces.Box(-10, 500, (1,), np.float32)}
        )

    def _draw(self):
        self._image = self.np_random.integers(1, 256, (1, 12, 12), dtype=np.uint8)
        return {"camera": self._image, "mean": np.array([self._image.mean()], np.float32)}


def buffer_of(name, **kwargs):
    cls = MaskableFrameRolloutBuffer if name == "MaskablePPO" else FrameRolloutBuffer
    return {"rollout_buffer_class": cls, "rollout_buffer_kwargs": kwargs}


def model_of(name, preset, buffer, env_cls=NoiseImageEnv, policy=None, **settings):
    """Its weights stand still, so that each gradient step of two runs is taken at the same point."""
    env = VecFrameStack(make_vec_env(env_cls, 2, seed=0), N_FRAMES)
    kwargs = tiny(preset, **{"per_frame": True, **settings})
    rates = {"learning_rate": 0.0}
    if settings.get("gradient_mode") == "own_optimizer":
        kwargs["features_extractor_kwargs"]["auxiliary_optimizer_kwargs"] = {"lr": 0.0}
    return make_model(name, kwargs, policy=policy, env=env, **rates, **buffer)


def steps_of(model, name):
    steps = record_steps(model, "policy.optimizer")
    model.learn(ALGORITHMS[name].n_timesteps * 2)
    return steps


@pytest.fixture(autouse=True)
def no_noise(monkeypatch):
    """A draw a frame is not a draw an occurrence; without noise both are the same."""
    monkeypatch.setattr(Latent, "sample", lambda self: self.mean)


@pytest.fixture
def n_encoded(monkeypatch):
    """Frames of each call of a trunk with gradients."""
    counts = []

    def count(model):
        trunk = get_extractor(model).encoders["observation"].trunk
        trunk.register_forward_pre_hook(lambda _, inputs: counts.append(len(inputs[0])) if th.is_grad_enabled() else None)
        return counts

    return count


@pytest.mark.parametrize("name", ON_POLICY)
@pytest.mark.parametrize("preset, settings", [("cnn", {}), ("vae", {"kappa": 3.0}), ("vae", {"kappa": "auto"}), ("rae", {})])
def test_every_gradient_step_is_that_of_the_stock_buffer(name, preset, settings):
    if name == "TRPO" and settings:
        settings = {}
    stock = model_of(name, preset, {}, **settings)
    expected = steps_of(stock, name)
    ours = model_of(name, preset, buffer_of(name), **settings)
    actual = steps_of(ours, name)
    assert len(expected) == len(actual) >= 4
    for mine, theirs in zip(actual, expected, strict=True):
        assert th.equal(mine.observations, theirs.observations)
        assert_equal_gradients(mine.gradients, theirs.gradients, 1e-4)
    th.testing.assert_close(get_extractor(ours).balance.norms, get_extractor(stock).balance.norms)
    mine, theirs = (get_extractor(model).tasks.pop_losses() for model in (ours, stock))
    assert mine == pytest.approx(theirs, rel=1e-4)


@pytest.mark.parametrize("name", ("PPO", "A2C", "MaskablePPO"))
def test_so_is_the_step_of_the_tasks_own_optimizer(name, monkeypatch):
    taken = []
    monkeypatch.setattr(AuxiliaryOptimizer, "step", lambda self, gradients: taken.append(gradients))
    for buffer in ({}, buffer_of(name)):
        steps_of(model_of(name, "vae", buffer, gradient_mode="own_optimizer"), name)
    half = len(taken) // 2
    assert half >= 4
    for theirs, mine in zip(taken[:half], taken[half:], strict=True):
        numbered = [dict(enumerate(gradients)) for gradients in (mine, theirs)]
        assert_equal_gradients(*({str(key): value for key, value in one.items()} for one in numbered), 1e-4)


def test_dict_observations_and_unshared_extractors():
    settings = {"policy": "MultiInputPolicy", "env_cls": DictImageEnv, "n_frames": N_FRAMES}
    found = []
    for buffer in ({}, buffer_of("PPO")):
        model = model_of("PPO", "vae", buffer, **settings)
        found.append(record_first_gradients(model))
    assert_equal_gradients(found[1], found[0], 1e-4)


def record_first_gradients(model):
    found = {}

    def keep(*_):
        if not found:
            found.update({name: p.grad.clone() for name, p in model.policy.named_parameters() if p.grad is not None})

    model.policy.optimizer.register_step_pre_hook(keep)
    model.learn(32)
    return found


def test_extractors_of_actor_and_critic_apart():
    found = []
    for buffer in ({}, buffer_of("PPO")):
        env = VecFrameStack(make_vec_env(NoiseImageEnv, 2, seed=0), N_FRAMES)
        kwargs = {**tiny("vae", per_frame=True), "share_features_extractor": False}
        found.append(record_first_gradients(make_model("PPO", kwargs, env=env, learning_rate=0.0, **buffer)))
    assert_equal_gradients(found[1], found[0], 1e-4)


@pytest.mark.parametrize("gradient_mode, n_passes", [("joint", 1), ("own_optimizer", 2)])
def test_a_minibatch_of_chunks_encodes_each_frame_once(n_encoded, gradient_mode, n_passes):
    buffer = buffer_of("PPO", chunk_length=8)
    model = model_of("PPO", "vae", buffer, gradient_mode=gradient_mode)
    counts = n_encoded(model)
    different = []
    model.policy.optimizer.register_step_pre_hook(
        lambda *_: different.append(len(np.unique(model.rollout_buffer.minibatch.numbers("observation", N_FRAMES))))
    )
    model.learn(64)
    assert counts == [n for n in different for _ in range(n_passes)] and len(different) == 8
    # Chunks of 8 steps in episodes of 5; one minibatch in eight begins in the middle of the other environment's.
    assert max(different) < 0.7 * 8 * N_FRAMES


def test_a_frozen_encoder_encodes_each_frame_once_an_update(monkeypatch):
    model = model_of("PPO", "cnn", buffer_of("PPO"), frozen=True)
    model.n_epochs = 3
    encoded, recalled, whole = [], [], []
    means = FrozenMemory.means

    def compared(self, frames, encode, numbers):
        recalled.append(means(self, frames, lambda new: encoded.append(new) or encode(new), numbers))
        whole.append(encode(frames))
        return recalled[-1]

    monkeypatch.setattr(FrozenMemory, "means", compared)
    for n_updates in (1, 2):
        model.learn(32, reset_num_timesteps=False)
        n_different = len(np.unique(model.rollout_buffer._columns["observation"].rows))
        assert len(recalled) == n_updates * 3 * 4, "three epochs of four minibatches"
        assert len(th.cat(encoded)) == n_different
        encoded.clear()
    th.testing.assert_close(th.cat(recalled), th.cat(whole))


@pytest.mark.parametrize("per_frame", [True, False])
def test_a_frozen_run_is_a_frozen_run(per_frame):
    weights = []
    for buffer in ({}, buffer_of("PPO")):
        env = VecFrameStack(make_vec_env(NoiseImageEnv, 2, seed=0), N_FRAMES)
        sgd = {"optimizer_class": th.optim.SGD, "optimizer_kwargs": {}}
        model = make_model("PPO", {**tiny("cnn", per_frame=per_frame, frozen=True), **sgd}, env=env, **buffer, n_epochs=2)
        weights.append(model.learn(96).policy.state_dict())
    for name, theirs in weights[0].items():
        if isinstance(theirs, th.Tensor):
            th.testing.assert_close(weights[1][name], theirs, rtol=1e-4, atol=1e-6)


def test_weights_that_thaw_are_asked_again():
    model = model_of("PPO", "cnn", buffer_of("PPO"), frozen=True).learn(32)
    extractor = get_extractor(model)
    extractor.frozen = False
    model.learning_rate = model.lr_schedule = lambda _: 0.1
    model.learn(32, reset_num_timesteps=False)
    extractor.frozen = True
    features = []
    extractor.register_forward_hook(lambda module, inputs, output: features.append((module.encoders.means(*inputs), output)))
    model.learn(32, reset_num_timesteps=False)
    for expected, actual in features:
        th.testing.assert_close(actual, expected)


@pytest.mark.parametrize("frozen", [True, False])
def test_observations_that_change_on_their_way_are_refused(monkeypatch, frozen):
    """From the second update on."""
    stock, ours = (model_of("PPO", "cnn", buffer, frozen=frozen).learn(32) for buffer in ({}, buffer_of("PPO")))
    evaluate = ActorCriticPolicy.evaluate_actions
    monkeypatch.setattr(
        ActorCriticPolicy, "evaluate_actions", lambda self, obs, actions: evaluate(self, obs.flip(-1), actions)
    )
    stock.learn(32, reset_num_timesteps=False)
    with pytest.raises(ValueError, match="not those that FrameRolloutBuffer served; where train"):
        ours.learn(32, reset_num_timesteps=False)


def test_a_part_of_a_minibatch_is_encoded_as_it_is():
    """Of which TRPO computes its curvature."""
    found = []
    for buffer in ({}, buffer_of("TRPO")):
        env = VecFrameStack(make_vec_env(NoiseImageEnv, 2, seed=0), N_FRAMES)
        model = make_model("TRPO", tiny("cnn", per_frame=True), env=env, sub_sampling_factor=2, n_steps=32, **buffer)
        found.append(model.learn(64).policy.state_dict())
    for name, theirs in found[0].items():
        if isinstance(theirs, th.Tensor):
            th.testing.assert_close(found[1][name], theirs, rtol=1e-3, atol=1e-4)


def test_other_batches_are_encoded_whole():
    """Of the same size, and in the middle of training."""
    model = model_of("PPO", "vae", buffer_of("PPO", chunk_length=8)).learn(32)
    extractor = get_extractor(model)
    model.policy.set_training_mode(True)
    others = th.rand(8, N_FRAMES, 12, 12)
    code = extractor.encode(others)
    th.testing.assert_close(code.mean, extractor.encoders(others).mean)
    expected = extractor.tasks(extractor.encoders.split(code), extractor.encoders.frames(others), ["recon"])["recon"]
    th.testing.assert_close(extractor.auxiliary_losses(others)["recon"], expected)


def test_another_number_of_frames_is_refused_with_the_fix():
    env = VecFrameStack(make_vec_env(NoiseImageEnv, 2, seed=0), 4)
    kwargs = tiny("cnn", per_frame=True, n_frames=2)
    model = make_model("PPO", kwargs, env=env, **buffer_of("PPO"))
    with pytest.raises(ValueError, match=r"reads 2 frames, the rollout buffer holds stacks of 4; pass .*n_frames=2"):
        model.learn(32)


def test_saving_and_loading(tmp_path):
    model = make_model(
        "PPO",
        tiny("vae", per_frame=True),
        env=VecFrameStack(make_vec_env(NoiseImageEnv, 2), 4),
        **buffer_of("PPO", chunk_length=4),
    ).learn(32)
    model.save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model", env=model.env)
    assert isinstance(loaded.rollout_buffer, FrameRolloutBuffer) and loaded.rollout_buffer.chunk_length == 4
    loaded.learn(32)


def test_maskable_ppo_insists_on_its_own():
    model = model_of("MaskablePPO", "cnn", buffer_of("MaskablePPO"))
    assert isinstance(model, MaskablePPO) and isinstance(model.rollout_buffer, MaskableFrameRolloutBuffer)


def test_repeats_against_a_loop():
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 5, 20)
    frames = th.as_tensor(rng.normal(size=(5, 3)))[numbers]
    repeats = Repeats(numbers, th.device("cpu"))
    different = sorted(set(numbers.tolist()))
    once = th.stack([frames[numbers == number][0] for number in different])
    assert th.equal(repeats.once(frames), once) and th.equal(repeats.everywhere(once), frames)
    expected = th.tensor([(numbers == number).mean() for number in different])
    th.testing.assert_close(repeats.weights, expected.float())
    codes = th.randn(20, 2, requires_grad=True)
    sums = th.stack([codes[numbers == number].mean(0) for number in different])
    th.testing.assert_close(repeats.mean(codes), sums)


def test_a_frozen_memory_makes_room_for_any_number():
    memory, calls = FrozenMemory(), []

    def encode(frames):
        calls.append(len(frames))
        return frames * 2

    for numbers in ([3, 3, 1], [900, 1], [0, 2, 900, 4000]):
        frames = th.tensor(numbers, dtype=th.float32)[:, None]
        assert th.equal(memory.means(frames, encode, np.array(numbers)), frames * 2)
    assert calls == [2, 1, 3]
    memory.forget()
    memory.means(th.ones(1, 1), encode, np.array([3]))
    assert calls == [2, 1, 3, 1]


@pytest.mark.parametrize("name", ("PPO", "MaskablePPO"))
def test_callbacks_see_the_rollout_that_they_see_in_the_stock_buffer(name):
    seen = []
    for buffer in ({}, buffer_of(name)):
        callbacks = [LatentMetricsCallback(every=8), KLConstraintCallback(delta_target=1e-9)]
        records = Records()
        model_of(name, "vae", buffer).learn(96, callback=[*callbacks, records])
        seen.append(records.values)
    assert seen[0] and seen[1] == pytest.approx(seen[0], rel=1e-3, abs=1e-6)


class Records(BaseCallback):
    """All that was recorded of latents and of the bound on the KL."""

    def _on_training_start(self):
        self.values, record = {}, self.logger.record

        def kept(key, value, *args, **kwargs):
            if key.startswith(("latent/", "train/kl")):
                self.values[len(self.values), key] = float(value)
            record(key, value, *args, **kwargs)

        self.logger.record = kept

    def _on_step(self):
        return True


class TwoViews(PPO):
    """Looks at every minibatch twice, the second time at mirrored images."""

    def train(self):
        evaluate = self.policy.evaluate_actions

        def twice(observations, actions):
            evaluate(observations, actions)
            return evaluate(observations.flip(-1), actions)

        self.policy.evaluate_actions = twice
        super().train()


@pytest.mark.parametrize("frozen", [True, False])
def test_a_second_look_at_other_observations_is_refused(frozen):
    for buffer in ({}, buffer_of("PPO")):
        env = VecFrameStack(make_vec_env(NoiseImageEnv, 2, seed=0), N_FRAMES)
        kwargs = {**tiny("cnn", per_frame=True, frozen=frozen), "net_arch": [8]}
        model = TwoViews("CnnPolicy", env, n_steps=16, batch_size=8, n_epochs=1, policy_kwargs=kwargs, **buffer)
        if buffer:
            with pytest.raises(ValueError, match="not those that FrameRolloutBuffer served"):
                model.learn(32)
        else:
            model.learn(32)


def test_an_accelerator_is_asked_at_the_end_of_an_update(monkeypatch):
    """One batch that differed, and one after it that did not."""
    check, space = ArrivalCheck(), spaces.Box(0, 255, (1, 4, 4), np.uint8)
    minibatch = Minibatch(th.ones(2, 1, 4, 4, dtype=th.uint8), np.arange(2), {})
    with monkeypatch.context() as patch:
        patch.setattr(ArrivalCheck, "raise_if_different", lambda self: None)
        for arrived in (th.zeros(2, 1, 4, 4), th.ones(2, 1, 4, 4) / 255):
            check.compare(arrived, minibatch, space, True)
    with pytest.raises(ValueError, match="not those that FrameRolloutBuffer served"):
        check.raise_if_different()
    check.raise_if_different()


def test_where_nothing_is_known_of_use_observations_may_change():
    env = VecFrameStack(make_vec_env(NoiseImageEnv, 2, seed=0), N_FRAMES)
    kwargs = {**tiny("cnn"), "net_arch": [8]}
    TwoViews("CnnPolicy", env, n_steps=16, batch_size=8, n_epochs=1, policy_kwargs=kwargs, **buffer_of("PPO")).learn(32)


def test_steps_outside_of_train_are_noticed_while_acting():
    """Those of a fused Adam do not count as changes of a tensor."""
    env = VecFrameStack(make_vec_env(NoiseImageEnv, 1, seed=0), N_FRAMES)
    kwargs = {**tiny("cnn", per_frame=True), "optimizer_kwargs": {"fused": True}}
    model = make_model("PPO", kwargs, env=env, learning_rate=0.1).learn(32)
    film = np.random.default_rng(0).integers(1, 256, (1, 9, 12, 12), dtype=np.uint8)
    model.predict(film[:, :4])
    model.policy.optimizer.step()
    extractor, features = get_extractor(model), []
    extractor.register_forward_hook(lambda module, inputs, output: features.append((module.encoders.means(*inputs), output)))
    model.predict(film[:, 1:5])
    th.testing.assert_close(features[0][1], features[0][0])


@pytest.mark.parametrize("n_frames", [1, 2])
def test_frames_that_lie_in_one_slot_are_told_apart(n_frames):
    """Several grey channels may be one frame to the buffer, and are four to the encoder."""
    expected = steps_of(model_of("PPO", "vae", {}), "PPO")
    actual = steps_of(model_of("PPO", "vae", buffer_of("PPO", n_frames=n_frames)), "PPO")
    for mine, theirs in zip(actual, expected, strict=True):
        assert_equal_gradients(mine.gradients, theirs.gradients, 1e-4)
