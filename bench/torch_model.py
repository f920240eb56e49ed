"""Qwen3's decoder in PyTorch, eager: the peer of what benchmarks of the engine measure. Random weights."""
import dataclasses

import torch
import torch.nn.functional as F


@dataclasses.dataclass(frozen=True)
class Shape:
    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    dim: int


class Model:
    """Projections of the same rows are one matrix, as in Outlast; the head is the embedding."""

    def __init__(self, shape, positions, device="cpu", dtype=torch.float32):
        self.shape = shape

        def weights(*sizes):
            return (torch.randn(*sizes, device=device, dtype=dtype) * 0.02).requires_grad_()

        def ones(size):
            return torch.ones(size, device=device, dtype=dtype).requires_grad_()
        s = shape
        self.embedding = weights(s.vocabulary, s.hidden)
        self.layers = [{"qkv": weights((s.heads + 2 * s.kv_heads) * s.dim, s.hidden), "out": weights(s.hidden, s.heads * s.dim),
                        "gate_up": weights(2 * s.intermediate, s.hidden), "down": weights(s.hidden, s.intermediate),
                        "norm1": ones(s.hidden), "norm2": ones(s.hidden), "q_norm": ones(s.dim), "k_norm": ones(s.dim)}
                       for _ in range(s.layers)]
        self.norm = ones(s.hidden)
        angles = torch.outer(torch.arange(positions, device=device).float(), 1e6 ** (-torch.arange(0, s.dim, 2, device=device).float() / s.dim))
        self.cosines = torch.cat([angles.cos()] * 2, -1).to(dtype)
        self.sines = torch.cat([angles.sin()] * 2, -1).to(dtype)

    def parameters(self):
        return [self.embedding, self.norm, *(tensor for layer in self.layers for tensor in layer.values())]

    def cache(self, batch):
        """Keys and values of all positions, allocated once."""
        s = self.shape
        return torch.zeros(2, s.layers, batch, s.kv_heads, len(self.cosines), s.dim, device=self.embedding.device, dtype=self.embedding.dtype)

    def turn(self, x, begin):
        end, half = begin + x.shape[-2], self.shape.dim // 2
        return x * self.cosines[begin:end] + torch.cat([-x[..., half:], x[..., :half]], -1) * self.sines[begin:end]

    def states(self, tokens, begin=0, cache=None):
        s, (batch, rows) = self.shape, tokens.shape
        x = F.embedding(tokens, self.embedding)
        for number, layer in enumerate(self.layers):
            qkv = F.linear(norm(x, layer["norm1"]), layer["qkv"]).view(batch, rows, s.heads + 2 * s.kv_heads, s.dim).transpose(1, 2)
            q, k, v = qkv.split([s.heads, s.kv_heads, s.kv_heads], 1)
            q, k = self.turn(norm(q, layer["q_norm"]), begin), self.turn(norm(k, layer["k_norm"]), begin)
            if cache is not None:
                cache[0, number, :, :, begin:begin + rows], cache[1, number, :, :, begin:begin + rows] = k, v
                k, v = cache[0, number, :, :, :begin + rows], cache[1, number, :, :, :begin + rows]
            k, v = k.repeat_interleave(s.heads // s.kv_heads, 1), v.repeat_interleave(s.heads // s.kv_heads, 1)
            a = F.scaled_dot_product_attention(q, k, v, is_causal=rows > 1)
            x = x + F.linear(a.transpose(1, 2).reshape(batch, rows, s.heads * s.dim), layer["out"])
            gate, up = F.linear(norm(x, layer["norm2"]), layer["gate_up"]).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, layer["down"])
        return norm(x, self.norm)

    def likeliest(self, states):
        """The token after the last place of each: [batch, 1]."""
        return F.linear(states[:, -1:], self.embedding).argmax(-1)

    def loss(self, tokens):
        logits = F.linear(self.states(tokens)[:, :-1], self.embedding)
        return F.cross_entropy(logits.reshape(-1, self.shape.vocabulary), tokens[:, 1:].reshape(-1))


def norm(x, weight):
    return F.rms_norm(x, weight.shape, weight, 1e-6)


def optimizer_of(model):
    return torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)


def train_step(model, optimizer, tokens):
    model.loss(tokens).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
