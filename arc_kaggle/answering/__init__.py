"""AIRV: views become requests, completions become candidates, votes become attempts.

It imports `engines` and before.
"""
