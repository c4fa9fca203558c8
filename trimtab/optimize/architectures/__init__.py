"""Small ready model families; a recipe names one as e.g. `trimtab.optimize.architectures.cnn:cnn`.

Each is a callable that returns an `nn.Module` whose forward gives logits (n, classes).
"""
