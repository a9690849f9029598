"""Names for classes, so that YAML, Optuna and Python say the same thing."""

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

T = TypeVar("T")
C = TypeVar("C")


def unknown(kind: str, value: object, allowed: Iterable[str]) -> str:
    """
    One line for a wrong name: the value, the nearest match and everything that is allowed.

    :param kind: what was asked for, e.g. ``"trunk"``.
    :param value: what the caller wrote.
    :param allowed: the names that exist.
    :return: the message.
    """
    names = sorted(set(allowed))
    folded = {name.casefold(): name for name in names}
    nearest = difflib.get_close_matches(str(value).casefold(), folded, n=1, cutoff=0.5)
    hint = f"; did you mean {folded[nearest[0]]!r}?" if nearest else "."
    return f"unknown {kind} {value!r}{hint} Allowed: {', '.join(map(repr, names)) or 'none'}."


def defaults_of(cls: type) -> dict[str, Any]:
    """
    :param cls: any class.
    :return: the arguments of its constructor that have a default, with it.
    """
    parameters = inspect.signature(cls).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters if parameter.default is not parameter.empty}


class Registry(Generic[T]):
    """
    Classes of one kind by name. A dotted path to a class of the user's own works wherever a name does.

    :param kind: what is registered, for messages.
    :param base: the class that every entry extends.
    """

    def __init__(self, kind: str, base: type[Any]) -> None:
        self.kind = kind
        self.base = base
        self._classes: dict[str, type[T]] = {}

    def register(self, name: str) -> Callable[[type[C]], type[C]]:
        """
        Decorator that gives a class its name.

        :param name: the name used in Python, YAML and Optuna.
        :raises ValueError: if the name is taken.
        :raises TypeError: if the class does not extend the registry's base.
        """

        def add(cls: type[C]) -> type[C]:
            if name in self._classes:
                raise ValueError(f"{self.kind} {name!r} is already {self._classes[name].__qualname__}; choose another name.")
            self._classes[name] = self._checked(name, cls)
            return cls

        return add

    def names(self) -> list[str]:
        """:return: every registered name, sorted."""
        return sorted(self._classes)

    def get(self, name: str) -> type[T]:
        """
        :param name: a registered name or a dotted path such as ``"my_package.my_module.MyTrunk"``.
        :return: the class.
        :raises ValueError: if the name is unknown or the path leads nowhere.
        :raises TypeError: if the name is no string or the class is of another kind.
        """
        if not isinstance(name, str):
            raise TypeError(f"{self.kind} must be a name or a dotted path, not {name!r}; registered: {self.names()}.")
        if name in self._classes:
            return self._classes[name]
        if "." not in name:
            raise ValueError(unknown(self.kind, name, self._classes))
        return self._checked(name, self._imported(name))

    def make(self, name: str, *args: Any, kwargs: Mapping[str, Any]) -> T:
        """
        Build an instance.

        :param name: as for :meth:`get`.
        :param args: positional arguments of the class.
        :param kwargs: what the user wrote beside the name.
        :return: the instance.
        :raises ValueError: as for :meth:`get`.
        :raises TypeError: as for :meth:`get`, or if an argument is unknown.
        """
        cls = self.get(name)
        if not isinstance(kwargs, Mapping):
            raise TypeError(f"arguments of {self.kind} {name!r} must be a dictionary, not {kwargs!r}.")
        parameters = list(inspect.signature(cls).parameters.values())[len(args) :]
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            allowed = [parameter.name for parameter in parameters]
            for written in kwargs:
                if written not in allowed:
                    raise TypeError(unknown(f"argument of {self.kind} {name!r}:", written, allowed))
        return cls(*args, **kwargs)

    def _imported(self, path: str) -> object:
        module, _, attribute = path.rpartition(".")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"{self.kind} {path!r} cannot be imported ({error}); registered: {self.names()}.") from error

    def _checked(self, name: str, cls: object) -> type[T]:
        if not (isinstance(cls, type) and issubclass(cls, self.base)):
            raise TypeError(
                f"{self.kind} {name!r} is {cls!r}, which does not extend {self.base.__module__}.{self.base.__name__}."
            )
        return cls
