"""What a look at a model may not change."""

import copy
import random

import numpy as np
import torch as th


def snapshot(model):
    """Everything that a look at a model may not change."""
    policy = model.policy
    modules = list(policy.modules())
    return {
        "state": copy.deepcopy(dict(policy.state_dict())),
        "grads": {key: None if one.grad is None else one.grad.clone() for key, one in policy.named_parameters()},
        "learns": [parameter.requires_grad for parameter in policy.parameters()],
        "training": [module.training for module in modules],
        "hooks": [
            len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks) for module in modules
        ],
        "attributes": [sorted(vars(module)) for module in modules],
        "torch": th.get_rng_state(),
        "numpy": np.random.get_state(),
        "python": random.getstate(),
    }


def assert_unchanged(model, before):
    after = snapshot(model)
    for name in before:
        assert_same(before[name], after[name], name)


def assert_same(old, new, name):
    assert type(old) is type(new), name
    if isinstance(old, th.Tensor | np.ndarray):
        assert (old == new).all(), name
    elif isinstance(old, dict):
        assert list(old) == list(new), name
        for key in old:
            assert_same(old[key], new[key], f"{name} of {key}")
    elif isinstance(old, list | tuple):
        assert len(old) == len(new), name
        for pair in zip(old, new, strict=True):
            assert_same(*pair, name)
    else:
        assert old == new, name
