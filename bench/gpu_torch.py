#!/usr/bin/env python3
"""The peer of outlast-gpu-bench: the same models in PyTorch, eager, on the same device. Needs torch.

Prints lines "training 0.6B TOKENS_PER_SECOND" and "decoding 0.6B TOKENS_PER_SECOND". Weights are bf16 and so is AdamW's state (fused),
which is less work than the fp32 copies of outlast-gpu-bench; a batch is 8,192 tokens, whose logits exist at once.
"""
import sys
import time

import torch
import torch.nn.functional as F

VOCABULARY, LAYERS, HEADS, KV_HEADS, DIM = 151936, 28, 16, 8, 128
SEQUENCE, SEQUENCES, WARM_UP, STEPS = 2048, 4, 2, 8
PROMPT, ANSWER = 32, 256
SHAPES = {"0.6B": (1024, 3072), "1.7B": (2048, 6144)}


class Model:
    def __init__(self, hidden, intermediate):
        def weights(*shape):
            return (torch.randn(*shape, device="cuda", dtype=torch.bfloat16) * 0.02).requires_grad_()

        def ones(size):
            return torch.ones(size, device="cuda", dtype=torch.bfloat16).requires_grad_()
        self.embedding = weights(VOCABULARY, hidden)
        self.layers = [{"qkv": weights((HEADS + 2 * KV_HEADS) * DIM, hidden), "out": weights(hidden, HEADS * DIM),
                        "gate_up": weights(2 * intermediate, hidden), "down": weights(hidden, intermediate),
                        "norm1": ones(hidden), "norm2": ones(hidden), "q_norm": ones(DIM), "k_norm": ones(DIM)} for _ in range(LAYERS)]
        self.norm = ones(hidden)
        angles = torch.outer(torch.arange(SEQUENCE, device="cuda").float(), 1e6 ** (-torch.arange(0, DIM, 2, device="cuda").float() / DIM))
        self.cosines = torch.cat([angles.cos()] * 2, -1).bfloat16()
        self.sines = torch.cat([angles.sin()] * 2, -1).bfloat16()

    def parameters(self):
        return [self.embedding, self.norm, *(tensor for layer in self.layers for tensor in layer.values())]

    def turn(self, x, begin):
        end = begin + x.shape[-2]
        half = torch.cat([-x[..., DIM // 2:], x[..., :DIM // 2]], -1)
        return x * self.cosines[begin:end] + half * self.sines[begin:end]

    def states(self, tokens, begin=0, cache=None):
        batch, rows = tokens.shape
        x = F.embedding(tokens, self.embedding)
        for number, layer in enumerate(self.layers):
            qkv = F.linear(norm(x, layer["norm1"]), layer["qkv"]).view(batch, rows, HEADS + 2 * KV_HEADS, DIM).transpose(1, 2)
            q, k, v = qkv.split([HEADS, KV_HEADS, KV_HEADS], 1)
            q, k = self.turn(norm(q, layer["q_norm"]), begin), self.turn(norm(k, layer["k_norm"]), begin)
            if cache is not None:
                cache[0][number, :, :, begin:begin + rows], cache[1][number, :, :, begin:begin + rows] = k, v
                k, v = cache[0][number, :, :, :begin + rows], cache[1][number, :, :, :begin + rows]
            k, v = k.repeat_interleave(HEADS // KV_HEADS, 1), v.repeat_interleave(HEADS // KV_HEADS, 1)
            a = F.scaled_dot_product_attention(q, k, v, is_causal=rows > 1)
            x = x + F.linear(a.transpose(1, 2).reshape(batch, rows, HEADS * DIM), layer["out"])
            gate, up = F.linear(norm(x, layer["norm2"]), layer["gate_up"]).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, layer["down"])
        return norm(x, self.norm)


def norm(x, weight):
    return F.rms_norm(x, weight.shape, weight, 1e-6)


def training(model):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step():
        tokens = torch.randint(VOCABULARY, (SEQUENCES, SEQUENCE), device="cuda")
        logits = F.linear(model.states(tokens)[:, :-1], model.embedding)
        F.cross_entropy(logits.reshape(-1, VOCABULARY), tokens[:, 1:].reshape(-1)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    for _ in range(WARM_UP):
        step()
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(STEPS):
        step()
    torch.cuda.synchronize()
    return STEPS * SEQUENCES * SEQUENCE / (time.perf_counter() - began)


@torch.inference_mode()
def decoding(model):
    best = 0
    for _ in range(3):
        cache = torch.zeros(2, LAYERS, 1, KV_HEADS, PROMPT + ANSWER, DIM, device="cuda", dtype=torch.bfloat16)
        states = model.states(torch.randint(VOCABULARY, (1, PROMPT), device="cuda"), 0, cache)
        token = F.linear(states[:, -1:], model.embedding).argmax(-1)
        torch.cuda.synchronize()
        began = time.perf_counter()
        for place in range(PROMPT, PROMPT + ANSWER - 1):
            token = F.linear(model.states(token, place, cache), model.embedding).argmax(-1)
            token.item()
        best = max(best, (ANSWER - 1) / (time.perf_counter() - began))
    return best


def main():
    if not torch.cuda.is_available():
        sys.exit("PyTorch sees no CUDA device")
    for name, shape in SHAPES.items():
        for what, measure in (("training", training), ("decoding", decoding)):
            model = Model(*shape)
            try:
                print(what, name, round(measure(model), 1), flush=True)
            except torch.cuda.OutOfMemoryError:
                print(f"PyTorch: {what} of {name} does not fit", file=sys.stderr)
            del model
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
