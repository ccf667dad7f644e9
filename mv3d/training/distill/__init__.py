"""Distillation: a multi-view model that samples in many steps → a student of 1, 2 or 4 steps."""
