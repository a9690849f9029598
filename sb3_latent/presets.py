"""Presets: named combinations of settings, checked; the data is in ``recipes``."""

import copy
import inspect
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from sb3_latent.auxiliary import TASKS
from sb3_latent.dynamics import DYNAMICS, check_coefs
from sb3_latent.dynamics_extractor import DynamicsExtractor, check_window_settings
from sb3_latent.execution import SWITCHES, Execution
from sb3_latent.extractor import LatentExtractor
from sb3_latent.hook import check_gradient_mode, coefficient, fixed_kappa
from sb3_latent.nn import HEADS, INITIALIZATIONS, LIKELIHOODS, TRUNKS, ObservationEncoder
from sb3_latent.recipes import POLICY_PRESETS, PPO_PRESETS, PRESETS, SAC_PRESETS, WINDOW_POLICY, WINDOW_PRESETS
from sb3_latent.registry import unknown
from sb3_latent.sharing import Sharing
from sb3_latent.tasks import task_names
from sb3_latent.windows import check_reads

SETTINGS = [key for key in inspect.signature(LatentExtractor).parameters if key != "observation_space"]
"""Names of the settings of a preset."""

ENCODER_SETTINGS = [key for key in inspect.signature(ObservationEncoder).parameters if key != "space"]
"""Names of those settings that say what the encoder is."""

POLICY_SETTINGS = [*(field.name for field in fields(Sharing)), "optimizers", "init", "log_std_bounds"]
"""Names of settings that belong to ``LatentSACPolicy`` and its like."""

WINDOW_SETTINGS = [key for key in inspect.signature(DynamicsExtractor).parameters if key != "observation_space"]
"""Names of the settings of a preset for windows."""

WINDOW_POLICY_SETTINGS = ["actor_reads", "critic_reads", "model_batch_size", "n_model_updates"]
"""Names of settings that belong to ``SLACPolicy`` and its like."""

_BESIDE = " Arguments of the policy go beside it: {**latent_kwargs(...), name: value}."


def list_presets() -> list[str]:
    """:return: names for :func:`latent_kwargs`."""
    return sorted([*PRESETS, *WINDOW_PRESETS])


