"""Import path of the seam to credentials of the user's making."""

from blocks_worker.controlplane.providers import AuthProvider, StaticAuthProvider

__all__ = ["AuthProvider", "StaticAuthProvider"]
