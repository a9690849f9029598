"""Checks that many arguments share."""

import numpy as np


def whole_number(name: str, value: object, minimum: int = 1) -> int:
    """
    :param name: of the argument, for the message.
    :param value: Python's or numpy's integer, as Optuna and arrays hand them out.
    :param minimum: the smallest allowed.
    :return: the value as Python's integer.
    :raises ValueError: if it is no integer or too small.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < minimum:
        raise ValueError(f"{name}={value!r} must be an integer of at least {minimum}.")
    return int(value)


def in_one_line(value: object, width: int = 160) -> str:
    """
    :param value: e.g. a Box, whose bounds numpy breaks into lines.
    :param width: characters at most.
    :return: it, for a message; what does not fit is left out of its middle.
    """
    text = " ".join(str(value).split())
    half = width // 2 - 3
    return text if len(text) <= width else f"{text[:half]} ... {text[-half:]}"
