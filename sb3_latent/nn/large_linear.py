"""A linear layer whose weights no cache of a processor holds."""

import torch as th
from torch import nn
from torch.nn import functional as F

_N_LARGE = 2**22
_N_FEW = 16


class LargeLinear(nn.Linear):
    """
    The same, but faster for the few rows of an acting agent (``python -m benchmarks.acting``): on a CPU, if there are at most
    16 rows and more than four million weights (seed document 000's layer has 14 million), outputs are computed 16 at a time.
    Sums are in another order than torch's, so the last bits differ. Gradients go through torch's.
    """

    def forward(self, input: th.Tensor) -> th.Tensor:
        """
        :param input: (B, in_features).
        :return: (B, out_features).
        """
        is_acting = not th.is_grad_enabled() and not th.compiler.is_compiling()
        if is_acting and input.device.type == "cpu" and self._is_apt(len(input)):
            weights = th.unflatten(self.weight, 0, (-1, _N_FEW))
            return th.bmm(input.expand(len(weights), *input.shape), weights.mT).transpose(0, 1).flatten(1) + self.bias
        return F.linear(input, self.weight, self.bias)

    def _is_apt(self, n_rows: int) -> bool:
        return n_rows <= _N_FEW and self.weight.numel() > _N_LARGE and self.out_features % _N_FEW == 0
