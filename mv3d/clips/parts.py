"""The optional libraries of `mv3d clips`, loaded when first needed."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from mv3d.core.errors import MissingPartError
from mv3d.core.installing import install_command

INSTALL = install_command("scenedetect-headless", "opencv-python-headless", "rapidocr", "onnxruntime")


@cache
def opencv() -> Any:
    """OpenCV, on one thread: clips are worked on in processes side by side. Raises MissingPartError."""
    cv2 = _library("cv2", "opencv-python-headless")
    cv2.setNumThreads(1)
    return cv2


def scene_detectors() -> Any:
    """PySceneDetect. Raises MissingPartError."""
    return _library("scenedetect", "scenedetect-headless")


def rapidocr() -> Any:
    """RapidOCR, whose text detector lies in its wheel. Raises MissingPartError."""
    _library("onnxruntime", "onnxruntime")
    return _library("rapidocr", "rapidocr")


def _library(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPartError(f"mv3d clips: {package} is not installed ({error}); run: {INSTALL}") from error
