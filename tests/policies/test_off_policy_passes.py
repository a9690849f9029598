"""What runs when: one encoding with gradients a gradient step, nothing encoded twice, and no decoder outside it."""

import copy
import gc
import pickle
import weakref
from collections import Counter

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from algorithms import ALGORITHMS, BATCH_SIZE, NoiseImageEnv, make_model, tiny
from gymnasium import spaces
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

from sb3_latent import Latent, LatentSACPolicy, LatentTD3Policy, LatentTQCPolicy
from sb3_latent.auxiliary import ReconstructionTask
from sb3_latent.buffers import FrameReplayBuffer
from sb3_latent.nn import ObservationHeads

POLICIES = {"SAC": LatentSACPolicy, "TQC": LatentTQCPolicy, "TD3": LatentTD3Policy}
SHIFT = {"augmentation": {"random_shift": {"pad": 1}}}
IMAGE = spaces.Box(0, 255, (1, 12, 12), np.uint8)
VECTOR = spaces.Box(-1, 1, (6,), np.float32)
B = BATCH_SIZE


class SampledEnv(gym.Env):
    """Episodes of 5 samples of an observation space."""

    def __init__(self, observation_space):
        self.observation_space = copy.deepcopy(observation_space)
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self._n_steps = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self._n_steps += 1
        return self.observation_space.sample(), float(action.sum()), self._n_steps == 5, False, {}


class Passes:
    """
    What a model computes: ``steps`` for each gradient step, ``acting`` outside ``train()``. An event is what ran, for how
    many rows: "encode" with gradients and "look" without are the trunk of the encoder, "target" that of the target encoder.
    Of several keys, the first is watched.
    """

    def __init__(self, model):
        self.extractor, target = model.policy.features_extractor, model.policy.features_extractor_target
        self.steps: list[Counter] = []
        self.acting: Counter = Counter()
        encoder = self.extractor.encoders.encoders()[0]
        self._watch(encoder.trunk, "look", "encode")
        self._watch(encoder.head, "head")
        if target is not None:
            encoder = target.encoders.encoders()[0]
            self._watch(encoder.trunk, "target", "target with gradients")
            self._watch(encoder.head, "head")
        for heads in (module for module in model.policy.modules() if isinstance(module, ObservationHeads)):
            self._watch(heads, "actor's heads")
        for task in [module for module in self.extractor.tasks.modules() if isinstance(module, ReconstructionTask)][:1]:
            self._watch(task.decoder, "decode")
        sample = model.replay_buffer.sample

        def sampled(*args, **kwargs):
            self.steps.append(Counter())
            return sample(*args, **kwargs)

        model.replay_buffer.sample = sampled

    def _watch(self, module, event, with_gradients=None):
        def count(_module, _inputs, output):
            output = output.mean if isinstance(output, Latent) else output
            seen = self.steps[-1] if self.extractor.training else self.acting
            seen[f"{with_gradients if with_gradients and output.requires_grad else event} {len(output)}"] += 1

        module.register_forward_hook(count)


def make(name, settings=None, preset="rae", **kwargs):
    settings = settings or {}
    return make_model(name, {**tiny(preset, **settings), "net_arch": [8]}, policy=POLICIES[name], **kwargs)


def learned(model, n_timesteps=16):
    passes = Passes(model)
    model.learn(n_timesteps)
    assert len(passes.steps) >= 4
    return passes


ONCE = {
    "SAC": {f"encode {B}": 1, f"look {B}": 1, f"target {B}": 1, f"head {B}": 3, f"decode {B}": 1},
    "TD3": {f"encode {B}": 1, f"target {B}": 1, f"head {B}": 2, f"decode {B}": 1},
}
ONCE["TQC"] = ONCE["SAC"]


# ---------------------------------------------------------------------- a gradient step of stock train()


@pytest.mark.parametrize(
    "settings", [{}, {"gradient_mode": "own_optimizer"}, {"head": "gaussian", "sample_latent": True}], ids=str
)
@pytest.mark.parametrize("name", POLICIES)
def test_each_batch_is_encoded_once(name, settings):
    assert all(step == ONCE[name] for step in learned(make(name, settings)).steps)


