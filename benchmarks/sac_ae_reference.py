"""
SAC+AE's gradient step as its authors order it, typed anew from their recipe (Yarats et al. 2019, arXiv:1910.01741;
``sac_ae.py``, ``encoder.py``, ``decoder.py``, ``train.py``): what an update costs without this library.
"""

import copy
from collections.abc import Iterator

import torch as th
from stable_baselines3.common.utils import polyak_update
from torch import nn
from torch.nn import functional as F

LATENT_DIM = 50


def make_convolutions(n_channels: int) -> nn.Sequential:
    """:return: (B, n_channels, 84, 84) -> (B, 39200)."""
    layers: list[nn.Module] = [nn.Conv2d(n_channels, 32, 3, stride=2), nn.ReLU()]
    for _ in range(3):
        layers += [nn.Conv2d(32, 32, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten())


def make_head() -> nn.Sequential:
    """:return: (B, 39200) -> (B, 50)."""
    return nn.Sequential(nn.Linear(39_200, LATENT_DIM), nn.LayerNorm(LATENT_DIM), nn.Tanh())


def make_mlp(in_dim: int, out_dim: int) -> nn.Sequential:
    """:return: two hidden layers of 1024."""
    return nn.Sequential(nn.Linear(in_dim, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, out_dim))


def make_decoder(n_channels: int) -> nn.Sequential:
    """:return: (B, 50) -> (B, n_channels, 84, 84)."""
    layers: list[nn.Module] = [nn.Linear(LATENT_DIM, 39_200), nn.ReLU(), nn.Unflatten(1, (32, 35, 35))]
    for _ in range(3):
        layers += [nn.ConvTranspose2d(32, 32, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.ConvTranspose2d(32, n_channels, 3, stride=2, output_padding=1))


class Critic(nn.Module):
    """Encoder and two Q-functions."""

    def __init__(self, n_channels: int, action_dim: int) -> None:
        super().__init__()
        self.convolutions, self.head = make_convolutions(n_channels), make_head()
        self.q_functions = nn.ModuleList([make_mlp(LATENT_DIM + action_dim, 1) for _ in range(2)])

    def forward(self, obs: th.Tensor, action: th.Tensor, detach_encoder: bool = False) -> list[th.Tensor]:
        """:return: Q-values (B, 1) of both."""
        hidden = self.convolutions(obs)
        latent = self.head(hidden.detach() if detach_encoder else hidden)
        return [q_function(th.cat([latent, action], 1)) for q_function in self.q_functions]


class Actor(nn.Module):
    """The critic's convolutions, a head of its own, a squashed Gaussian."""

    def __init__(self, convolutions: nn.Sequential, action_dim: int) -> None:
        super().__init__()
        self.convolutions, self.head, self.mlp = convolutions, make_head(), make_mlp(LATENT_DIM, 2 * action_dim)

    def forward(self, obs: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """:return: actions (B, action_dim) and their log probabilities (B, 1)."""
        mean, log_std = self.mlp(self.head(self.convolutions(obs).detach())).chunk(2, 1)
        log_std = -10 + 6 * (log_std.tanh() + 1)
        gaussian = th.distributions.Normal(mean, log_std.exp())
        raw = gaussian.rsample()
        action = raw.tanh()
        log_prob = gaussian.log_prob(raw) - th.log(F.relu(1 - action**2) + 1e-6)  # type: ignore[no-untyped-call]
        return action, log_prob.sum(1, keepdim=True)

    def own_parameters(self) -> Iterator[nn.Parameter]:
        """:return: all but the convolutions, which the critic trains."""
        yield from self.head.parameters()
        yield from self.mlp.parameters()


class ReferenceSACAE:
    """
    :param n_channels: of the observation, (n_channels, 84, 84) bytes.
    :param action_dim: of the action.
    :param device: of the networks.
    """

    def __init__(self, n_channels: int, action_dim: int, device: th.device) -> None:
        self.action_dim = action_dim
        self.critic = Critic(n_channels, action_dim).to(device)
        self.critic_target = copy.deepcopy(self.critic)
        self.actor = Actor(self.critic.convolutions, action_dim).to(device)
        self.decoder = make_decoder(n_channels).to(device)
        self.log_alpha = th.tensor(0.1, device=device).log().requires_grad_()
        self.encoder = [*self.critic.convolutions.parameters(), *self.critic.head.parameters()]
        self.critic_optimizer = th.optim.Adam(self.critic.parameters(), lr=1e-3)
        self.actor_optimizer = th.optim.Adam(self.actor.own_parameters(), lr=1e-3)
        self.alpha_optimizer = th.optim.Adam([self.log_alpha], lr=1e-4, betas=(0.5, 0.999))
        self.encoder_optimizer = th.optim.Adam(self.encoder, lr=1e-3)
        self.decoder_optimizer = th.optim.Adam(self.decoder.parameters(), lr=1e-3, weight_decay=1e-7)
        self.n_updates = 0

    def update(self, obs: th.Tensor, action: th.Tensor, reward: th.Tensor, next_obs: th.Tensor, not_done: th.Tensor) -> None:
        """
        One gradient step of everything that is due.

        :param obs: (B, n_channels, 84, 84) bytes, as the next ones.
        :param action: (B, action_dim).
        :param reward: (B, 1), as ``not_done``.
        :param next_obs: as ``obs``.
        :param not_done: 0 where the episode terminated.
        """
        images, next_images = obs.float() / 255, next_obs.float() / 255
        self._update_critic(images, action, reward, next_images, not_done)
        if self.n_updates % 2 == 0:
            self._update_actor(images)
            polyak_update(self.critic.q_functions.parameters(), self.critic_target.q_functions.parameters(), 0.01)
            encoder = [*self.critic_target.convolutions.parameters(), *self.critic_target.head.parameters()]
            polyak_update(self.encoder, encoder, 0.05)
        self._update_autoencoder(obs, images)
        self.n_updates += 1

    def _update_critic(
        self, obs: th.Tensor, action: th.Tensor, reward: th.Tensor, next_obs: th.Tensor, not_done: th.Tensor
    ) -> None:
        with th.no_grad():
            next_action, log_prob = self.actor(next_obs)
            next_value = th.min(*self.critic_target(next_obs, next_action)) - self.log_alpha.exp() * log_prob
            target = reward + not_done * 0.99 * next_value
        loss = th.stack([F.mse_loss(q_value, target) for q_value in self.critic(obs, action)]).sum()
        self.critic_optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.critic_optimizer.step()

    def _update_actor(self, obs: th.Tensor) -> None:
        action, log_prob = self.actor(obs)
        loss = (self.log_alpha.exp().detach() * log_prob - th.min(*self.critic(obs, action, detach_encoder=True))).mean()
        self.actor_optimizer.zero_grad()
        loss.backward()
        self.actor_optimizer.step()
        self.alpha_optimizer.zero_grad()
        (self.log_alpha.exp() * (-log_prob + self.action_dim).detach()).mean().backward()
        self.alpha_optimizer.step()

    def _update_autoencoder(self, obs: th.Tensor, images: th.Tensor) -> None:
        latent = self.critic.head(self.critic.convolutions(images))
        target = (obs // 8).float() / 32 + th.rand(obs.shape, device=obs.device) / 32 - 0.5
        loss = F.mse_loss(self.decoder(latent), target) + 1e-6 * (0.5 * latent.square().sum(1)).mean()
        self.encoder_optimizer.zero_grad()
        self.decoder_optimizer.zero_grad()
        loss.backward()
        self.encoder_optimizer.step()
        self.decoder_optimizer.step()
