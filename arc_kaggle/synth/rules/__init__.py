"""Families of rules by topic; a rule makes any number of pairs.

It imports only `tasks`.
"""
