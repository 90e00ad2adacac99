"""Dagster wiring; with definitions.py the only code that imports Dagster.

An asset is a declaration and one call of a step. Docstrings and descriptions are UI text.
"""
