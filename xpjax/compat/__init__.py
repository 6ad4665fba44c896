"""Interfaces of other packages on top of xpjax."""

__all__ = ["gaiaxpy"]
