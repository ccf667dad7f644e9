"""Training data: trajectories, catalogues, render jobs and shards of orbits."""
