"""A step of a small Transformer with PyTorch: the other side of `benchmarks/multi30k.py`.

    python -m benchmarks.reference.translation BATCHES [--rounds 1]

For a Python of `benchmarks/requirements.txt`; Encodax is not needed. BATCHES is JSON: the shape of
the model, and for each batch the token ids of its sources and targets (the end included). The
model is `torch.nn.Transformer` of that shape with one table of tokens for both sides and the
output, sinusoidal positions, residual dropout of 0.3; Adam, label smoothing of 0.1, clipping at 1.
Prints the seconds of all batches, after three to warm up.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

WARM_UP = 3


class Translator(nn.Module):
    """Embeddings, `nn.Transformer`, and scores by the same table."""

    def __init__(self, shape: dict[str, Any]):
        super().__init__()
        self.width = shape["width"]
        self.tokens = nn.Embedding(shape["vocabulary"], self.width)
        nn.init.normal_(self.tokens.weight, std=self.width**-0.5)
        self.dropout = nn.Dropout(shape["dropout"])
        self.transformer = nn.Transformer(
            d_model=self.width,
            nhead=shape["heads"],
            num_encoder_layers=shape["layers"],
            num_decoder_layers=shape["layers"],
            dim_feedforward=shape["ffn"],
            dropout=shape["dropout"],
            batch_first=True,
        )
        self.register_buffer("positions", sinusoids(shape["longest"], self.width))
        self.bias = nn.Parameter(torch.zeros(shape["vocabulary"]))

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Tokens and positions."""
        x = self.tokens(ids) * math.sqrt(self.width) + self.positions[: ids.shape[1]]
        return self.dropout(x)

    def forward(self, source: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        """Scores of the token after each of the target's."""
        is_padding = source == 0
        future = nn.Transformer.generate_square_subsequent_mask(given.shape[1])
        hidden = self.transformer(
            self.embed(source),
            self.embed(given),
            tgt_mask=future,
            src_key_padding_mask=is_padding,
            memory_key_padding_mask=is_padding,
            tgt_is_causal=True,
        )
        return nn.functional.linear(hidden, self.tokens.weight, self.bias)


def sinusoids(positions: int, width: int) -> torch.Tensor:
    """The table of section 3.5."""
    angle = torch.arange(positions)[:, None] * 10_000.0 ** (-torch.arange(0, width, 2) / width)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).reshape(positions, width)


def padded(rows: list[list[int]]) -> torch.Tensor:
    """Rows as one array; 0 is padding."""
    longest = max(map(len, rows))
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows])


def main() -> None:
    """Time the batches."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("batches", type=Path)
    content = json.loads(parser.parse_args().batches.read_text(encoding="utf-8"))
    torch.manual_seed(0)
    model = Translator(content["shape"]).train()
    for block in model.modules():  # residual dropout alone, as on the other side
        if isinstance(block, nn.MultiheadAttention):
            block.dropout = 0.0
        elif isinstance(block, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
            block.dropout.p = 0.0
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.9, 0.98), eps=1e-9)
    loss_of = nn.CrossEntropyLoss(ignore_index=0, label_smoothing=0.1)
    batches = [(padded(b["sources"]), padded(b["targets"])) for b in content["batches"]]
    seconds = []
    for source, target in batches[:WARM_UP] + batches:
        began = time.perf_counter()
        given = torch.cat([torch.zeros_like(target[:, :1]), target[:, :-1]], dim=1)
        scores = model(source, given)
        loss = loss_of(scores.flatten(0, 1), target.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - began)
    print(json.dumps({"seconds": sum(seconds[WARM_UP:]), "loss": loss.item()}))


if __name__ == "__main__":
    main()
