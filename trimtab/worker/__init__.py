"""Worker environments: interpreters with packages that cannot, or should not, be in ours.

`interpreter_of` makes one below the state directory; `run_job` has it do one job, files in and files out. The scripts
that run there are in `jobs`; they import nothing of ours.
"""

from trimtab.worker.environment import ENVIRONMENTS, Environment, interpreter_of, made
from trimtab.worker.job import run_job

__all__ = ["ENVIRONMENTS", "Environment", "interpreter_of", "made", "run_job"]
