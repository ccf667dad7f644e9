"""Which objects of a catalogue to take: filters in a fixed order, with the count after each of them.

A filter needs what the catalogue says. Where it says nothing (a local file has no face count), the object
passes, and the quality gate decides later by what is in the file; a licence that is not named never passes.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

from mv3d.core.errors import InputError, UsageError
from mv3d.orbits.catalogue import CatalogueItem, category_key
from mv3d.orbits.licences import Licence, parse_licence


@dataclass(frozen=True)
class SelectConfig:
    """What passes. Counts and sizes are those of the catalogue."""

    licences: tuple[str, ...] = ()
    """Only these licences, e.g. cc0 by CC-BY-SA-4.0. Default: all that allow what the next three say."""
    non_commercial: bool = False
    """Take objects whose licence forbids commercial use or is not known, too."""
    share_alike: bool = True
    """Take licences that ask for the same licence on what is made from the object (CC-BY-SA)."""
    no_derivatives: bool = False
    """Take licences that forbid changed copies (CC-BY-ND): a rendering may be one."""
    min_faces: int = 0
    """Fewest faces."""
    max_faces: int = 500_000
    """Most faces."""
    min_textures: int = 0
    """Fewest textures."""
    max_animations: int | None = None
    """Most animations; 0 takes still objects only. Animated ones are rendered in their rest pose."""
    max_megabytes: float = 100.0
    """Largest file, 10⁶ bytes."""
    age_restricted: bool = False
    """Take objects that are marked as not for all ages, too."""
    categories: tuple[str, ...] = ()
    """Only these (LVIS) categories."""
    exclude_categories: tuple[str, ...] = ()
    """None of these (LVIS) categories."""
    with_category: bool = False
    """Only objects that have a category."""
    exclude_tags: tuple[str, ...] = ("noai",)
    """No object with one of these tags; authors use NoAI to opt out of training."""
    uids: tuple[str, ...] | None = None
    """Only these."""
    exclude_uids: tuple[str, ...] = ()
    """None of these."""
    limit: int | None = None
    """At most so many, drawn by the seed; a larger limit keeps those that a smaller one drew."""
    seed: int = 0
    """Seed of the draw."""

    def __post_init__(self) -> None:
        for name in self.licences:
            licence = parse_licence(name)
            if licence.id.startswith("LicenseRef-") and not name.startswith("LicenseRef-"):
                raise UsageError(
                    f"--licences: expected names such as cc0, by, CC-BY-SA-4.0 or MIT, got {name!r}"
                )
            if needed := self.missing_flags(licence):
                raise UsageError(f"--licences: {licence.id} needs {needed[0]} as well")
        if not 0 <= self.min_faces <= self.max_faces:
            raise UsageError(
                f"--min-faces, --max-faces: expected 0 <= min <= max, got {self.min_faces} and {self.max_faces}"
            )
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit: expected 1 or more, got {self.limit}")
        if not self.max_megabytes > 0:
            raise UsageError(f"--max-megabytes: expected more than 0, got {self.max_megabytes}")

    def missing_flags(self, licence: Licence) -> list[str]:
        """Flags that the terms of a licence need and that are not set."""
        terms = (
            (licence.commercial or self.non_commercial, "--non-commercial"),
            (not licence.share_alike or self.share_alike, "--share-alike"),
            (licence.derivatives or self.no_derivatives, "--no-derivatives"),
        )
        return [flag for allowed, flag in terms if not allowed]


@dataclass(frozen=True)
class Selection:
    """What passed, by uid. funnel: the name of each filter and how many objects were left after it.
    unknown_uids: asked for and not in the catalogue."""

    items: tuple[CatalogueItem, ...]
    funnel: tuple[tuple[str, int], ...]
    unknown_uids: tuple[str, ...] = ()


Filter = tuple[str, Callable[[CatalogueItem], bool]]


def filters(config: SelectConfig) -> list[Filter]:
    """The filters that the settings ask for, in the order in which they are applied."""
    found: list[Filter] = []
    if config.uids is not None:
        wanted = frozenset(config.uids)
        found.append(("listed", lambda item: item.uid in wanted))
    if config.exclude_uids:
        unwanted = frozenset(config.exclude_uids)
        found.append(("not excluded", lambda item: item.uid not in unwanted))
    found.append(("licence", _licence_filter(config)))
    if config.with_category or config.categories:
        names = frozenset(category_key(category) for category in config.categories)

        def in_category(item: CatalogueItem) -> bool:
            return bool(item.category) and (not names or category_key(item.category) in names)

        found.append(("category", in_category))
    if config.exclude_categories:
        refused = frozenset(category_key(category) for category in config.exclude_categories)
        found.append(("no excluded category", lambda item: category_key(item.category) not in refused))
    if not config.age_restricted:
        found.append(("for all ages", lambda item: not item.age_restricted))
    if config.exclude_tags:
        tags = frozenset(tag.lower() for tag in config.exclude_tags)
        found.append(("no excluded tag", lambda item: tags.isdisjoint(item.tags)))
    found.append(("faces", lambda item: _within(item.faces, config.min_faces, config.max_faces)))
    if config.min_textures:
        found.append(("textures", lambda item: _within(item.textures, config.min_textures, None)))
    if config.max_animations is not None:
        found.append(("animations", lambda item: _within(item.animations, 0, config.max_animations)))
    found.append(("file size", lambda item: _within(item.bytes, 0, int(config.max_megabytes * 1e6))))
    return found


def select(items: Iterable[CatalogueItem], config: SelectConfig) -> Selection:
    """Apply the filters to a catalogue, which is read once and not kept.

    Raises InputError where the catalogue is empty. A selection may be empty; its funnel then says why.
    """
    chain = filters(config)
    counts = [0] * (len(chain) + 1)
    passed: list[tuple[int, str, CatalogueItem]] = []  # with a limit a heap, the worst draw on top
    seen: set[str] = set()
    for item in items:
        counts[0] += 1
        if config.uids is not None:
            seen.add(item.uid)
        for number, (_, passes) in enumerate(chain, 1):
            if not passes(item):
                break
            counts[number] += 1
        else:
            entry = (-_draw(item.uid, config.seed), item.uid, item)
            if config.limit is None:
                passed.append(entry)
            elif len(passed) < config.limit:
                heapq.heappush(passed, entry)
            else:
                heapq.heappushpop(passed, entry)
    if not counts[0]:
        raise InputError("catalogue: expected at least one object, got none")
    funnel = [("catalogue", counts[0])]
    funnel += [(name, count) for (name, _), count in zip(chain, counts[1:], strict=True)]
    if config.limit is not None:
        funnel.append(("limit", len(passed)))
    return Selection(
        tuple(sorted((item for _, _, item in passed), key=lambda item: item.uid)),
        tuple(funnel),
        tuple(uid for uid in config.uids or () if uid not in seen),
    )


def _licence_filter(config: SelectConfig) -> Callable[[CatalogueItem], bool]:
    asked = frozenset(parse_licence(name).id for name in config.licences)

    @cache
    def allowed(name: str) -> bool:
        licence = parse_licence(name)
        return (not asked or licence.id in asked) and not config.missing_flags(licence)

    return lambda item: allowed(item.licence)


def _within(value: int | None, low: int, high: int | None) -> bool:
    return value is None or (low <= value and (high is None or value <= high))


def _draw(uid: str, seed: int) -> int:
    """A number for each uid that looks random and depends on nothing but the uid and the seed."""
    return int.from_bytes(hashlib.sha256(f"{seed} {uid}".encode()).digest()[:8])
