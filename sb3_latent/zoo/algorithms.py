"""Which algorithm trains by which file of ``zoo_configs``."""

from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {
    **dict.fromkeys(("ppo_cnn", "ppo_fixed", "ppo_adapt", "ppo_vae"), PPO),
    "ppo_lstm_impala_vae": RecurrentPPO,
    **dict.fromkeys(("sac_cnn", "sac_ae", "drq", "curl", "slac"), SAC),
}
"""Stock classes by the name of ``--algo``, which is that of the file as well."""
