"""A linear layer whose weights no cache of a processor holds."""

import torch as th
from torch import nn
from torch.nn import functional as F

_N_LARGE = 2**22


class LargeLinear(nn.Linear):
    """
    The same, but faster for the few rows of an acting agent: on a CPU, and if the layer has more than four million weights
    (the 23,104 x 512 of seed document 000), each thread reads a share of them, once. torch's own product of 16 such rows takes
    half as long again with two threads; sums are in another order, so the last bits differ. Gradients go through torch's.
    """

    def forward(self, input: th.Tensor) -> th.Tensor:
        """
        :param input: (B, in_features).
        :return: (B, out_features).
        """
        is_acting_on_a_cpu = not th.is_grad_enabled() and input.device.type == "cpu"
        if is_acting_on_a_cpu and self.weight.numel() > _N_LARGE and self._is_divisible(len(input), th.get_num_threads()):
            return self._divided(input, th.get_num_threads())
        return F.linear(input, self.weight, self.bias)

    def _is_divisible(self, n_rows: int, n_threads: int) -> bool:
        """With more rows the product is bound by arithmetic, and torch divides it as well."""
        return n_threads > 1 and self.out_features % n_threads == 0 and n_rows <= self.out_features // n_threads

    def _divided(self, input: th.Tensor, n_parts: int) -> th.Tensor:
        weights = th.unflatten(self.weight, 0, (n_parts, -1))
        return th.bmm(input.expand(n_parts, *input.shape), weights.mT).transpose(0, 1).flatten(1) + self.bias
