"""The promises under faults, load, broken input and attack, with a count or a figure for each.

``make test`` runs a short part of each; ``make test-faults`` runs them in full, and keeps the figures in
``benchmarks/results``. docs/reliability.md tells what they were last.
"""
