"""Foundations of every room: errors, records, files, progress, devices, caches, colours, charts."""
