"""Language models small enough to ship: two policies, a process reward model, their dataset and recorded pools.

Importing this package imports nothing heavy; the scripts that train and sample import torch in their own modules.
"""

from apportion.lab.paths import LAB_NAMES, lab_path

__all__ = ["LAB_NAMES", "lab_path"]
