"""`mv3d eval run`: one model on one set of objects, from the meshes to one table.

In the order of a run: `config` (the settings), `plan` (objects, orbit, model and metrics, checked before anything is
written), `decontamination` (was the model trained on these objects?), `evaluate` (the three stages of an object and
their resumption), `folders` (the files of one object), `scores` (metrics and their means), `tables` (JSON, CSV and
Markdown, with the figures of `published`).
"""
