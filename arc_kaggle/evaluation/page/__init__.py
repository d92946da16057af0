"""The report page: HTML, style and script beside this file, put together with the data of runs.

It imports only `evaluation.run_view` and rooms before `evaluation`.
"""
