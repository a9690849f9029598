"""Blocks of a document that are made from results: ``<!-- name -->`` ... ``<!-- end -->``."""

from collections.abc import Mapping, Sequence


def with_blocks(text: str, blocks: Mapping[str, str], document: object) -> str:
    """
    :param text: of the document.
    :param blocks: name -> Markdown that shall stand there.
    :param document: its name, for errors.
    :return: the document with these blocks.
    :raises ValueError: if a block is missing, there twice, or has no end.
    """
    for name, content in blocks.items():
        begin, end = f"<!-- {name} -->\n", "<!-- end -->"
        before, *rests = text.split(begin)
        if len(rests) != 1 or end not in rests[0]:
            raise ValueError(f"{document} needs one block '{begin.strip()}' ... '{end}'.")
        text = f"{before}{begin}\n{content}\n\n{end}{rests[0].partition(end)[2]}"
    return text


def table(lines: Sequence[Sequence[str]]) -> str:
    """
    :param lines: cells, the heading first.
    :return: Markdown.
    """
    heading, *rows = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([heading, "|---" * len(lines[0]) + "|", *rows])
