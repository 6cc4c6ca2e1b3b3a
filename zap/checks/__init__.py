"""Checks of the settings and of their surroundings: one file for each subject, and each finding with a hint."""
