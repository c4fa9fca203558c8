"""What a decision rests on: how much each part of an input speaks for it, in the original and in a candidate.

`regions` cuts an input into parts, `occlusion` (any runtime) and `gradients` (a torch module) say what each part is
worth, `agreement` compares the two models, `explainer` does it for a release, `picture` draws it.
"""
