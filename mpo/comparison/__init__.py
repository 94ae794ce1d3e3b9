"""Comparing: two candidates of a prompt, two models, several runs."""
