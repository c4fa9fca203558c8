"""Worker environments: interpreters with packages that cannot, or should not, be in ours, made when first needed.

`environment` makes one below the state directory; `run_job` has it do one job, files in and files out. The scripts
that run there are in `jobs`; they import nothing of ours.
"""

from trimtab.worker.environment import ENVIRONMENTS, Environment, environment
from trimtab.worker.job import run_job

__all__ = ["ENVIRONMENTS", "Environment", "environment", "run_job"]
