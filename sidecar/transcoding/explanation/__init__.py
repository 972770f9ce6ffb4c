"""Explanations of HTTP requests: what the transcoder does with one, without calling a service."""
