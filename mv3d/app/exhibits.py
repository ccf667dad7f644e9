"""What `mv3d view` shows: one object after the other, each with pictures and what they are compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mv3d.app.asset import read_asset
from mv3d.app.figures import figure_rows, view_figures
from mv3d.core.errors import InputError, shown
from mv3d.core.records import read_document
from mv3d.evaluation.run.evaluate import GENERATED, OBJECTS, TRUTH
from mv3d.orbits.as_views import views_of
from mv3d.orbits.index import PIXELS, read_index
from mv3d.orbits.shards import Shard
from mv3d.render.mesh import Mesh
from mv3d.render.raycast import RayScene, render_view
from mv3d.render.trajectories import load_orbit
from mv3d.views.images import read_rgba, stack_frames
from mv3d.views.metrics import compare
from mv3d.views.views import Views, composite


@dataclass(frozen=True, eq=False)
class Exhibit:
    """One object. views: its pictures. others: pictures of the same cameras to compare them with; without them, renders of
    the mesh. names: of the two kinds of pictures. rows: numbers of the object. labels: of the views."""

    name: str
    mesh: Mesh | None = None
    views: Views | None = None
    others: Views | None = None
    names: tuple[str, str] = ("picture", "render")
    splats: Path | None = None
    rows: tuple[tuple[str, str], ...] = ()
    labels: tuple[str, ...] = ()

    @cached_property
    def _rays(self) -> RayScene:
        assert self.mesh is not None
        return RayScene(self.mesh.vertices, self.mesh.faces)

    def other(self, view: int) -> Float[np.ndarray, "h w 4"] | None:
        """The picture that view number `view` is compared with; None where there is nothing."""
        if self.views is None:
            return None
        if self.others is not None:
            return self.others.images[view]
        if self.mesh is None:
            return None
        return render_view(self.mesh, self.views.cameras, view, supersample=2, scene=self._rays)


@dataclass(frozen=True, eq=False)
class Collection:
    """Objects by name, read one at a time."""

    names: tuple[str, ...]
    read: Callable[[str], Exhibit] = field(repr=False)


def open_collection(path: Path) -> Collection:
    """The objects of a folder of shards or one shard, of the folder of an evaluation, or the one of what `read_asset` reads.

    Raises InputError where there is nothing to see.
    """
    if path.suffix == ".tar" and path.is_file():
        return _shards([path])
    if path.is_dir() and (index := read_index(path)) is not None:
        if index["kind"] != PIXELS:
            raise InputError(
                f"{path}: expected shards of pictures, got {shown(index['kind'])}; show those they are made of"
            )
        return _shards([path / entry["name"] for entry in index["shards"]])
    if (path / TRUTH).is_dir() and (path / GENERATED).is_dir():
        return _evaluation(path)
    asset = read_asset(path)
    labels = () if asset.views is None else tuple(_label(asset, n) for n in range(len(asset.views)))
    exhibit = Exhibit(
        asset.name,
        asset.mesh,
        asset.views,
        splats=asset.splats,
        rows=tuple(figure_rows(asset)),
        labels=labels,
    )
    return Collection((asset.name,), lambda _: exhibit)


def difference(
    picture: Float[np.ndarray, "h w 4"], other: Float[np.ndarray, "h w 4"]
) -> tuple[Float[np.ndarray, "h w 3"], dict[str, float]]:
    """Where two pictures differ on white, from white (not at all) to dark red (0.5 and more of 1), and their metrics."""
    size = np.clip(np.abs(composite(picture) - composite(other)).mean(-1) * 2, 0, 1)[..., None]
    return (1 - size * np.array([0.35, 1.0, 1.0])).astype(np.float32), compare(picture, other)


def _label(asset: Any, view: int) -> str:
    photo = ", the photo" if view == asset.views.input_view else ""
    return " · ".join([f"view {view}{photo}", *view_figures(asset, view)])


def _angles(views: Views, view: int) -> str:
    if views.orbit is None:
        return f"view {view}"
    azimuth, elevation = views.orbit.azimuths_deg[view], views.orbit.elevations_deg[view]
    return f"view {view} · azimuth {azimuth % 360:.0f}° · elevation {elevation:.0f}°"


def _shards(paths: list[Path]) -> Collection:
    places = {place.key: (path, n) for path in paths for n, place in enumerate(Shard(path).places)}
    if not places:
        raise InputError(
            f"{paths[0].parent if paths else 'the shards'}: expected at least one sample, found none"
        )

    def read(name: str) -> Exhibit:
        path, number = places[name]
        views, facts = views_of(Shard(path).members(number))
        rows = [
            ("Triangles", f"{facts['faces']:,}" if isinstance(facts["faces"], int) else shown(facts["faces"]))
        ]
        rows += (
            [("Light", shown(facts["environment"].get("name")))]
            if isinstance(facts["environment"], dict)
            else []
        )
        rows += [("Shard", path.name), ("Views", str(len(views)))]
        labels = tuple(_angles(views, n) for n in range(len(views)))
        return Exhibit(name, views=views, rows=tuple(rows), labels=labels)

    return Collection(tuple(places), read)


def _evaluation(path: Path) -> Collection:
    names = tuple(sorted(p.name for p in (path / TRUTH).iterdir() if (p / "transforms.json").is_file()))
    if not names:
        raise InputError(
            f"{path / TRUTH}: expected a views folder for each object, found none; run mv3d eval run first"
        )

    def read(name: str) -> Exhibit:
        truth = _pictures(path / TRUTH / name)
        made = path / GENERATED / name
        generated = _pictures(made) if (made / "transforms.json").is_file() else None
        if generated is not None and generated.images.shape != truth.images.shape:
            raise InputError(
                f"{made}: expected {truth.images.shape[:3]} as the truth, got {generated.images.shape[:3]}; run mv3d eval run again"
            )
        scores = read_document(path / OBJECTS / f"{name}.json") or {}
        labels = tuple(_angles(truth, n) for n in range(len(truth)))
        return Exhibit(
            name,
            views=truth,
            others=generated,
            names=("truth", "model"),
            rows=tuple(_score_rows(scores)),
            labels=labels,
        )

    return Collection(names, read)


def _score_rows(scores: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in scores.items():
        if isinstance(value, Mapping):
            rows += _score_rows(value, f"{before}{key}, ")
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and key != "schema":
            rows.append((shown(f"{before}{key}"), f"{value:.4g}"))
    return rows[:40]


def _pictures(folder: Path) -> Views:
    """Views of an evaluation, which may be empty."""
    orbit = load_orbit(folder / "transforms.json")
    files = [folder / "images" / f"{index:03d}.png" for index in range(len(orbit.azimuths_deg))]
    images = stack_frames([read_rgba(file) for file in files], str(folder))
    return Views(images, orbit.cameras(images.shape[2], images.shape[1]), orbit, orbit.input_view)
