"""The settings of a reconstruction. Each field is a flag of `mv3d recon`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from mv3d.core.errors import UsageError

FORMATS = ("glb", "obj", "ply", "stl")


@dataclass(frozen=True)
class ReconConfig:
    """What to make and how carefully."""

    formats: tuple[str, ...] = ()
    """Files to write: glb, obj, ply, stl; several at once. By default glb, for a print stl."""
    quality: Literal["draft", "standard", "high"] = "standard"
    """draft: the tightened hull, seconds. standard: the fitted field. high: finer grids, longer."""
    method: Literal["mesh", "nerf"] = "mesh"
    """mesh: a textured mesh. nerf: stop at the radiance field; write novel views and a turntable."""
    profile: Literal["default", "web", "print"] = "default"
    """web: 30,000 faces, JPEG texture, at most 3 MB. print: one closed shell, millimetres in STL."""
    faces: int | None = None
    """Most faces of the mesh; by default the quality or the profile decides."""
    texture_size: int | None = None
    """Side of the square texture in texels, a power of two."""
    trajectory: str = "static"
    """Novel views of `nerf`: static, sine, dynamic, or a JSON file with elevations_deg and azimuths_deg."""
    print_size_mm: float = 100.0
    """Largest side of a print, millimetres."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N. A device that is asked for and missing is an error."""
    seed: int = 0
    """Seed of the fit's random rays."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.formats if name not in FORMATS]
        if unknown:
            raise UsageError(f"--format: expected some of {', '.join(FORMATS)}, got {','.join(self.formats)}")
        for name, value, known in (
            ("quality", self.quality, ("draft", "standard", "high")),
            ("method", self.method, ("mesh", "nerf")),
            ("profile", self.profile, ("default", "web", "print")),
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

    def resolved(self) -> ReconConfig:
        """The same settings with every default filled in."""
        faces = {"draft": 10_000, "standard": 20_000, "high": 60_000}[self.quality]
        texture = {"draft": 1024, "standard": 1024, "high": 2048}[self.quality]
        if self.profile == "web":
            faces = 30_000
        formats = self.formats or (("stl",) if self.profile == "print" else ("glb",))
        return replace(
            self,
            formats=tuple(dict.fromkeys(formats)),
            faces=self.faces or faces,
            texture_size=self.texture_size or texture,
        )
