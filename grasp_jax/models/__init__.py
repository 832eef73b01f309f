"""Sigmoid attention, holistic attention, backbones, and the recommender made of them. Knows no file."""
