"""A second program for every family, written another way, that checks its pairs.

It imports only `tasks`.
"""
