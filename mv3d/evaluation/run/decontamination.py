"""Evidence that a model was trained on the objects it is evaluated on, from its own documents.

Three sources are read: `attribution.csv` beside the weights (the training objects with the sha256 of each file, as
`mv3d train` and `mv3d models convert` hand it on), the text of the model's card and of its mv3d.json, and the metadata
of adapters. A model without documents can hide anything, so `Contamination.looked_at` lists the sources found.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mv3d.evaluation.image_sets import some
from mv3d.models.folder import INFO_FILE
from mv3d.orbits.attribution import TABLE
from mv3d.orbits.catalogue import CatalogueItem

CARD = "README.md"
_GSO = "google scanned objects"
_COLLECTIONS = {_GSO: ("gso", _GSO)}
"""Collections of objects with names of their own, and how they are written."""
_SAYS_NOTHING = frozenset(
    "assets data dataset datasets default eval evaluation files glb input mesh meshes model models object objects out "
    "set test tests".split()
)
"""Folder names that any card may hold as plain words."""
_TRAINING = re.compile(r"\b(pre|re)?(train|fine-?tun|finetun|learn)(s|ed|ing)?\b|\bdata(sets?)?\b", re.I)
_JUDGING = re.compile(r"\b(evaluat\w*|benchmark\w*|test(s|ed|ing)?|measured|compared|scores?)\b", re.I)
_DENIAL = re.compile(
    r"\b(never|not (trained|used|seen|shown|part)|none of|no objects? of|exclud(es|ed|ing)|held[- ]out|"
    r"(kept|left) out)\b",
    re.I,
)


@dataclass(frozen=True)
class Contamination:
    """Evidence of training on the evaluated objects. warnings: whole sentences. looked_at: names of the sources read."""

    warnings: tuple[str, ...] = ()
    looked_at: tuple[str, ...] = ()


def find_contamination(
    model: Path,
    items: Sequence[CatalogueItem],
    digests: Mapping[str, str],
    *,
    set_name: str = "",
    adapters: Mapping[str, str] | None = None,
) -> Contamination:
    """Search the documents of the model in this folder for these objects.

    digests: uid → sha256 of the object's file. set_name: the name of the set. adapters: name → the text of its
    metadata. Warnings come from: the sha256 of an object in attribution.csv; a uid, title or file name of the set there
    (letter case does not matter); a sentence of the card, of mv3d.json or of an adapter that names the set or the
    collection of its objects (Google Scanned Objects), unless it denies training or speaks of evaluation alone.
    """
    warnings: list[str] = []
    looked_at: list[str] = []
    table = model / TABLE
    if table.is_file():
        looked_at.append(TABLE)
        warnings += _in_table(table, items, digests)
    papers = (path for name in (CARD, INFO_FILE) if (path := model / name).is_file())
    texts = {path.name: path.read_text(encoding="utf-8", errors="replace") for path in papers}
    names = _names(items, set_name)
    for name, text in [*texts.items(), *(adapters or {}).items()]:
        looked_at.append(name)
        warnings += _in_text(name, text, names)
    return Contamination(tuple(warnings), tuple(looked_at))


def _in_table(table: Path, items: Sequence[CatalogueItem], digests: Mapping[str, str]) -> list[str]:
    try:
        rows = list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8-sig"))))
    except (OSError, ValueError, csv.Error) as error:
        return [f"{TABLE} of the model cannot be read ({error}): its training objects are not known"]
    hashes = {(row.get("sha256") or "").strip().lower() for row in rows} - {""}
    named = {_folded(row.get(key)) for row in rows for key in ("uid", "title")} - {""}
    same = [item.uid for item in items if digests.get(item.uid) in hashes]
    alike = [
        item.uid for item in items if item.uid not in same and named & {_folded(n) for n in _own_names(item)}
    ]
    found = []
    if same:
        found.append(
            f"trained on {len(same)} of the {len(items)} objects: the sha256 of their files is in the model's "
            f"{TABLE}: {some(same)}"
        )
    if alike:
        found.append(
            f"perhaps trained on {len(alike)} of the {len(items)} objects: their names are in the model's {TABLE}, "
            f"with other files: {some(alike)}"
        )
    return found


def _in_text(where: str, text: str, names: Mapping[str, Iterable[str]]) -> list[str]:
    found = []
    for name, spellings in names.items():
        pattern = re.compile("|".join(_as_words(spelling) for spelling in spellings))
        said = next((s for s in _sentences(text) if pattern.search(_folded(s)) and _admits(s)), None)
        if said is not None:
            found.append(f'perhaps trained on {name}: {where} of the model says "{said[:200]}"')
    return found


def _names(items: Sequence[CatalogueItem], set_name: str) -> dict[str, tuple[str, ...]]:
    """Names of the set and of its collections → their spellings."""
    names: dict[str, tuple[str, ...]] = {}
    folded = _folded(set_name)
    if len(folded) > 2 and folded not in _SAYS_NOTHING:
        names[set_name] = (folded,)
    for collection, spellings in _COLLECTIONS.items():
        pattern = re.compile("|".join(map(_as_words, spellings)))
        if any(pattern.search(_folded(t)) for i in items for t in (i.category, i.source, i.author)):
            names[collection.title()] = spellings
    return names


def _own_names(item: CatalogueItem) -> list[str]:
    return [item.uid, item.title, item.path.stem if item.path is not None else ""]


def _sentences(text: str) -> list[str]:
    """Sentences, rows of tables and items of lists, one line each."""
    parts = re.split(r"\n\s*\n|(?<=[.!?;])\s+|\n(?=\s*[|#*>-])|(?<=[,{])\n", text)
    return [line for part in parts if (line := " ".join(part.split()))]


def _admits(sentence: str) -> bool:
    """True if a sentence that names objects may say that the model was trained on them."""
    if _DENIAL.search(sentence):
        return False
    return bool(_TRAINING.search(sentence)) or not _JUDGING.search(sentence)


def _folded(text: str | None) -> str:
    """For comparison: lower case, words separated by one space."""
    return " ".join(re.split(r"[\s_-]+", (text or "").casefold())).strip()


def _as_words(folded: str) -> str:
    """A pattern for these whole words in folded text."""
    return rf"(?<![^\W_]){re.escape(folded)}(?![^\W_])"
