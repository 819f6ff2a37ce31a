"""Token-aware rate limits and quotas for LLM calls."""

from tallygate._native import __version__ as __version__
