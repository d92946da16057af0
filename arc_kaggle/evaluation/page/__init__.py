"""The report page: HTML, style and script beside this file, put together with the data of runs.

It imports only `evaluation.run_view`, `evaluation.run_comparison` and rooms before `evaluation`.
"""