@pytest.mark.parametrize("name", POLICIES)
def test_an_actor_on_the_trunk_adds_its_own_head_alone(name):
    settings = {"actor_reads": "trunk", "head": "layer_norm_tanh"}
    expected = {**ONCE[name], f"actor's heads {B}": 2}
    assert all(step == expected for step in learned(make(name, settings)).steps)


@pytest.mark.parametrize("gradients", [("actor", "critic", "task"), ("critic",), ("actor",)], ids=str)
@pytest.mark.parametrize("name", POLICIES)
def test_whoever_moves_the_encoder_it_encodes_once(name, gradients):
    assert all(step == ONCE[name] for step in learned(make(name, {"encoder_gradients": gradients})).steps)


@pytest.mark.parametrize("name", POLICIES)
def test_without_a_target_encoder_the_targets_read_the_look_of_the_actor(name):
    expected = {f"encode {B}": 1, f"look {B}": 1, f"head {B}": 2, f"decode {B}": 1}
    assert all(step == expected for step in learned(make(name, {"target_encoder": False})).steps)


@pytest.mark.parametrize("settings", [{"frozen": True}, {"encoder_gradients": (), "tasks": {}}], ids=str)
@pytest.mark.parametrize("name", POLICIES)
def test_an_encoder_that_nobody_moves_needs_no_gradients(name, settings):
    looks = 1 if name == "TD3" else 2
    expected = {f"look {B}": looks, f"target {B}": 1, f"head {B}": looks + 1}
    assert all(step == expected for step in learned(make(name, settings)).steps)


@pytest.mark.parametrize(
    ("settings", "n_encode", "n_next"),
    [
        ({}, B, B),
        ({"augmented": ("rl",)}, 2 * B, B),
        ({"augmented": ("task",)}, 2 * B, B),
        ({"n_target_views": 3, "n_q_views": 2}, 2 * B, 3 * B),
        ({"n_target_views": 3, "n_q_views": 2, "augmented": ("rl",)}, 3 * B, 3 * B),
    ],
    ids=str,
)
def test_all_views_of_a_batch_share_one_pass(settings, n_encode, n_next):
    for step in learned(make("SAC", {**SHIFT, **settings})).steps:
        heads = Counter({f"head {n_encode}": 1})
        heads[f"head {n_next}"] += 2
        assert step == {f"encode {n_encode}": 1, f"look {n_next}": 1, f"target {n_next}": 1, f"decode {B}": 1, **heads}


@pytest.mark.parametrize("name", POLICIES)
def test_a_momentum_encoder_sees_another_view_of_the_observations(name):
    once = Counter(ONCE[name])
    expected = once + Counter({f"target {B}": 1, f"head {B}": 1}) - Counter({f"decode {B}": 1})
    steps = learned(make(name, {**SHIFT, "tasks": {"curl": {}}})).steps
    assert all(step == expected for step in steps)


@pytest.mark.parametrize("name", ["SAC", "TQC"])
def test_losses_record_no_more_than_their_gradients_need(name):
    """The actor's loss no gradient of the critic's weights; and nothing at all in steps that are not the actor's."""
    model = make(name, {"actor_update_freq": 2}, gradient_steps=2)
    seen = []

    def see(network, inputs, output):
        if model.policy.features_extractor.training:
            outputs = output if isinstance(output, th.Tensor) else output[0]
            seen.append((inputs[1].requires_grad, outputs.requires_grad, next(network.parameters()).requires_grad))

    model.critic.register_forward_hook(see)
    of_actor = []
    layer = model.actor.latent_pi
    layer.register_forward_hook(lambda _, __, out: of_actor.append(out.requires_grad) if th.is_grad_enabled() else None)
    during = []
    inner = model.critic.qf0 if name != "TQC" else model.critic.q_networks[0]
    inner.register_forward_hook(lambda one, *_: during.append(next(one.parameters()).requires_grad))
    model.learn(12)
    critics, actors = [(False, True, True)], [(True, True, True)]
    assert seen == (critics + actors + critics + [(True, False, True)]) * 2
    assert during == [True, False] * 4 and of_actor == [True, False] * 2


