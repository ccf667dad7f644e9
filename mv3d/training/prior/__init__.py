"""Training of the single-photo 3D prior on shards with geometry (`mv3d orbits render --geometry`)."""
