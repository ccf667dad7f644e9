"""Posed views of one object: the value, its folder, readers, masks and silhouettes."""
