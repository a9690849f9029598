"""Does z hold the ball? Probes from latents to the true state, against floors."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np
from sklearn.decomposition import PCA  # type: ignore[import-untyped]  # scikit-learn has no types
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.type_aliases import GymEnv
from tqdm.auto import tqdm

from sb3_latent.probes.dataset import N_STEPS, Dataset, check_env_for, collect
from sb3_latent.probes.encoders import BATCH_SIZE, Array, Encoder, encode, n_rows, rows_of, with_fresh_weights
from sb3_latent.probes.fits import Probe, constant, predictions
from sb3_latent.probes.labels import Labels, is_category
from sb3_latent.probes.report import Report, Score, Source, source_probe
from sb3_latent.probes.scores import estimates
from sb3_latent.probes.splits import Split, split_by_episode, variables_of
from sb3_latent.registry import unknown

PCA_ROWS = 2000
"""Training rows that principal components are computed from; all of 10,000 stacks of Atari frames take 1 GB. Own choice."""

_FITTED_FLOORS: tuple[Source, ...] = ("random", "pca")
_NOTHING_FRESH = "no floor of fresh weights: the encoder is a function, or has parameters without reset_parameters()."


def probe(
    encoder: Encoder,
    env: GymEnv,
    labels: Labels = "info",
    n_steps: int = N_STEPS,
    *,
    actor: BaseAlgorithm | None = None,
    probes: Sequence[Probe] = ("linear", "mlp"),
    seed: int = 0,
) -> Report:
    """
    Collect observations and states (:func:`collect`) and probe the encoder on them (:func:`probe_dataset`)::

        print(probe(model, make_vec_env("sb3_latent/TinyBall-v0", 8), labels=["ball_x", "paddle_x"]).table())

    :param encoder: an SB3 model or policy, with or without an encoder of this package; a module that takes preprocessed
        observations; a function from raw observations to an array (B, n). It is left as it was.
    :param env: as for :func:`collect`.
    :param labels: as for :func:`collect`.
    :param n_steps: observations in all.
    :param actor: who plays; None for random actions, which make the scores of different encoders compare.
    :param probes: which.
    :param seed: of everything.
    :return: scores.
    :raises ValueError: as for :func:`collect` and :func:`probe_dataset`.
    :raises TypeError: if the encoder does not encode.
    """
    _check(probes)
    if isinstance(encoder, BaseAlgorithm):
        check_env_for(encoder, BaseAlgorithm._wrap_env(env, monitor_wrapper=False))
    return probe_dataset(encoder, collect(actor, env, labels, n_steps, seed=seed), probes, seed=seed)


def probe_dataset(
    encoder: Encoder,
    dataset: Dataset,
    probes: Sequence[Probe] = ("linear", "mlp"),
    *,
    seed: int = 0,
    floors: Report | None = None,
    progress_bar: bool = False,
) -> Report:
    """
    Predict each variable from latents, on episodes that the probe has never seen, and from three floors: the same architecture
    with fresh weights, as many principal components of the raw observations, and the mean or majority of the labels.

    The protocol is AtariARI's (Anand et al. 2019, arXiv:1906.08226): 70, 10 and 20 % of the episodes to train, validate and
    test, test observations that occur in the others left out, categories of less than 0.6 nats too. Deviations: scikit-learn
    instead of Adam on a linear layer, an MLP as well, numbers by regression.

    :param encoder: as for :func:`probe`.
    :param dataset: from :func:`collect`; the same one for encoders that are to be compared.
    :param probes: ``"linear"``: ridge or logistic regression; ``"mlp"``: one hidden layer of 64 units.
    :param seed: of the split, the fresh weights and the bootstrap.
    :param floors: an earlier report on the same dataset, with the same probes and seed, of an encoder of the same
        architecture: its floors of fresh weights and of principal components are taken over. Training does not move them.
    :param progress_bar: show one.
    :return: scores, in the order of the labels.
    :raises ValueError: if there are too few episodes, no variable varies, the encoder returns what is no latent, or ``floors``
        are those of other data or another architecture.
    :raises TypeError: if the encoder does not encode.
    """
    _check(probes)
    split = split_by_episode(dataset, seed)
    variables, skipped = variables_of(dataset, split)
    if not variables:
        raise ValueError(f"no variable is worth a probe: {'; '.join(f'{name} is {why}' for name, why in skipped.items())}.")
    latents = encode(encoder, dataset.observations, dataset.observation_space, seed)
    inputs: dict[Source, Array] = {"model": latents}
    if floors is None:
        inputs |= _floor_inputs(encoder, dataset, split, latents.shape[1], seed)
    bar = tqdm(variables, unit="variable", desc="probing", disable=not progress_bar)
    scores = [score for name in bar for score in _scores(name, dataset, split, inputs, probes, seed)]
    parts = split._asdict()
    n_duplicates = parts.pop("n_duplicates")
    report = Report(
        scores,
        skipped,
        [] if floors is not None or "random" in inputs else [_NOTHING_FRESH],
        {**{part: len(rows) for part, rows in parts.items()}, "duplicates": n_duplicates},
        {part: len(np.unique(dataset.episodes[rows])) for part, rows in parts.items()},
        latents.shape[1],
    )
    return report if floors is None else _on_floors(report, floors)


def _check(probes: Sequence[Any]) -> None:
    for name in probes:
        if name not in get_args(Probe):
            raise ValueError(unknown("probe", name, get_args(Probe)))
    if isinstance(probes, str) or not probes:
        raise ValueError(f"probes={probes!r} must be a sequence of names, such as ('linear', 'mlp').")


def _floor_inputs(encoder: Encoder, dataset: Dataset, split: Split, n: int, seed: int) -> dict[Source, Array]:
    inputs: dict[Source, Array] = {}
    fresh = with_fresh_weights(encoder, seed)
    if fresh is not None:
        inputs["random"] = encode(fresh, dataset.observations, dataset.observation_space, seed)
    inputs["pca"] = _principal_components(dataset, split, n, seed)
    return inputs


def _on_floors(report: Report, floors: Report) -> Report:
    """The constant is predicted anew each time, which costs nothing."""
    for what in ("variables", "n_rows", "n_episodes", "latent_dim"):
        if getattr(report, what) != getattr(floors, what):
            raise ValueError(
                f"floors: {what} are {getattr(floors, what)} there and {getattr(report, what)} here; take the report of the "
                "same dataset and architecture."
            )
    fitted = {score.probe for score in report.scores}
    taken = [score for score in floors.scores if score.source in _FITTED_FLOORS and score.probe in fitted]
    if not fitted <= {score.probe for score in floors.scores}:
        raise ValueError(f"floors: probes are {sorted(fitted)} here; take a report that has fitted all of them.")
    scores = sorted(report.scores + taken, key=lambda score: report.variables.index(score.variable))
    return replace(report, scores=scores, notes=floors.notes)


def _scores(
    name: str, dataset: Dataset, split: Split, inputs: dict[Source, Array], probes: Sequence[Probe], seed: int
) -> list[Score]:
    labels = dataset.labels[name]
    discrete = is_category(labels)
    train, validation, test = (labels[rows] for rows in split[:3])
    guesses: dict[tuple[Source, str], Array] = {
        (source, kind): predictions(
            kind, discrete, (x[split.train], train), (x[split.validation], validation), x[split.test], seed
        )
        for kind in probes
        for source, x in inputs.items()
    }
    guesses["constant", source_probe("constant", "")] = constant(discrete, train, len(test))
    return [
        Score(name, source, kind, metric, found.value, found.low, found.high)
        for (source, kind), predicted in guesses.items()
        for metric, found in estimates(test, predicted, dataset.episodes[split.test], discrete, seed).items()
    ]


def _principal_components(dataset: Dataset, split: Split, n: int, seed: int) -> Array:
    """(N, at most n), of the training rows."""
    some = split.train
    if len(some) > PCA_ROWS:
        some = np.sort(np.random.default_rng(seed).choice(some, PCA_ROWS, replace=False))
    pixels = _flat(dataset, some)
    fitted = PCA(min(n, *pixels.shape), svd_solver="randomized", random_state=seed).fit(pixels)
    # Below this a component is rounding error (numpy's matrix_rank), which standardisation would blow up.
    sizes = fitted.singular_values_
    kept = sizes > max(pixels.shape) * np.finfo(pixels.dtype).eps * sizes[0]
    starts = range(0, n_rows(dataset.observations), BATCH_SIZE)
    return np.concatenate([fitted.transform(_flat(dataset, slice(start, start + BATCH_SIZE)))[:, kept] for start in starts])


def _flat(dataset: Dataset, index: Any) -> Array:
    """(B, number of pixels), float32."""
    rows = rows_of(dataset.observations, index)
    parts = list(rows.values()) if isinstance(rows, dict) else [rows]
    return np.concatenate([part.reshape(len(part), -1) for part in parts], 1).astype(np.float32)
