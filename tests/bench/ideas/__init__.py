"""What was tried to better `scan`, so that its numbers can be had again: server/core/src/policy/NOTES.md.

`python -m ideas.branches`, then `python -m ideas.choice`: how the best branch LR depends on the branch's length, and
what a Gaussian process or two lengths make of the scores. `python -m ideas.cooldown`: the cooldown's shape and length,
and averaged weights. Each keeps rows and runs what they lack. All without a server: these are ideas about curves.
"""
