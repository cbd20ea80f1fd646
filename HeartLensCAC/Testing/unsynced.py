"""What a disk may hold after the power failed: what was synced, and of the rest some."""

from __future__ import annotations

import builtins
import contextlib
import os
import random
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Node:
    """A file or folder, whatever its names are."""

    is_folder: bool
    entries: dict[str, Node] = field(default_factory=dict)


@dataclass
class Moment:
    """One thing that happened, and what every file held then."""

    kind: str
    node: Node | None
    changes: tuple[tuple[Node, str, Node | None], ...]
    contents: dict[int, bytes]


class History:
    """What was done to a folder, and so what a disk may hold after a power failure at any moment of it.

    A file holds for certain what it held when it was last synced; a folder has for certain the names that it had when
    it, the folder, was last synced. Anything since may be there or not, in any combination, a write also in parts.

    Parameters
    ----------
    root
        A folder that is wholly on the disk now.
    """

    def __init__(self, root: Path) -> None:
        self.root = os.path.realpath(root)
        self.moments: list[Moment] = []
        self._read = builtins.open
        self._nodes: dict[int, Node] = {}
        self._live = self._node_of(self.root)
        self._first_entries = {key: dict(node.entries) for key, node in self._nodes.items()}
        self._first_contents = self._contents()
        self._busy = False

    def _node_of(self, path: str) -> Node:
        node = Node(os.path.isdir(path))
        self._nodes[id(node)] = node
        if node.is_folder:
            for name in sorted(os.listdir(path)):
                node.entries[name] = self._node_of(os.path.join(path, name))
        return node

    def _find(self, path: str) -> tuple[Node, str]:
        """Folder and name."""
        folder, relative = self._live, os.path.relpath(path, self.root)
        *parents, name = relative.split(os.sep)
        for parent in parents:
            folder = folder.entries[parent]
        return folder, name

    def note(self, kind: str, path: str, target: str | None = None) -> None:
        """Keep what happened, as it happened."""
        if path == self.root:
            if kind == "sync":
                self.moments.append(Moment(kind, self._live, (), self._contents()))
            return
        folder, name = self._find(path)
        changes: list[tuple[Node, str, Node | None]] = []
        if kind in ("open", "make"):
            if name not in folder.entries:
                changes = [(folder, name, self._node_of(path))]
        elif kind == "remove":
            changes = [(folder, name, None)]
        elif kind in ("rename", "replace", "link"):
            assert target is not None
            other, new = self._find(target)
            changes = [(other, new, folder.entries[name])]
            changes += [(folder, name, None)] if kind != "link" else []
        for place, called, node in changes:
            if node is None:
                place.entries.pop(called, None)
            else:
                place.entries[called] = node
        node = folder.entries.get(name) if kind == "sync" else None
        self.moments.append(Moment(kind, node, tuple(changes), self._contents()))

    def acknowledge(self) -> int:
        """Say that a promise was given now; returns the moment."""
        self.moments.append(Moment("acknowledge", None, (), self._contents()))
        return len(self.moments)

    def _contents(self) -> dict[int, bytes]:
        found: dict[int, bytes] = {}

        def walk(node: Node, path: str) -> None:
            if node.is_folder:
                for name, child in node.entries.items():
                    walk(child, os.path.join(path, name))
            else:
                with contextlib.suppress(FileNotFoundError), self._read(path, "rb") as file:
                    found[id(node)] = file.read()

        walk(self._live, self.root)
        return found

    def after_power_failure(self, moment: int, chance: random.Random, into: Path, *, in_order: bool) -> None:
        """Build what the disk may hold, when the power fails after so many moments.

        Parameters
        ----------
        moment
            How many of `moments` had happened.
        chance
            What became of all that was not synced.
        into
            Folder to make.
        in_order
            Names change in the order that they were asked for, as on a file system with a journal; else in any.
        """
        entries = {key: dict(names) for key, names in self._first_entries.items()}
        certain = dict(self._first_contents)
        pending: list[tuple[tuple[Node, str, Node | None], ...]] = []
        last: dict[int, bytes] = dict(self._first_contents)

        def apply(changes: tuple[tuple[Node, str, Node | None], ...]) -> None:
            for folder, name, node in changes:
                names = entries.setdefault(id(folder), {})
                if node is None:
                    names.pop(name, None)
                else:
                    names[name] = node

        for past in self.moments[:moment]:
            last |= past.contents
            if past.changes:
                pending.append(past.changes)
            if past.kind != "sync" or past.node is None:
                continue
            if past.node.is_folder:
                forced = [n for n, change in enumerate(pending) if any(f is past.node for f, _, _ in change)]
                if in_order and forced:  # a journal writes what came before, too
                    forced = list(range(forced[-1] + 1))
                for n in forced:
                    apply(pending[n])
                pending = [change for n, change in enumerate(pending) if n not in set(forced)]
            elif id(past.node) in past.contents:
                certain[id(past.node)] = past.contents[id(past.node)]
        if in_order:
            kept = pending[: chance.randint(0, len(pending))]
        else:
            kept = [change for change in pending if chance.random() < 0.5]
        for change in kept:
            apply(change)

        def build(node: Node, path: Path) -> None:
            if node.is_folder:
                path.mkdir()
                for name, child in entries.get(id(node), {}).items():
                    build(child, path / name)
            else:
                path.write_bytes(_perhaps(certain.get(id(node), b""), last.get(id(node), b""), chance))

        build(self._live, into)


def _perhaps(synced: bytes, latest: bytes, chance: random.Random) -> bytes:
    """What a file may hold that held one thing when it was synced, and another when the power failed."""
    if synced == latest:
        return synced
    way = chance.randrange(4)
    if way == 0:
        return synced
    if way == 1:
        return latest
    same = next((n for n, (one, other) in enumerate(zip(synced, latest, strict=False)) if one != other), len(synced))
    same = min(same, len(latest))
    torn = latest[: chance.randint(same, len(latest))]
    return torn if way == 2 else torn + bytes(len(latest) - len(torn))
