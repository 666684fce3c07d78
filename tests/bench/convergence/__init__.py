"""`make bench-convergence`: whole trainings through the real server against tuned schedules, at equal total steps.

Everything is lower-is-better: test error in percent for images, bits per byte (or per masked byte) for text. LRs of
rivals are chosen on the validation loss at the small budget with one seed; nothing is ever chosen on a test set.

| module | what |
|---|---|
| `data`, `models`, `tasks` | five small tasks on real data |
| `policies` | how each policy gets its LRs: PyTorch's schedulers, two optimizers without schedules, and ours |
| `trial` | one training: a row of numbers |
| `plan`, `rows` | which trainings there are, and those that have been run |
| `table`, `pictures` | what is shown of them |
| `robustness` | a hundred seeds and hostile settings: overhead and destroyed runs |
| `serving` | the real server |
"""
