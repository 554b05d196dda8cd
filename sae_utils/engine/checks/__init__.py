"""Checks of a profile: its values one by one, and whether they fit together."""
