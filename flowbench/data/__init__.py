"""Demonstrations: recorded, stored, read back from several formats, looked at and checked."""
