"""The version of xpjax."""

__version__ = "0.1.0"
