"""Optimizers of torch that do not import torch's compiler, which would take each worker more than a second.

torch marks their methods for its compiler by decorators that import it with the first call; here the methods below
those decorators are called. Nothing here is compiled, so nothing else changes.
"""

from __future__ import annotations

from inspect import unwrap

import torch


class EagerOptimizer(torch.optim.Optimizer):
    """An optimizer whose own methods are free of the compiler's marks; a subclass has a step that is, too."""

    add_param_group = unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = unwrap(torch.optim.Optimizer.zero_grad)
    state_dict = unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = unwrap(torch.optim.Optimizer.load_state_dict)


class EagerAdamW(EagerOptimizer, torch.optim.AdamW):
    """torch's AdamW."""

    step = torch.no_grad()(unwrap(torch.optim.AdamW.step))
