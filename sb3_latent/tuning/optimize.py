"""
Tune an SB3 agent and its representation with Optuna::

    study = optimize(PPO, "sb3_latent/TinyBall-v0", {
        "policy": "sb3_latent.LatentActorCriticPolicy",
        "policy_kwargs": {"preset": "vae"},
        "n_envs": 8,
        "n_timesteps": 50_000,
    }, n_trials=50, space=["latent_dim", "kappa", "beta", "learning_rate"], storage="study.log")
"""

import signal
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv

from sb3_latent.checks import whole_number
from sb3_latent.envs.making import make_env
from sb3_latent.registry import unknown
from sb3_latent.search import Dimension, SearchSpace
from sb3_latent.signals import hearing, interrupt
from sb3_latent.tuning.agents import OF_ENVIRONMENT, MakeModel, algorithm_kwargs, make_callbacks
from sb3_latent.tuning.algorithms import name_of
from sb3_latent.tuning.objectives import OBJECTIVES
from sb3_latent.tuning.report import write_report
from sb3_latent.tuning.samplers import N_STARTUP_TRIALS, make_pruner, make_sampler
from sb3_latent.tuning.spaces import merged, restricted, search_space
from sb3_latent.tuning.storage import open_storage
from sb3_latent.tuning.trials import draw, outcome_of, write_best
from sb3_latent.tuning.workers import run_trials

Objective = str | Callable[[BaseAlgorithm, VecEnv], float]


class PruningCallback(EvalCallback):
    """
    SB3's evaluation, which reports each mean return to a trial and stops training where the pruner says so.

    :param trial: of the agent in training.
    :param env: for evaluation.
    :param eval_freq: calls between two evaluations.
    :param n_eval_episodes: episodes of each.
    :param may_prune: whether to ask the pruner; Optuna has none for several objectives.
    """

    def __init__(self, trial: optuna.Trial, env: VecEnv, eval_freq: int, n_eval_episodes: int, may_prune: bool) -> None:
        super().__init__(env, n_eval_episodes=n_eval_episodes, eval_freq=eval_freq, verbose=0, warn=False)
        self.trial = trial
        self.may_prune = may_prune
        self.is_pruned = False
        self._n_evaluations = 0

    def _on_step(self) -> bool:
        goes_on = super()._on_step()
        if self.n_calls % self.eval_freq == 0 and self.may_prune:
            self._n_evaluations += 1
            self.trial.report(float(self.last_mean_reward), self._n_evaluations)
            self.is_pruned = self.trial.should_prune()
        return goes_on and not self.is_pruned


