"""Every series below some places, folder by folder: of each only what choosing and finding it again needs is kept."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

from heartlens.app.failure import Failure, log_failure
from heartlens.case.folder import read_json
from heartlens.cohort.identity import pseudonym, without_identity
from heartlens.cohort.planning.sources import Given, Place
from heartlens.core.disk.packed import VOLUME_ENDINGS
from heartlens.core.disk.reading import file_sha256, irregular
from heartlens.core.errors import InputRefused
from heartlens.dicom.acquisition import acquisition_day
from heartlens.dicom.header import MEDIA_DIRECTORY, Instance, pydicom_warnings_logged
from heartlens.dicom.read import header_verdict
from heartlens.dicom.series import DICOM_SUFFIXES, RankedSeries, rank_series
from heartlens.dicom.stacks.joined import joined
from heartlens.dicom.stacks.patient import patient_identity
from heartlens.dicom.stacks.series import Series
from heartlens.dicom.stacks.split import stacks_of
from heartlens.io.volumes import check_beginning

logger = logging.getLogger("heartlens.cohort")

RESULTS = ("case.json", "report.json", "cohort.json", "progress.json", "compare.json", "labels.json")
"""Files of HeartLens' own folders, where their schema says so; what lies there is output and no scan."""

OWN_SCHEMA = "heartlens."
"""How the schemas of those files begin."""

PASSED_OVER = {
    "volumes": "volume files were passed over: name them in a CSV list",
    "others": "files that are no DICOM were passed over",
    "results": "folders of HeartLens' own results were passed over",
    "hidden": "hidden folders were passed over: name them to have them searched",
}
"""What no series is made of, in words."""


@dataclass(frozen=True, eq=False)
class Found:
    """A series, or a volume file, or a place with nothing to score.

    Parameters
    ----------
    key
        Of the series, see `key_of`.
    folder
        Where its files lie.
    names
        Of the files, below the folder.
    size
        Of the files together, bytes.
    given
        What the user says of it.
    ranked
        How well it suits, without headers; None for a volume file and where nothing can be scored.
    images
        Digest of each SOP Instance UID, sorted.
    patient
        Mark of whose it is; means nothing outside this process.
    patient_key
        Pseudonym; None without a key.
    day
        Of the acquisition.
    code, text
        Why it cannot be scored, as far as headers tell; "" where nothing speaks against it.
    problem
        A file of its folder that cannot be read, and may be one of its slices.
    """

    key: str
    folder: Path
    names: tuple[str, ...]
    size: int
    given: Given
    ranked: RankedSeries | None = None
    images: tuple[bytes, ...] = field(default=(), repr=False)
    patient: str = ""
    patient_key: str | None = None
    day: date | None = None
    code: str = ""
    text: str = ""
    problem: InputRefused | None = field(default=None, repr=False)


def key_of(images: Iterable[tuple[str, int]], stack: int | None = None) -> str:
    """The key of a series: a checksum of the UIDs and sizes of its files, wherever they lie.

    Parameters
    ----------
    images
        (SOP Instance UID, bytes) of each file.
    stack
        Of the series, where it has several.

    Examples
    --------
    >>> key_of([("1.2", 10), ("1.3", 10)]) == key_of([("1.3", 10), ("1.2", 10)]) != key_of([("1.2", 10), ("1.3", 9)])
    True
    """
    return hashlib.sha256(json.dumps([stack or 0, *sorted(images)]).encode()).hexdigest()[:32]