# ---------------------------------------------------------------------- in every loop of SB3


def stacked():
    return VecFrameStack(DummyVecEnv([lambda: NoiseImageEnv(discrete=False)] * 2), 3)


LOOPS = {
    "1 gradient step": {"gradient_steps": 1},
    "2 gradient steps": {"gradient_steps": 2},
    "5 gradient steps": {"gradient_steps": 5},
    "as many gradient steps as transitions": {"gradient_steps": -1, "train_freq": 3},
    "2 environments": {"env": lambda: DummyVecEnv([lambda: NoiseImageEnv(discrete=False)] * 2)},
    "episodes": {"train_freq": (1, "episode"), "gradient_steps": 3},
    "n-step returns": {"n_steps": 3},
    "gSDE": {"use_sde": True, "sde_sample_freq": 2, "use_sde_at_warmup": True},
    "image and vector": {"env": lambda: SampledEnv(spaces.Dict(camera=IMAGE, speed=VECTOR))},
    "vector": {"env": lambda: SampledEnv(VECTOR)},
    "frames": {"env": stacked, "replay_buffer_class": FrameReplayBuffer},
    "frames, n-step returns": {
        "env": stacked,
        "replay_buffer_class": FrameReplayBuffer,
        "replay_buffer_kwargs": {"n_steps": 3},
    },
    "frames and vector": {
        "env": lambda: SampledEnv(spaces.Dict(camera=IMAGE, speed=VECTOR)),
        "replay_buffer_class": FrameReplayBuffer,
        "replay_buffer_kwargs": {"n_frames": 1},
    },
}


@pytest.mark.parametrize(
    ("name", "loop"), [(name, loop) for name in POLICIES for loop in LOOPS if (name, loop) != ("TD3", "gSDE")]
)
def test_no_loop_changes_that_and_nothing_is_decoded_outside(name, loop):
    kwargs = {key: value() if key == "env" else value for key, value in LOOPS[loop].items()}
    model = make(name, **kwargs)
    passes = learned(model, 26)
    assert all(step == ONCE[name] for step in passes.steps)
    model.predict(model.env.reset())
    evaluate_policy(model, model.env, 2, warn=False)
    kinds = {event.split()[0] for event in passes.acting}
    assert kinds <= {"look", "head"} and passes.acting
    assert not model.policy.features_extractor.training


@pytest.mark.parametrize("gradient_steps", [1, 2, 5])
@pytest.mark.parametrize("name", POLICIES)
def test_tasks_run_every_task_freq_steps_of_all_training(name, gradient_steps):
    model = make(name, {"task_freq": 3}, gradient_steps=gradient_steps)
    steps = learned(model, 17).steps
    assert [step[f"decode {B}"] for step in steps] == [int(k % 3 == 0) for k in range(len(steps))]
    assert all(step[f"encode {B}"] == 1 for step in steps)


@pytest.mark.parametrize("name", POLICIES)
def test_between_two_steps_of_the_tasks_an_encoder_that_only_they_move_needs_no_gradients(name):
    steps = learned(make(name, {"task_freq": 2, "encoder_gradients": ("task",)})).steps
    assert [step[f"encode {B}"] for step in steps] == [int(k % 2 == 0) for k in range(len(steps))]


@pytest.mark.parametrize("name", POLICIES)
def test_tasks_learn_from_the_observations_and_not_the_next(name):
    model = make(name)
    batches, targets = [], []
    sample = model.replay_buffer.sample

    def sampled(*args, **kwargs):
        batches.append(sample(*args, **kwargs))
        return batches[-1]

    model.replay_buffer.sample = sampled
    task = model.policy.features_extractor.tasks.by_key["observation"]["recon"]
    task.register_forward_pre_hook(lambda _, inputs: targets.append(inputs[2].clone()))
    model.learn(14)
    assert len(batches) == len(targets) == 4
    for batch, target in zip(batches, targets, strict=True):
        assert th.equal(target, batch.observations / 255.0)


