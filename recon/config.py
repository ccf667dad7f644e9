"""The settings of a reconstruction. Each field is a flag of `mv3d recon`. Loads nothing heavy."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal, get_args

import tyro

from mv3d.core.errors import UsageError
from mv3d.core.flags import SAID
from mv3d.recon.representation import METHODS
from mv3d.recon.splats.formats import SPLAT_FILES, splat_files
from mv3d.render.writers import POINT_FILES, WRITERS

Quality = Literal["draft", "standard", "high"]
Topology = Literal["triangles", "quads"]
Profile = Literal["default", "web", "print"]

# Names of settings by flags, where they differ.
_FIELDS = {"format": "formats"}


def _known() -> str:
    return ", ".join((*WRITERS, *POINT_FILES, *SPLAT_FILES))


def _formats(words: list[str]) -> tuple[str, ...]:
    names = tuple(part.strip().lower() for part in words[0].split(",") if part.strip())
    if not names:
        raise UsageError(f"--format: expected some of {_known()}, got none", fields=_FIELDS)
    return names


FORMATS = tyro.constructors.PrimitiveConstructorSpec[tuple[str, ...]](
    nargs=1,
    metavar=",".join((*WRITERS, *POINT_FILES, *SPLAT_FILES)),
    instance_from_str=_formats,
    is_instance=lambda value: isinstance(value, tuple),
    str_from_instance=lambda value: [",".join(value)],
)
# Evaluated when arguments are parsed, so that an entry of METHODS is a choice.
_METHOD = tyro.conf.arg(
    constructor_factory=lambda: Literal[tuple(METHODS)],  # pyright: ignore
    help_behavior_hint="(default: mesh)",
)


@dataclass(frozen=True)
class ReconConfig:
    """What to make and how carefully. Raises UsageError for values out of range."""

    formats: Annotated[tuple[str, ...], FORMATS, tyro.conf.arg(name="format"), SAID] = ()
    """Files to write, with commas between them. Default: glb (stl for a print, ply-splat for splats). 3mf is in
    millimetres, usdz needs the extra usd, ply-points is a cloud of points on the surface: points.ply.
    splat, ply-splat and spz are Gaussian splats: splats.splat, splats.ply and splats.spz."""
    quality: Quality = "standard"
    """draft: the tightened hull, seconds. standard: a field fitted to all views. high: finer grids, longer. (`instant` of
    `mv3d make` needs the photo, not views: it is `mv3d lift`.)"""
    method: Annotated[str, _METHOD] = "mesh"
    """mesh: a textured mesh. nerf: novel views along --trajectory and a turntable of the fitted field, a signed
    distance rendered as in NeuS. splats: flat Gaussians on the mesh instead of it, fitted to the views."""
    profile: Profile = "default"
    """web: JPEG texture, at most 3 MB, 30000 faces whatever the quality. print: one closed shell, millimetres in STL."""
    faces: Annotated[int | None, SAID] = None
    """Most faces of the mesh. Default: 10000 for draft, 20000 for standard, 60000 for high; 30000 for web."""
    texture_size: Annotated[int | None, SAID] = None
    """Side of the square texture in texels, a power of two. Default: 1024, for high 2048."""
    topology: Topology = "triangles"
    """quads: faces along the shape's lines, half as many, as quads in obj (extra quads)."""
    albedo: bool = False
    """Take the light out of the texture, as far as nine spherical harmonics of the normals explain it."""
    normal_map: bool = False
    """Also bake the relief of the mesh before its simplification into a normal map (glb, obj, usdz)."""
    trajectory: Annotated[str, tyro.conf.arg(metavar="static|sine|dynamic|FILE.json")] = "static"
    """Novel views of nerf: static, sine, dynamic, or a JSON file with elevations_deg and azimuths_deg."""
    prior: bool = True
    """Start from the prior.glb of views that a 3D prior made: it decides what the views leave open."""
    print_size_mm: float = 100.0
    """Largest side of a print and of a 3mf, millimetres."""
    points: int = 100_000
    """Points of ply-points, 1 to 50 million, evenly by area."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N. A device that is asked for and missing is an error."""
    seed: int = 0
    """Seed of the fit's random rays and of a dynamic trajectory."""

    def __post_init__(self) -> None:
        if not {*self.formats} <= {*WRITERS, *POINT_FILES, *SPLAT_FILES}:
            raise UsageError(
                f"--format: expected some of {_known()}, got {','.join(self.formats)}", fields=_FIELDS
            )
        # The order in which they were named is none of a difference.
        ordered = tuple(name for name in (*WRITERS, *POINT_FILES, *SPLAT_FILES) if name in self.formats)
        object.__setattr__(self, "formats", ordered)
        for name, value, known in (
            ("quality", self.quality, get_args(Quality)),
            ("method", self.method, tuple(METHODS)),
            ("profile", self.profile, get_args(Profile)),
            ("topology", self.topology, get_args(Topology)),
        ):
            if value not in known:
                raise UsageError(f"--{name}: expected one of {', '.join(known)}, got {value}")
        if self.faces is not None and not 100 <= self.faces <= 2_000_000:
            raise UsageError(f"--faces: expected 100 to 2000000, got {self.faces}")
        size = self.texture_size
        if size is not None and (not 64 <= size <= 8192 or size & (size - 1)):
            raise UsageError(f"--texture-size: expected a power of two from 64 to 8192, got {size}")
        if not 1 <= self.print_size_mm <= 10_000:
            raise UsageError(f"--print-size-mm: expected 1 to 10000, got {self.print_size_mm}")
        of_meshes = ("formats", "profile", "faces", "texture_size", "topology", "albedo", "normal_map")
        if not 1 <= self.points <= 50_000_000:
            raise UsageError(f"--points: expected 1 to 50000000, got {self.points}")
        formats = set(self.formats_or_default)
        textured = {"glb", "obj", "usdz"} & formats
        sized = self.profile == "print" or "3mf" in formats
        unused = [(not sized, "--profile print or --format 3mf", ("print_size_mm",))]
        unused += [("ply-points" not in formats, "--format ply-points", ("points",))]
        unused += [(self.method != "nerf", "--method nerf", ("trajectory",))]
        unused += [(self.method == "nerf", "--method mesh", of_meshes)]
        unused += [(not textured, "--format glb, obj or usdz", ("normal_map",))]
        unused += [(formats == {"stl"}, "a --format with colours", ("albedo",))]
        for is_unused, needed, names in unused:
            for name in names:
                if is_unused and getattr(self, name) != getattr(ReconConfig, name):
                    flag = "format" if name == "formats" else name.replace("_", "-")
                    raise UsageError(f"--{flag}: expected only with {needed}", fields=_FIELDS)
        if self.method == "splats" and self.formats and not splat_files(self.formats):
            known = ", ".join(SPLAT_FILES)
            raise UsageError(
                f"--format: expected one of {known} with --method splats, got {','.join(self.formats)}",
                fields=_FIELDS,
            )

    @property
    def formats_or_default(self) -> tuple[str, ...]:
        usual = "stl" if self.profile == "print" else "glb"
        return self.formats or ("ply-splat" if self.method == "splats" else usual,)

    def resolved(self) -> ReconConfig:
        """The same settings with every default filled in; those of meshes not where none is made."""
        if self.method == "nerf":
            return self
        faces = {"draft": 10_000, "standard": 20_000, "high": 60_000}[self.quality]
        texture = {"draft": 1024, "standard": 1024, "high": 2048}[self.quality]
        if self.profile == "web":
            faces = 30_000
        return replace(
            self,
            formats=tuple(dict.fromkeys(self.formats_or_default)),
            faces=self.faces or faces,
            texture_size=self.texture_size or texture,
        )


_LATER = ("prior", "topology", "albedo", "normal_map", "points")  # settings that came after the first records


def recorded(config: ReconConfig) -> dict[str, Any]:
    """The settings of a record. Those that earlier records do not know stand in it where they are not the default."""
    return {
        name: value
        for name, value in asdict(config).items()
        if name not in _LATER or value != getattr(ReconConfig, name)
    }
