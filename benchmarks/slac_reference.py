"""SLAC written down in the plainest way, for comparison: its own batches for model and agent, each encoded apart."""

import random
from typing import Any

import numpy as np
import numpy.typing as npt
import torch as th
from stable_baselines3.common.utils import polyak_update
from torch import nn
from torch.distributions import Distribution, Independent, Normal, kl_divergence
from torch.nn import functional as F

LENGTH = 8
MODEL_BATCH_SIZE, BATCH_SIZE = 32, 256
Z1, Z2, FEATURES = 32, 256, 256


def mlp(n_in: int, n_out: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """:return: two hidden layers of 256."""
    return nn.Sequential(nn.Linear(n_in, 256), activation(), nn.Linear(256, 256), activation(), nn.Linear(256, n_out))


class Leaky(nn.LeakyReLU):
    """With tensorflow's slope."""

    def __init__(self) -> None:
        super().__init__(0.2)


class GaussianNet(nn.Module):
    """
    A diagonal Gaussian by a perceptron.

    :param n_in: inputs.
    :param n_out: length of the vector.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.net = mlp(n_in, 2 * n_out, Leaky)

    def forward(self, *inputs: th.Tensor) -> Independent[Normal]:
        """:return: of batch shape (B,)."""
        mean, std = self.net(th.cat(inputs, -1)).chunk(2, -1)
        return Independent(Normal(mean, F.softplus(std) + 1e-5), 1)


class ReferenceModel(nn.Module):
    """
    SLAC's latent variable model for 64x64x3 (Lee et al. 2020, arXiv:1907.00953), as its text has it.

    :param action_dim: length of an action.
    """

    def __init__(self, action_dim: int) -> None:
        super().__init__()
        conv, back = nn.Conv2d, nn.ConvTranspose2d
        self.encoder = nn.Sequential(
            *(conv(3, 32, 5, 2, 2), Leaky(), conv(32, 64, 3, 2, 1), Leaky(), conv(64, 128, 3, 2, 1), Leaky()),
            *(conv(128, 256, 3, 2, 1), Leaky(), conv(256, 256, 4), Leaky(), nn.Flatten()),
        )
        self.decoder = nn.Sequential(
            *(nn.Unflatten(1, (Z1 + Z2, 1, 1)), back(Z1 + Z2, 256, 4), Leaky(), back(256, 128, 3, 2, 1, 1), Leaky()),
            *(back(128, 64, 3, 2, 1, 1), Leaky(), back(64, 32, 3, 2, 1, 1), Leaky(), back(32, 3, 5, 2, 2, 1), Leaky()),
        )
        self.q_first, self.p2_first = GaussianNet(FEATURES, Z1), GaussianNet(Z1, Z2)
        self.p, self.q = GaussianNet(Z2 + action_dim, Z1), GaussianNet(FEATURES + Z2 + action_dim, Z1)
        self.p2 = GaussianNet(Z1 + Z2 + action_dim, Z2)
        self.reward = GaussianNet(2 * (Z1 + Z2) + action_dim, 1)

    def features(self, frames: th.Tensor) -> th.Tensor:
        """:return: (B, T + 1, FEATURES) of bytes (B, T + 1, 3, 64, 64)."""
        features: th.Tensor = self.encoder(frames.flatten(0, 1) / 255.0)
        return features.reshape(*frames.shape[:2], FEATURES)

    def posterior(self, features: th.Tensor, actions: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """:return: states (B, T + 1, Z1 + Z2) and KL (B, T + 1)."""
        q = self.q_first(features[:, 0])
        p = Independent(Normal(th.zeros_like(q.mean), th.ones_like(q.mean)), 1)
        z1 = q.rsample()
        z2 = self.p2_first(z1).rsample()
        states, kls = [th.cat([z1, z2], 1)], [kl_divergence(q, p)]
        for t in range(actions.shape[1]):
            p, q = self.p(z2, actions[:, t]), self.q(features[:, t + 1], z2, actions[:, t])
            z1 = q.rsample()
            z2 = self.p2(z1, z2, actions[:, t]).rsample()
            states.append(th.cat([z1, z2], 1))
            kls.append(kl_divergence(q, p))
        return th.stack(states, 1), th.stack(kls, 1)

    def loss(self, frames: th.Tensor, actions: th.Tensor, rewards: th.Tensor) -> th.Tensor:
        """:return: scalar, the negative evidence lower bound."""
        states, kl = self.posterior(self.features(frames), actions)
        pictures = self.decoder(states.flatten(0, 1)).reshape(frames.shape)
        image = log_prob(Normal(pictures, 0.1**0.5), frames / 255.0).sum((1, 2, 3, 4))
        reward = log_prob(self.reward(states[:, :-1], actions, states[:, 1:]), rewards.unsqueeze(-1)).sum(1)
        return (kl.sum(1) - image - reward).mean()


def log_prob(distribution: Distribution, value: th.Tensor) -> th.Tensor:
    """:return: of a value, typed as torch forgot to."""
    logarithm: th.Tensor = distribution.log_prob(value)
    return logarithm


class ReferenceSLAC:
    """
    The agent around it, with SAC's losses.

    :param frames: (n, 3, 64, 64) of one long episode.
    :param actions: (n - 1, action_dim).
    :param rewards: (n - 1,).
    """

    def __init__(
        self, frames: npt.NDArray[np.uint8], actions: npt.NDArray[np.float32], rewards: npt.NDArray[np.float32]
    ) -> None:
        self.frames, self.actions, self.rewards = frames, actions, rewards
        action_dim = actions.shape[1]
        self.model = ReferenceModel(action_dim)
        self.critics = nn.ModuleList(mlp(Z1 + Z2 + action_dim, 1) for _ in range(2))
        self.targets = nn.ModuleList(mlp(Z1 + Z2 + action_dim, 1) for _ in range(2))
        self.targets.load_state_dict(self.critics.state_dict())
        self.actor = mlp(LENGTH * FEATURES + (LENGTH - 1) * action_dim, 2 * action_dim)
        self.log_alpha = th.zeros(1, requires_grad=True)
        self.model_optimizer = th.optim.Adam(self.model.parameters(), 1e-4)
        self.critic_optimizer = th.optim.Adam(self.critics.parameters(), 3e-4)
        self.actor_optimizer = th.optim.Adam(self.actor.parameters(), 3e-4)
        self.alpha_optimizer = th.optim.Adam([self.log_alpha], 3e-4)

    def update(self) -> None:
        """One step of model and agent, each on windows of its own."""
        self._step(self.model_optimizer, self.model.loss(*self._sample(MODEL_BATCH_SIZE)))
        frames, actions, rewards = self._sample(BATCH_SIZE)
        with th.no_grad():
            features = self.model.features(frames)
            states, _ = self.model.posterior(features, actions)
        z, next_z, action, reward = states[:, -2], states[:, -1], actions[:, -1], rewards[:, -1:]
        history = th.cat([features[:, :-1].flatten(1), actions[:, :-1].flatten(1)], 1)
        next_history = th.cat([features[:, 1:].flatten(1), actions[:, 1:].flatten(1)], 1)
        alpha = self.log_alpha.exp().detach()
        with th.no_grad():
            next_action, next_log_prob = self._act(next_history)
            next_q = self._q(self.targets, next_z, next_action).amin(1, keepdim=True)
            target = reward + 0.99 * (next_q - alpha * next_log_prob)
        self._step(self.critic_optimizer, (self._q(self.critics, z, action) - target).square().mean(0).sum() / 2)
        new_action, log_prob = self._act(history)
        q = self._q(self.critics, z, new_action).amin(1, keepdim=True)
        self._step(self.actor_optimizer, (alpha * log_prob - q).mean())
        self._step(self.alpha_optimizer, -(self.log_alpha * (log_prob.detach() - action.shape[1])).mean())
        polyak_update(self.critics.parameters(), self.targets.parameters(), 0.005)

    def _act(self, history: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        mean, log_std = self.actor(history).chunk(2, -1)
        gaussian = Normal(mean, log_std.clamp(-20, 2).exp())
        raw = gaussian.rsample()
        action = raw.tanh()
        return action, (log_prob(gaussian, raw) - th.log(1 - action.square() + 1e-6)).sum(1, keepdim=True)

    def _q(self, critics: nn.ModuleList, z: th.Tensor, action: th.Tensor) -> th.Tensor:
        return th.cat([critic(th.cat([z, action], 1)) for critic in critics], 1)

    def _step(self, optimizer: th.optim.Optimizer, loss: th.Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # as torch has it
        optimizer.step()

    def _sample(self, batch_size: int) -> tuple[th.Tensor, Any, Any]:
        starts = [random.randrange(len(self.actions) - LENGTH) for _ in range(batch_size)]
        frames = np.stack([self.frames[start : start + LENGTH + 1] for start in starts])
        actions = np.stack([self.actions[start : start + LENGTH] for start in starts])
        rewards = np.stack([self.rewards[start : start + LENGTH] for start in starts])
        return th.as_tensor(frames), th.as_tensor(actions), th.as_tensor(rewards)
