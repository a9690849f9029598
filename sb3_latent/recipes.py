"""The recipes of the literature, as data: settings by preset."""

from typing import Any

from sb3_latent.buffers import FrameRolloutBuffer

_VAE: dict[str, Any] = {"head": "gaussian", "tasks": {"recon": {}, "kl": {}}}
_PIXEL_SAC: dict[str, Any] = {"trunk": "dmc", "head": "layer_norm_tanh", "latent_dim": 50}
"""The encoder of SAC+AE, CURL and DrQ."""

_SAC_AE: dict[str, Any] = {**_PIXEL_SAC, "tasks": {"recon": {"bits": 5}, "latent_l2": {}}}

_SAC_VAE: dict[str, Any] = {
    **_PIXEL_SAC,
    "head": "gaussian",
    "tasks": {"recon": {"bits": 5}, "kl": {}},
    "gradient_mode": "own_optimizer",
    "auxiliary_optimizer_kwargs": {"lr": 1e-3},
}

_SEED_000: dict[str, Any] = {"trunk": "seed84", "head": "gaussian", "latent_dim": 20, "per_frame": True}
"""Table 1 and section 4.2 of seed document 000."""

PRESETS: dict[str, dict[str, Any]] = {
    # No task: the control for all others, through the same bottleneck.
    "cnn": {"head": "deterministic"},
    "ae": {"head": "deterministic", "tasks": {"recon": {}}},
    # Ghosh et al. 2020, arXiv:1903.12436. The decoder's weight decay of SAC+AE needs gradient_mode="own_optimizer" and
    # auxiliary_optimizer_kwargs={"decoder": {"weight_decay": 1e-7}}; in "joint" mode it would decay the policy as well.
    "rae": {"head": "deterministic", "tasks": {"recon": {}, "latent_l2": {}}},
    "vae": _VAE,
    # Higgins et al. 2017; 4 is the smallest beta > 1 that they show to disentangle.
    "beta_vae": {**_VAE, "beta": 4.0},
    "ppo_fixed": {**_SEED_000, "frozen": True},
    "ppo_adapt": _SEED_000,
    # Eq. 3 with the losses summed over pixels and kappa = 20 (appendix A.3).
    "ppo_vae": {**_SEED_000, **_VAE, "kappa": 20.0, "coefs": {"recon": 1.0, "kl": 1.0}},
    # Yarats et al. 2019, arXiv:1910.01741, from the authors' train.py: two Adams step the encoder, one for the critic's
    # loss and one for the autoencoder's. "sac_ae" has one, and weighs both gradients alike: docs/methods/sac_ae.md.
    "sac_ae": {**_SAC_AE, "kappa": "auto"},
    "sac_ae_two_optimizers": {
        **_SAC_AE,
        "gradient_mode": "own_optimizer",
        "auxiliary_optimizer_kwargs": {"lr": 1e-3, "decoder": {"weight_decay": 1e-7}},
    },
    # The same agent without its autoencoder.
    "sac_cnn": _PIXEL_SAC,
    # Section 4 of the same paper: what did not work, jointly, with the actor's gradients, and alternating.
    "sac_vae": _SAC_VAE,
    "sac_vae_actor": _SAC_VAE,
    "sac_vae_alternating": _SAC_VAE,
    # Kostrikov et al. 2020, arXiv:2004.13649.
    "drq": _PIXEL_SAC,
    # Laskin et al. 2020, arXiv:2004.04136.
    "curl": {
        **_PIXEL_SAC,
        "tasks": {"curl": {}},
        "gradient_mode": "own_optimizer",
        "auxiliary_optimizer_kwargs": {"lr": 1e-3},
    },
    # The upper bound: the true state instead of pixels.
    "sac_state": {"trunk": "flatten", "head": "identity"},
}
"""Settings of :class:`~sb3_latent.LatentExtractor` by preset."""

_SAC_AE_POLICY: dict[str, Any] = {
    "net_arch": [1024, 1024],
    "actor_reads": "trunk",
    "encoder_tau": 0.05,
    "actor_update_freq": 2,
    "log_std_bounds": (-10.0, 2.0),
    "init": "delta_orthogonal",
    "optimizers": {"ent_coef": {"lr": 1e-4, "betas": (0.5, 0.999)}},
    # The same Adam in one pass over memory: a tenth of an update on a CPU (python -m benchmarks.sac).
    "optimizer_kwargs": {"fused": True},
}
_SHIFT: dict[str, Any] = {"augmentation": {"random_shift": {"pad": 4}}}
_SAC_VAE_POLICY: dict[str, Any] = {**_SAC_AE_POLICY, "actor_reads": "latent", "sample_latent": True}
_SEED_000_POLICY: dict[str, Any] = {
    # Width of policy and value networks, tanh, in Tables 2 and 3 of seed document 000.
    "net_arch": [64, 64],
    # SB3's Adam for actor-critic policies in one pass over memory: the seed's networks have 29 million weights.
    "optimizer_kwargs": {"fused": True, "eps": 1e-5},
}

