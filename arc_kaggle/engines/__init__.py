"""Engines turn prompts into completions. They know token ids only, never a grid."""
