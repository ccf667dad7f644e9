"""Cameras, meshes, rays and pictures: what every other room stands on."""
