"""What is remembered of a step ago is what encoding it again would give."""

import numpy as np
import pytest
import torch as th
from algorithms import NoiseImageEnv, make_model, tiny
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecFrameStack
from torch import nn

from sb3_latent import get_extractor
from sb3_latent.nn.frame_memory import FrameMemory

N_FRAMES = 3


class Counting(nn.Module):
    """Counts the frames that it encodes."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)
        self.n_encoded = 0

    def forward(self, frames):
        self.n_encoded += len(frames)
        return self.linear(frames)

    def whole(self, frames):
        with th.no_grad():
            return self.linear(frames)


def means(memory, encoder, stacks):
    """(B, n_frames, 2) of (B, n_frames, 4)."""
    return memory.means(stacks.flatten(0, 1), encoder).unflatten(0, stacks.shape[:2])


def stacks_of(stream):
    """(T, B, n_frames, 4) of (T + n_frames - 1, B, 4)."""
    return th.stack([stream[t : t + N_FRAMES].transpose(0, 1) for t in range(len(stream) - N_FRAMES + 1)])


@given(data=st.data(), n_envs=st.integers(1, 4))
def test_it_equals_encoding_everything(data, n_envs):
    encoder = Counting()
    memory = FrameMemory(encoder, N_FRAMES)
    # Few different frames, so that stacks of one environment go on by chance as well.
    frames = th.arange(8.0).reshape(2, 4)
    stack = frames[th.zeros(n_envs, N_FRAMES, dtype=th.int64)]
    for _ in range(6):
        newest = frames[th.tensor(data.draw(st.lists(st.integers(0, 1), min_size=n_envs, max_size=n_envs)))]
        stack = th.cat([stack[:, 1:], newest[:, None]], 1)
        for i in data.draw(st.sets(st.integers(0, n_envs - 1))):
            stack[i, :-1] = 0
        if data.draw(st.booleans()):
            with th.no_grad():
                encoder.linear.bias += 1
        with th.no_grad():
            th.testing.assert_close(means(memory, encoder, stack), encoder.whole(stack))


def test_each_frame_is_encoded_once():
    encoder = Counting()
    memory = FrameMemory(encoder, N_FRAMES)
    stream = th.randn(10 + N_FRAMES - 1, 5, 4)
    with th.no_grad():
        for stacks in stacks_of(stream):
            means(memory, encoder, stacks)
        assert encoder.n_encoded == len(stream) * 5
        again = stacks_of(stream)[-1].clone()
        again[2] = th.randn(N_FRAMES, 4)
        again[:2, :-1], again[:2, -1] = stacks_of(stream)[-1][:2, 1:], 0
        means(memory, encoder, again)
    assert encoder.n_encoded == len(stream) * 5 + 2 + 3 * N_FRAMES, "two stacks go on, three begin"


def adam(**kwargs):
    return lambda parameters: th.optim.Adam(parameters, 0.1, **kwargs)


CHANGES = {
    "adam": adam(foreach=False),
    "foreach adam": adam(foreach=True),
    "sgd": lambda parameters: th.optim.SGD(parameters, 0.1),
    "state": None,
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_weights_are_noticed(change):
    encoder = Counting()
    memory = FrameMemory(encoder, N_FRAMES)
    first, second = stacks_of(th.randn(N_FRAMES + 1, 2, 4))
    with th.no_grad():
        means(memory, encoder, first)
    if change == "state":
        encoder.load_state_dict({name: value + 1 for name, value in encoder.state_dict().items()})
    else:
        encoder(second).sum().backward()
        CHANGES[change](encoder.parameters()).step()
    with th.no_grad():
        th.testing.assert_close(means(memory, encoder, second), encoder.whole(second))


def test_environments_may_write_into_the_same_memory():
    encoder = Counting()
    memory = FrameMemory(encoder, N_FRAMES)
    stacks = th.zeros(2, N_FRAMES, 4)
    with th.no_grad():
        means(memory, encoder, stacks)
        stacks[:, -1] = 1
        means(memory, encoder, stacks)
        stacks[:] = 1
        th.testing.assert_close(means(memory, encoder, stacks), encoder.whole(stacks))


def frames_encoded(model, learn):
    """How many frames go through the trunk outside gradient steps."""
    counts = []

    def count(module, inputs):
        if not th.is_grad_enabled():
            counts.append(len(inputs[0]))

    handle = get_extractor(model).encoders["observation"].trunk.register_forward_pre_hook(count)
    learn(model)
    handle.remove()
    return sum(counts)


def test_a_rollout_encodes_each_frame_once():
    env = VecFrameStack(make_vec_env(NoiseImageEnv, 4), 4)
    model = make_model("PPO", tiny("vae", per_frame=True), env=env, n_steps=10)
    n_first = frames_encoded(model, lambda model: model.learn(40))
    n_second = frames_encoded(model, lambda model: model.learn(40, reset_num_timesteps=False))
    whole = 4 * 4 * (10 + 1)
    assert n_first == whole, "SB3 trains for the first time after it"
    # The first step is new; the fifth of 5 steps ends an episode, and what comes is a new stack.
    assert whole / 4 < n_second < 0.6 * whole


class Comparing(BaseCallback):
    """Features of every step of a run against those of an encoder that remembers nothing."""

    def _on_training_start(self):
        self.n_compared, extractor = 0, get_extractor(self.model)

        def compare(module, inputs, features):
            if not th.is_grad_enabled():
                self.n_compared += len(features)
                th.testing.assert_close(features, module.encoders.means(*inputs))

        extractor.register_forward_hook(compare)

    def _on_step(self):
        return True


def test_predict_goes_on_as_well():
    """It calls ``train(False)`` each time."""
    model = make_model("PPO", tiny("vae", per_frame=True), env=VecFrameStack(make_vec_env(NoiseImageEnv, 1), 4)).learn(16)
    film = np.random.default_rng(0).integers(1, 256, (1, 13, 12, 12), dtype=np.uint8)
    assert frames_encoded(model, lambda model: [model.predict(film[:, t : t + 4]) for t in range(10)]) == 13


@pytest.mark.parametrize("optimizer", [{}, {"optimizer_kwargs": {"fused": True}}])
def test_acting_with_it_is_acting_without_it(optimizer):
    """A fused Adam changes weights without torch's counting it."""
    env = VecFrameStack(make_vec_env(NoiseImageEnv, 4, seed=0), 4)
    kwargs = {**tiny("vae", per_frame=True), **optimizer}
    comparing = Comparing()
    make_model("PPO", kwargs, env=env, learning_rate=0.01).learn(320, callback=comparing)
    assert comparing.n_compared > 320
