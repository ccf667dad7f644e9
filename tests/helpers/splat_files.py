"""Files of 3D Gaussians, written field by field."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def splat_file(path: Path, rows: np.ndarray) -> Path:
    """rows: (n, 14) of the file's fields in the order of 3DGS without normals and the rest of the harmonics."""
    names = "x y z f_dc_0 f_dc_1 f_dc_2 opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3".split()
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}"]
    lines += [*(f"property float {name}" for name in names), "end_header", ""]
    path.write_bytes("\n".join(lines).encode() + rows.astype("<f4").tobytes())
    return path