class Finder:
    """Looks through places.

    Parameters
    ----------
    allow
        Refusals that the user lifts.
    key
        Of the pseudonyms.
    on_progress
        Hears after each place and folder how many series there are.

    Attributes
    ----------
    passed_over
        What no series was made of, by its kind: see `PASSED_OVER`.
    """

    def __init__(
        self, *, allow: frozenset[str] = frozenset(), key: bytes | None = None,
        on_progress: Callable[[int], None] = lambda count: None,
    ) -> None:  # fmt: skip
        self._allow, self._key, self._on_progress = allow, key, on_progress
        self._seen: set[tuple[int, int]] = set()
        self._count = 0
        self.passed_over: Counter[str] = Counter()

    def find(self, sources: Sequence[Place]) -> list[Found]:
        """Every series of the places, in the order of their paths; a folder that several places hold is read once.

        Parameters
        ----------
        sources
            Where to look.
        """
        found: list[Found] = []
        for source in sources:
            here = list(self._at(source))
            if source.given.series:
                here = [one for one in here if one.ranked is None or _is_meant(one, source.given.series)]
                here = here or [_nothing(source, "input", "the path holds no series with this UID; check the list")]
            found += _merged(here, self._read_again)
        return found

    def _at(self, source: Place) -> Iterator[Found]:
        path = source.path
        if path.is_file() and path.name.lower().endswith(VOLUME_ENDINGS):
            yield _volume(source)
            return
        if path.is_file() and path.name.upper() != "DICOMDIR":
            yield from self._folder(path.parent, [path.name], source, is_named=True)
            return
        path = path.parent if path.is_file() else path
        if not path.is_dir():
            yield _nothing(source, "input", "there is no such file or folder; check the list")
            return
        is_listed = source.given != Given()  # then its folder may be in several lines, each of which means a series
        is_empty = True
        for one in self._below(path, source, set() if is_listed else self._seen):
            is_empty = False
            yield one
        if is_listed and is_empty:
            yield _nothing(source, "input", "the folder holds no DICOM file; check the list")

    def _below(self, path: Path, source: Place, seen: set[tuple[int, int]]) -> Iterator[Found]:
        """The series of a folder and its subfolders; a folder that cannot be read is one of them that is refused."""
        errors: list[OSError] = []
        for place, folders, names in os.walk(path, onerror=errors.append, followlinks=True):
            try:
                known = os.stat(place)
            except OSError as error:
                errors.append(error)
                continue
            if (known.st_dev, known.st_ino) in seen:
                folders[:] = []
                continue
            seen.add((known.st_dev, known.st_ino))
            if _is_own(Path(place), names):
                self.passed_over["results"] += 1
                folders[:] = []
                continue
            self.passed_over["hidden"] += sum(name.startswith(".") for name in folders)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for one in self._folder(Path(place), sorted(names), source):
                self._count += 1
                yield one
            self._on_progress(self._count)
        for unread in errors:
            text = f"a folder cannot be read ({unread.strerror}); allow it, or bring it back"
            yield _nothing(source, "input", text, Path(os.fsdecode(unread.filename or path)))

    def _folder(self, place: Path, names: Sequence[str], source: Place, *, is_named: bool = False) -> Iterator[Found]:
        """The series of one folder, without its subfolders."""
        instances: list[Instance] = []
        problem: InputRefused | None = None
        with pydicom_warnings_logged():
            for name in names:
                try:
                    instance = _read(place / name, is_named)
                except InputRefused as refusal:
                    problem = problem or refusal
                    continue
                if instance is None:
                    self.passed_over["volumes" if name.lower().endswith(VOLUME_ENDINGS) else "others"] += 1
                elif instance.sop_class != MEDIA_DIRECTORY:
                    instances.append(instance)
            if problem is not None:
                text = without_identity(problem.text, [place, *(place / name for name in names)])
                problem = InputRefused(problem.code, text)
            if problem is not None and not instances:
                yield _nothing(source, problem.code, problem.text, place)
            yield from self._series_of(place, instances, source, problem)

    def _series_of(
        self, place: Path, instances: Sequence[Instance], source: Place, problem: InputRefused | None = None
    ) -> Iterator[Found]:
        groups: dict[tuple[str, str], list[Instance]] = {}
        for instance in instances:
            uids = (str(instance.value("StudyInstanceUID") or ""), str(instance.value("SeriesInstanceUID") or ""))
            groups.setdefault(uids, []).append(instance)
        parts: list[Series] = []
        for (study, uid), members in list(groups.items()):
            try:
                parts += stacks_of(study, uid, members)
            except InputRefused as refusal:
                text = without_identity(refusal.text, [instance.path for instance in members], members[0])
                yield _nothing(source, refusal.code, text, place, uid)
        try:
            yield from self._ranked(place, joined(parts), source, problem)
        except Exception as error:  # of ten thousand headers one may hold what nobody foresaw: the others are planned
            log_failure(logger, "the headers of a folder", error)
            failure = Failure.of(error)
            yield _nothing(source, failure.code, without_identity(failure.text, [place]), place)

    def _ranked(
        self, place: Path, stacks: Sequence[Series], source: Place, problem: InputRefused | None
    ) -> Iterator[Found]:
        files: dict[tuple[str, str], dict[Path, Instance]] = {}
        for one in stacks:  # a stack is scored from all files of its series, or it would not be that stack
            mine = files.setdefault((one.study_uid, one.series_uid), {})
            mine |= {instance.path: instance for instance in one.instances}
        ranked = rank_series(stacks)
        yield from [
            self._found(place, r, list(files[r.series.study_uid, r.series.series_uid].values()), source, problem)
            for r in ranked
        ]

    def _found(
        self, place: Path, ranked: RankedSeries, instances: Sequence[Instance], source: Place,
        problem: InputRefused | None,
    ) -> Found:  # fmt: skip
        one, first = ranked.series, instances[0]
        paths = [instance.path for instance in instances]
        sizes = {path: path.stat().st_size for path in paths}
        uids = [(_uid_of(instance), sizes[instance.path]) for instance in instances]
        refusal: InputRefused | None = problem
        if refusal is None and ranked.refusal is not None:
            refusal, _ = header_verdict(one, self._allow)
        text = "" if refusal is None else without_identity(refusal.text, paths, first)
        identity = patient_identity(first.value)  # empty: files that name nobody are not therefore of one person
        return Found(
            key=key_of(uids, one.stack),
            folder=place,
            names=tuple(sorted(os.path.relpath(path, place) for path in paths)),
            size=sum(sizes.values()),
            given=source.given,
            ranked=replace(ranked, series=_light(one)),
            images=tuple(sorted(hashlib.blake2b(uid.encode(), digest_size=8).digest() for uid, _ in uids)),
            patient=min(one.patient_keys),
            patient_key=pseudonym(self._key, identity) if self._key is not None and identity else None,
            day=acquisition_day(one.frames[0]) if one.frames else None,
            code="" if refusal is None else refusal.code,
            text=text,
            problem=problem,
        )

    def _read_again(self, parts: Sequence[Found]) -> Iterator[Found]:
        """Parts of one series that lie in several folders, as the one series that they are."""
        place = Path(os.path.commonpath([one.folder for one in parts]))
        paths = [one.folder / name for one in parts for name in one.names]
        problem = next((one.problem for one in parts if one.problem is not None), None)
        with pydicom_warnings_logged():
            try:
                instances = [instance for path in dict.fromkeys(paths) if (instance := Instance.read(path)) is not None]
            except InputRefused as refusal:  # it could be read a moment ago
                text = without_identity(refusal.text, paths)
                yield _nothing(Place(place, parts[0].given), refusal.code, text, place, parts[0].key)
                return
            yield from self._series_of(place, instances, Place(place, parts[0].given), problem)