# ---------------------------------------------------------------------- what stays behind


def batches_alive(model, n_timesteps):
    """Sampled observations that live on when training is over, though nobody asked the garbage collector."""
    references = []
    sample = model.replay_buffer.sample

    def sampled(*args, **kwargs):
        batch = sample(*args, **kwargs)
        for part in (batch.observations, batch.next_observations):
            references.extend(weakref.ref(array) for array in (part.values() if isinstance(part, dict) else [part]))
        return batch

    model.learn(12)
    model.replay_buffer.sample = sampled
    gc.disable()
    try:
        model.learn(n_timesteps, reset_num_timesteps=False)
        return len(references), sum(reference() is not None for reference in references)
    finally:
        gc.enable()


OBSERVATIONS = {
    "image": IMAGE,
    "vector": VECTOR,
    "image and vector": spaces.Dict(camera=IMAGE, speed=VECTOR),
    "vector and image": spaces.Dict(camera_speed=VECTOR, image=IMAGE),
}


@pytest.mark.parametrize("gradients", [("critic", "task"), ("actor",)], ids=str)
@pytest.mark.parametrize("observations", OBSERVATIONS)
@pytest.mark.parametrize("name", POLICIES)
def test_views_are_freed_with_the_batch_they_ride_on(name, observations, gradients):
    model = make(name, {"encoder_gradients": gradients}, env=SampledEnv(OBSERVATIONS[observations]))
    n_batches, n_alive = batches_alive(model, 6)
    assert n_batches >= 12 and n_alive == 0


def test_states_that_are_features_themselves_are_freed_too():
    settings = {"trunk": "flatten", "trunk_kwargs": {}, "head": "identity"}
    _, n_alive = batches_alive(make("SAC", settings, preset="sac_state", env=SampledEnv(VECTOR)), 6)
    assert n_alive == 0


def graphs():
    gc.collect()
    tensors = [one for one in gc.get_objects() if type(one) is th.Tensor]
    return sum(tensor.grad_fn is not None for tensor in tensors)


@pytest.mark.parametrize(
    ("name", "settings", "kwargs"),
    [
        ("SAC", {"encoder_gradients": ("actor", "critic", "task"), "actor_update_freq": 3}, {}),
        ("TQC", {"gradient_mode": "own_optimizer"}, {}),
        ("TD3", {"encoder_gradients": ("actor", "critic", "task")}, {"policy_delay": 2}),
    ],
    ids=str,
)
def test_no_graph_outlives_training(name, settings, kwargs):
    """Whether or not the last gradient step was one of the actor's."""
    before = graphs()
    model = make(name, settings, **kwargs)
    model.learn(15)
    # SB3's own distributions keep that of the last gradient step until the next action.
    model.predict(model.observation_space.sample())
    assert graphs() == before


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda policy: pickle.loads(pickle.dumps(policy))], ids=["deepcopy", "pickle"]
)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", POLICIES)
def test_a_copied_policy_acts_the_same(name, compiled, copied):
    model = make(name, {"compile": compiled, "gradient_mode": "own_optimizer"})
    if not compiled:
        model.learn(14)
    observation = model.observation_space.sample()
    action, _ = model.predict(observation, deterministic=True)
    twin = copied(model.policy)
    assert np.array_equal(twin.predict(observation, deterministic=True)[0], action)
    assert twin.features_extractor is not model.policy.features_extractor
    assert twin.actor.reader.shared.extractor is twin.features_extractor
    assert twin.critic_target.reader.shared.target is twin.features_extractor_target


def training_state(model):
    parameters = [model.policy.state_dict(), model.critic.optimizer.state_dict(), model.actor.optimizer.state_dict()]
    if getattr(model, "log_ent_coef", None) is not None:
        parameters += [{"log_ent_coef": model.log_ent_coef.detach()}, model.ent_coef_optimizer.state_dict()]
    return copy.deepcopy(parameters)