def optimize(
    make_model: MakeModel,
    env_id: str,
    hyperparams: Mapping[str, Any],
    n_trials: int = 100,
    *,
    space: SearchSpace | Collection[str] | None = None,
    objectives: Sequence[Objective] = ("return",),
    sampler: str = "tpe",
    pruner: str = "hyperband",
    n_startup_trials: int = N_STARTUP_TRIALS,
    n_evaluations: int = 4,
    n_eval_episodes: int = 5,
    storage: str | None = None,
    study_name: str | None = None,
    folder: str | Path = "runs/tuning",
    seed: int = 0,
    progress_bar: bool = False,
) -> optuna.Study:
    """
    Search the hyperparameters of an agent, those of its representation included.

    Every trial is the agent of ``hyperparams`` with some values replaced, trained with a seed of its own. A trial that
    diverges (a loss that is not finite) is pruned; any other error ends the study. Run it again, or on another machine with
    the same ``storage``, and it goes on. Tables, plots and ``best.yml`` are in ``folder`` whenever it ends.

    :param make_model: an SB3 algorithm, or a function that takes its arguments and returns a model.
    :param env_id: registered with gymnasium.
    :param hyperparams: as in rl-zoo's files, by plain names: arguments of the algorithm, ``n_envs``, ``n_timesteps``,
        ``env_wrapper``, ``frame_stack`` and so on.
    :param n_trials: of the whole study, pruned ones included.
    :param space: dimensions, or names of some of :func:`search_space`; None takes all of them.
    :param objectives: maximised, each ``"return"``, ``"elbo"``, ``"probe"`` or a function of model and environment.
        Several give a Pareto front and are not pruned, for Optuna cannot.
    :param sampler: ``"tpe"`` or ``"random"``.
    :param pruner: ``"hyperband"``, ``"halving"``, ``"median"`` or ``"none"``.
    :param n_startup_trials: trials drawn at random first.
    :param n_evaluations: of a trial while it trains, evenly spaced, for the pruner; one at the end gives its value.
    :param n_eval_episodes: of each.
    :param storage: URL of a database, or a journal file ``*.log`` on a shared disk; None keeps the study in memory.
    :param study_name: in the storage; None takes ``env_id``.
    :param folder: where the report goes.
    :param seed: of sampler, agents and environments. A trial's own follows from it and the trial's number.
    :param progress_bar: over trials.
    :return: the study.
    :raises ValueError: if a name or number is wrong, or a trial's agent cannot be built.
    :raises TypeError: if a value is of the wrong kind.
    """
    whole_number("n_trials", n_trials)
    task = TuningTask(make_model, env_id, hyperparams, objectives, n_evaluations, n_eval_episodes, seed)
    chosen = _chosen(task.search_space(), space)
    search = make_sampler(sampler, seed, n_startup_trials), make_pruner(pruner, n_evaluations, n_startup_trials)
    study = open_study(storage, study_name or env_id, [*map(_name_of, objectives)], *search)
    try:
        with hearing(interrupt, signal.SIGTERM):
            run_trials(study, lambda trial: task.run(trial, chosen), n_trials, progress_bar=progress_bar)
    finally:
        write_report(study, folder)
        write_best(study, Path(folder) / "best.yml", env_id, hyperparams)
    return study


