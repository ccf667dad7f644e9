"""Splats: flat Gaussians on a mesh, their rasteriser, their fit to views, and their files."""
