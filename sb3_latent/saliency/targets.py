"""What a saliency map is about: one number a row, by name."""

from collections.abc import Callable
from typing import NamedTuple

import torch as th
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.crossq.policies import CrossQPolicy
from sb3_contrib.qrdqn.policies import QRDQNPolicy
from sb3_contrib.tqc.policies import TQCPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.dqn.policies import DQNPolicy
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import TD3Policy

from sb3_latent.registry import unknown
from sb3_latent.saliency.actor_critic_agents import ActorCriticAgent, RecurrentAgent
from sb3_latent.saliency.agents import Agent, Output
from sb3_latent.saliency.q_agents import ContinuousQAgent, DiscreteQAgent
from sb3_latent.saliency.situation import Situation
from sb3_latent.types import Observations

EVERY = "*"

_AGENTS: dict[type[Agent], tuple[type[BasePolicy], ...]] = {
    RecurrentAgent: (RecurrentActorCriticPolicy,),
    ActorCriticAgent: (ActorCriticPolicy, MaskableActorCriticPolicy),
    DiscreteQAgent: (DQNPolicy, QRDQNPolicy),
    ContinuousQAgent: (TQCPolicy, SACPolicy, TD3Policy, CrossQPolicy),
}


class Target(NamedTuple):
    """
    :param name: as the user wrote it.
    :param function: of raw observations and their situation; (B,), or (B, n) for a vector.
    :param agent: whose answer it is.
    :param reads_action: whether it reads the action of the situation.
    :param is_flat_when_greedy: see :class:`Output`.
    :param is_vector: whether it has more than one number a row.
    """

    name: str
    function: Callable[[Observations, Situation], th.Tensor]
    agent: Agent
    reads_action: bool = False
    is_flat_when_greedy: bool = False
    is_vector: bool = False


def list_targets(model: BaseAlgorithm) -> list[str]:
    """
    What :func:`~sb3_latent.saliency.saliency` can explain of a model.

    - ``"value"``: what the algorithm itself would bootstrap from: V(s) for PPO, A2C, TRPO, MaskablePPO and RecurrentPPO;
      max_a Q(s, a) for DQN and QR-DQN (mean over quantiles); Q(s, mu(s)), through mu as well, for the actor-critics with a
      Q-function: the smallest of the critics for SAC, TD3, DDPG and CrossQ, the mean over all quantiles for TQC.
    - ``"q"``: Q of the action, which stays as it is while the observation varies.
    - ``"logit"``: of the action, before the softmax and before masks. ``"log_prob"``: of the action.
    - ``"q/2"``, ``"logit/2"``: of the third Discrete action (or the third logit of other discrete spaces).
      ``"mean/0"``: first entry of the action taken without exploration; in [-1, 1] where the policy squashes it.
    - ``"latent/3"``: fourth feature that the value's layers read; a posterior mean for the encoders of this package.
      ``"kl/3"``: its KL from the prior in nats, for encoders with a Gaussian head.
    - ``"logit/*"``, ``"mean/*"``, ...: the whole vector, which method ``"perturbation"`` can explain.

    :param model: any model of SB3 or sb3-contrib that learns a value.
    :return: the targets that it has, ranges written as ``"latent/0 to latent/19"``.
    :raises ValueError: if it learns no value.
    """
    written = []
    for name, output in _agent_of(model.policy).outputs().items():
        if output.width is None or output.is_per_action:
            written.append(name)
        if output.width is not None:
            written.append(_entries(name, output.width))
    return written


def find_target(model: BaseAlgorithm, name: str) -> Target:
    """
    :param model: any model of SB3 or sb3-contrib that learns a value.
    :param name: see :func:`~sb3_latent.saliency.saliency`.
    :return: the target.
    :raises ValueError: if the model has no such target.
    """
    agent = _agent_of(model.policy)
    base, slash, entry = name.partition("/")
    output = agent.outputs().get(base)
    if output is None:
        raise ValueError(unknown(f"target of {type(model).__name__}", name, list_targets(model)))
    if not slash:
        return _whole(name, agent, output)
    if output.width is None:
        raise ValueError(f"target {name!r}: {base} is a single number; write {base!r}.")
    if entry == EVERY:
        return Target(name, output.function, agent, is_vector=True)
    if not (entry.isdecimal() and entry.isascii() and int(entry) < output.width):
        raise ValueError(f"target {name!r}: {type(model).__name__} has {_entries(base, output.width)}.")
    index = int(entry)

    def of_entry(observations: Observations, situation: Situation) -> th.Tensor:
        return output.function(observations, situation)[:, index]

    return Target(name, of_entry, agent)


def _agent_of(policy: BasePolicy) -> Agent:
    for agent, policies in _AGENTS.items():
        if isinstance(policy, policies):
            return agent(policy)
    raise ValueError(
        f"no value function known for {type(policy).__name__}; policies of PPO, A2C, TRPO, MaskablePPO, RecurrentPPO, "
        "DQN, QR-DQN, SAC, TD3, DDPG, TQC and CrossQ have one."
    )


def _whole(name: str, agent: Agent, output: Output) -> Target:
    if output.width is None:
        return Target(name, output.function, agent, output.reads_action, output.is_flat_when_greedy)
    if not output.is_per_action:
        raise ValueError(f"target {name!r} has {output.width} entries; write one of {_entries(name, output.width)}.")

    def of_action(observations: Observations, situation: Situation) -> th.Tensor:
        assert situation.actions is not None
        entries = output.function(observations, situation)
        return entries.gather(1, situation.actions.unsqueeze(1)).squeeze(1)

    return Target(name, of_action, agent, reads_action=True)


def _entries(name: str, width: int) -> str:
    return f"{name}/0" if width == 1 else f"{name}/0 to {name}/{width - 1}"
