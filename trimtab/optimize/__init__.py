"""Training: `training.fit` on Lightning, `predicting.predict_logits`, and small ready `architectures`.

Nothing heavy is imported here: name the module you need.
"""
