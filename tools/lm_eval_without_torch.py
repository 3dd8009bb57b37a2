# SPDX-License-Identifier: MIT
"""lm-evaluation-harness without torch: modules that need it are replaced by ones in which everything is anything."""
import importlib.machinery
import sys
import types

import datasets
import transformers  # noqa: F401  both look for torch, so they come before the stubs

datasets.disable_progress_bars()


class Anything:
    def __init__(self, *a, **k): pass
    def __getattr__(self, name): return Anything()
    def __call__(self, *a, **k): return a[0] if len(a) == 1 and callable(a[0]) else Anything()
    def __or__(self, other): return Anything()
    __ror__ = __or__


class Stub(types.ModuleType):
    __path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {}) if name in ("Tensor", "HFLM") else Anything()


class Stubs:
    def __init__(self, kept): self.kept = {"lm_eval.models." + m for m in kept}

    def find_spec(self, name, path=None, target=None):
        models = name == "lm_eval.models" and not self.kept or name.startswith("lm_eval.models.")
        if name.split(".")[0] in ("torch", "accelerate", "peft") or (models and name not in self.kept):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec): return Stub(spec.name)
    def exec_module(self, module): pass


def install(*kept):
    """Before lm_eval is imported; `kept` are those of its modules in lm_eval.models that stay themselves."""
    sys.meta_path.insert(0, Stubs(kept))
