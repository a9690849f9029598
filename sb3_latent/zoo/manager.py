"""rl_zoo3's experiment manager, taught to keep what a YAML file says while it tunes, to stop and to go on."""

import copy
import inspect
import os
import signal
from collections.abc import Callable, Collection, Mapping
from importlib.resources import files
from pathlib import Path
from pprint import pprint
from typing import Any

import numpy as np
import optuna
from rl_zoo3 import exp_manager
from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER
from rl_zoo3.utils import ALGOS
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv

from sb3_latent.callbacks import CrashSafeCheckpointCallback
from sb3_latent.envs.making import imported
from sb3_latent.resume import has_checkpoint, list_checkpoints, load_checkpoint, save_checkpoint, steps_of
from sb3_latent.signals import StopOnSignals, hearing, interrupt
from sb3_latent.tuning.algorithms import name_of
from sb3_latent.tuning.optimize import open_study
from sb3_latent.tuning.report import write_report
from sb3_latent.tuning.samplers import SAMPLERS, make_pruner, make_sampler
from sb3_latent.tuning.spaces import merged, restricted, search_space
from sb3_latent.tuning.storage import open_storage, shown
from sb3_latent.tuning.trials import draw, hyperparams_of, is_drawn, outcome_of, write_best
from sb3_latent.tuning.workers import run_trials
from sb3_latent.zoo.algorithms import ALGORITHMS
from sb3_latent.zoo.arguments import check_arguments
from sb3_latent.zoo.evaluations import continue_log
from sb3_latent.zoo.keywords import section_errors
from sb3_latent.zoo.sampling import kept, sampling_with
from sb3_latent.zoo.schema import check_config, message_of


