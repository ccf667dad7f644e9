"""The single-photo 3D prior: one photo in, a solid in the photo's own frustum out."""
