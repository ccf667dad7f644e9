"""Isolated workers, Ray and downloads: what rendering a data set runs on."""