def list_dynamics() -> list[str]:
    """:return: names for ``dynamics``."""
    return DYNAMICS.names()


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
        if preset in WINDOW_PRESETS:
            raise ValueError(f"preset {preset!r} encodes windows, and has no LatentExtractor. Allowed: {sorted(PRESETS)}.")
        raise ValueError(unknown("preset", preset, list_presets()))
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
        ``per_frame``, ``kappa``, ``gradient_mode``, ``coefs``; for ``LatentSACPolicy`` and its like any setting of
        :class:`~sb3_latent.sharing.Sharing` as well, ``optimizers`` (merged into the preset's by part), ``init`` and
        ``log_std_bounds``. For presets of windows any argument of :class:`DynamicsExtractor` and, for ``SLACPolicy``,
        ``actor_reads``, ``critic_reads``, ``model_batch_size`` and ``n_model_updates``.
    :return: a plain dict; add arguments of the policy to it, e.g. ``{**latent_kwargs("vae"), "net_arch": [64, 64]}``.
    :raises ValueError: if a name or value is wrong; says which are allowed and which is nearest.
    :raises TypeError: if a key is unknown or a value of the wrong kind.
    """
    if isinstance(preset, str) and preset in WINDOW_PRESETS:
        return _window_kwargs(preset, overrides)
    of_policy = {name: overrides.pop(name) for name in list(overrides) if name in POLICY_SETTINGS}
    given = copy.deepcopy(POLICY_PRESETS.get(preset, {})) if isinstance(preset, str) else {}
    check_policy_settings({**given, **of_policy})
    if of_policy.get("optimizers"):
        of_policy["optimizers"] = {**(given.get("optimizers") or {}), **of_policy["optimizers"]}
    return {
        "features_extractor_class": LatentExtractor,
        "features_extractor_kwargs": extractor_settings(preset, **overrides),
        **given,
        **of_policy,
    }


def ppo_kwargs(preset: str) -> dict[str, Any]:
    """
    Arguments of PPO that go with a preset: ``PPO("CnnPolicy", env, policy_kwargs=latent_kwargs(p), **ppo_kwargs(p))``.
    For MaskablePPO replace ``rollout_buffer_class`` by ``MaskableFrameRolloutBuffer``; RecurrentPPO has its own, drop it.

    :param preset: ``"ppo_fixed"``, ``"ppo_adapt"`` or ``"ppo_vae"``.
    :return: a plain dict.
    :raises ValueError: if the preset has none.
    """
    if preset not in PPO_PRESETS:
        raise ValueError(unknown("PPO preset", preset, PPO_PRESETS))
    return dict(PPO_PRESETS[preset])


def sac_kwargs(preset: str) -> dict[str, Any]:
    """
    Arguments of SAC that go with a preset: ``SAC(LatentSACPolicy, env, policy_kwargs=latent_kwargs(p), **sac_kwargs(p))``, or
    ``SAC(SLACPolicy, windows, replay_buffer_class=SequenceReplayBuffer, policy_kwargs=latent_kwargs(p), **sac_kwargs(p))``.

    :param preset: ``"sac_ae"``, ``"sac_cnn"``, ``"sac_vae"``, ``"drq"``, ``"curl"``, ``"sac_state"`` or a variant of them;
        for ``SLACPolicy`` ``"slac"``, ``"rssm"`` and the like.
    :return: a plain dict.
    :raises ValueError: if the preset has none.
    """
    if preset not in SAC_PRESETS:
        raise ValueError(unknown("SAC preset", preset, SAC_PRESETS))
    return dict(SAC_PRESETS[preset])


def check_policy_settings(settings: Mapping[str, Any]) -> None:
    """
    :param settings: some of :data:`POLICY_SETTINGS`.
    :raises ValueError: if a value is wrong, or two do not fit together.
    :raises TypeError: if one is of the wrong kind.
    """
    names = {field.name for field in fields(Sharing)}
    Sharing(**{name: value for name, value in settings.items() if name in names})
    init, bounds, optimizers = (settings.get(name) for name in ("init", "log_std_bounds", "optimizers"))
    if not isinstance(optimizers, Mapping | None):
        raise TypeError(f"optimizers={optimizers!r} must be a dictionary such as {{'encoder': {{'lr': 1e-4}}}}.")
    if init is not None and (not isinstance(init, str) or init not in INITIALIZATIONS):
        raise ValueError(unknown("init", init, INITIALIZATIONS))
    match bounds:
        case None:
            pass
        case [int() | float() as low, int() | float() as high] if low < high:
            pass
        case _:
            raise ValueError(f"log_std_bounds={bounds!r} must be two numbers, the lower one first; SAC+AE has [-10, 2].")


def _window_kwargs(preset: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    for name in overrides:
        if name not in (*WINDOW_SETTINGS, *WINDOW_POLICY_SETTINGS):
            raise TypeError(unknown(f"setting of {preset!r}:", name, [*WINDOW_SETTINGS, *WINDOW_POLICY_SETTINGS]) + _BESIDE)
    settings = copy.deepcopy(WINDOW_PRESETS[preset])
    if overrides.get("loss", "gaussian") != settings.get("loss", "gaussian"):
        settings.pop("loss_kwargs", None)
    settings |= {name: value for name, value in overrides.items() if name in WINDOW_SETTINGS}
    if "gradient_mode" in overrides and overrides["gradient_mode"] == "joint":
        settings["auxiliary_optimizer_kwargs"] = overrides.get("auxiliary_optimizer_kwargs")
    DYNAMICS.get(settings["dynamics"])
    if settings.get("trunk") is not None:
        TRUNKS.get(settings["trunk"])
    LIKELIHOODS.get(settings.get("loss", "gaussian"))
    check_gradient_mode(settings["gradient_mode"])
    check_window_settings(settings["kappa"], settings.get("init"))
    check_coefs(settings.get("coefs") or {})
    for name in ("actor_reads", "critic_reads"):
        if name in overrides:
            check_reads(name, overrides[name])
    return {
        "features_extractor_class": DynamicsExtractor,
        "features_extractor_kwargs": settings,
        **copy.deepcopy(WINDOW_POLICY),
        **{name: value for name, value in overrides.items() if name in WINDOW_POLICY_SETTINGS},
    }


def _check_key(name: str) -> None:
    if name not in SETTINGS:
        raise TypeError(unknown("setting", name, [*SETTINGS, *POLICY_SETTINGS]) + _BESIDE)


def _check_names(settings: Mapping[str, Any]) -> None:
    """All that can be told before there is an observation space, so that a script fails at its first line."""
    if settings.get("trunk") is not None:
        TRUNKS.get(settings["trunk"])
    if "head" in settings:
        HEADS.get(settings["head"])
    check_gradient_mode(settings.get("gradient_mode", "joint"))
    fixed_kappa(settings.get("kappa", 1.0), 1.0)
    Execution(**{switch: settings[switch] for switch in SWITCHES if switch in settings})
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
