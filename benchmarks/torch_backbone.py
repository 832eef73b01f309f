"""SASRec in plain PyTorch, for the rivals in PyTorch. It does not import JAX, because one of them runs in an environment without it."""

import math

import torch
import torch.nn.functional as F
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
        """Item vectors [B, L, D] -> states [B, L, D]; padding is on the right, where the causal mask hides it."""
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


class PackedSASRec(SASRec):
    """`SASRec` over packed rows: each row has several histories, and attention stays within a history."""

    def forward(  # type: ignore[override]  # of packed rows, not of padded ones
        self, vectors: torch.Tensor, segments: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        """Item vectors [R, L, D] -> states [R, L, D]."""
        rows, length, features = vectors.shape
        own = segments[:, :, None] == segments[:, None, :]
        causal = torch.ones(length, length, dtype=torch.bool, device=vectors.device).tril()
        itself = torch.eye(length, dtype=torch.bool, device=vectors.device)
        allowed = ((own & causal & (segments >= 0)[:, :, None]) | itself)[:, None]
        x = self.dropout(vectors * math.sqrt(features) + self.positions(positions))
        for k, attention in enumerate(self.attentions):
            queries = self.attention_norms[k](x)
            weight, bias = attention.in_proj_weight, attention.in_proj_bias
            q = F.linear(queries, weight[:features], bias[:features])
            keys, values = F.linear(x, weight[features:], bias[features:]).chunk(2, dim=-1)
            heads = (
                part.view(rows, length, attention.num_heads, -1).transpose(1, 2)
                for part in (q, keys, values)
            )
            drops = attention.dropout if self.training else 0.0
            attended = F.scaled_dot_product_attention(*heads, attn_mask=allowed, dropout_p=drops)
            attended = attended.transpose(1, 2).reshape(rows, length, features)
            x = self.forward_norms[k](queries + attention.out_proj(attended))
            x = x + self.forwards[k](x)
        return self.last_norm(x)
