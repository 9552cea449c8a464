"""Saying to people what they have to know, once: through Apprise, from the worker and from `serve`."""
