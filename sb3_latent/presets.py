"""Presets: named combinations of settings. A preset is data."""

import copy
import inspect
from collections.abc import Mapping
from typing import Any

from sb3_latent.auxiliary import TASKS
from sb3_latent.extractor import LatentExtractor
from sb3_latent.hook import check_gradient_mode, coefficient, fixed_kappa
from sb3_latent.nn import HEADS, LIKELIHOODS, TRUNKS
from sb3_latent.registry import unknown
from sb3_latent.tasks import task_names

_VAE: dict[str, Any] = {"head": "gaussian", "tasks": {"recon": {}, "kl": {}}}
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
}
"""Settings of :class:`~sb3_latent.LatentExtractor` by preset."""

SETTINGS = [key for key in inspect.signature(LatentExtractor).parameters if key != "observation_space"]
"""Names of the settings of a preset."""

SEED_000_NET_ARCH = [64, 64]
"""Width of policy and value networks, tanh, in Tables 2 and 3 of seed document 000."""

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
    kwargs: dict[str, Any] = {
        "features_extractor_class": LatentExtractor,
        "features_extractor_kwargs": extractor_settings(preset, **overrides),
    }
    if preset in PPO_PRESETS:
        kwargs["net_arch"] = list(SEED_000_NET_ARCH)
    return kwargs


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
