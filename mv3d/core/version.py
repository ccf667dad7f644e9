"""The version of mv3d."""

__version__ = "0.1.0"
