"""Small models of every algorithm, and what of a model saliency may not change."""

from dataclasses import dataclass, field

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib import QRDQN, TQC, TRPO, CrossQ, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sb3_latent.saliency import Method

IMAGE = spaces.Box(0, 255, (2, 36, 36), np.uint8)
VECTOR = spaces.Box(-1, 1, (5,), np.float32)
BATCH = 3


class Idle(gym.Env):
    """An environment that only has spaces; no test here steps it."""

    def __init__(self, observation_space, discrete):
        self.observation_space = observation_space
        self.action_space = spaces.Discrete(3) if discrete else spaces.Box(-2, 3, (2,), np.float32)


class TinyCnn(BaseFeaturesExtractor):
    """Smooth (softplus), so that finite differences apply; small, so that the full Jacobian is quick."""

    def __init__(self, observation_space, features_dim=6):
        super().__init__(observation_space, features_dim)
        n_channels, height, width = observation_space.shape
        self.net = nn.Sequential(nn.Conv2d(n_channels, 3, 8, 8), nn.Softplus(), nn.Flatten(), nn.Dropout(0.5))
        n_flat = 3 * (height // 8) * (width // 8)
        self.head = nn.Sequential(nn.Linear(n_flat, features_dim), nn.BatchNorm1d(features_dim), nn.Softplus())

    def forward(self, observations):
        return self.head(self.net(observations))


@dataclass
class Case:
    algorithm: type
    discrete: bool = False
    policy_kwargs: dict = field(default_factory=dict)
    settings: dict = field(default_factory=dict)


OFF_POLICY = {"buffer_size": 4}
SHARED_LSTM = {"shared_lstm": True, "enable_critic_lstm": False}
CASES = {
    "PPO": Case(PPO, True),
    "PPO-gSDE": Case(PPO, settings={"use_sde": True}),
    "PPO-unshared": Case(PPO, policy_kwargs={"share_features_extractor": False}),
    "A2C": Case(A2C, True),
    "TRPO": Case(TRPO),
    "MaskablePPO": Case(MaskablePPO, True),
    "RecurrentPPO": Case(RecurrentPPO, True),
    "RecurrentPPO-shared": Case(RecurrentPPO, True, SHARED_LSTM),
    "RecurrentPPO-linear": Case(RecurrentPPO, True, {"enable_critic_lstm": False}),
    "DQN": Case(DQN, True, settings=OFF_POLICY),
    "QRDQN": Case(QRDQN, True, settings=OFF_POLICY),
    "SAC": Case(SAC, settings=OFF_POLICY),
    "SAC-shared": Case(SAC, policy_kwargs={"share_features_extractor": True}, settings=OFF_POLICY),
    "SAC-gSDE": Case(SAC, settings={**OFF_POLICY, "use_sde": True}),
    "TD3": Case(TD3, settings=OFF_POLICY),
    "DDPG": Case(DDPG, settings=OFF_POLICY),
    "TQC": Case(TQC, settings=OFF_POLICY),
    "TQC-shared": Case(TQC, policy_kwargs={"share_features_extractor": True}, settings=OFF_POLICY),
    "CrossQ": Case(CrossQ, settings=OFF_POLICY),
}


def make_model(case, space=IMAGE, **policy_kwargs):
    recurrent = case.algorithm is RecurrentPPO
    kwargs = {"features_extractor_class": TinyCnn, "net_arch": [8], "activation_fn": nn.Tanh}
    kwargs |= {"lstm_hidden_size": 7} if recurrent else {}
    policy = "MlpLstmPolicy" if recurrent else "MlpPolicy"
    kwargs |= {**case.policy_kwargs, **policy_kwargs}
    model = case.algorithm(policy, Idle(space, case.discrete), policy_kwargs=kwargs, device="cpu", seed=3, **case.settings)
    with th.no_grad():
        for module in model.policy.modules():
            if hasattr(module, "running_mean"):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    return model


def images(n=BATCH, seed=0, space=IMAGE):
    return np.random.default_rng(seed).integers(0, 256, (n, *space.shape), dtype=np.uint8)


def mix_flags_and_grads(model):
    for index, module in enumerate(model.policy.modules()):
        module.training = index % 3 == 0
    for index, parameter in enumerate(model.policy.parameters()):
        parameter.grad = None if index % 2 else th.randn_like(parameter)


class ReluCnn(TinyCnn):
    """With the modules that guided backpropagation needs, and without dropout, that randomising it may change it all."""

    def __init__(self, observation_space, features_dim=6):
        super().__init__(observation_space, features_dim)
        n_channels, height, width = observation_space.shape
        self.net = nn.Sequential(nn.Conv2d(n_channels, 3, 8, 4), nn.ReLU(), nn.Conv2d(3, 3, 3), nn.ReLU(), nn.Flatten())
        with th.no_grad():
            n_flat = self.net(th.zeros(1, n_channels, height, width)).shape[1]
        self.head = nn.Sequential(nn.Linear(n_flat, features_dim), nn.ReLU())


def linear_model(space, seed=0):
    """:return: PPO whose value is a weighted sum of the observation, and the weights, in raw units."""
    model = PPO("MlpPolicy", Idle(space, True), policy_kwargs={"net_arch": []}, device="cpu", seed=seed)
    scale = 255 if space.dtype == np.uint8 else 1
    return model, model.policy.value_net.weight.detach().reshape(space.shape) / scale


class EdgeDetector(Method):
    """A planted fault: it draws the edges of the picture and calls them what the agent looks at."""

    def attribute(self, scene):
        sobel = th.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
        kernels = th.stack([sobel, sobel.T])[:, None]
        return {key: self._edges(varied.array, kernels) for key, varied in scene.varied.items()}

    def _edges(self, images, kernels):
        frames = nn.functional.conv2d(images.flatten(0, 1)[:, None], kernels, padding=1)
        return frames.square().sum(1).sqrt().reshape(images.shape)