def assert_same(ours, theirs):
    """Nested states, to the bit."""
    if isinstance(theirs, th.Tensor):
        assert th.equal(ours, theirs)
    elif isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for key in theirs:
            assert_same(ours[key], theirs[key])
    elif isinstance(theirs, list | tuple):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    else:
        assert ours == theirs


@pytest.mark.parametrize("has_trained", [False, True])
@pytest.mark.parametrize("mode", ["joint", "own_optimizer"])
@pytest.mark.parametrize("name", POLICIES)
def test_a_copied_policy_learns_on_in_another_model(name, mode, has_trained):
    """Its hooks are those of its own optimizers and owner; those of the policy it replaces are gone."""
    settings = {"gradient_mode": mode, "task_freq": 2, **({} if name == "TD3" else {"actor_update_freq": 2})}
    model, other = (make(name, settings) for _ in range(2))
    model.learn(15)
    other.learn(13 if has_trained else 10)
    model.predict(model.observation_space.sample())
    other.policy = copy.deepcopy(model.policy)
    other._create_aliases()
    other.replay_buffer = copy.deepcopy(model.replay_buffer)
    other._n_updates = model._n_updates
    if name != "TD3":
        other.log_ent_coef.data.copy_(model.log_ent_coef.data)
        other.ent_coef_optimizer.load_state_dict(copy.deepcopy(model.ent_coef_optimizer.state_dict()))
    states = []
    for one in (model, other):
        set_random_seed(1)
        before = training_state(one)
        one.train(gradient_steps=5, batch_size=B)
        states.append(training_state(one))
        with pytest.raises(AssertionError):
            assert_same(states[-1], before)
    assert_same(states[1], states[0])


@pytest.mark.parametrize("mode", ["joint", "own_optimizer"])
@pytest.mark.parametrize("name", POLICIES)
def test_a_copied_model_learns_alone(name, mode):
    model = make(name, {"gradient_mode": mode, "task_freq": 2})
    model.learn(15)
    model.predict(model.observation_space.sample())
    duplicate = copy.deepcopy(model)
    before, states = training_state(model), []
    for one in (duplicate, model):
        set_random_seed(1)
        one.learn(14)
        states.append(training_state(one))
        if one is duplicate:
            assert_same(training_state(model), before)
    assert_same(*states)


@pytest.mark.parametrize(
    "settings", [{}, {"encoder_gradients": ("actor", "critic", "task")}, {"target_encoder": False}], ids=str
)
@pytest.mark.parametrize("name", POLICIES)
def test_a_batch_that_is_handed_out_again_is_encoded_again(name, settings):
    """The features of yesterday's weights are not those of today's."""
    delayed = {"policy_delay": 2} if name == "TD3" else {}
    states = []
    for handed_out in (lambda part: part, th.clone):
        model = make(name, settings, **delayed)
        model.learn(12)
        batch = model.replay_buffer.sample(B)
        model.replay_buffer.sample = lambda *_, batch=batch, handed_out=handed_out, **__: type(batch)(
            *(None if part is None else handed_out(part) for part in batch)
        )
        set_random_seed(1)
        model.train(gradient_steps=3, batch_size=B)
        states.append(training_state(model))
    assert_same(*states)


@pytest.mark.parametrize("name", POLICIES)
def test_two_policies_may_read_one_batch(name):
    models = [make(name, seed=seed) for seed in (0, 1)]
    models[0].learn(12)
    batch = models[0].replay_buffer.sample(B)
    for model in models:
        model.policy.set_training_mode(True)
        ours, theirs = (model.critic(seen, batch.actions) for seen in (batch.observations, batch.observations.clone()))
        assert all(th.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_the_algorithm_is_the_stock_one():
    for name in POLICIES:
        cls = ALGORITHMS[name].cls
        model = make(name)
        model.learn(14)
        assert type(model) is cls and "train" not in vars(model)
        assert cls.train.__code__.co_filename == __import__(cls.__module__, fromlist=["_"]).__file__
