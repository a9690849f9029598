"""Hyperparameters of the algorithms that a study varies: those of rl_zoo3's samplers, in ranges that pixels allow."""

from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_latent.search import Choice, Float, Int, Layers, SearchSpace

_COMMON: SearchSpace = {
    "learning_rate": Float(1e-5, 3e-3, log=True),
    "gamma": Choice((0.9, 0.95, 0.98, 0.99, 0.995, 0.999)),
}
_ON_POLICY: SearchSpace = {
    **_COMMON,
    "gae_lambda": Choice((0.9, 0.95, 0.98, 0.99)),
    "policy_kwargs.net_arch": Layers(((64,), (64, 64), (256, 256))),
}
_GRADIENT: SearchSpace = {"ent_coef": Float(1e-6, 0.1, log=True), "max_grad_norm": Choice((0.3, 0.5, 1.0, 2.0))}
_ROLLOUTS: SearchSpace = {"n_steps": Choice((128, 256, 512, 1024, 2048)), "batch_size": Choice((32, 64, 128, 256))}

_PPO: SearchSpace = {
    **_ON_POLICY,
    **_GRADIENT,
    **_ROLLOUTS,
    "n_epochs": Choice((3, 5, 10, 20)),
    "clip_range": Choice((0.1, 0.2, 0.3)),
}
_OFF_POLICY: SearchSpace = {
    **_COMMON,
    "batch_size": Choice((64, 128, 256, 512)),
    "policy_kwargs.net_arch": Layers(((256, 256), (400, 300), (1024, 1024))),
}
_TAU: SearchSpace = {"tau": Float(1e-3, 0.05, log=True)}
_DQN: SearchSpace = {
    **_OFF_POLICY,
    "policy_kwargs.net_arch": Layers(((64, 64), (256, 256))),
    "target_update_interval": Choice((500, 1000, 2500, 5000, 10_000)),
    "train_freq": Choice((1, 4, 8)),
    "exploration_fraction": Float(0.01, 0.5),
    "exploration_final_eps": Float(0.01, 0.2),
}

ALGORITHM_SPACES: dict[str, SearchSpace] = {
    "PPO": _PPO,
    "MaskablePPO": _PPO,
    "RecurrentPPO": _PPO,
    "A2C": {**_ON_POLICY, **_GRADIENT, "n_steps": Choice((5, 16, 32, 128))},
    "TRPO": {
        **_ON_POLICY,
        **_ROLLOUTS,
        "target_kl": Float(1e-3, 0.1, log=True),
        "n_critic_updates": Int(5, 30),
        "cg_max_steps": Int(5, 30),
    },
    "DQN": _DQN,
    "QRDQN": {**_DQN, "policy_kwargs.n_quantiles": Choice((25, 50, 100, 200))},
    "SAC": {**_OFF_POLICY, **_TAU},
    "TQC": {
        **_OFF_POLICY,
        **_TAU,
        "policy_kwargs.n_quantiles": Choice((15, 25, 35)),
        "top_quantiles_to_drop_per_net": Int(0, 5),
    },
    # No target network.
    "CrossQ": _OFF_POLICY,
    "DDPG": {**_OFF_POLICY, **_TAU},
    "TD3": {**_OFF_POLICY, **_TAU, "target_policy_noise": Float(0.1, 0.4)},
}
"""Dimensions by SB3's name of the algorithm. Batches and rollouts are powers of two, so that the one divides the other."""


def name_of(algorithm: type[BaseAlgorithm]) -> str:
    """
    :param algorithm: a class of SB3 or sb3-contrib, or one derived from it.
    :return: the name under which there is a space; its own where there is none.
    """
    return next((cls.__name__ for cls in algorithm.__mro__ if cls.__name__ in ALGORITHM_SPACES), algorithm.__name__)
