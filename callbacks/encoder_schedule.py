"""When the encoder learns and when it is frozen."""

from typing import cast

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit

from sb3_latent.checks import whole_number
from sb3_latent.models import get_hooked_extractors


class EncoderScheduleCallback(BaseCallback):
    """
    Freezes and unfreezes the encoder of a model, and every copy of it (actor, critic, target networks).

    The state is a function of the environment steps of the model, set right before each ``train()``; so a run that was saved
    and resumed (``reset_num_timesteps=False``) goes on as if it had never stopped. Before its first entry the schedule assumes
    the opposite: ``unfreeze_at`` alone starts frozen. While frozen, the tasks and their decoders rest as well.

    :param freeze_at: environment steps; the next update is the first without the encoder.
    :param unfreeze_at: environment steps; the next update is the first with the encoder.
    :param alternate: the encoder learns for this many updates (calls of ``train()``), rests for as many, and so on.
    :param verbose: 1 prints each change.
    :raises ValueError: if there is no schedule, or it contradicts itself.
    """

    def __init__(
        self,
        freeze_at: int | None = None,
        unfreeze_at: int | None = None,
        alternate: int | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(verbose)
        settings = {"freeze_at": freeze_at, "unfreeze_at": unfreeze_at, "alternate": alternate}
        given = {name: whole_number(name, value) for name, value in settings.items() if value is not None}
        if not given:
            raise ValueError("EncoderScheduleCallback has nothing to do; give freeze_at, unfreeze_at or alternate.")
        if alternate is not None and len(given) > 1:
            raise ValueError(f"alternate={alternate} already says when to freeze; drop freeze_at and unfreeze_at.")
        if freeze_at == unfreeze_at and freeze_at is not None:
            raise ValueError(f"freeze_at and unfreeze_at are both {freeze_at}; give different steps.")
        self.alternate = alternate
        self._events = sorted((step, name == "freeze_at") for name, step in given.items() if name != "alternate")

    def _init_callback(self) -> None:
        """
        :raises TypeError: if the model has no encoder.
        :raises ValueError: if ``alternate`` meets a ``train_freq`` in episodes.
        """
        get_hooked_extractors(self.model)
        if self.alternate is not None:
            self._n_updates()

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        frozen = self._is_frozen()
        changing = [extractor for extractor in get_hooked_extractors(self.model) if extractor.frozen != frozen]
        for extractor in changing:
            extractor.frozen = frozen
        if changing and self.verbose >= 1:
            print(f"Encoder {'frozen' if frozen else 'unfrozen'} at step {self.num_timesteps}")

    def _is_frozen(self) -> bool:
        if self.alternate is not None:
            return self._n_updates() // self.alternate % 2 == 1
        passed = [freezes for step, freezes in self._events if step <= self.num_timesteps]
        first_freezes = self._events[0][1]
        return passed[-1] if passed else not first_freezes

    def _n_updates(self) -> int:
        """
        How many calls of ``train()`` came before the next one. ``model._n_updates`` counts epochs (PPO) or gradient steps, and
        nothing else is saved with a model; but each call follows a rollout of the same length, once learning has started.
        """
        model = self.model
        if isinstance(model, OnPolicyAlgorithm):
            return max(0, self.num_timesteps // (model.n_steps * model.n_envs) - 1)
        assert isinstance(model, OffPolicyAlgorithm)
        # What the constructor takes as a number or a tuple is a TrainFreq afterwards.
        train_freq = cast(TrainFreq, model.train_freq)
        if train_freq.unit != TrainFrequencyUnit.STEP:
            raise ValueError(
                f"alternate={self.alternate} counts rollouts of one length; give train_freq in steps, not episodes."
            )
        length = train_freq.frequency * model.n_envs
        return max(0, self.num_timesteps // length - 1 - model.learning_starts // length)
