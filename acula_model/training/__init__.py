"""Alignment training: pairs and teacher vectors -> an aligned encoder, resumable at any step."""
