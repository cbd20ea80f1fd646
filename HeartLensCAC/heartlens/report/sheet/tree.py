"""The elements of report.html and of its pictures, as a tree that can be walked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

_EMPTY = frozenset({"meta", "br", "hr", "img", "link", "!doctype"})


@dataclass
class Element:
    """One element.

    Parameters
    ----------
    tag
        Lower case.
    attributes
        Names as HTML parses them, in lower case.
    children
        Elements and texts in their order.
    """

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Element | str] = field(default_factory=list)

    @property
    def classes(self) -> frozenset[str]:
        """Its classes."""
        return frozenset(self.attributes.get("class", "").split())

    @property
    def elements(self) -> list[Element]:
        """Its children without texts."""
        return [child for child in self.children if isinstance(child, Element)]

    def find(self, tag: str, name: str | None = None) -> Iterator[Element]:
        """Every element below of a tag, and of a class where one is named.

        Yields
        ------
        Element
            The outermost first.
        """
        for child in self.elements:
            if child.tag == tag and (name is None or name in child.classes):
                yield child
            yield from child.find(tag, name)

    def text(self) -> str:
        """All words below, white space made one space."""
        return " ".join("".join(self._texts()).split())

    def _texts(self) -> Iterator[str]:
        for child in self.children:
            if isinstance(child, str):
                yield child
            else:
                yield from child._texts()


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("document")
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = self._add(tag, attrs)
        if tag not in _EMPTY:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._add(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        for depth in range(len(self._open) - 1, 0, -1):
            if self._open[depth].tag == tag:
                del self._open[depth:]
                return

    def handle_data(self, data: str) -> None:
        self._open[-1].children.append(data)

    def _add(self, tag: str, attrs: list[tuple[str, str | None]]) -> Element:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self._open[-1].children.append(element)
        return element


def read_html(text: str) -> Element:
    """The tree of a page.

    Examples
    --------
    >>> page = read_html("<p>Agatston <b>53</b> to <b class='n'>150</b></p>")
    >>> page.text(), [found.text() for found in page.find("b", "n")]
    ('Agatston 53 to 150', ['150'])
    """
    reader = _Reader()
    reader.feed(text)
    reader.close()
    return reader.root
