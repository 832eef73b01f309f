"""Texts by a describer: the template itself, or a language model of an endpoint or of this machine."""
