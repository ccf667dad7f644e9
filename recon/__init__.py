"""From posed views to a textured mesh."""
