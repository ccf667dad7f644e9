"""Damaged and hostile files for every reader: a value or one sentence, never a crash, a hang or a traceback."""
