"""What hyperparameters are searched over, stated beside the class that has them and free of any tuning library."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

Scalar: TypeAlias = bool | int | float | str | None


class Trial(Protocol):
    """The part of ``optuna.Trial`` that draws."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Draw a number."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """Draw a whole number."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Draw one of several values."""


@dataclass(frozen=True)
class Float:
    """
    Numbers from ``low`` to ``high``.

    :param low: the least.
    :param high: the greatest.
    :param log: whether every power of ten is equally likely.
    """

    low: float
    high: float
    log: bool = False

    def suggest(self, trial: Trial, name: str) -> float:
        """
        :param trial: draws, and remembers.
        :param name: of the hyperparameter in the study.
        :return: the number drawn.
        """
        return trial.suggest_float(name, self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Int:
    """
    Whole numbers from ``low`` to ``high``, both included.

    :param low: the least.
    :param high: the greatest.
    :param log: whether every power of ten is equally likely.
    """

    low: int
    high: int
    log: bool = False

    def suggest(self, trial: Trial, name: str) -> int:
        """
        :param trial: draws, and remembers.
        :param name: of the hyperparameter in the study.
        :return: the number drawn.
        """
        return trial.suggest_int(name, self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Choice:
    """
    A few values, equally likely.

    :param values: numbers, names, truth values or None, which a database can hold.
    """

    values: tuple[Scalar, ...]

    def suggest(self, trial: Trial, name: str) -> Any:
        """
        :param trial: draws, and remembers.
        :param name: of the hyperparameter in the study.
        :return: the value drawn.
        """
        return trial.suggest_categorical(name, list(self.values))


@dataclass(frozen=True)
class Layers:
    """
    Widths of layers, equally likely. The study knows them as ``"64-64"``, for it cannot hold lists.

    :param widths: each a network, without layers where empty.
    """

    widths: tuple[tuple[int, ...], ...]

    def suggest(self, trial: Trial, name: str) -> list[int]:
        """
        :param trial: draws, and remembers.
        :param name: of the hyperparameter in the study.
        :return: the widths drawn.
        """
        names = {"-".join(map(str, widths)): list(widths) for widths in self.widths}
        return names[trial.suggest_categorical(name, list(names))]


Dimension: TypeAlias = Float | Int | Choice | Layers
SearchSpace: TypeAlias = Mapping[str, Dimension]


def around(value: float, factor: float = 30.0) -> Float:
    """
    :param value: positive.
    :param factor: more than 1.
    :return: from ``value / factor`` to ``value * factor``, every power of ten equally likely.
    """
    return Float(value / factor, value * factor, log=True)
