"""What of the true state the representation holds, while it learns."""

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecNormalize, unwrap_vec_normalize, unwrap_vec_wrapper

from sb3_latent.callbacks.base import ObservingCallback
from sb3_latent.checks import whole_number
from sb3_latent.evaluation import evaluating, own_actions
from sb3_latent.saved_agents import env_like
from sb3_latent.types import Observations

if TYPE_CHECKING:
    from sb3_latent.probes import Dataset, Labels, Report

_TABLE_WIDTH = 33
"""Characters of a name that SB3's table shows; where two become equal it fails."""


class ProbeCallback(ObservingCallback):
    """
    Asks by a linear probe how well the true state can be read off what the policy reads, on any model of SB3, and warns when
    the representation loses a variable that it held. Needs the extra ``inspect``.

    Random actions fill one dataset when training starts (:func:`~sb3_latent.probes.collect`), in an environment of its own;
    every look fits on it anew, the floors once. Training is the same with and without it. What the model holds at the start
    is not logged, but missed when it is lost.

    Logs ``probe/<variable>``, R^2 of numbers and F1 of categories on episodes that the probe has not seen, and
    ``probe/<variable>_floor``, the same of predicting the mean or the most frequent class. The latest
    :class:`~sb3_latent.probes.Report` is in ``report``, with the floors of fresh weights and of pixels through PCA.

    A look encodes ``n_steps`` observations and fits a ridge regression for each number, a logistic one for each category;
    the 256 classes of a byte of Atari's RAM cost seconds each.

    :param env: an environment of its own, wrapped as for training but for ``VecNormalize``, whose present statistics are
        taken from the model; or an id (see :func:`~sb3_latent.saved_agents.env_like`); None takes the id and the arguments of
        the training environment.
    :param labels: as for :func:`~sb3_latent.probes.collect`.
    :param every: environment steps between two looks, rounded up to the next update. Own choice.
    :param n_steps: observations in the dataset; None takes :data:`~sb3_latent.probes.dataset.N_STEPS`.
    :param patience: looks in a row that find a variable at its floor (:meth:`~sb3_latent.probes.Report.at_floor`) before the
        warning. Own choice.
    :param verbose: 1 prints the table of each look.
    :raises ImportError: if scikit-learn is missing.
    :raises ValueError: if a number is no positive integer.
    """

    def __init__(
        self,
        env: GymEnv | str | None = None,
        labels: "Labels" = "info",
        every: int = 50_000,
        n_steps: int | None = None,
        patience: int = 3,
        verbose: int = 0,
    ) -> None:
        # Not above: callbacks are imported without extras too.
        from sb3_latent.probes.dataset import N_STEPS

        super().__init__(every, 1, verbose)
        self.env = env
        self.labels = labels
        self.n_steps = whole_number("n_steps", N_STEPS if n_steps is None else n_steps)
        self.patience = whole_number("patience", patience)
        self.report: Report | None = None
        self._dataset: Dataset | None = None
        self._held: set[str] = set()
        self._n_lost: dict[str, int] = {}

    def _init_callback(self) -> None:
        """
        :raises ValueError: if the environment is unknown, does not fit the model or is the one that it trains in, or the
            labels cannot be read there, or do not vary.
        """
        if self._dataset is None:
            self._dataset = self._collected()
        # Now, so that labels that cannot be probed are told before training, and that what training loses is known.
        self.report = None
        self.report = self._probed(self._dataset)
        self._held, self._n_lost = set(), {}
        self._warn_of_losses(self.report)

    def _observations(self) -> Observations:
        """It has its own."""
        return {}

    def _look(self, observations: Observations) -> None:
        assert self._dataset is not None
        self.report = self._probed(self._dataset)
        self._log(self.report)
        self._warn_of_losses(self.report)
        if self.verbose >= 1:
            print(self.report.table())

    def _collected(self) -> "Dataset":
        from sb3_latent.probes import collect

        with evaluating(None, seed=0), own_actions(self.model, seed=0):
            env = self._own_env()
            dataset = collect(None, env, self.labels, self.n_steps)
        if self.env is None or isinstance(self.env, str):
            env.close()
        return dataset

    def _probed(self, dataset: "Dataset") -> "Report":
        from sb3_latent.probes import probe_dataset

        normalize = self.model.get_vec_normalize_env()
        if normalize is None or not normalize.norm_obs:
            return probe_dataset(self.model, dataset, ["linear"], floors=self.report)
        # Its statistics move, and with them the floors.
        seen: Any = normalize.normalize_obs(dataset.observations)
        return probe_dataset(self.model, replace(dataset, observations=seen), ["linear"])

    def _log(self, report: "Report") -> None:
        for variable in report.variables:
            found = {"": report.score(variable), "_floor": report.score(variable, source="constant")}
            is_long = len(f"{variable}_floor") > _TABLE_WIDTH
            for suffix, score in found.items():
                self.logger.record(f"probe/{variable}{suffix}", score.value, exclude=("stdout", "log") if is_long else None)

    def _warn_of_losses(self, report: "Report") -> None:
        at_floor = report.at_floor()
        for variable in report.variables:
            if variable not in at_floor:
                self._held.add(variable)
                self._n_lost[variable] = 0
            elif variable in self._held:
                self._n_lost[variable] += 1
                if self._n_lost[variable] == self.patience:
                    score, floor = report.score(variable), report.score(variable, source="constant")
                    warnings.warn(
                        f"the representation has lost {variable!r} at step {self.num_timesteps}: {score.metric} "
                        f"{score.value:.2f} of a linear probe, {floor.value:.2f} by chance, {self.patience} times in a row. "
                        "Raise kappa, or lower the coefficients of the tasks, so that RL says more about the encoder.",
                        UserWarning,
                        stacklevel=2,
                    )

    def _own_env(self) -> VecEnv:
        from sb3_latent.probes.dataset import check_env_for

        if self.env is None or isinstance(self.env, str):
            env = self._made(self.env)
        else:
            env = BaseAlgorithm._wrap_env(self.env, verbose=0, monitor_wrapper=False)
        if unwrap_vec_normalize(env) is not None:
            raise ValueError("ProbeCallback(env): normalises with the present statistics of the model; drop VecNormalize.")
        normalize = self.model.get_vec_normalize_env()
        seen = env
        if normalize is not None and normalize.norm_obs and _is_stacked(self.training_env) and not _is_stacked(normalize):
            raise ValueError(
                "ProbeCallback: the training environment stacks observations after VecNormalize, which has no statistics of "
                "stacks; stack first: VecNormalize(VecFrameStack(env, n))."
            )
        if normalize is not None:
            seen = VecNormalize(
                env, norm_obs=normalize.norm_obs, clip_obs=normalize.clip_obs, norm_obs_keys=normalize.norm_obs_keys
            )
        check_env_for(self.model, seen)
        return env

    def _made(self, env_id: str | None) -> VecEnv:
        """Another one like the training environment."""
        from sb3_latent.probes.splits import MIN_EPISODES

        spec = self.training_env.get_attr("spec")[0]
        if env_id is None and spec is None:
            raise ValueError("ProbeCallback: the training environment has no id; pass env, another environment like it.")
        env_id = env_id or spec.id
        kwargs = dict(spec.kwargs) if spec is not None and spec.id == env_id else {}
        kwargs.pop("render_mode", None)
        # However long episodes are, there are enough of them.
        return env_like(self.model, env_id, MIN_EPISODES, env_kwargs=kwargs)


def _is_stacked(env: VecEnv) -> bool:
    return unwrap_vec_wrapper(env, VecFrameStack) is not None