def open_study(
    storage: str | None, name: str, objectives: Sequence[str], sampler: BaseSampler, pruner: BasePruner
) -> optuna.Study:
    """
    :param storage: see :func:`optimize`.
    :param name: of the study; one that is there is gone on with.
    :param objectives: their names, for plots.
    :param sampler: draws trials.
    :param pruner: stops them.
    :return: the study.
    :raises ValueError: if the storage is none, or the study there has another number of objectives.
    :raises OSError: if it cannot be reached.
    """
    study = optuna.create_study(
        storage=None if storage is None else open_storage(storage),
        study_name=name,
        load_if_exists=True,
        directions=["maximize"] * len(objectives),
        sampler=sampler,
        pruner=pruner,
    )
    if len(study.directions) != len(objectives):
        raise ValueError(
            f"study {name!r} has {len(study.directions)} objectives, not {len(objectives)}; give it another study_name."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names(list(objectives))
    return study


class TuningTask:
    """
    One trial after the other.

    :param make_model: see :func:`optimize`.
    :param env_id: likewise.
    :param hyperparams: likewise.
    :param objectives: likewise.
    :param n_evaluations: likewise.
    :param n_eval_episodes: likewise.
    :param seed: likewise.
    :raises ValueError: if a name or number is wrong.
    :raises TypeError: if the policy is no name.
    """

    def __init__(
        self,
        make_model: MakeModel,
        env_id: str,
        hyperparams: Mapping[str, Any],
        objectives: Sequence[Objective],
        n_evaluations: int,
        n_eval_episodes: int,
        seed: int,
    ) -> None:
        if not isinstance(hyperparams.get("policy"), str):
            raise TypeError(
                f"hyperparams['policy']={hyperparams.get('policy')!r} must be a name, which can be written to a file: "
                "'sb3_latent.LatentActorCriticPolicy', or another dotted path or alias of SB3."
            )
        if isinstance(objectives, str) or not objectives:
            raise TypeError(f"objectives={objectives!r} must be a list such as ['return'].")
        for objective in objectives:
            if not callable(objective) and objective not in ("return", *OBJECTIVES):
                raise ValueError(unknown("objective", objective, ("return", *OBJECTIVES)))
        self.make_model = make_model
        self.env_id = env_id
        self.hyperparams = hyperparams
        self.objectives = objectives
        self.n_evaluations = whole_number("n_evaluations", n_evaluations)
        self.n_eval_episodes = whole_number("n_eval_episodes", n_eval_episodes)
        self.n_timesteps = whole_number("hyperparams['n_timesteps']", hyperparams.get("n_timesteps"))
        self.n_envs = whole_number("hyperparams['n_envs']", hyperparams.get("n_envs", 1))
        self.seed = seed

    def search_space(self) -> dict[str, Dimension]:
        """
        Builds the agent as given, so that what is wrong with it is said before the first trial.

        :return: all dimensions of the agent.
        """
        env = make_env(self.env_id, self.hyperparams, self.n_envs, self.seed)
        try:
            model = self.make_model(env=env, seed=self.seed, **algorithm_kwargs(self.hyperparams))
            longest_rollout = self.n_timesteps // (2 * self.n_evaluations)
            return search_space(name_of(type(model)), self.hyperparams, model.observation_space, self.n_envs, longest_rollout)
        finally:
            env.close()

    def run(self, trial: optuna.Trial, space: SearchSpace) -> float | list[float]:
        """
        :param trial: draws the values.
        :param space: to draw from.
        :return: what each objective came to.
        :raises optuna.TrialPruned: if it is not worth going on, or a loss is not finite.
        """
        hyperparams = merged(self.hyperparams, draw(trial, space))
        seed = int(np.random.SeedSequence([self.seed, trial.number]).generate_state(1)[0]) // 2
        env = make_env(self.env_id, hyperparams, self.n_envs, seed)
        eval_env = make_env(self.env_id, hyperparams, 1, seed + self.n_envs, training=False)
        try:
            model = self.make_model(env=env, seed=seed, **algorithm_kwargs(hyperparams))
            return self._judged(trial, model, eval_env, make_callbacks(hyperparams))
        finally:
            env.close()
            eval_env.close()

    def _judged(
        self, trial: optuna.Trial, model: BaseAlgorithm, eval_env: VecEnv, callbacks: list[BaseCallback]
    ) -> float | list[float]:
        eval_freq = max(self.n_timesteps // self.n_evaluations // self.n_envs, 1)
        pruning = PruningCallback(trial, eval_env, eval_freq, self.n_eval_episodes, may_prune=len(self.objectives) == 1)
        try:
            model.learn(self.n_timesteps, callback=[*callbacks, pruning])
        except (FloatingPointError, RuntimeError, ValueError) as error:
            raise outcome_of(error) from error
        if pruning.is_pruned:
            raise optuna.TrialPruned
        values = [self._value(objective, pruning, model, eval_env) for objective in self.objectives]
        return values[0] if len(values) == 1 else values

    def _value(self, objective: Objective, pruning: PruningCallback, model: BaseAlgorithm, env: VecEnv) -> float:
        if objective == "return":
            # The callback's last evaluation came before the last updates.
            returns, _ = evaluate_policy(model, env, self.n_eval_episodes, warn=False)
            return float(np.mean(returns))
        measure = objective if callable(objective) else OBJECTIVES[objective]
        return float(measure(model, env))


def _chosen(found: SearchSpace, space: SearchSpace | Collection[str] | None) -> SearchSpace:
    if space is None:
        return found
    if isinstance(space, str) or not space:
        raise TypeError(f"space={space!r} must be a list of names or a dictionary of dimensions, with one of them or more.")
    if not isinstance(space, Mapping):
        return restricted(found, space)
    for name, dimension in space.items():
        if not isinstance(dimension, Dimension):
            raise TypeError(f"space[{name!r}]={dimension!r} must be a Float, Int, Choice or Layers of sb3_latent.search.")
        if name.partition(".")[0] in OF_ENVIRONMENT:
            raise ValueError(f"space[{name!r}] is no hyperparameter of the agent but of its environment or run; leave it out.")
    return space


def _name_of(objective: Objective) -> str:
    return objective if isinstance(objective, str) else getattr(objective, "__name__", type(objective).__name__)