def _read(path: Path, is_named: bool) -> Instance | None:
    if kind := irregular(path):
        raise InputRefused("input", f"{path.name}: expected a regular file, found {kind}; bring the file, or remove it")
    instance = Instance.read(path)
    looks_like_it = path.suffix.lower() in DICOM_SUFFIXES and not path.name.startswith("._")
    if instance is None and (is_named or looks_like_it):
        raise InputRefused("unreadable", f"{path.name} is not a DICOM file; copy it again, or remove it")
    return instance


def _uid_of(instance: Instance) -> str:
    """What tells one image from another: its UID; of an image without one, which could be any, its content."""
    return str(instance.value("SOPInstanceUID") or "") or f"sha256 {file_sha256(instance.path)}"


def _light(series: Series) -> Series:
    """A series without its headers, which would fill the memory with a hundred thousand of them."""
    return replace(series, instances=(), frames=(), description=None, protocol=None)


def _is_own(place: Path, names: Sequence[str]) -> bool:
    """Whether a folder is output of HeartLens; a file of such a name alone, as others make them, says nothing."""
    for name in RESULTS:
        if name in names:
            with suppress(OSError, ValueError):
                if str(read_json(place / name).get("schema", "")).startswith(OWN_SCHEMA):
                    return True
    return False


def _volume(source: Place) -> Found:
    path = source.path
    try:
        check_beginning(path)
        key = hashlib.sha256(file_sha256(path).encode()).hexdigest()[:32]
        return Found(key, path.parent, (path.name,), path.stat().st_size, source.given)
    except (InputRefused, OSError) as error:
        failure = Failure.of(error)
        return _nothing(source, failure.code, without_identity(failure.text, [path]))


def unfetched(place: Path, text: str) -> Found:
    """A series that an archive did not give.

    Parameters
    ----------
    place
        Where it would lie.
    text
        Why it does not; without an identity.
    """
    return _nothing(Place(place), "input", text)


def _nothing(source: Place, code: str, text: str, place: Path | None = None, series: str = "") -> Found:
    """A place, or a series there, with nothing to score; each has a key of its own, by where it lies and who it is."""
    given, where = source.given, place or source.path
    said = (given.subject, given.exam, given.scan, given.series, series)
    key = hashlib.sha256(b"\0".join((os.fsencode(where), *(word.encode() for word in said)))).hexdigest()[:32]
    return Found(key, where, (), 0, given, code=code, text=text)


def _is_meant(one: Found, series: str) -> bool:
    return one.ranked is not None and series in (one.ranked.series.address, one.ranked.series.series_uid)


def _merged(found: Sequence[Found], read_again: Callable[[Sequence[Found]], Iterator[Found]]) -> Iterator[Found]:
    """Series whose parts lie in several folders put together; copies of one another stay what they are."""
    by_uid: dict[tuple[str, str], list[Found]] = {}
    for one in found:
        if one.ranked is not None and one.ranked.series.is_ct:
            by_uid.setdefault((one.ranked.series.study_uid, one.ranked.series.series_uid), []).append(one)
    parts = {
        uids: members for uids, members in by_uid.items()
        if len({one.folder for one in members}) > 1 and not _are_copies(members)
    }  # fmt: skip
    done: set[tuple[str, str]] = set()
    for one in found:
        uids = ("", "") if one.ranked is None else (one.ranked.series.study_uid, one.ranked.series.series_uid)
        if one.ranked is None or uids not in parts or not one.ranked.series.is_ct:
            yield one
        elif uids not in done:
            done.add(uids)
            yield from read_again(parts[uids])


def _are_copies(members: Sequence[Found]) -> bool:
    """Whether each holds the images of another one or some of them, and none of its own."""
    images = [set(one.images) for one in members]
    largest = max(images, key=len)
    return all(some <= largest for some in images)