POLICY_PRESETS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("ppo_fixed", "ppo_adapt", "ppo_vae"), _SEED_000_POLICY),
    **dict.fromkeys(("sac_ae_two_optimizers", "sac_cnn"), _SAC_AE_POLICY),
    "sac_ae": {**_SAC_AE_POLICY, "optimizers": {**_SAC_AE_POLICY["optimizers"], "decoder": {"weight_decay": 1e-7}}},
    "sac_vae": _SAC_VAE_POLICY,
    "sac_vae_actor": {**_SAC_VAE_POLICY, "encoder_gradients": ("actor", "critic", "task")},
    "sac_vae_alternating": {**_SAC_VAE_POLICY, "encoder_gradients": ("task",), "task_freq": 100},
    "drq": {
        **{name: value for name, value in _SAC_AE_POLICY.items() if name not in ("encoder_tau", "optimizers")},
        **_SHIFT,
        "init": "orthogonal",
        "n_target_views": 2,
        "n_q_views": 2,
    },
    "curl": {**_SAC_AE_POLICY, **_SHIFT},
    "sac_state": {name: value for name, value in _SAC_AE_POLICY.items() if name not in ("actor_reads", "encoder_tau")},
}
"""Arguments of the policy beside the extractor's, by preset."""

_SEED_000_PPO: dict[str, Any] = {
    "learning_rate": 3e-4,
    "n_steps": 2048,
    "batch_size": 32,
    "n_epochs": 10,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "ent_coef": 0.0,
    "vf_coef": 0.5,
}
"""Tables 2 and 3 of seed document 000 (they are the same but for kappa). The clip range is not given: SB3's 0.2."""

PPO_PRESETS: dict[str, dict[str, Any]] = {
    # The samples of SB3's buffer, in a quarter of its memory: 16 environments fill it with 0.9 GB.
    name: {**_SEED_000_PPO, "rollout_buffer_class": FrameRolloutBuffer}
    for name in ("ppo_fixed", "ppo_adapt", "ppo_vae")
}
"""Arguments of ``PPO`` by preset. ``n_envs=16`` and 1e7 steps belong to the environment and to ``learn``."""

_SAC_AE_SAC: dict[str, Any] = {
    "learning_rate": 1e-3,
    "buffer_size": 1_000_000,
    "learning_starts": 1000,
    "batch_size": 128,
    "tau": 0.01,
    "gamma": 0.99,
    "train_freq": 2,
    "gradient_steps": 2,
    "target_update_interval": 2,
    "ent_coef": "auto_0.1",
}
"""SAC+AE's ``train.py``. It moves its targets every second update, and SB3 counts only within a call of ``train``: hence
two steps, two updates."""

SAC_PRESETS: dict[str, dict[str, Any]] = {
    **dict.fromkeys([name for name in PRESETS if name.startswith("sac_")], _SAC_AE_SAC),
    **dict.fromkeys(("drq", "curl"), _SAC_AE_SAC | {"buffer_size": 100_000, "batch_size": 512}),
}
"""Arguments of ``SAC`` by preset."""

_OWN_LOSSES: dict[str, Any] = {"gradient_mode": "own_optimizer", "kappa": 0.0}
"""A model that the RL loss does not move."""

_SLAC: dict[str, Any] = {**_OWN_LOSSES, "auxiliary_optimizer_kwargs": {"lr": 1e-4, "fused": True}}
_DREAMER: dict[str, Any] = {**_OWN_LOSSES, "trunk": "dreamer", "loss_kwargs": {"std": 1.0}, "hidden": 400}

WINDOW_PRESETS: dict[str, dict[str, Any]] = {
    # Lee et al. 2020, arXiv:1907.00953, from the authors' slac.gin and model_distribution_network.py; figure 6 compares the
    # others with it.
    **{name: {**_SLAC, "dynamics": name} for name in ("slac", "slac_filtering", "slac_vae", "slac_nontemporal", "rssm_mixed")},
    # The model of Dreamer, Hafner et al. 2020, arXiv:1912.01603, from the authors' dreamer.py: its learning rate and epsilon
    # are torch's Adam's here. Its actor and critic learn in dreams, ours from the replay buffer or the rollouts.
    "rssm": {**_DREAMER, "dynamics": "rssm", "auxiliary_optimizer_kwargs": {"lr": 6e-4, "fused": True}},
    # That of DreamerV2, Hafner et al. 2021, arXiv:2010.02193, from the authors' configs.yaml.
    "rssm_discrete": {**_DREAMER, "dynamics": "rssm_discrete", "auxiliary_optimizer_kwargs": {"lr": 3e-4, "fused": True}},
}
"""Settings of :class:`~sb3_latent.DynamicsExtractor` by preset."""

WINDOW_POLICY: dict[str, Any] = {"net_arch": [256, 256]}
"""Arguments of the policy beside the extractor's, for all of them: SLAC's actor and critic."""

_SLAC_SAC: dict[str, Any] = {
    "learning_rate": 3e-4,
    "buffer_size": 100_000,
    "learning_starts": 10_000,
    "batch_size": 256,
    "tau": 0.005,
    "gamma": 0.99,
    "train_freq": 1,
    "gradient_steps": 1,
    "target_update_interval": 1,
    "ent_coef": "auto",
}
"""SLAC's ``train_eval.py``; the entropy coefficient starts at 1. Models are pretrained by ``ModelPretrainCallback``."""

SAC_PRESETS |= dict.fromkeys(WINDOW_PRESETS, _SLAC_SAC)