class LatentExperimentManager(ExperimentManager):
    """
    Beyond what rl_zoo3 2.9.2 does: our names have our files; a study keeps the ``policy_kwargs`` of the file (rl_zoo3's issue
    431), ends at a wrong configuration instead of counting it as pruned, and is shared by workers that may crash;
    ``--trial-id 0`` is a trial; ``env_kwargs`` of the file reach the evaluation; Ctrl-C and SIGTERM save all that
    ``resume`` needs.

    :param args: as rl_zoo3's, one after the other.
    :param config: file of hyperparameters; None takes ours for our names, else rl_zoo3's.
    :param resume: go on with the newest run of this algorithm and environment.
    :param search: hyperparameters to tune; empty for all.
    :param kwargs: as rl_zoo3's.
    :raises FileNotFoundError: if there is nothing to go on with.
    :raises ValueError: if an argument is wrong, or two do not fit together.
    """

    def __init__(
        self, *args: Any, config: str | None = None, resume: bool = False, search: Collection[str] = (), **kwargs: Any
    ) -> None:
        bound = inspect.signature(ExperimentManager.__init__).bind(self, *args, **kwargs)
        check_arguments(bound.arguments, resume, search)
        algorithm = bound.arguments["algo"]
        # Files of rl_zoo3 are its own business.
        self._is_checked = config is not None or algorithm in ALGORITHMS
        if config is None and algorithm in ALGORITHMS:
            config = str(files("sb3_latent.zoo_configs") / f"{algorithm}.yml")
        kwargs["config"] = config
        super().__init__(*args, **kwargs)
        self.resume = resume
        self.search = search
        self.stopped_by: signal.Signals | None = None
        if resume:
            self._go_on()

    @property
    def checkpoints(self) -> Path:
        """:return: folder of what a stopped run goes on from."""
        return Path(self.save_path) / "checkpoints"

    def read_hyperparameters(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """
        :return: hyperparameters, and those to be saved.
        :raises ValueError: says line and key of each mistake in our or the user's file.
        """
        if self._is_checked and self.config.endswith((".yml", ".yaml")):
            problems = check_config(self.config, self.algo)
            if problems:
                raise ValueError("\n".join(map(str, problems)))
        trial_id, self.trial_id = self.trial_id, None
        try:
            hyperparams, saved = super().read_hyperparameters()
        except ValueError as error:
            raise ValueError(f"{error}; add an entry of that name, or give another file by --conf-file.") from error
        if trial_id is not None:
            hyperparams = self._of_trial(trial_id, hyperparams) | (self.custom_hyperparams or {})
            saved = {name: hyperparams[name] for name in sorted(hyperparams)}
            print(f"Hyperparameters of trial {trial_id}:")
            pprint(saved)
        if self.custom_hyperparams:
            for mistake in section_errors(ALGOS[self.algo], hyperparams):
                raise ValueError(f"-params: {'.'.join(map(str, mistake.absolute_path))}: {message_of(mistake)}")
        _evaluate(hyperparams, "policy_kwargs")
        self._file = copy.deepcopy(hyperparams)
        # rl_zoo3 does as much for a replay buffer.
        _evaluate(hyperparams, "rollout_buffer_kwargs")
        if isinstance(hyperparams.get("rollout_buffer_class"), str):
            hyperparams["rollout_buffer_class"] = imported(hyperparams["rollout_buffer_class"])
        if "env_kwargs" in hyperparams and self._eval_env_kwargs_args is None:
            self.eval_env_kwargs = hyperparams["env_kwargs"]
        return hyperparams, saved

    def create_log_folder(self) -> None:
        """Our agents log to TensorBoard files in the folder of the run, where ``sb3-latent report`` finds them."""
        super().create_log_folder()  # type: ignore[no-untyped-call]  # rl_zoo3 forgot its type
        if self.tensorboard_log is None and self.algo in ALGORITHMS and not self.optimize_hyperparameters:
            self.tensorboard_log = os.path.join(self.save_path, "tensorboard")

    def create_callbacks(self) -> None:
        """Those of rl_zoo3; with ``--save-freq`` a run can be resumed after any crash."""
        super().create_callbacks()  # type: ignore[no-untyped-call]  # rl_zoo3 forgot its type
        if self.save_freq > 0:
            # rl_zoo3 has divided it by the number of environments.
            self.callbacks.append(CrashSafeCheckpointCallback(self.checkpoints, self.save_freq * self.n_envs))
        log = Path(self.save_path) / "evaluations.npz"
        for callback in self.callbacks:
            if self.resume and isinstance(callback, EvalCallback) and log.exists():
                continue_log(callback, log, steps_of(list_checkpoints(self.checkpoints)[-1]))

    def learn(self, model: BaseAlgorithm) -> None:
        """
        :param model: trained up to ``n_timesteps``, those before a resumed run included.
        """
        if self.algo == "ars":
            super().learn(model)
            return
        stop = StopOnSignals()
        n_before = model.num_timesteps if self.resume else 0
        if n_before >= self.n_timesteps:
            raise ValueError(f"--resume: {self.save_path!r} is at step {n_before} of {self.n_timesteps}; give a larger -n.")
        # Of rl_zoo3: -1 is SB3's default, less is no log at all.
        log: dict[str, Any] = {} if self.log_interval == -1 else {"log_interval": max(self.log_interval, 0) or None}
        try:
            with hearing(stop.heard, signal.SIGINT, signal.SIGTERM):
                callbacks = [*self.callbacks, stop]
                # SB3 names the log after the class, and would go on with that of the last run of any PPO.
                name = f"{self.algo}_{Path(self.save_path).name}"
                model.learn(
                    self.n_timesteps - n_before, callbacks, tb_log_name=name, reset_num_timesteps=not self.resume, **log
                )
        finally:
            assert model.env is not None
            model.env.close()
        self.stopped_by = stop.received
        if stop.received is not None or has_checkpoint(self.checkpoints):
            self._save_all(model)

    def save_trained_model(self, model: BaseAlgorithm) -> None:
        """
        :param model: as rl_zoo3 saves it.
        :raises SystemExit: if a signal ended training before its time, with the status of that signal.
        """
        super().save_trained_model(model)
        if self.stopped_by is not None:
            raise SystemExit(128 + self.stopped_by)

    def objective(self, trial: optuna.Trial) -> float:
        """
        :param trial: draws the hyperparameters.
        :return: mean return of the last evaluation.
        :raises optuna.TrialPruned: if it is not worth going on, or a loss is not finite.
        """
        set_random_seed(int(np.random.SeedSequence([self.seed, trial.number]).generate_state(1)[0]))
        try:
            return super().objective(trial)
        except optuna.TrialPruned as pruned:
            if isinstance(pruned.__cause__, Exception):
                raise outcome_of(pruned.__cause__) from pruned.__cause__
            raise
        except (FloatingPointError, RuntimeError) as error:
            raise outcome_of(error) from error

    def hyperparameters_optimization(self) -> None:
        """
        :raises ValueError: if a name is unknown or the storage cannot be reached.
        :raises KeyboardInterrupt: if Ctrl-C or SIGTERM ended it.
        """
        study, total = self._study(), self.max_total_trials
        try:
            with hearing(interrupt, signal.SIGTERM), sampling_with(self.algo, self._sampler()):
                run_trials(
                    study,
                    self.objective,
                    self.n_trials if total is None else total,
                    per_worker=total is None,
                    progress_bar=self.show_progress,
                )
        except KeyboardInterrupt:
            print("Interrupted: the study is saved, and the same command goes on with it.")
            raise
        finally:
            self._report(study)

    def _load_pretrained_agent(self, hyperparams: dict[str, Any], env: VecEnv) -> BaseAlgorithm:
        if not self.resume:
            return super()._load_pretrained_agent(hyperparams, env)
        print(f"Going on with {self.save_path}")
        settings = {"tensorboard_log": self.tensorboard_log, "verbose": self.verbose, "device": self.device}
        return load_checkpoint(ALGOS[self.algo], self.checkpoints, env, **settings)

    def _go_on(self) -> None:
        runs = [path for path in Path(self.log_path).glob(f"{self.env_name}_[0-9]*") if has_checkpoint(path / "checkpoints")]
        if not runs:
            raise FileNotFoundError(
                f"--resume: no run of {self.env_name} in {self.log_path!r} holds a checkpoint; a run leaves one when Ctrl-C "
                "or SIGTERM stops it, and every so many steps with --save-freq. Drop --resume to begin a run."
            )
        run = max(runs, key=lambda path: list_checkpoints(path / "checkpoints")[-1].stat().st_mtime)
        self.save_path, self.params_path = str(run), str(run / self.env_name)
        self.continue_training = True
        # The monitor of the resumed run would overwrite that of the run before; SB3 reads both under these names.
        for file in run.glob("[0-9]*.monitor.csv"):
            n_earlier = len(list(run.glob(f"earlier_*_{file.name}")))
            file.rename(run / f"earlier_{n_earlier}_{file.name}")

    def _save_all(self, model: BaseAlgorithm) -> None:
        if not (self.checkpoints / f"checkpoint_{model.num_timesteps}").exists():
            save_checkpoint(model, self.checkpoints)
        if model.num_timesteps < self.n_timesteps:
            print(f"Stopped at step {model.num_timesteps} of {self.n_timesteps}; the same command with --resume goes on.")

    def _sampler(self) -> Callable[..., dict[str, Any]]:
        """In the place of rl_zoo3's, which does not know the file and thus drops what stands in it."""
        policy_kwargs = self._hyperparams.get("policy_kwargs") or {}
        stock = HYPERPARAMS_SAMPLER.get(self.algo)
        if stock is not None and "preset" not in policy_kwargs:
            if self.search:
                raise ValueError(f"--search {' '.join(self.search)} needs policy_kwargs with a preset of sb3_latent.")
            return lambda *args: kept(policy_kwargs, stock(*args))
        env = self.create_envs(1, no_log=True)
        env.close()
        longest_rollout = self.n_timesteps // (2 * self.n_evaluations)
        name = name_of(ALGOS[self.algo])
        space = search_space(name, self._hyperparams, env.observation_space, self.n_envs, longest_rollout)
        if self.search:
            space = restricted(space, self.search)

        def sampler(trial: optuna.Trial, *_: Any) -> dict[str, Any]:
            values = draw(trial, space)
            hyperparams = merged(self._hyperparams, values)
            return {name: hyperparams[name] for name in {path.partition(".")[0] for path in values}}

        return sampler

    def _place(self) -> tuple[str, str]:
        """Storage and name of the study."""
        path = self.storage or os.path.join(self.log_path, f"{self.env_name}_study.log")
        return path, self.study_name or f"{self.algo}-{self.env_name}"

    def _study(self) -> optuna.Study:
        path, name = self._place()
        print(f"Study {name!r}, in {shown(path)}")
        is_ours = self.sampler in SAMPLERS
        return open_study(
            path,
            name,
            ["return"],
            make_sampler(self.sampler, self.seed, self.n_startup_trials) if is_ours else self._create_sampler(self.sampler),
            make_pruner(self.pruner, self.n_evaluations, self.n_startup_trials),
        )

    def _of_trial(self, number: int, hyperparams: Mapping[str, Any]) -> dict[str, Any]:
        path, name = self._place()
        try:
            trials = optuna.load_study(study_name=name, storage=open_storage(path)).trials
        except KeyError:
            raise ValueError(f"--trial-id {number}: there is no study {name!r} in {shown(path)}.") from None
        if not 0 <= number < len(trials):
            raise ValueError(f"--trial-id {number}: study {name!r} has trials 0 to {len(trials) - 1}.")
        if is_drawn(trials[number]):
            return hyperparams_of(trials[number], hyperparams)
        given = hyperparams.get("policy_kwargs") or {}
        return {**hyperparams, **kept(given, HYPERPARAMS_CONVERTER[self.algo](trials[number].params))}

    def _report(self, study: optuna.Study) -> None:
        folder = Path(self.log_path) / f"{self.env_name}_study"
        written = write_report(study, folder, plots=not self.no_optim_plots)
        best = folder / "best.yml"
        if any(map(is_drawn, study.trials)) and write_best(study, best, self.env_name.gym_id, self._file):
            written.append(best)
        for path in written:
            print(f"wrote {path}")


def _evaluate(hyperparams: dict[str, Any], name: str) -> None:
    if isinstance(hyperparams.get(name), str):
        hyperparams[name] = eval(hyperparams[name], vars(exp_manager))
