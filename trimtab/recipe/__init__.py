"""The recipe: what a user writes (`schema`), how it is read (`load`), and how their code is imported (`entry`)."""

from trimtab.recipe.entry import UserCode
from trimtab.recipe.load import load_recipe
from trimtab.recipe.schema import Recipe

__all__ = ["Recipe", "UserCode", "load_recipe"]
