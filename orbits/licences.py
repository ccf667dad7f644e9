"""Licences of 3D objects: free text in, an SPDX-like id and what it allows out.

Catalogues name licences in many ways: Objaverse says `by-nc`, Sketchfab `CC Attribution-NonCommercial`,
a SOURCES.csv `CC0-1.0 (repo README)`. What is not recognised is not commercial: silence grants nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

UNKNOWN = "LicenseRef-unknown"


@dataclass(frozen=True)
class Licence:
    """One licence, or several that all apply (`MIT AND CC-BY-4.0`).

    id: an SPDX expression; `LicenseRef-…` for what SPDX does not know. commercial: commercial use is allowed.
    share_alike: what is made from it has to carry the same licence. derivatives: changed copies (a rendering
    is one) are allowed. attribution: the author has to be named. url: of the text, or "".
    """

    id: str
    commercial: bool
    share_alike: bool = False
    derivatives: bool = True
    attribution: bool = True
    url: str = ""


def _public_domain(name: str, url: str) -> Licence:
    return Licence(name, commercial=True, attribution=False, url=url)


def _software(name: str) -> Licence:
    return Licence(name, commercial=True, url=f"https://spdx.org/licenses/{name}.html")


# Patterns are matched against the text in lower case with every run of spaces, "_" and "-" as one "-".
_CC0 = _public_domain("CC0-1.0", "https://creativecommons.org/publicdomain/zero/1.0/")
_COPYLEFT = Licence("LicenseRef-GPL", commercial=True, share_alike=True)
_TABLE: tuple[tuple[str, Licence], ...] = (
    (r"cc-?0(?:-1\.0)?|cc-zero|creative-commons-(?:cc0|zero)[a-z0-9.-]*", _CC0),
    (
        r"(?:cc-)?pdm(?:-1\.0)?|public-domain(?:-mark)?(?:-1\.0)?",
        _public_domain("CC-PDM-1.0", "https://creativecommons.org/publicdomain/mark/1.0/"),
    ),
    (r"mit-0|mit-no-attribution", _public_domain("MIT-0", "https://spdx.org/licenses/MIT-0.html")),
    (r"mit(?:-licen[sc]e)?", _software("MIT")),
    (r"apache(?:-licen[sc]e)?(?:-v?2(?:\.0)?)", _software("Apache-2.0")),
    (r"bsd-2-clause", _software("BSD-2-Clause")),
    (r"bsd-3-clause", _software("BSD-3-Clause")),
    (r"unlicense|the-unlicense", _public_domain("Unlicense", "https://unlicense.org/")),
    (r"zlib", _software("Zlib")),
    (r"(?:licenseref-gpl|a?l?gpl(?:-?v?[23](?:\.[01])?)?)", _COPYLEFT),
)
_CC_BY = re.compile(
    r"(?:(?:cc|creative-commons)-)?(?:by|attribution)(?![a-z])"
    r"(?P<terms>(?:-(?:nc|sa|nd|non-?commercial|share-?alike|no-?deriv(?:ative)?s?))*)"
    r"(?:-(?P<version>[1-4]\.[05]))?(?:-international)?"
)
_RESTRICTION = re.compile(
    r"\bnc\b|non-?commercial|no-commercial|not-for-commercial|editorial|personal-use|research-only|rights-reserved"
)
_NO_DERIVATIVES = re.compile(r"\bnd\b|no-?deriv")
_CC_DEFAULT_VERSION = "4.0"  # Sketchfab, and so Objaverse, license under version 4.0 and do not repeat it


def parse_licence(text: str) -> Licence:
    """The licence that a text names.

    Remarks in brackets explain and do not grant, but a restriction in them counts. Several licences side by
    side all apply (an OR, too), so the strictest terms hold. Anything else is `LicenseRef-unknown`, or `LicenseRef-` and
    the text, without commercial use.
    """
    flat = re.sub(r"[\s_-]+", "-", text.strip().lower())
    outside = re.sub(r"[(\[][^)\]]*[)\]]?", " ", flat)
    pieces = [piece.strip(" -.") for piece in re.split(r"[;,/&\s]|-and-|-or-|\+", outside)]
    found: list[Licence] = []
    unknown = False
    for piece in filter(None, pieces):
        licence = _one(piece)
        unknown |= licence is None and piece.startswith("licenseref-")
        if licence is not None and licence not in found:
            found.append(licence)
    commercial = all(licence.commercial for licence in found)
    restricted = (commercial and _RESTRICTION.search(flat)) or (
        _NO_DERIVATIVES.search(flat) and all(licence.derivatives for licence in found)
    )
    if not found or unknown or restricted:
        label = re.sub(r"[^A-Za-z0-9.]+", "-", text.strip().removeprefix("LicenseRef-"))[:60].strip("-.")
        return Licence(
            UNKNOWN if label.lower() in ("", "unknown", "none") else f"LicenseRef-{label}",
            commercial=False,
            derivatives=not _NO_DERIVATIVES.search(flat),
        )
    return Licence(
        " AND ".join(licence.id for licence in found),
        commercial=commercial,
        share_alike=any(licence.share_alike for licence in found),
        derivatives=all(licence.derivatives for licence in found),
        attribution=any(licence.attribution for licence in found),
        url=found[0].url if len(found) == 1 else "",
    )


def _one(piece: str) -> Licence | None:
    """A piece such as `cc-by-4.0`, `by-nc` or `mit-repo` (words may follow the name)."""
    if piece.startswith("licenseref-") and piece != "licenseref-gpl":
        return None
    for pattern, licence in _TABLE:
        if re.fullmatch(rf"(?:{pattern})(?:-[a-z-]+)?", piece):
            return licence
    # "items shared with X are CC-BY-4.0": a full Creative Commons name may stand anywhere in a remark.
    match = re.match(_CC_BY, piece) or re.search(rf"(?<![a-z])(?=cc-|creative-){_CC_BY.pattern}", piece)
    if match is None:
        return None
    terms = match["terms"].replace("noncommercial", "nc").replace("non-commercial", "nc")
    terms = re.sub(r"share-?alike", "sa", terms)
    terms = re.sub(r"no-?deriv(?:ative)?s?", "nd", terms)
    words = [word for word in ("nc", "nd", "sa") if f"-{word}" in terms]
    version = match["version"] or _CC_DEFAULT_VERSION
    name = "-".join(["by", *words])
    return Licence(
        f"CC-{name.upper()}-{version}",
        commercial="nc" not in words,
        share_alike="sa" in words,
        derivatives="nd" not in words,
        url=f"https://creativecommons.org/licenses/{name}/{version}/",
    )
