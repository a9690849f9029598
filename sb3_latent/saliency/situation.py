"""What a model's answer depends on beside the observation."""

from dataclasses import dataclass
from typing import TypeAlias

import torch as th

LstmStates: TypeAlias = tuple[th.Tensor, th.Tensor]


@dataclass(frozen=True)
class Situation:
    """
    :param actions: (B,) or (B, action_dim), as the networks read them: continuous ones scaled to [-1, 1] where the policy
        squashes; None where no target reads them.
    :param lstm_states: hidden and cell state, each (n_layers, B, hidden_size); None without an LSTM.
    :param episode_starts: (B,), 1 where ``lstm_states`` count as zeros; None without an LSTM.
    :param action_masks: (B, n_actions), False where an action is not allowed; None allows all.
    """

    actions: th.Tensor | None = None
    lstm_states: LstmStates | None = None
    episode_starts: th.Tensor | None = None
    action_masks: th.Tensor | None = None

    def rows(self, rows: th.Tensor) -> "Situation":
        """
        :param rows: indices, each as often as a method repeats that row.
        :return: the situation of these rows.
        """

        def take(array: th.Tensor | None) -> th.Tensor | None:
            return None if array is None else array[rows]

        states = self.lstm_states and (self.lstm_states[0][:, rows], self.lstm_states[1][:, rows])
        return Situation(take(self.actions), states, take(self.episode_starts), take(self.action_masks))
