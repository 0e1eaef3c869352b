"""Readers of demonstration formats; each knows one format and nothing about learning."""
