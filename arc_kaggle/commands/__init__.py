"""The commands of `arc-kaggle`, one file each, named as they are typed.

It imports every other room; `cli` imports it.
"""
