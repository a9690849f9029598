"""Presets: named combinations of settings. A preset is data."""

import copy
import inspect
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from sb3_latent.auxiliary import TASKS
from sb3_latent.extractor import LatentExtractor
from sb3_latent.hook import check_gradient_mode, coefficient, fixed_kappa
from sb3_latent.nn import HEADS, LIKELIHOODS, TRUNKS
from sb3_latent.registry import unknown
from sb3_latent.sharing import Sharing
from sb3_latent.tasks import task_names

_VAE: dict[str, Any] = {"head": "gaussian", "tasks": {"recon": {}, "kl": {}}}
_PIXEL_SAC: dict[str, Any] = {"trunk": "dmc", "head": "layer_norm_tanh", "latent_dim": 50}
"""The encoder of SAC+AE, CURL and DrQ."""

_SAC_AE: dict[str, Any] = {**_PIXEL_SAC, "tasks": {"recon": {"bits": 5}, "latent_l2": {}}}

_SAC_VAE: dict[str, Any] = {
    **_PIXEL_SAC,
    "head": "gaussian",
    "tasks": {"recon": {"bits": 5}, "kl": {}},
    "beta": 1e-7,
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
    # loss and one for the autoencoder's. "sac_ae" has one, and weighs both gradients alike: docs/sac_ae.md.
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
}
_SHIFT: dict[str, Any] = {"augmentation": {"random_shift": {"pad": 4}}}
_SAC_VAE_POLICY: dict[str, Any] = {**_SAC_AE_POLICY, "actor_reads": "latent", "sample_latent": True}
_SEED_000_POLICY: dict[str, Any] = {"net_arch": [64, 64]}
"""Width of policy and value networks, tanh, in Tables 2 and 3 of seed document 000."""

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

SETTINGS = [key for key in inspect.signature(LatentExtractor).parameters if key != "observation_space"]
"""Names of the settings of a preset."""

POLICY_SETTINGS = [*(field.name for field in fields(Sharing)), "optimizers", "init", "log_std_bounds"]
"""Names of settings that belong to ``LatentSACPolicy`` and its like."""

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

PPO_PRESETS: dict[str, dict[str, Any]] = {name: _SEED_000_PPO for name in ("ppo_fixed", "ppo_adapt", "ppo_vae")}
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


def list_presets() -> list[str]:
    """:return: names for :func:`latent_kwargs`."""
    return sorted(PRESETS)


def list_trunks() -> list[str]:
    """:return: names for ``trunk``."""
    return TRUNKS.names()


def list_heads() -> list[str]:
    """:return: names for ``head``."""
    return HEADS.names()


def list_losses() -> list[str]:
    """:return: names for the ``loss`` of task ``"recon"``."""
    return LIKELIHOODS.names()


def list_tasks() -> list[str]:
    """:return: names for ``tasks``."""
    return TASKS.names()


def extractor_settings(preset: str, **overrides: Any) -> dict[str, Any]:
    """
    Arguments of :class:`LatentExtractor` for a preset.

    :param preset: a name from :func:`list_presets`.
    :param overrides: settings that replace those of the preset; ``coefs`` are merged into them.
    :return: the arguments; the caller may change them.
    :raises ValueError: if a name or value is wrong.
    :raises TypeError: if a key is unknown or a value of the wrong kind.
    """
    if not isinstance(preset, str):
        raise TypeError(f"preset must be a name, not {preset!r}. Allowed: {list_presets()}.")
    if preset not in PRESETS:
        raise ValueError(unknown("preset", preset, PRESETS))
    for name in overrides:
        _check_key(name)
    settings = copy.deepcopy(PRESETS[preset])
    given_coefs = settings.pop("coefs", {})
    settings.update(overrides)
    own_coefs = settings.get("coefs", {})
    if isinstance(own_coefs, Mapping):
        labels = task_names(settings.get("tasks") or {})
        coefs = {**{label: value for label, value in given_coefs.items() if label in labels}, **own_coefs}
        settings |= {"coefs": coefs} if coefs else {}
    _check_names(settings)
    if "beta" in overrides and "kl" in (settings.get("coefs") or {}):
        raise ValueError(f"beta={overrides['beta']} means nothing beside coefs['kl'], set by you or {preset!r}; set that one.")
    return settings


