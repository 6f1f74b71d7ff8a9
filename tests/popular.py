"""What most take: a score for each product, learnt as any other weight."""

from __future__ import annotations

import torch
from safetensors.torch import load_file, save_file
from torch import nn

FILE = "popular.safetensors"


class Popular(nn.Module):
    def __init__(self, items):
        super().__init__()
        self.items = items
        self.logits = nn.Parameter(torch.zeros(items))

    def scores(self, cases):
        return self.logits.detach().cpu().numpy()[None].repeat(len(cases), axis=0)

    def save(self, folder):
        save_file({"logits": self.logits.detach()}, folder / FILE)


def load(folder):
    weights = load_file(folder / FILE)
    model = Popular(len(weights["logits"]))
    model.load_state_dict(weights)
    return model


class Objective(nn.Module):
    def __init__(self, model, learning_rate):
        super().__init__()
        self.scorer, self.learning_rate = model, learning_rate

    @classmethod
    def start(cls, folder, settings, gather):
        return cls(load(folder), settings["learning_rate"])

    def forward(self, batch):  # the columns of the training table, here `items`: what each shopper took
        taken = torch.tensor([item for row in batch["items"] for item in row])
        return -self.scorer.logits.log_softmax(0)[taken].mean()

    def parameter_groups(self):
        return [{"params": list(self.parameters()), "lr": self.learning_rate}]

    def save(self, folder):
        self.scorer.save(folder)
