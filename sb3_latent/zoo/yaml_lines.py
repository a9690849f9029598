"""YAML that remembers the line on which everything is written."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

Key: TypeAlias = str | int
Path: TypeAlias = tuple[Key, ...]

_MERGE = "tag:yaml.org,2002:merge"


@dataclass
class Located:
    """
    A value and where it stands.

    :param value: as ``yaml.safe_load`` has it.
    :param line: of its key in a mapping, of itself in a list; counted from 1. What a merge key brings keeps the line on
        which it was written.
    :param parts: the values of a mapping by key, of a list by index.
    """

    value: Any
    line: int
    parts: dict[Key, "Located"] = field(default_factory=dict)

    def line_of(self, path: Path) -> int:
        """
        :param path: keys and indices from here.
        :return: the line of what they lead to, or of the last thing on the way that exists.
        """
        if not path or path[0] not in self.parts:
            return self.line
        return self.parts[path[0]].line_of(path[1:])


@dataclass(frozen=True)
class Fault:
    """
    Something that YAML does not allow, or allows and should not.

    :param line: counted from 1.
    :param path: of the key.
    :param message: one line.
    """

    line: int
    path: Path
    message: str


def read(text: str) -> tuple[Located, list[Fault]]:
    """
    :param text: a YAML document.
    :return: what it holds; what is wrong with it. If it is no YAML at all, it holds None.
    """
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        assert mark is not None
        message = f"no valid YAML, column {mark.column + 1}: {error.problem or error.context}."
        return Located(None, 1), [Fault(mark.line + 1, (), message)]
    except yaml.YAMLError as error:
        return Located(None, 1), [Fault(1, (), f"no valid YAML: {' '.join(str(error).split())}.")]
    if root is None:
        return Located(None, 1), []
    reader = _Reader(loader)
    return reader.locate(root, root.start_mark.line + 1, ()), reader.faults


class _Reader:
    """
    Turns PyYAML's nodes, which know their lines, into values.

    :param loader: knows what scalars mean.
    """

    def __init__(self, loader: yaml.SafeLoader) -> None:
        self.faults: list[Fault] = []
        self._loader = loader
        self._open: list[yaml.Node] = []

    def locate(self, node: yaml.Node, line: int, path: Path) -> Located:
        """
        :param node: of PyYAML.
        :param line: on which its key is written.
        :param path: of keys.
        :return: its value.
        """
        if node in self._open:
            self.faults.append(Fault(line, path, "an alias of something that holds it."))
            return Located(None, line)
        self._open.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                parts = self._mapping(node, path)
                return Located({key: part.value for key, part in parts.items()}, line, parts)
            if isinstance(node, yaml.SequenceNode):
                items: dict[Key, Located] = {
                    i: self.locate(item, item.start_mark.line + 1, (*path, i)) for i, item in enumerate(node.value)
                }
                return Located([item.value for item in items.values()], line, items)
            return Located(self._scalar(node, path), line)
        finally:
            self._open.pop()

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[Key, Located]:
        merged: dict[Key, Located] = {}
        written: dict[Key, Located] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _MERGE:
                if merged:
                    self._fault(key_node, (*path, "<<"), "written twice; merge several in one list: <<: [*first, *second].")
                for mapping in self._merged(value_node, path):
                    # The first of several wins.
                    merged = {**self._mapping(mapping, path), **merged}
                continue
            key = self._scalar(key_node, path) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                self._fault(key_node, path, f"the key {key!r} is no text." if key is not None else "a key that is no text.")
            elif key in written:
                self._fault(key_node, (*path, key), f"written twice; line {written[key].line} has it as well.")
            else:
                written[key] = self.locate(value_node, line, (*path, key))
        return {**merged, **written}

    def _merged(self, node: yaml.Node, path: Path) -> Iterator[yaml.MappingNode]:
        for mapping in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if isinstance(mapping, yaml.MappingNode):
                yield mapping
            else:
                self._fault(node, (*path, "<<"), "takes an alias of a mapping, such as *default.")

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        try:
            return self._loader.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            problem = error.problem if isinstance(error, yaml.MarkedYAMLError) else error
            self._fault(node, path, f"cannot be read: {problem}.")
            return None

    def _fault(self, node: yaml.Node, path: Path, message: str) -> None:
        self.faults.append(Fault(node.start_mark.line + 1, path, message))
