"""SASRec in plain PyTorch, for the rivals that are written in it; no JAX, for one of them runs where there is none."""

import math

import torch
from torch import nn


class SASRec(nn.Module):
    """SASRec with the sub-layers of the released code: normalised queries, plain keys and values, causal mask."""

    def __init__(
        self, features: int, max_length: int, num_layers: int, num_heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.features = features
        self.positions = nn.Embedding(max_length, features)
        self.dropout = nn.Dropout(dropout)
        self.attention_norms = nn.ModuleList(
            nn.LayerNorm(features, eps=1e-8) for _ in range(num_layers)
        )
        self.attentions = nn.ModuleList(
            nn.MultiheadAttention(features, num_heads, dropout=dropout, batch_first=True)
            for _ in range(num_layers)
        )
        self.forward_norms = nn.ModuleList(
            nn.LayerNorm(features, eps=1e-8) for _ in range(num_layers)
        )
        self.forwards = nn.ModuleList(
            nn.Sequential(
                nn.Linear(features, features),
                nn.Dropout(dropout),
                nn.ReLU(),
                nn.Linear(features, features),
                nn.Dropout(dropout),
            )
            for _ in range(num_layers)
        )
        self.last_norm = nn.LayerNorm(features, eps=1e-8)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Item vectors [B, L, D] -> states [B, L, D]; padding lies on the right, where the causal mask hides it."""
        length = vectors.shape[1]
        x = vectors * math.sqrt(self.features) + self.positions(
            torch.arange(length, device=vectors.device)
        )
        x = self.dropout(x)
        hidden = torch.triu(
            torch.ones(length, length, dtype=torch.bool, device=x.device), diagonal=1
        )
        for k, attention in enumerate(self.attentions):
            queries = self.attention_norms[k](x)
            attended, _ = attention(queries, x, x, attn_mask=hidden, need_weights=False)
            x = self.forward_norms[k](queries + attended)
            x = x + self.forwards[k](x)
        return self.last_norm(x)
