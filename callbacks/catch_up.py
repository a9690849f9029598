"""As many updates as random steps, before the first step of the policy."""

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from tqdm.auto import tqdm

from sb3_latent.checks import whole_number

_SLICE = 10
"""Gradient steps between two movements of the progress bar."""


class CatchUpCallback(BaseCallback):
    """
    Makes up for the updates that the random steps at the start did without, all at once, as SAC+AE and its successors do:
    1000 random steps, then 1000 updates, then one a step (``train.py`` of the authors of arXiv:1910.01741, ``init_steps``).
    Stock SB3 begins with the first update instead.

    The updates come at the end of the rollout that reaches ``learning_starts``, before the policy chooses its first action
    (the authors choose one before); once for a model, whose own count of updates says whether it has had them, after ``load``
    as well. They keep the cadences of all others; in the authors' code, actor and targets step in each of the 1000.

    Put it behind :class:`~sb3_latent.callbacks.EncoderScheduleCallback`, so that it trains what the schedule says.

    :param n_updates: gradient steps, of ``batch_size`` of the algorithm; None takes ``learning_starts``.
    :param progress_bar: show one.
    :param verbose: SB3's verbosity.
    :raises ValueError: if ``n_updates`` is no positive integer.
    """

    def __init__(self, n_updates: int | None = None, progress_bar: bool = True, verbose: int = 0) -> None:
        super().__init__(verbose)
        self.n_updates = None if n_updates is None else whole_number("n_updates", n_updates)
        self.progress_bar = progress_bar

    def _init_callback(self) -> None:
        """
        :raises TypeError: if the algorithm has no replay buffer.
        :raises ValueError: if it learns from the first step on and ``n_updates`` is None.
        """
        name = type(self.model).__name__
        if not isinstance(self.model, OffPolicyAlgorithm):
            raise TypeError(
                f"CatchUpCallback is for algorithms with a replay buffer (SAC, TQC, TD3, DQN, ...), not for {name}."
            )
        if self.n_updates is None and self.model.learning_starts < 1:
            raise ValueError(
                f"learning_starts={self.model.learning_starts} leaves nothing to catch up with; give {name} learning_starts, "
                "or CatchUpCallback n_updates."
            )

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        model = self.model
        assert isinstance(model, OffPolicyAlgorithm)
        # SB3 acts by its policy after `learning_starts` steps and updates it after one rollout more.
        if model._n_updates > 0 or self.num_timesteps < model.learning_starts:
            return
        n_updates = self.n_updates or model.learning_starts
        # SAC and TQC count target_update_interval anew in each call.
        interval = getattr(model, "target_update_interval", 1)
        slice_length = interval * -(-_SLICE // interval)
        with tqdm(total=n_updates, desc="catching up", unit="update", disable=not self.progress_bar) as bar:
            for start in range(0, n_updates, slice_length):
                n_steps = min(slice_length, n_updates - start)
                model.train(gradient_steps=n_steps, batch_size=model.batch_size)
                bar.update(n_steps)
