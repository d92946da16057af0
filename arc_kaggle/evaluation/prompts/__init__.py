"""Judging models on prompts with completions: answers, scores, and the summary. Imports what its room may import."""
