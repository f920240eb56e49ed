#!/usr/bin/env python3
"""The peer of outlast-decode-bench: the same model in PyTorch, greedy, with a key-value cache that is allocated once.

Prints tokens/s alone and of sixteen at once (all of one length, so that PyTorch needs no padding). Needs torch.
"""
import time

import torch
import torch.nn.functional as F

HIDDEN, INTERMEDIATE, LAYERS, HEADS, KV_HEADS, DIM, VOCABULARY = 320, 1024, 6, 6, 2, 64, 8192
PROMPT, ANSWER, RUNS = 32, 256, 5


class Model:
    def __init__(self, batch):
        def weights(*shape):
            return torch.randn(*shape) * 0.02
        self.embedding = weights(VOCABULARY, HIDDEN)
        self.layers = [{"qkv": weights((HEADS + 2 * KV_HEADS) * DIM, HIDDEN), "out": weights(HIDDEN, HEADS * DIM),
                        "gate_up": weights(2 * INTERMEDIATE, HIDDEN), "down": weights(HIDDEN, INTERMEDIATE),
                        "norm1": torch.ones(HIDDEN), "norm2": torch.ones(HIDDEN), "q_norm": torch.ones(DIM), "k_norm": torch.ones(DIM)}
                       for _ in range(LAYERS)]
        self.norm = torch.ones(HIDDEN)
        angles = torch.outer(torch.arange(PROMPT + ANSWER).float(), 1e6 ** (-torch.arange(0, DIM, 2).float() / DIM))
        self.cosines, self.sines = torch.cat([angles.cos()] * 2, -1), torch.cat([angles.sin()] * 2, -1)
        self.keys = torch.zeros(LAYERS, batch, KV_HEADS, PROMPT + ANSWER, DIM)
        self.values = torch.zeros_like(self.keys)

    def turn(self, x, begin, end):
        half = torch.cat([-x[..., DIM // 2:], x[..., :DIM // 2]], -1)
        return x * self.cosines[begin:end] + half * self.sines[begin:end]

    def logits(self, tokens, begin):
        batch, rows = tokens.shape
        end = begin + rows
        x = self.embedding[tokens]
        for number, layer in enumerate(self.layers):
            qkv = F.linear(norm(x, layer["norm1"]), layer["qkv"]).view(batch, rows, HEADS + 2 * KV_HEADS, DIM).transpose(1, 2)
            q, k, v = qkv.split([HEADS, KV_HEADS, KV_HEADS], 1)
            self.keys[number, :, :, begin:end] = self.turn(norm(k, layer["k_norm"]), begin, end)
            self.values[number, :, :, begin:end] = v
            q = self.turn(norm(q, layer["q_norm"]), begin, end)
            k = self.keys[number, :, :, :end].repeat_interleave(HEADS // KV_HEADS, 1)
            v = self.values[number, :, :, :end].repeat_interleave(HEADS // KV_HEADS, 1)
            a = F.scaled_dot_product_attention(q, k, v, is_causal=rows > 1)
            x = x + F.linear(a.transpose(1, 2).reshape(batch, rows, HEADS * DIM), layer["out"])
            gate, up = F.linear(norm(x, layer["norm2"]), layer["gate_up"]).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, layer["down"])
        return F.linear(norm(x[:, -1], self.norm), self.embedding)


def norm(x, weight):
    return F.rms_norm(x, weight.shape, weight, 1e-6)


def tokens_per_second(batch):
    model = Model(batch)
    tokens = model.logits(torch.randint(VOCABULARY, (batch, PROMPT)), 0).argmax(-1, keepdim=True)
    began = time.perf_counter()
    for place in range(PROMPT, PROMPT + ANSWER - 1):
        tokens = model.logits(tokens, place).argmax(-1, keepdim=True)
    return batch * (ANSWER - 1) / (time.perf_counter() - began)


def main():
    with torch.inference_mode():
        for batch in (1, 16):
            print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, {batch:2} at once: "
                  f"{max(tokens_per_second(batch) for _ in range(RUNS)):8.0f} tokens/s")


if __name__ == "__main__":
    main()
