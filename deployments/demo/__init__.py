"""`make run`: the whole loop on the digits example, from training to a retrained and promoted release."""
