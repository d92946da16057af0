"""The wheel bundle: all that a notebook without a network installs, resolved, downloaded and checked beforehand."""