def latent_kwargs(preset: str, **overrides: Any) -> dict[str, Any]:
    """
    ``policy_kwargs`` for a stock SB3 algorithm: ``PPO("CnnPolicy", env, policy_kwargs=latent_kwargs("vae"))``.

    :param preset: a name from :func:`list_presets`.
    :param overrides: any argument of :class:`LatentExtractor`, such as ``latent_dim``, ``trunk``, ``head``,
        ``per_frame``, ``kappa``, ``gradient_mode``, ``coefs``.
    :return: a plain dict; add arguments of the policy to it, e.g. ``{**latent_kwargs("vae"), "net_arch": [64, 64]}``.
    :raises ValueError: if a name or value is wrong; says which are allowed and which is nearest.
    :raises TypeError: if a key is unknown or a value of the wrong kind.
    """
    of_policy = {name: overrides.pop(name) for name in list(overrides) if name in POLICY_SETTINGS}
    return {
        "features_extractor_class": LatentExtractor,
        "features_extractor_kwargs": extractor_settings(preset, **overrides),
        **copy.deepcopy(POLICY_PRESETS.get(preset, {})),
        **of_policy,
    }


def ppo_kwargs(preset: str) -> dict[str, Any]:
    """
    Arguments of PPO that go with a preset: ``PPO("CnnPolicy", env, policy_kwargs=latent_kwargs(p), **ppo_kwargs(p))``.

    :param preset: ``"ppo_fixed"``, ``"ppo_adapt"`` or ``"ppo_vae"``.
    :return: a plain dict.
    :raises ValueError: if the preset has none.
    """
    if preset not in PPO_PRESETS:
        raise ValueError(unknown("PPO preset", preset, PPO_PRESETS))
    return dict(PPO_PRESETS[preset])


def sac_kwargs(preset: str) -> dict[str, Any]:
    """
    Arguments of SAC that go with a preset: ``SAC(LatentSACPolicy, env, policy_kwargs=latent_kwargs(p), **sac_kwargs(p))``.

    :param preset: ``"sac_ae"``, ``"sac_cnn"``, ``"sac_vae"``, ``"drq"``, ``"curl"``, ``"sac_state"`` or a variant of them.
    :return: a plain dict.
    :raises ValueError: if the preset has none.
    """
    if preset not in SAC_PRESETS:
        raise ValueError(unknown("SAC preset", preset, SAC_PRESETS))
    return dict(SAC_PRESETS[preset])


def _check_key(name: str) -> None:
    if name not in SETTINGS:
        raise TypeError(
            unknown("setting", name, SETTINGS) + " Arguments of the policy go beside it: {**latent_kwargs(...), name: value}."
        )


def _check_names(settings: Mapping[str, Any]) -> None:
    """All that can be told before there is an observation space, so that a script fails at its first line."""
    if settings.get("trunk") is not None:
        TRUNKS.get(settings["trunk"])
    if "head" in settings:
        HEADS.get(settings["head"])
    check_gradient_mode(settings.get("gradient_mode", "joint"))
    fixed_kappa(settings.get("kappa", 1.0), 1.0)
    tasks = settings.get("tasks") or {}
    labels = task_names(tasks)
    for name in tasks:
        TASKS.get(name)
    coefs = settings.get("coefs") or {}
    if not isinstance(coefs, Mapping):
        raise TypeError(f"coefs must map losses to coefficients, e.g. {{'recon': 0.1}}, not {coefs!r}.")
    for label, value in coefs.items():
        if not isinstance(label, str) or label.partition("/")[0] not in labels:
            raise ValueError(unknown("coefficient", label, labels))
        coefficient(f"coefs[{label!r}]", value, 1.0)
