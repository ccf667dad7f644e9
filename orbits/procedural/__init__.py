"""Objects made of formulas and numbers: a data set without any download."""
