"""Wheels for a notebook without a network: profiles, locks, download, verification.

It imports only rooms before `kaggle`.
"""
