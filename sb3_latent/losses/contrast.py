"""Losses that tell the rows of a batch apart."""

import torch as th
from torch.nn import functional as F


def info_nce(logits: th.Tensor) -> th.Tensor:
    """
    InfoNCE (van den Oord et al. 2018, arXiv:1807.03748): cross entropy of picking, among the positives of the whole batch,
    that of the row itself, in nats. The row's largest logit is subtracted inside, as CURL's ``compute_logits`` does.

    :param logits: (B, B), similarity of anchor i (row) and positive j (column).
    :return: (B,); log(B) where all are alike.
    :raises ValueError: if they are no square.
    """
    if logits.dim() != 2 or logits.shape[0] != logits.shape[1]:
        raise ValueError(f"logits {tuple(logits.shape)} must have shape (B, B), anchors times positives.")
    return -F.log_softmax(logits, dim=1).diagonal()
