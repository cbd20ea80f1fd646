#!/usr/bin/env python3
"""Write docs/data-dictionary.md from the JSON Schemas and the columns of the tables; run it after a change of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "data-dictionary.md"

DOCUMENTS = {
    "report.json": ("heartlens.report", "report.schema.json"),
    "labels.json": ("heartlens.report", "labels.schema.json"),
    "progress.json": ("heartlens.report.comparison", "progress.schema.json"),
    "compare.json": ("heartlens.report.comparison", "compare.schema.json"),
    "heartlens draft --json": ("heartlens.report.draft", "draft.schema.json"),
}
"""Package and file of each document's schema."""

HEAD = """\
# Data dictionary

Every field that HeartLens writes for programs: its type and unit, what it means, where it comes from, and when it is
null. The page is written by `scripts/data_dictionary.py` from the JSON Schemas in `heartlens/report` (keys
`description`, `x-unit`, `x-source`, `x-null`) and from the columns of `lesions.csv` and of the tables of a cohort
(`heartlens/cohort/tables/columns.py`); change them there.

Units: `1` is a number without one, such as an index or a share, `score` the Agatston score. Nothing is rounded.
Places are LPS: to the patient's left, to the back, to the head. A dot leads into an object, `[]` into each entry of a
list, and *optional* fields may be absent. No file here names a patient; UIDs and checksums find one in an archive (see
[Security](security.md)).

## Joining results

`voxels_sha256` is the key of a **scan**: the checksum of its HU values, the same in every result of that scan, DICOM
or not. `series_uid` is that of the archive, and is empty where the CT was not DICOM. A row of `lesions.csv` is known by
`voxels_sha256`, `scored_at`, `edits` and `id`: rows of many results can be put into one table, and joined to
`report.json` by `provenance.checksums.voxels_sha256`, `scored_at` and `edits`. An `id` alone means nothing outside its
result. Two readers who edited copies of one case as often as each other have one key: keep the folder they came from
as a further column.
"""

FIELDS = "| field | type | unit | meaning | source | null when |\n|---|---|---|---|---|---|\n"
COLUMNS = "| column | type | unit | meaning | source | empty when |\n|---|---|---|---|---|---|\n"


@dataclass(frozen=True)
class Field:
    """One field of a document.

    Parameters
    ----------
    name
        With the objects around it.
    kind
        Type in words.
    unit
        Of a number; "" for anything else.
    meaning, source
        In words.
    null
        When it is null; "" where it never is.
    takes_null
        Whether the schema allows it to be null.
    is_number
        Whether it is a number, or is made of numbers alone.
    """

    name: str
    kind: str
    unit: str
    meaning: str
    source: str
    null: str
    takes_null: bool
    is_number: bool


def schema_of(document: str) -> dict[str, Any]:
    """The JSON Schema of a document.

    Parameters
    ----------
    document
        A key of `DOCUMENTS`.
    """
    package, name = DOCUMENTS[document]
    schema: dict[str, Any] = json.loads((files(package) / name).read_text(encoding="utf-8"))
    return schema


def parts_of(schema: Mapping[str, Any]) -> dict[str, list[Field]]:
    """The fields of a schema, its own under "" and those of each definition under its name."""
    source = schema.get("x-source", "")
    parts = {"": list(_fields(schema, "", source))}
    for name, part in schema.get("$defs", {}).items():
        parts[name] = list(_fields(part, "", part.get("x-source", source)))
    return parts


def page() -> str:
    """The whole page."""
    from heartlens.cohort.tables.columns import TABLES
    from heartlens.report.outputs import LESION_COLUMNS

    text = HEAD
    for document in DOCUMENTS:
        schema = schema_of(document)
        text += f"\n## {document}\n\n{schema['title']}. {schema['description']}\n"
        for name, fields in parts_of(schema).items():
            if name:
                text += f"\n### {name} in {document}\n\n{schema['$defs'][name]['description']}\n"
            rows = [(f"`{f.name}`", f.kind, f.unit, f.meaning, f.source, f.null) for f in fields]
            text += "\n" + FIELDS + _rows(rows)
    text += "\n## lesions.csv\n\nOne row a lesion, UTF-8. The first line names the columns; new ones come last.\n"
    text += "\n" + COLUMNS + _rows(_columns(LESION_COLUMNS))
    for name, (what, columns) in TABLES.items():
        text += f"\n## {name} of a cohort\n\n{what}\n\n" + COLUMNS + _rows(_columns(columns))
    return text


def main() -> int:
    """Write the page; the exit code."""
    PAGE.write_text(page(), encoding="utf-8")
    return 0


def _columns(columns: Iterable[Any]) -> list[tuple[str, ...]]:
    return [(f"`{c.name}`", c.kind, c.unit, c.meaning, c.source, c.empty) for c in columns]


def _rows(rows: list[tuple[str, ...]]) -> str:
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in rows)


def _fields(schema: Mapping[str, Any], prefix: str, source: str) -> Iterator[Field]:
    """Every field below an object, its own objects and lists of objects included."""
    for name, given in schema.get("properties", {}).items():
        part = _not_null(given)
        mine = given.get("x-source", source)
        is_optional = name not in schema.get("required", ())
        yield Field(
            name=prefix + name,
            kind=_kind(part) + (", optional" if is_optional else ""),
            unit=given.get("x-unit", ""),
            meaning=given.get("description", ""),
            source=mine,
            null=given.get("x-null", ""),
            takes_null=_takes_null(given),
            is_number=_is_number(part),
        )
        yield from _fields(part, f"{prefix}{name}.", mine)
        if isinstance(part.get("items"), dict):
            yield from _fields(_not_null(part["items"]), f"{prefix}{name}[].", mine)


def _not_null(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a field is where it is not null."""
    return next((one for one in schema.get("anyOf", ()) if one.get("type") != "null"), schema)


def _takes_null(schema: Mapping[str, Any]) -> bool:
    places = (schema, schema.get("items", {}))
    return any(
        "null" in _types(one) or None in one.get("enum", ()) or {"type": "null"} in one.get("anyOf", ())
        for one in places
    )


def _types(schema: Mapping[str, Any]) -> list[str]:
    said = schema.get("type", [])
    return [said] if isinstance(said, str) else list(said)


def _is_number(schema: Mapping[str, Any]) -> bool:
    inside = schema.get("items", schema.get("additionalProperties"))
    if isinstance(inside, dict):
        return _is_number(inside)
    is_counted = isinstance(schema.get("const"), int) or any(isinstance(x, int) for x in schema.get("enum", ()))
    return is_counted or bool({"number", "integer"} & set(_types(schema)))


def _kind(schema: Mapping[str, Any]) -> str:
    """A type in words."""
    if "$ref" in schema:
        return f"object *{schema['$ref'].rpartition('/')[2]}*"
    if "const" in schema:
        return f"always `{schema['const']}`"
    if "enum" in schema:
        return "one of " + ", ".join(f"`{value}`" for value in schema["enum"] if value is not None)
    (name,) = (one for one in _types(schema) if one != "null")
    if name == "array":
        length = (
            f"{schema['minItems']} " if "minItems" in schema and schema["minItems"] == schema.get("maxItems") else ""
        )
        return f"list of {length}{_kind(_not_null(schema['items']))}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"object, by name {_kind(schema['additionalProperties'])}"
    return name


if __name__ == "__main__":
    sys.exit(main())
