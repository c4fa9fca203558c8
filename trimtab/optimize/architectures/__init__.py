"""Small ready model families; a recipe names one as e.g. `trimtab.optimize.architectures.cnn:cnn`.

Each is a callable that returns an `nn.Module` whose forward gives logits (n, classes): `mlp` for rows of a table,
`cnn`, `resnet` and `mobilenet` for images, `rnn` and `attention` for sequences. See docs/architectures.md.
"""
